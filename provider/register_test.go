package provider_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"authsome/provider"
)

func TestRegister(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home", "providers")
	text := with(t, apiKeyBase, map[string]any{"x_mine": map[string]any{"kept": true}})
	e, err := provider.Register(dir, []byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "acme" || e.Source != provider.SourceCustom || e.Overrides || e.Path != filepath.Join(dir, "acme.json") {
		t.Errorf("entry %+v", e)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, e.Path: 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
	data, _ := os.ReadFile(e.Path)
	if !strings.Contains(string(data), `"x_mine": {`) || !strings.HasSuffix(string(data), "}\n") {
		t.Errorf("file:\n%s", data)
	}
	r, errs := provider.Load(dir)
	if got, err := r.Lookup("acme"); len(errs) > 0 || err != nil || got.DisplayName != "Acme" {
		t.Errorf("Lookup: %+v, %v, %v", got, err, errs)
	}

	changed := []byte(with(t, apiKeyBase, map[string]any{"display_name": "Other"}))
	if _, err := provider.Register(dir, changed, false); !errors.Is(err, provider.ErrExists) {
		t.Errorf("Register again: %v, want ErrExists", err)
	}
	if after, _ := os.ReadFile(e.Path); string(after) != string(data) {
		t.Error("a refused registration changed the file")
	}
	if _, err := provider.Register(dir, changed, true); err != nil {
		t.Errorf("Register with force: %v", err)
	}
	if after, _ := os.ReadFile(e.Path); !strings.Contains(string(after), "Other") {
		t.Errorf("file after force:\n%s", after)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

func TestRegisterOverridesBundled(t *testing.T) {
	e, err := provider.Register(t.TempDir(), bundledFile(t, "github"), false)
	if err != nil || !e.Overrides {
		t.Errorf("Register = %+v, %v", e, err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "providers")
	for _, name := range []string{"../evil", "..", "a/b", `a\b`, "/etc/x", "a\x00b", ".hidden", "a:b", ""} {
		text := with(t, apiKeyBase, map[string]any{"name": name})
		if _, err := provider.Register(dir, []byte(text), true); err == nil {
			t.Errorf("Register of %q: no error", name)
		}
	}
	if _, err := provider.Register(dir, []byte("{"), false); err == nil {
		t.Error("Register of broken JSON: no error")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused registration made %s", dir)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("files outside: %v", left)
	}
}

// The user's file may be a link into a dotfiles folder, or planted: it is
// replaced, not written through.
func TestRegisterDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	target := writeDefinition(t, t.TempDir(), "target", "untouched")
	if err := os.Symlink(target, filepath.Join(dir, "acme.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Register(dir, []byte(apiKeyBase), false); !errors.Is(err, provider.ErrExists) {
		t.Errorf("Register over a link: %v, want ErrExists", err)
	}
	if _, err := provider.Register(dir, []byte(apiKeyBase), true); err != nil {
		t.Error(err)
	}
	if data, _ := os.ReadFile(target); string(data) != "untouched" {
		t.Errorf("target: %q", data)
	}
}

func TestRegisterAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	won := make(chan error, 16)
	for range 16 {
		wg.Go(func() {
			_, err := provider.Register(dir, []byte(apiKeyBase), false)
			won <- err
		})
	}
	wg.Wait()
	close(won)
	n := 0
	for err := range won {
		if err == nil {
			n++
		} else if !errors.Is(err, provider.ErrExists) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d registrations won, want 1", n)
	}
}

// What inspect prints is a definition: source and connections are dropped.
func TestRegisterWhatInspectPrints(t *testing.T) {
	d := mustParse(t, string(bundledFile(t, "github")))
	b, _ := json.Marshal(d)
	text := strings.TrimSuffix(string(b), "}") + `,"source":"bundled","connections":[{"connection_name":"default"}]}`
	e, err := provider.Register(t.TempDir(), []byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(e.Path)
	if want := string(bundledFile(t, "github")); string(data) != want {
		t.Errorf("registered:\n%s\nwant:\n%s", data, want)
	}
}

func TestRegisterReadOnly(t *testing.T) {
	if os.Getuid() == 0 {
		// Root writes everywhere; a file in the place of the directory stops it too.
		file := writeDefinition(t, t.TempDir(), "providers", "")
		if _, err := provider.Register(file, []byte(apiKeyBase), false); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("Register: %v, want an error that names %s", err, file)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Register(dir, []byte(apiKeyBase), false); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Register: %v, want an error that names %s", err, dir)
	}
}
