package vault_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

var rekeyed = audit.Event{Event: "rekey"}

// phrase is the wrapper for a passphrase that is always the same.
func phrase(text string) vault.KeyWrapper {
	return vault.QuickPassphrase(func(context.Context, bool) (secret.Text, error) { return secret.New(text), nil })
}

func hexKey(b byte) vault.KeyWrapper {
	return vault.EnvKey(secret.New(strings.Repeat(fmt.Sprintf("%02x", b), 32)))
}

// wrappers makes one of each mode; calling it again gives a wrapper of a process
// that was started later.
func wrappers(dir string) map[string]func() vault.KeyWrapper {
	return map[string]func() vault.KeyWrapper{
		vault.ModeLocalKey: func() vault.KeyWrapper {
			return vault.LocalKey(filepath.Join(dir, "master.key"), filepath.Join(dir, "store.db"))
		},
		vault.ModeEnv:        func() vault.KeyWrapper { return hexKey(9) },
		vault.ModeKeyring:    func() vault.KeyWrapper { return vault.Keyring(dir) },
		vault.ModePassphrase: func() vault.KeyWrapper { return phrase("corréct horse") },
	}
}

func TestRekeyBetweenAnyTwoModes(t *testing.T) {
	keyring.MockInit()
	dir := t.TempDir()
	all := wrappers(dir)
	for from, makeFrom := range all {
		for to, makeTo := range all {
			for _, newKey := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s to %s, new data key %v", from, to, newKey), func(t *testing.T) {
					path := filepath.Join(dir, "store.db")
					_ = os.Remove(path)
					store := openBolt(t, path)
					v, err := reopen(t, store, makeFrom())
					if err != nil {
						t.Fatal(err)
					}
					apply(t, v, vault.Change{Key: "a", Record: record("h", "one")}, vault.Change{Key: "b", Record: record("h", "two")})
					if err := v.Reload(t.Context()); err != nil {
						t.Fatal(err)
					}
					before := contents(t, store, "")
					if err := v.Rekey(t.Context(), rekeyed, makeTo(), vault.RekeyOptions{NewDataKey: newKey}); err != nil {
						t.Fatal(err)
					}
					if mode, err := vault.Mode(t.Context(), store); err != nil || mode != to {
						t.Errorf("mode %q, %v, want %q", mode, err, to)
					}
					after := contents(t, store, "")
					if changed := before["a"] != after["a"] && before["b"] != after["b"]; changed != newKey {
						t.Errorf("records encrypted anew: %v, want %v", changed, newKey)
					}
					later, err := reopen(t, store, makeTo())
					if err != nil {
						t.Fatal(err)
					}
					for _, use := range []*kit{v, later} { // the one that re-keyed goes on, too
						apply(t, use, vault.Change{Key: "c", Record: record("h", "three")})
						for key, want := range map[string]string{"a": "one", "b": "two", "c": "three"} {
							r, err := get(t, use, key).Record()
							if err != nil || r.Secrets["access_token"].Reveal() != want || string(r.Fields["unknown"]) != `{"b" : [1, 2],"a":null}` {
								t.Errorf("%s = %v, %v", key, r, err)
							}
						}
					}
					if e, ok := v.Snapshot().Get("a"); !ok {
						t.Error("the snapshot lost a record")
					} else if _, err := e.Record(); err != nil {
						t.Errorf("snapshot: %v", err)
					}
					if events := auditEvents(t, v); !slices.Contains(events, "rekey ok") {
						t.Errorf("audit = %v", events)
					}
					content, _ := os.ReadFile(path)
					if newKey && strings.Contains(string(content), string(before["a"][:60])) {
						t.Error("what the old key encrypted is still in the file")
					}
				})
			}
		}
	}
}

// A process that was running before keeps working if it can.
func TestRekeyUnderARunningProcess(t *testing.T) {
	tests := []struct {
		name   string
		to     func(dir string) vault.KeyWrapper
		newKey bool
		want   error
	}{
		{"new data key, same wrapper", func(dir string) vault.KeyWrapper { return vault.LocalKey(filepath.Join(dir, "master.key")) }, true, nil},
		{"new wrapper, same data key", func(string) vault.KeyWrapper { return hexKey(1) }, false, nil},
		{"both new", func(string) vault.KeyWrapper { return hexKey(1) }, true, vault.ErrWrongKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			store := openBolt(t, filepath.Join(dir, "store.db"))
			local := func() vault.KeyWrapper { return vault.LocalKey(filepath.Join(dir, "master.key")) }
			running, err := reopen(t, store, local())
			if err != nil {
				t.Fatal(err)
			}
			apply(t, running, vault.Change{Key: "a", Record: record("h", "one")})
			if err := running.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			other, err := reopen(t, store, local())
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Rekey(t.Context(), rekeyed, tt.to(dir), vault.RekeyOptions{NewDataKey: tt.newKey}); err != nil {
				t.Fatal(err)
			}
			e, _ := running.Snapshot().Get("a")
			if _, err := e.Record(); err != nil {
				t.Errorf("what was read before: %v", err)
			}
			if err := running.Reload(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("Reload = %v, want %v", err, tt.want)
			}
			err = running.Apply(t.Context(), login, vault.Change{Key: "b", Record: record("h", "two")})
			if !errors.Is(err, tt.want) {
				t.Errorf("Apply = %v, want %v", err, tt.want)
			}
			// Whatever it did, the vault is whole for the other.
			report, err := other.Check(t.Context())
			if err != nil || len(report.Damaged) != 0 {
				t.Errorf("Check = %+v, %v", report, err)
			}
		})
	}
}

// Writers that go on while the vault is re-keyed over and over lose nothing.
func TestRekeyWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	store := openBolt(t, filepath.Join(dir, "store.db"))
	local := vault.LocalKey(filepath.Join(dir, "master.key"))
	var wg sync.WaitGroup
	for w := range 3 {
		v, err := reopen(t, store, local)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for i := range 40 {
				if err := v.Apply(context.Background(), login, vault.Change{Key: fmt.Sprintf("%d:%d", w, i), Record: numbered(i)}); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	v, err := reopen(t, store, local)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := v.Rekey(t.Context(), rekeyed, local, vault.RekeyOptions{NewDataKey: true}); err != nil && !errors.Is(err, vault.ErrConflict) {
			t.Error(err)
		}
	}
	wg.Wait()
	report, err := v.Check(t.Context())
	if err != nil || report.Records != 120 || len(report.Damaged) != 0 || report.Mode != vault.ModeLocalKey {
		t.Errorf("Check = %+v, %v", report, err)
	}
}

func init() {
	children["rekey"] = func(args []string) error {
		v, err := openIn(args[0])
		if err != nil {
			return err
		}
		fmt.Println("open")
		for i := 0; ; i++ {
			path := filepath.Join(args[0], "master.key")
			if i%3 == 1 {
				if err := vault.RotateLocalKey(context.Background(), path); err != nil {
					return err
				}
			}
			if err := v.Rekey(context.Background(), rekeyed, vault.LocalKey(path), vault.RekeyOptions{NewDataKey: i%2 == 0}); err != nil {
				return err
			}
			if i%3 == 2 {
				if err := vault.PruneLocalKey(context.Background(), path, filepath.Join(args[0], "*.db")); err != nil {
					return err
				}
			}
		}
	}
	children["compact"] = func(args []string) error {
		s, err := vault.OpenBolt(filepath.Join(args[0], "store.db"), vault.BoltConfig{})
		if err != nil {
			return err
		}
		fmt.Println("open")
		for {
			if _, _, err := s.Compact(context.Background()); err != nil {
				return err
			}
		}
	}
}

// Re-keying, rotating the key file, and compacting are killed at any moment: the
// vault opens and everything is there.
func TestKilledWhileRekeyingOrCompacting(t *testing.T) {
	for _, what := range []string{"rekey", "compact"} {
		t.Run(what, func(t *testing.T) {
			dir := ramDir(t)
			want := smallVault(t, dir)
			for range 25 {
				c := start(t, nil, what, dir)
				if got := c.line(t); got != "open" {
					t.Fatal(got)
				}
				time.Sleep(time.Duration(rand.N(40_000)) * time.Microsecond)
				_ = c.Process.Kill()
				_ = c.Wait()
				if wrong := inspect(dir, want); wrong != "" {
					t.Fatal(wrong)
				}
			}
			v, err := openIn(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Apply(t.Context(), login, vault.Change{Key: "x", Record: record("h", "t")}, vault.Change{Key: "y"}); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "store.db.*")); len(left) != 0 {
				t.Errorf("left behind, with ciphertext: %v", left)
			}
		})
	}
}

func TestRekeyStopsAtADamagedRecord(t *testing.T) {
	v := open(t, nil)
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")}, vault.Change{Key: "b", Record: record("h", "t")})
	alter(t, v.Store, "b", func(raw []byte) []byte { raw[5] ^= 1; return raw })
	before := contents(t, v.Store, "")
	var bad *vault.IntegrityError
	if err := v.Rekey(t.Context(), rekeyed, hexKey(1), vault.RekeyOptions{NewDataKey: true}); !errors.As(err, &bad) || bad.Key != "b" {
		t.Errorf("Rekey = %v, want *IntegrityError for b", err)
	}
	if after := contents(t, v.Store, ""); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the vault changed")
	}
	report, err := v.Check(t.Context())
	if err != nil || report.Records != 2 || len(report.Damaged) != 1 || !errors.As(report.Damaged[0], &bad) {
		t.Errorf("Check = %+v, %v", report, err)
	}
}

func TestLocalKeyRotation(t *testing.T) {
	dir := t.TempDir()
	path, pattern := filepath.Join(dir, "master.key"), filepath.Join(dir, "*.db")
	var vaults []*kit
	for i := range 2 {
		v, err := reopen(t, openBolt(t, filepath.Join(dir, fmt.Sprint(i, ".db"))), vault.LocalKey(path, pattern))
		if err != nil {
			t.Fatal(err)
		}
		apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
		vaults = append(vaults, v)
	}
	keys := func() int {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(content), "\n")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(vault.RotateLocalKey(t.Context(), path))
	must(vaults[0].Rekey(t.Context(), rekeyed, vault.LocalKey(path), vault.RekeyOptions{NewDataKey: true}))
	must(vault.PruneLocalKey(t.Context(), path, pattern))
	if keys() != 2 {
		t.Errorf("%d keys while a store needs the old one, want 2", keys())
	}
	must(vaults[1].Rekey(t.Context(), rekeyed, vault.LocalKey(path), vault.RekeyOptions{NewDataKey: true}))
	must(vault.PruneLocalKey(t.Context(), path, pattern))
	if keys() != 1 || mode(t, path) != 0o600 {
		t.Errorf("%d keys, mode %v", keys(), mode(t, path))
	}
	for i := range vaults {
		v, err := reopen(t, openBolt(t, filepath.Join(dir, fmt.Sprint(i, ".db"))), vault.LocalKey(path))
		must(err)
		_, err = get(t, v, "a").Record()
		must(err)
	}
}
