package ca_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authsome/ca"
)

const day = 24 * time.Hour

func renew(t *testing.T, a *ca.Authority, want bool) {
	t.Helper()
	changed, err := a.Renew(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if changed != want {
		t.Errorf("renewed %v, want %v", changed, want)
	}
}

func leafOf(t *testing.T, a *ca.Authority, host string) *tls.Certificate {
	t.Helper()
	leaf, err := a.Leaf(context.Background(), host)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// A client that read its trust files at any time in the last third of a root's
// life keeps working when the successor takes over, and one that read them
// before does so until then.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const host = "api.example.test"
		a := newAuthority(t)
		early := a.RootPEM()
		old := leafOf(t, a, host)
		renew(t, a, false)

		time.Sleep(21 * day)
		renew(t, a, true)
		renew(t, a, false)
		late := a.RootPEM()
		if got := len(rootsOf(t, late)); got != 2 {
			t.Fatalf("%d roots published ahead of the switch, want 2", got)
		}
		if err := verify(early, leafOf(t, a, host).Leaf, host, time.Now()); err != nil {
			t.Errorf("before the switch, a client with only the old root: %v", err)
		}

		time.Sleep(5 * day)
		before := leafOf(t, a, host)
		renew(t, a, true)
		renew(t, a, false)
		leaf := leafOf(t, a, host)
		if err := verify(late, leaf.Leaf, host, time.Now()); err != nil {
			t.Errorf("after the switch, a client that knows both: %v", err)
		}
		if err := verify(early, leaf.Leaf, host, time.Now()); err == nil {
			t.Error("the successor does not sign")
		}
		if err := verify(a.RootPEM(), before.Leaf, host, time.Now()); err != nil {
			t.Errorf("a leaf of the old root: %v", err)
		}
		if bytes.Equal(old.Leaf.Raw, leaf.Leaf.Raw) {
			t.Error("the old root's leaf is still served")
		}

		time.Sleep(5 * day) // the old root has ended
		renew(t, a, true)
		if got := len(rootsOf(t, a.RootPEM())); got != 1 {
			t.Errorf("%d roots published, want 1: the ended one is dropped", got)
		}
	})
}

// A root of any lifetime is replaced at the same parts of it, and not before: that
// its certificate is valid from a while ago makes it no older.
func TestRenewOfAnyLifetime(t *testing.T) {
	for _, lifetime := range []time.Duration{10 * time.Second, 59 * time.Second, 2 * time.Minute, time.Hour, 365 * day} {
		t.Run(lifetime.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t, func(c *ca.Config) { c.Lifetime = lifetime })
				first := a.RootPEM()
				for _, step := range []struct {
					sleep   time.Duration // tenths of the lifetime
					changed bool
					roots   int
				}{{0, false, 1}, {6, false, 1}, {1, true, 2}, {0, false, 2}, {1, false, 2}, {1, true, 2}, {0, false, 2}, {2, true, 1}, {0, false, 1}} {
					time.Sleep(step.sleep * lifetime / 10)
					renew(t, a, step.changed)
					if got := len(rootsOf(t, a.RootPEM())); got != step.roots {
						t.Fatalf("%d roots after another %d tenths, want %d", got, step.sleep, step.roots)
					}
				}
				if bytes.Contains(a.RootPEM(), first) {
					t.Error("the first root is published after its end")
				}
			})
		})
	}
}

// Nobody called Renew in time: the machine slept.
func TestRenewAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		time.Sleep(90 * day)
		renew(t, a, true)
		leaf := leafOf(t, a, "api.example.test")
		if err := verify(a.RootPEM(), leaf.Leaf, "api.example.test", time.Now()); err != nil {
			t.Error(err)
		}
		if got := len(rootsOf(t, a.RootPEM())); got != 1 {
			t.Errorf("%d roots published, want 1", got)
		}
	})
}

func TestRotate(t *testing.T) {
	for _, distrust := range []bool{false, true} {
		a := newAuthority(t)
		old := a.RootPEM()
		if err := a.Rotate(t.Context(), distrust); err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(a.RootPEM(), old); got == distrust {
			t.Errorf("distrust %v: old root published: %v", distrust, got)
		}
		leaf := leafOf(t, a, "api.example.test")
		if err := verify(a.RootPEM(), leaf.Leaf, "api.example.test", time.Now()); err != nil {
			t.Error(err)
		}
		if verify(old, leaf.Leaf, "api.example.test", time.Now()) == nil {
			t.Error("the old root still signs")
		}
	}
}

func TestPermit(t *testing.T) {
	a := newAuthority(t)
	leafOf(t, a, "api.example.test")
	for _, test := range []struct {
		names   []string
		changed bool
		host    string
	}{
		{[]string{"api.example.test"}, false, "api.example.test"}, // less: the root covers it
		{[]string{"example.test", "other.test"}, true, "other.test"},
		{[]string{"other.test"}, false, "www.other.test"},
	} {
		changed, err := a.Permit(t.Context(), test.names, nil)
		if err != nil {
			t.Fatal(err)
		}
		if changed != test.changed {
			t.Errorf("%q: changed %v, want %v", test.names, changed, test.changed)
		}
		leaf := leafOf(t, a, test.host)
		if err := verify(a.RootPEM(), leaf.Leaf, test.host, time.Now()); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Leaf(t.Context(), "new.example.test"); !errors.Is(err, ca.ErrNotPermitted) {
		t.Errorf("a host that is no longer permitted: got %v, want ErrNotPermitted", err)
	}
	if _, err := a.Permit(t.Context(), []string{"www.other.test"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Leaf(t.Context(), "other.test"); !errors.Is(err, ca.ErrNotPermitted) {
		t.Errorf("a cached leaf of a host that is no longer permitted: got %v, want ErrNotPermitted", err)
	}
	if _, err := a.Permit(t.Context(), []string{"*"}, nil); err == nil {
		t.Error("a bad name is accepted")
	}
	if !a.Permits("www.other.test") {
		t.Error("a refused change has left its mark")
	}
}

func load(t *testing.T, dir string, names ...string) *ca.Authority {
	t.Helper()
	a, err := ca.Load(context.Background(), dir, ca.Config{PermittedDNS: names})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first := load(t, dir, "example.test")
	leaf := leafOf(t, first, "api.example.test")
	for name, want := range map[string]os.FileMode{"": 0o700, "authority.pem": 0o600, "root.pem": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %o, want %o", name, got, want)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil || !bytes.Equal(public, first.RootPEM()) {
		t.Errorf("root.pem: got %q, %v", public, err)
	}

	again := load(t, dir, "example.test")
	if !bytes.Equal(again.RootPEM(), first.RootPEM()) {
		t.Error("the root did not survive the restart")
	}
	if err := verify(again.RootPEM(), leaf.Leaf, "api.example.test", time.Now()); err != nil {
		t.Error(err)
	}
	if err := verify(first.RootPEM(), leafOf(t, again, "www.example.test").Leaf, "www.example.test", time.Now()); err != nil {
		t.Errorf("clients of before the restart: %v", err)
	}

	wider := load(t, dir, "example.test", "other.test")
	if got := len(rootsOf(t, wider.RootPEM())); got != 2 {
		t.Errorf("%d roots published after a change of names, want 2", got)
	}
	if err := verify(wider.RootPEM(), leafOf(t, wider, "other.test").Leaf, "other.test", time.Now()); err != nil {
		t.Error(err)
	}
	if got, want := load(t, dir, "other.test").RootPEM(), wider.RootPEM(); !bytes.Equal(got, want) {
		t.Error("a root that covers more than is asked for was replaced")
	}
}

func TestLoadThroughTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	synctest.Test(t, func(t *testing.T) {
		load(t, dir, "example.test")
		time.Sleep(21 * day)
		a := load(t, dir, "example.test")
		renew(t, a, true)
		if got, want := load(t, dir, "example.test").RootPEM(), a.RootPEM(); !bytes.Equal(got, want) {
			t.Error("the published successor did not survive the restart")
		}
		time.Sleep(15 * day) // the first root has ended, its successor has not
		b := load(t, dir, "example.test")
		if got := rootsOf(t, b.RootPEM()); len(got) != 1 || !got[0].Equal(rootsOf(t, a.RootPEM())[1]) {
			t.Error("the successor did not take over")
		}
		time.Sleep(365 * day)
		c := load(t, dir, "example.test")
		leafOf(t, c, "example.test")
		if got := len(rootsOf(t, c.RootPEM())); got != 1 {
			t.Errorf("%d roots, want 1", got)
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	good, other := t.TempDir(), t.TempDir()
	for _, dir := range []string{good, other} {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		load(t, dir, "example.test")
	}
	content, err := os.ReadFile(filepath.Join(good, "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other, "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key := func(b []byte) []byte { return b[bytes.Index(b, []byte("-----BEGIN PRIVATE KEY")):] }
	cert := func(b []byte) []byte { return b[:bytes.Index(b, []byte("-----BEGIN PRIVATE KEY"))] }
	for _, test := range []struct {
		name    string
		content []byte
	}{
		{"empty", nil},
		{"cut in the key", content[:len(content)-40]},
		{"cut in the certificate", content[:100]},
		{"without its key", cert(content)},
		{"without its certificate", key(content)},
		{"another root's key", append(bytes.Clone(cert(content)), key(foreign)...)},
		{"three that sign", bytes.Repeat(content, 3)},
		{"text", []byte("hello\n")},
		{"no constraints", unconstrained(t)},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "authority.pem")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ca.Load(t.Context(), dir, ca.Config{PermittedDNS: []string{"example.test"}})
			var bad *ca.FileError
			if !errors.As(err, &bad) || bad.Path != path || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want a FileError for %s", err, path)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, test.content) {
				t.Errorf("the damaged file was replaced: %v", err)
			}
		})
	}
}

func TestLoadPermissions(t *testing.T) {
	for _, test := range []struct {
		dir, file os.FileMode
		exposed   bool
		fails     bool
	}{
		{0o700, 0o600, false, false},
		{0o700, 0o660, false, false}, // a volume driver's doing, undone
		{0o770, 0o600, false, false},
		{0o700, 0o604, true, true},
		{0o755, 0o600, false, true},
	} {
		name := fmt.Sprintf("%o,%o", test.dir, test.file)
		dir := filepath.Join(t.TempDir(), "ca")
		load(t, dir, "example.test")
		path := filepath.Join(dir, "authority.pem")
		if err := errors.Join(os.Chmod(path, test.file), os.Chmod(dir, test.dir)); err != nil {
			t.Fatal(err)
		}
		_, err := ca.Load(t.Context(), dir, ca.Config{PermittedDNS: []string{"example.test"}})
		if (err != nil) != test.fails || errors.Is(err, ca.ErrExposedKey) != test.exposed {
			t.Errorf("%s: got %v", name, err)
		}
		if test.fails {
			continue
		}
		for p, want := range map[string]os.FileMode{dir: 0o700, path: 0o600} {
			if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %s is %o, want %o", name, p, info.Mode().Perm(), want)
			}
		}
	}
}

func TestLoadReadOnly(t *testing.T) {
	for _, dir := range []string{"/proc/authsome", filepath.Join(t.TempDir(), "a", "b")} {
		if _, err := ca.Load(t.Context(), dir, ca.Config{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want an error that names %s", err, dir)
		}
	}
}
