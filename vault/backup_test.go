package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/vault"
)

func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	want := smallVault(t, dir)
	v, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Lock(t.Context(), "held", time.Hour); err != nil {
		t.Fatal(err)
	}
	store := openBolt(t, filepath.Join(dir, "store.db"))
	copyPath := filepath.Join(dir, "copy.db")
	if err := store.Backup(t.Context(), copyPath); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, copyPath); got != 0o600 {
		t.Errorf("the copy has mode %v", got)
	}
	if err := store.Backup(t.Context(), copyPath); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), copyPath) {
		t.Errorf("Backup onto a file = %v, want fs.ErrExist", err)
	}
	good, err := os.ReadFile(copyPath)
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(){
		"changed since": func() {
			if err := v.Apply(t.Context(), login, vault.Change{Key: "new", Record: record("h", "t")}); err != nil {
				t.Fatal(err)
			}
		},
		"damaged": func() { write(t, store.Path(), []byte("junk")) },
		"empty":   func() { write(t, store.Path(), nil) },
		"gone":    func() { remove(t, store.Path()) },
	}
	for name, damage := range damages {
		damage()
		// A damaged copy is refused and changes nothing.
		before, _ := os.ReadFile(store.Path())
		write(t, copyPath, good[:len(good)/2])
		if err := store.Restore(t.Context(), copyPath); !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), copyPath) {
			t.Errorf("%s: Restore of half a copy = %v", name, err)
		}
		if after, _ := os.ReadFile(store.Path()); string(after) != string(before) {
			t.Errorf("%s: a refused copy changed the store", name)
		}
		write(t, copyPath, good)
		if err := store.Restore(t.Context(), copyPath); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if wrong := inspect(dir, want); wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
		if leases := contents(t, store, vault.LockPrefix); len(leases) != 0 {
			t.Errorf("%s: leases were restored: %v", name, leases)
		}
	}
	for _, path := range []string{filepath.Join(dir, "none.db"), dir} {
		if err := store.Restore(t.Context(), path); !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("Restore from %s = %v", path, err)
		}
	}
	if err := openBolt(t, filepath.Join(dir, "none.db")).Backup(t.Context(), copyPath+"2"); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("Backup of nothing = %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Two records that are always written together are the same in every copy, and
// no write is lost while the file is replaced under the writers.
func TestCopiesAndCompactionsWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	written := make([]int, 3)
	for w := range written {
		store := openBolt(t, path)
		wg.Go(func() {
			for ctx.Err() == nil {
				n := written[w] + 1
				a, b := put(fmt.Sprint("a", w), fmt.Sprint(n)), put(fmt.Sprint("b", w), fmt.Sprint(n))
				if err := store.Commit(context.Background(), vault.Batch{Ops: []vault.Op{a, b}, Erase: n%2 == 0}); err != nil {
					t.Error(err)
					return
				}
				written[w] = n
				time.Sleep(time.Millisecond)
			}
		})
	}
	store := openBolt(t, path)
	eventually(t, "the first write", 5*time.Second, func() bool { return len(contents(t, store, "")) == 6 })
	for i := range 15 {
		if _, _, err := store.Compact(t.Context()); err != nil {
			t.Error(err)
		}
		copyPath := filepath.Join(dir, fmt.Sprint("copy", i))
		if err := store.Backup(t.Context(), copyPath); err != nil {
			t.Fatal(err)
		}
		got := contents(t, openBolt(t, copyPath), "")
		for w := range written {
			if a, b := got[fmt.Sprint("a", w)], got[fmt.Sprint("b", w)]; a != b || a == "" {
				t.Errorf("copy %d is of no one moment: %v", i, got)
			}
		}
		if err := store.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	got := contents(t, store, "")
	for w, n := range written {
		if got[fmt.Sprint("a", w)] != fmt.Sprint(n) {
			t.Errorf("writer %d wrote %d, the store has %s", w, n, got[fmt.Sprint("a", w)])
		}
	}
}

func TestCompact(t *testing.T) {
	dir := t.TempDir()
	store := openBolt(t, filepath.Join(dir, "store.db"))
	if before, after, err := store.Compact(t.Context()); before != 0 || after != 0 || err != nil {
		t.Errorf("Compact of nothing = %d, %d, %v", before, after, err)
	}
	var ops, deletes []vault.Op
	for i := range 500 {
		ops = append(ops, put(fmt.Sprint("k", i), strings.Repeat("x", 1000)))
		if i > 3 {
			deletes = append(deletes, vault.Op{Key: fmt.Sprint("k", i)})
		}
	}
	commit(t, store, ops...)
	commit(t, store, deletes...)
	before, after, err := store.Compact(t.Context())
	if err != nil || after >= before || after > 64<<10 {
		t.Errorf("Compact = %d, %d, %v", before, after, err)
	}
	if got := contents(t, store, ""); len(got) != 4 {
		t.Errorf("%d records, want 4", len(got))
	}
	if got := mode(t, store.Path()); got != 0o600 {
		t.Errorf("mode %v", got)
	}
}

// A damaged free list costs no record: reading goes on, writing is refused
// because bbolt would overwrite pages in use, and compaction mends it.
func TestDamagedFreeList(t *testing.T) {
	dir := t.TempDir()
	want := smallVault(t, dir)
	store := openBolt(t, filepath.Join(dir, "store.db"))
	content, err := os.ReadFile(store.Path())
	if err != nil {
		t.Fatal(err)
	}
	page := 0
	for size := os.Getpagesize(); page < len(content); page += size {
		if content[page+8] == 0x10 && content[page+10] > 0 { // the type of a free list, not empty
			content[page+16] ^= 1 // another page
			content[page+17] ^= 1
			break
		}
	}
	if page == len(content) {
		t.Fatal("no free list")
	}
	write(t, store.Path(), content)
	if wrong := inspect(dir, want); wrong != "" {
		t.Errorf("reading: %s", wrong)
	}
	err = store.Commit(t.Context(), vault.Batch{Ops: []vault.Op{put("a", "1")}})
	var damaged *vault.CorruptError
	if !errors.Is(err, vault.ErrUnavailable) || !errors.As(err, &damaged) || !strings.Contains(damaged.Hint(), "authsome vault compact") {
		t.Errorf("Commit = %v, want an error that says how to mend it", err)
	}
	if err := store.Check(t.Context()); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("Check = %v", err)
	}
	if _, _, err := store.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if wrong := inspect(dir, want); wrong != "" {
		t.Errorf("after compaction: %s", wrong)
	}
	commit(t, store, put("a", "1"))
}
