package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"authsome/vault/audit"
)

// A pipe among the log's other files is waited for by nobody.
func TestPipesBesideTheLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	first := openLog(t, path, audit.Config{})
	record(t, first, "a")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	head, rotated := filepath.Join(dir, "audit.head"), path+".1"
	if err := errors.Join(os.Remove(head), syscall.Mkfifo(head, 0o600), syscall.Mkfifo(rotated, 0o600)); err != nil {
		t.Fatal(err)
	}
	second := openLog(t, path, audit.Config{})
	record(t, second, "b")
	if _, err := audit.OpenAll(path); err == nil || !strings.Contains(err.Error(), rotated) {
		t.Errorf("OpenAll of a log with a pipe for a rotated file: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}
