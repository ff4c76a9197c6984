package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"authsome/vault"
)

// ramDir returns a directory where syncing is cheap, if there is one.
func ramDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "vault-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// smallVault makes a vault of a few connections in dir, with some history in
// its file, and returns what its records must be.
func smallVault(t testing.TB, dir string) map[string]string {
	t.Helper()
	v, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := range 12 {
		key := fmt.Sprintf("profile:default:provider%d:connection:default", i)
		want[key] = fmt.Sprintf("secret-%d", i)
		for _, token := range []string{"old", want[key]} {
			if err := v.Apply(t.Context(), login, vault.Change{Key: key, Record: record("api.example.com", token)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return want
}

// inspect reads every record of the store in dir and says what is wrong with
// the answers, if anything: it must be the truth, or an error that names what
// is damaged.
func inspect(dir string, want map[string]string) string {
	v, err := openIn(dir)
	if err != nil {
		return unnamed(err, dir)
	}
	entries, err := v.List(context.Background(), "")
	if err != nil {
		return unnamed(err, dir)
	}
	found := 0
	for _, e := range entries {
		got, err := e.Record()
		if err != nil {
			var bad *vault.IntegrityError
			if !errors.As(err, &bad) || bad.Key != e.Key {
				return fmt.Sprintf("error does not name the record %q: %v", e.Key, err)
			}
			found++
			continue
		}
		if _, ok := want[e.Key]; !ok {
			return fmt.Sprintf("a record %q appeared", e.Key)
		}
		if s := got.Secrets["access_token"].Reveal(); s != want[e.Key] || string(got.Fields["host_url"]) != `"api.example.com"` {
			return fmt.Sprintf("record %q became %s, %s", e.Key, s, got.Fields["host_url"])
		}
		found++
	}
	if found != len(want) {
		return fmt.Sprintf("%d of %d records", found, len(want))
	}
	return ""
}

// unnamed complains unless err names the store, or the key document in it.
func unnamed(err error, dir string) string {
	var corrupt *vault.CorruptError
	var integrity *vault.IntegrityError
	switch {
	case errors.As(err, &corrupt) && errors.Is(err, vault.ErrUnavailable) && strings.Contains(err.Error(), filepath.Join(dir, "store.db")):
		return ""
	case errors.As(err, &integrity) && integrity.Key == vault.KeysKey:
		return ""
	}
	return "unexpected error: " + oneLine(err)
}

// TestEveryByteFlipped damages each byte of a store in turn (of the zeros between
// its records, every thirteenth). What comes back is the truth or an error, and
// a write to the damaged file either fails or leaves everything else as it was.
func TestEveryByteFlipped(t *testing.T) {
	base := ramDir(t)
	want := smallVault(t, base)
	intact, err := os.ReadFile(filepath.Join(base, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(intact))
	workers := runtime.NumCPU()
	var wg sync.WaitGroup
	for w := range workers {
		dir := filepath.Join(base, fmt.Sprint(w))
		cloneVault(t, base, dir)
		wg.Go(func() {
			for i := w; i < len(intact) && !t.Failed(); i += workers {
				if !slack(intact, i) || i%13 == 0 {
					flip(t, dir, intact, i, byte(1<<rand.N(8)), want)
				}
				if !slack(intact, i) && i%9 == 0 {
					flip(t, dir, intact, i, 0xFF, want)
				}
			}
		})
	}
	wg.Wait()
}

// slack reports whether byte i lies well within a run of zeros.
func slack(content []byte, i int) bool {
	around := content[max(0, i-16):min(len(content), i+16)]
	return bytes.Equal(around, make([]byte, len(around)))
}

func cloneVault(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store.db", "master.key"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// flip damages byte i of the store in dir, looks, writes, looks again, and
// restores the file.
func flip(t *testing.T, dir string, intact []byte, i int, mask byte, want map[string]string) {
	path := filepath.Join(dir, "store.db")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{intact[i] ^ mask}, int64(i)); err != nil {
		t.Error(err)
	}
	defer func() { // what the damage did, and what the write did
		if _, err := file.WriteAt(intact, 0); err != nil {
			t.Error(err)
		}
	}()
	if wrong := inspect(dir, want); wrong != "" {
		t.Errorf("byte %d ^ %#x: %s", i, mask, wrong)
	}
	if i%4 != 0 {
		return
	}
	store, _ := vault.OpenBolt(path, vault.BoltConfig{})
	before, loadErr := store.Load(t.Context(), "")
	err = store.Commit(t.Context(), vault.Batch{Erase: true, Ops: []vault.Op{{Key: "new", Value: bytes.Repeat([]byte("x"), 3000)}}})
	if err != nil {
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("byte %d ^ %#x: Commit = %v", i, mask, err)
		}
		return
	}
	after, err := store.Load(t.Context(), "")
	if loadErr != nil || err != nil || len(after) != len(before)+1 {
		t.Errorf("byte %d ^ %#x: a write to a store that read as %v led to %d records, %v", i, mask, loadErr, len(after), err)
		return
	}
	for key, value := range before {
		if !bytes.Equal(after[key], value) {
			t.Errorf("byte %d ^ %#x: a write changed another record, %q", i, mask, key)
		}
	}
}
