package provider_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"authsome/provider"
)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	r, errs := provider.Load(dir)
	if errs != nil {
		t.Fatal(errs)
	}
	if _, err := r.Lookup("late"); !errors.Is(err, provider.ErrNotFound) {
		t.Fatalf("before: got %v, want not found", err)
	}
	def := `{"schema_version": 1, "name": "late", "display_name": "Late", "auth_type": "api_key", "flow": "api_key", "host_url": "late.example.com", "api_key": {}}`
	path := filepath.Join(dir, "late.json")
	if err := os.WriteFile(path, []byte(def), 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := r.Reload(dir); errs != nil {
		t.Fatal(errs)
	}
	if e, err := r.Lookup("late"); err != nil || e.Source != provider.SourceCustom {
		t.Errorf("after: got %+v, %v, want a custom entry", e, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := r.Reload(dir); len(errs) != 1 {
		t.Errorf("a broken file: got %v, want one error", errs)
	}
	if _, err := r.Lookup("late"); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a broken file: Lookup got %v, want the file's error", err)
	}
}
