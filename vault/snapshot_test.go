package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/vault"
	"authsome/vault/audit"
)

// eventually waits until ok, or fails.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func has(v *kit, key string) bool {
	_, ok := v.Snapshot().Get(key)
	return ok
}

func TestSnapshot(t *testing.T) {
	v := open(t, nil)
	if s := v.Snapshot(); s == nil || s.Len() != 0 || s.Generation() != 0 {
		t.Fatalf("before it was loaded: %+v", s)
	}
	apply(t, v, vault.Change{Key: "p:a", Record: record("h", "1")}, vault.Change{Key: "p:b", Record: record("h", "2")},
		vault.Change{Key: "q:a", Record: record("h", "3")})
	if err := v.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := v.Snapshot()
	for prefix, want := range map[string]int{"": 3, "p:": 2, "p:b": 1, "q": 1, "o": 0, "z": 0} {
		if got := first.Prefix(prefix); len(got) != want || len(got) > 1 && got[0].Key > got[1].Key {
			t.Errorf("Prefix(%q) = %d entries, want %d sorted", prefix, len(got), want)
		}
	}
	e, ok := first.Get("p:b")
	if !ok {
		t.Fatal("p:b is missing")
	}
	if r, err := e.Record(); err != nil || r.Secrets["access_token"].Reveal() != "2" {
		t.Errorf("Record = %v, %v", r, err)
	}
	if _, ok := first.Get("p:"); ok {
		t.Error("Get found a prefix")
	}

	// A reload of the same changes nothing, not even the pointers.
	if err := v.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.Snapshot() != first {
		t.Error("reloading the same made a new snapshot")
	}
	// A local write is visible when Apply returns, and leaves the rest as it was.
	apply(t, v, vault.Change{Key: "p:a", Record: record("h", "9")}, vault.Change{Key: "q:a"}, vault.Change{Key: "a", Record: record("h", "0")})
	second := v.Snapshot()
	if second.Generation() <= first.Generation() || second.Len() != 3 || has(v, "q:a") || !has(v, "a") {
		t.Errorf("after a local write: %d records, generation %d", second.Len(), second.Generation())
	}
	if again, _ := second.Get("p:b"); again != e {
		t.Error("an unchanged entry was replaced")
	}
	if first.Len() != 3 || len(first.Prefix("q")) != 1 {
		t.Error("an old snapshot changed")
	}
	if err := v.Reload(t.Context()); err != nil || v.Snapshot() != second {
		t.Errorf("the store differs from what was applied: %v", err)
	}
	// Leases are no change.
	unlock, err := v.Lock(t.Context(), "l", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock(context.Background()) }()
	if err := v.Reload(t.Context()); err != nil || v.Snapshot() != second {
		t.Errorf("a lease changed the snapshot: %v", err)
	}
}

// Two vaults on one file are two processes as far as the code can tell.
func TestWatchSeesOtherProcesses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p", "store.db")
	wrapper := vault.LocalKey(filepath.Join(dir, "master.key"))
	reader, err := reopen(t, openBolt(t, path), wrapper)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []uint64
	// Watched before there is a file, or even its directory.
	if err := reader.Watch(t.Context(), func(s *vault.Snapshot) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s.Generation())
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 {
		t.Fatalf("onChange was called %d times before Watch returned, want 1", len(seen))
	}
	writer, err := reopen(t, openBolt(t, path), wrapper)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, writer, vault.Change{Key: "a", Record: record("h", "1")})
	eventually(t, "the first write", 2500*time.Millisecond, func() bool { return has(reader, "a") })
	time.Sleep(1100 * time.Millisecond) // a poll, so that the new directory is subscribed to
	for i := range 5 {
		key := fmt.Sprint("k", i)
		begin := time.Now()
		apply(t, writer, vault.Change{Key: key, Record: record("h", "1")})
		eventually(t, "write "+key, 2*time.Second, func() bool { return has(reader, key) })
		t.Logf("seen after %v", time.Since(begin))
	}
	apply(t, writer, vault.Change{Key: "a"})
	eventually(t, "the removal", 2*time.Second, func() bool { return !has(reader, "a") })
	mu.Lock()
	defer mu.Unlock()
	for i := 1; i < len(seen); i++ {
		if seen[i] <= seen[i-1] {
			t.Errorf("onChange without a change: generations %v", seen)
		}
	}
}

// damageable is a store whose loads can be made to fail.
type damageable struct {
	*vault.Memory
	mu  sync.Mutex
	err error
}

func (d *damageable) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *damageable) Load(ctx context.Context, prefix string) (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return nil, d.err
	}
	return d.Memory.Load(ctx, prefix)
}

func TestFailedReloadKeepsTheSnapshot(t *testing.T) {
	store := &damageable{Memory: vault.NewMemory()}
	v := open(t, store)
	apply(t, v, vault.Change{Key: "a", Record: record("h", "1")})
	if err := v.Watch(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := v.Snapshot()
	store.fail(&vault.CorruptError{Path: "x", Detail: "test"})
	commit(t, store.Memory, put("b", "2"))
	eventually(t, "a failed reload", 2*time.Second, func() bool { _, failed := v.ReloadStats(); return failed > 0 })
	if v.Snapshot() != before {
		t.Error("a failed reload replaced the snapshot")
	}
	store.fail(nil)
	eventually(t, "recovery", 3*time.Second, func() bool { return has(v, "b") })
	if ok, _ := v.ReloadStats(); ok < 2 {
		t.Errorf("%d reloads succeeded, want 2", ok)
	}
}

func TestReplacedAndDeletedStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	wrapper := vault.LocalKey(filepath.Join(dir, "master.key"))
	var logged bytes.Buffer
	log, err := audit.Open(filepath.Join(dir, "audit.log"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	inner, err := vault.Open(t.Context(), vault.Config{Store: openBolt(t, path), Wrapper: wrapper, Audit: log,
		Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	v := &kit{Vault: inner}
	apply(t, v, vault.Change{Key: "old", Record: record("h", "1")})
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "new", Record: record("h", "1")})
	ctx, cancel := context.WithCancel(t.Context())
	if err := v.Watch(ctx, nil); err != nil {
		t.Fatal(err)
	}
	// A backup takes the file's place.
	write(t, path+".restored", old)
	if err := os.Rename(path+".restored", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the restored store", 2*time.Second, func() bool { return has(v, "old") && !has(v, "new") })
	// A missing file is not believed at once.
	remove(t, path)
	eventually(t, "the first look", 2*time.Second, func() bool { _, failed := v.ReloadStats(); return failed > 0 })
	if !has(v, "old") {
		t.Error("the snapshot was emptied at the first look")
	}
	eventually(t, "an empty snapshot", 4*time.Second, func() bool { return !has(v, "old") })
	// And then somebody logs in again: a new vault in the old place.
	other, err := reopen(t, openBolt(t, path), wrapper)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, other, vault.Change{Key: "fresh", Record: record("h", "5")})
	eventually(t, "the new store", 2*time.Second, func() bool { return has(v, "fresh") })
	e, _ := v.Snapshot().Get("fresh")
	if _, err := e.Record(); err != nil {
		t.Errorf("Record in the new store: %v", err)
	}
	apply(t, v, vault.Change{Key: "mine", Record: record("h", "6")})
	if _, err := get(t, other, "mine").Record(); err != nil {
		t.Errorf("the other process reads what this one wrote: %v", err)
	}
	cancel()
	time.Sleep(20 * time.Millisecond)
	if !strings.Contains(logged.String(), "store is gone") {
		t.Errorf("nobody was told: %s", logged.String())
	}
}

func TestWatchFailsWithTheFirstLoad(t *testing.T) {
	store := &damageable{Memory: vault.NewMemory()}
	v := open(t, store)
	want := errors.New("unreadable")
	store.fail(want)
	if err := v.Watch(t.Context(), nil); !errors.Is(err, want) {
		t.Errorf("Watch = %v, want %v", err, want)
	}
}
