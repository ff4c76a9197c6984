package vault_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// reopen opens the store with another wrapper.
func reopen(t testing.TB, store vault.Store, w vault.KeyWrapper) (*kit, error) {
	t.Helper()
	dir := t.TempDir()
	k := &kit{Store: store, Dir: dir, AuditPath: filepath.Join(dir, "audit.log")}
	log, err := audit.Open(k.AuditPath, audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	k.Vault, err = vault.Open(t.Context(), vault.Config{Store: store, Wrapper: w, Audit: log})
	return k, err
}

var testKey = bytes.Repeat([]byte{7}, 32)

func TestOpenCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := reopen(t, openBolt(t, filepath.Join(dir, "p", "store.db")), vault.LocalKey(filepath.Join(dir, "master.key"))); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("Open created %v", left)
	}
}

func TestInit(t *testing.T) {
	dir := t.TempDir()
	keyPath := filepath.Join(dir, "new", "master.key")
	v, err := reopen(t, openBolt(t, filepath.Join(dir, "p", "store.db")), vault.LocalKey(keyPath))
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 { // it is idempotent
		if err := v.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(keyPath)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = key
		}
		if decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(key))); err != nil || len(decoded) != 32 || !bytes.Equal(key, first) {
			t.Errorf("key file holds %q, %v", key, err)
		}
	}
	if got := mode(t, keyPath); got != 0o600 {
		t.Errorf("key file has mode %v", got)
	}
	if got := mode(t, filepath.Dir(keyPath)); got != 0o700 {
		t.Errorf("its directory has mode %v", got)
	}
}

func TestLocalKeyFaults(t *testing.T) {
	other := base64.StdEncoding.EncodeToString(testKey) + "\n"
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  error
	}{
		{"missing", func(t *testing.T, path string) { remove(t, path) }, vault.ErrKeyMissing},
		{"another key", func(t *testing.T, path string) { write(t, path, []byte(other)) }, vault.ErrWrongKey},
		{"empty", func(t *testing.T, path string) { write(t, path, nil) }, vault.ErrWrongKey},
		{"junk", func(t *testing.T, path string) { write(t, path, []byte("not a key\n")) }, vault.ErrWrongKey},
		{"short", func(t *testing.T, path string) { write(t, path, []byte("AAAA\n")) }, vault.ErrWrongKey},
		{"directory", func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, vault.ErrWrongKey},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "master.key")
			store := openBolt(t, filepath.Join(dir, "store.db"))
			v, err := reopen(t, store, vault.LocalKey(path))
			if err != nil {
				t.Fatal(err)
			}
			apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
			tt.spoil(t, path)
			before, _ := os.ReadFile(path)
			_, err = reopen(t, store, vault.LocalKey(path))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open = %v, want %v with the file's name", err, tt.want)
			}
			// A vault that was open before goes on, and nobody makes a new key.
			apply(t, v, vault.Change{Key: "b", Record: record("h", "t")})
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Errorf("the key file became %q", after)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A key that other profiles need is not replaced by one for a new profile.
func TestMissingKeyIsNotRemadeForAnotherStore(t *testing.T) {
	dir := t.TempDir()
	key := vault.LocalKey(filepath.Join(dir, "master.key"), filepath.Join(dir, "*", "store.db"))
	one, err := reopen(t, openBolt(t, filepath.Join(dir, "one", "store.db")), key)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, one, vault.Change{Key: "a", Record: record("h", "t")})
	remove(t, filepath.Join(dir, "master.key"))
	two, err := reopen(t, openBolt(t, filepath.Join(dir, "two", "store.db")), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Init(t.Context()); !errors.Is(err, vault.ErrKeyMissing) {
		t.Errorf("Init = %v, want ErrKeyMissing", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "master.key")); err == nil {
		t.Error("a new key was made")
	}
}

func TestKeyFileIsTightened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	store := vault.NewMemory()
	v, err := reopen(t, store, vault.LocalKey(path))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen(t, store, vault.LocalKey(path)); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, path); got != 0o600 {
		t.Errorf("key file keeps mode %v", got)
	}
}

func TestEnvKey(t *testing.T) {
	tests := []struct {
		name, key string
		want      error
	}{
		{"base64", base64.StdEncoding.EncodeToString(testKey), nil},
		{"base64 without padding", base64.RawStdEncoding.EncodeToString(testKey), nil},
		{"base64 for URLs", base64.URLEncoding.EncodeToString(testKey), nil},
		{"hex with a newline", hex.EncodeToString(testKey) + "\n", nil},
		{"none", "", vault.ErrKeyMissing},
		{"short", base64.StdEncoding.EncodeToString(testKey[:31]), vault.ErrWrongKey},
		{"junk", "correct horse battery staple", vault.ErrWrongKey},
		{"another", hex.EncodeToString(bytes.Repeat([]byte{8}, 32)), vault.ErrWrongKey},
	}
	store := vault.NewMemory()
	v, err := reopen(t, store, vault.EnvKey(secret.New(hex.EncodeToString(testKey))))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
	for _, tt := range tests {
		again, err := reopen(t, store, vault.EnvKey(secret.New(tt.key)))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Open = %v, want %v", tt.name, err, tt.want)
		}
		if err != nil {
			if tt.key != "" && strings.Contains(err.Error(), tt.key) {
				t.Errorf("%s: the error discloses the key: %v", tt.name, err)
			}
			continue
		}
		if _, err := get(t, again, "a").Record(); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := reopen(t, store, vault.LocalKey(filepath.Join(t.TempDir(), "k"))); !errors.Is(err, vault.ErrWrongKey) || !strings.Contains(err.Error(), `"env"`) {
		t.Errorf("Open in another mode = %v, want ErrWrongKey that names the mode", err)
	}
}

// A key document that was moved from another vault under the same wrapper opens
// nothing: it is bound to its vault.
func TestKeyDocumentOfAnotherVault(t *testing.T) {
	wrapper := vault.EnvKey(secret.New(hex.EncodeToString(testKey)))
	var raws []string
	var stores []*vault.Memory
	for range 2 {
		store := vault.NewMemory()
		v, err := reopen(t, store, wrapper)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
		stores, raws = append(stores, store), append(raws, contents(t, store, vault.KeysKey)[vault.KeysKey])
	}
	// Whole: it opens, but no record does.
	commit(t, stores[0], put(vault.KeysKey, raws[1]))
	v, err := reopen(t, stores[0], wrapper)
	if err != nil {
		t.Fatal(err)
	}
	var bad *vault.IntegrityError
	if _, err := get(t, v, "a").Record(); !errors.As(err, &bad) || bad.Key != "a" {
		t.Errorf("Record under another vault's key = %v, want *IntegrityError", err)
	}
	// Damaged: told from a wrong key.
	for i := range len(raws[0]) {
		damaged := []byte(raws[0])
		damaged[i] ^= 4
		commit(t, stores[0], put(vault.KeysKey, string(damaged)))
		if _, err := reopen(t, stores[0], wrapper); !errors.As(err, &bad) || bad.Key != vault.KeysKey {
			t.Fatalf("key document damaged at byte %d: Open = %v, want *IntegrityError", i, err)
		}
	}
}
