package vault_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"authsome/vault"
)

// stores makes an empty store of each kind.
var stores = map[string]func(testing.TB) vault.Store{
	"memory": func(testing.TB) vault.Store { return vault.NewMemory() },
	"bolt":   func(t testing.TB) vault.Store { return openBolt(t, filepath.Join(t.TempDir(), "p", "store.db")) },
}

func openBolt(t testing.TB, path string) *vault.Bolt {
	t.Helper()
	b, err := vault.OpenBolt(path, vault.BoltConfig{Timeout: 30 * time.Second}) // the tests crowd
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(key, value string) vault.Op { return vault.Op{Key: key, Value: []byte(value)} }

// given is the condition that the key holds value.
func given(value string) *[]byte { b := []byte(value); return &b }

var absent = new([]byte)

func commit(t testing.TB, s vault.Store, ops ...vault.Op) {
	t.Helper()
	if err := s.Commit(context.Background(), vault.Batch{Ops: ops}); err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, s vault.Store, prefix string) map[string]string {
	t.Helper()
	values, err := s.Load(context.Background(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for k, v := range values {
		got[k] = string(v)
	}
	return got
}

func TestStoreConditions(t *testing.T) {
	tests := []struct {
		name string
		ops  []vault.Op
		err  error
		want map[string]string
	}{
		{"unconditional", []vault.Op{put("a", "2"), put("c", "1")}, nil, map[string]string{"a": "2", "b": "1", "c": "1"}},
		{"absent and is", []vault.Op{{Key: "c", Value: []byte("1"), If: absent}}, nil, map[string]string{"a": "1", "b": "1", "c": "1"}},
		{"absent and is not", []vault.Op{{Key: "a", Value: []byte("2"), If: absent}}, vault.ErrConflict, nil},
		{"equal", []vault.Op{{Key: "a", Value: []byte("2"), If: given("1")}}, nil, map[string]string{"a": "2", "b": "1"}},
		{"not equal", []vault.Op{{Key: "a", Value: []byte("2"), If: given("0")}}, vault.ErrConflict, nil},
		{"equal to nothing", []vault.Op{{Key: "c", Value: []byte("2"), If: given("")}}, vault.ErrConflict, nil},
		{"delete", []vault.Op{{Key: "a"}, {Key: "zzz"}}, nil, map[string]string{"b": "1"}},
		{"delete if equal", []vault.Op{{Key: "a", If: given("2")}}, vault.ErrConflict, nil},
		{"all or nothing", []vault.Op{put("b", "2"), {Key: "a", If: given("2")}}, vault.ErrConflict, nil},
		{"check holds", []vault.Op{{Key: "a", If: given("1"), Check: true}, put("b", "2")}, nil, map[string]string{"a": "1", "b": "2"}},
		{"check fails", []vault.Op{{Key: "a", If: given("2"), Check: true}, put("b", "2")}, vault.ErrConflict, nil},
		{"nothing", nil, nil, nil},
	}
	all := []struct {
		name string
		ops  []vault.Op
		err  error
	}{
		{"all named", []vault.Op{put("a", "2"), {Key: "b", If: given("1"), Check: true}, put("c", "3")}, nil},
		{"one not named", []vault.Op{put("a", "2"), put("c", "3")}, vault.ErrConflict},
	}
	for kind, newStore := range stores {
		for _, tt := range all {
			s := newStore(t)
			commit(t, s, put("a", "1"), put("b", "1"))
			if err := s.Commit(t.Context(), vault.Batch{Ops: tt.ops, All: true}); !errors.Is(err, tt.err) {
				t.Errorf("%s: %s: Commit = %v, want %v", kind, tt.name, err, tt.err)
			}
		}
	}
	for kind, newStore := range stores {
		for _, tt := range tests {
			t.Run(kind+"/"+tt.name, func(t *testing.T) {
				s := newStore(t)
				start := map[string]string{"a": "1", "b": "1"}
				commit(t, s, put("a", "1"), put("b", "1"))
				if err := s.Commit(t.Context(), vault.Batch{Ops: tt.ops, Erase: true}); !errors.Is(err, tt.err) {
					t.Errorf("Commit = %v, want %v", err, tt.err)
				}
				want := tt.want
				if want == nil {
					want = start
				}
				if got := contents(t, s, ""); !maps.Equal(got, want) {
					t.Errorf("contents = %v, want %v", got, want)
				}
			})
		}
	}
}

func TestStorePrefixAndOwnership(t *testing.T) {
	for kind, newStore := range stores {
		t.Run(kind, func(t *testing.T) {
			s := newStore(t)
			commit(t, s, put("a:1", "x"), put("a:2", "y"), put("b:1", "z"))
			got := contents(t, s, "a:")
			if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"a:1", "a:2"}) {
				t.Errorf("keys = %v", keys)
			}
			values, err := s.Load(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			values["b:1"][0] = '!' // the caller's own
			if got := contents(t, s, "b"); got["b:1"] != "z" {
				t.Errorf("a loaded value is shared with the store: %v", got)
			}
		})
	}
}

func TestStoreManyRecords(t *testing.T) {
	for kind, newStore := range stores {
		t.Run(kind, func(t *testing.T) {
			s := newStore(t)
			want := map[string]string{}
			value := make([]byte, 700)
			for round := range 6 { // grow to several levels, then shrink
				var ops []vault.Op
				for i := range 1500 {
					key := fmt.Sprintf("key:%05d", (i*7919)%3000)
					if (i+round)%(round+1) != 0 && round > 2 {
						ops = append(ops, vault.Op{Key: key})
						delete(want, key)
						continue
					}
					v := append([]byte(fmt.Sprint(round, i)), value[:i%700]...)
					ops = append(ops, vault.Op{Key: key, Value: v})
					want[key] = string(v)
				}
				if err := s.Commit(t.Context(), vault.Batch{Ops: ops, Erase: true}); err != nil {
					t.Fatal(err)
				}
				if got := contents(t, s, ""); !maps.Equal(got, want) {
					t.Fatalf("round %d: %d records, want %d", round, len(got), len(want))
				}
			}
		})
	}
}

func TestStoreWatch(t *testing.T) {
	for kind, newStore := range stores {
		t.Run(kind, func(t *testing.T) {
			s := newStore(t)
			tokens, err := s.Watch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				commit(t, s, put("a", fmt.Sprint(i)))
				select {
				case <-tokens:
				case <-time.After(3 * time.Second):
					t.Fatalf("no token after write %d", i)
				}
			}
		})
	}
}

func TestLoadOfAMissingStoreCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openBolt(t, filepath.Join(dir, "profiles", "p", "store.db"))
	if got := contents(t, s, ""); len(got) != 0 {
		t.Errorf("contents = %v", got)
	}
	if err := s.Commit(t.Context(), vault.Batch{Ops: []vault.Op{{Key: "a"}}}); err != nil {
		t.Errorf("deleting nothing = %v", err)
	}
	if err := s.Commit(t.Context(), vault.Batch{Ops: []vault.Op{{Key: "a", Value: []byte("x"), If: given("y")}}}); !errors.Is(err, vault.ErrConflict) {
		t.Errorf("a condition on nothing = %v, want ErrConflict", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("created %v", left)
	}
}

func TestPermissions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "profiles", "p", "store.db")
	s := openBolt(t, path)
	commit(t, s, put("a", "1"))
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "profiles"): 0o700} {
		if got := mode(t, name); got != want {
			t.Errorf("%s has mode %v, want %v", name, got, want)
		}
	}
	for _, use := range []func(){func() { contents(t, s, "") }, func() { commit(t, s, put("a", "2")) }} {
		if err := os.Chmod(path, 0o664); err != nil {
			t.Fatal(err)
		}
		use()
		if got := mode(t, path); got != 0o600 {
			t.Errorf("a store that others could use keeps mode %v", got)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func mode(t *testing.T, name string) os.FileMode {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}
