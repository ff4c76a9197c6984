package ca_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"authsome/ca"
)

func describe(steps []ca.Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

// TestInstallDebian runs the system's own tool on a system root of the test's.
func TestInstallDebian(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{"usr/local/share/ca-certificates", "usr/share/ca-certificates", "etc/ssl/certs", "etc/ca-certificates/update.d"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(sys, "etc/ca-certificates.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(sys, "usr/local/share/ca-certificates")
	// Java's store is kept by a program that is told what has changed. --fresh tells
	// it all that is there, and nothing that was.
	hooks, told := filepath.Join(sys, "etc/ca-certificates/update.d"), filepath.Join(sys, "told")
	if err := os.WriteFile(filepath.Join(hooks, "java"), []byte("#!/bin/sh\ncat >> "+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	store := ca.NewTestStore(local, false, "/usr/sbin/update-ca-certificates", "--sysroot", sys).
		Hooked(hooks, "/usr/sbin/update-ca-certificates", "--fresh", "--sysroot", sys)
	bundle := filepath.Join(sys, "etc/ssl/certs/ca-certificates.crt")
	a := newAuthority(t)
	if err := a.Rotate(t.Context(), false); err != nil { // two roots to install
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(local, "corporate.crt"), newAuthority(t).RootPEM(), 0o644); err != nil {
		t.Fatal(err)
	}

	steps, err := store.Install(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Apply(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if got := len(rootsOf(t, []byte(read(t, bundle)))); got != 3 {
		t.Errorf("%d roots in the system's bundle, want 3:\n%s", got, describe(steps))
	}
	if steps, err = store.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if err := ca.Apply(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	got := rootsOf(t, []byte(read(t, bundle)))
	if len(got) != 1 || bytes.Contains(a.RootPEM(), []byte(read(t, bundle))) {
		t.Errorf("%d roots left, want the one that is not ours:\n%s", len(got), describe(steps))
	}
	if got := strings.Count(read(t, told), "-/etc/ssl/certs/authsome-"); got != 2 {
		t.Errorf("the hook was told of %d roots that are gone, want 2:\n%s", got, read(t, told))
	}
	if steps, err = store.Uninstall(); err != nil || len(steps) != 0 {
		t.Errorf("a second time: got %q, %v, want nothing to do", describe(steps), err)
	}
}

func TestInstallPerFile(t *testing.T) {
	dir := t.TempDir()
	store := ca.NewTestStore(dir, true)
	a := newAuthority(t)
	name := rootsOf(t, a.RootPEM())[0].Subject.CommonName
	steps, err := store.Install(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	path := steps[0].Write
	if got, want := describe(steps), "write "+path+"\nrun add "+path; got != want || filepath.Dir(path) != dir {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := ca.Apply(t.Context(), steps[:1]); err != nil {
		t.Fatal(err)
	}
	impostor := filepath.Join(dir, "authsome-0.crt") // tells nothing to take out
	for _, path := range []string{impostor, filepath.Join(dir, "corporate.crt")} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if steps, err = store.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(steps), "remove "+impostor+"\nrun remove "+path+" "+name+"\nremove "+path; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestInstallRefuses(t *testing.T) {
	store := ca.NewTestStore(t.TempDir(), false)
	for name, root := range map[string][]byte{"nothing": nil, "text": []byte("x"), "no constraints": unconstrained(t)} {
		if steps, err := store.Install(root); err == nil {
			t.Errorf("%s: got %q, want an error", name, describe(steps))
		}
	}
	err := ca.Apply(t.Context(), []ca.Step{{Command: []string{"sh", "-c", "echo why >&2; exit 3"}}})
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a failing command: got %v, want what it said", err)
	}
}

// The machine's own store, looked at and left alone.
func TestInstallStepsHere(t *testing.T) {
	steps, err := ca.InstallSteps(newAuthority(t).RootPEM(), t.TempDir())
	if errors.Is(err, ca.ErrNoSystemStore) && runtime.GOOS == "linux" {
		return // a minimal system; the error is the answer
	}
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(steps[0].Write) || len(steps[len(steps)-1].Command) == 0 {
		t.Errorf("got %q", describe(steps))
	}
	if _, err := ca.UninstallSteps(t.TempDir()); err != nil {
		t.Error(err)
	}
}
