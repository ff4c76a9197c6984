package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authsome/vault"
)

func init() {
	// Counts up the number in a plain file, one at a time only if the lease
	// excludes: the file is read, and written after a while.
	children["count"] = func(args []string) error {
		v, err := openIn(args[0])
		if err != nil {
			return err
		}
		times, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		for range times {
			if err := counted(v, filepath.Join(args[0], "number")); err != nil {
				return err
			}
		}
		fmt.Println("done")
		return nil
	}
	children["hold lease"] = func(args []string) error {
		v, err := openIn(args[0])
		if err != nil {
			return err
		}
		ttl, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		if _, err := v.Lock(context.Background(), "refresh", ttl); err != nil {
			return err
		}
		fmt.Println("held")
		waitForInput()
		return nil
	}
}

func counted(v *vault.Vault, path string) error {
	ctx := context.Background()
	unlock, err := v.Lock(ctx, "count", 10*time.Second)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Millisecond)
	if err := os.WriteFile(path, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
		return err
	}
	return unlock(ctx)
}

func TestLeaseExcludesProcesses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "number")
	write(t, path, []byte("0"))
	const processes, times = 8, 10
	var all []*child
	for range processes {
		all = append(all, start(t, nil, "count", dir, strconv.Itoa(times)))
	}
	for _, c := range all {
		if got := c.line(t); got != "done" {
			t.Errorf("child: %s", got)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != strconv.Itoa(processes*times) {
		t.Errorf("counted to %s, want %d", got, processes*times)
	}
	store := openBolt(t, filepath.Join(dir, "store.db"))
	if left := contents(t, store, vault.LockPrefix); len(left) != 0 {
		t.Errorf("leases left behind: %v", left)
	}
}

func TestLeaseExcludesGoroutines(t *testing.T) {
	for kind, newStore := range stores {
		t.Run(kind, func(t *testing.T) {
			v := open(t, newStore(t))
			var inside, most atomic.Int32
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					unlock, err := v.Lock(t.Context(), "x", time.Minute)
					if err != nil {
						t.Error(err)
						return
					}
					most.Store(max(most.Load(), inside.Add(1)))
					time.Sleep(3 * time.Millisecond)
					inside.Add(-1)
					if err := unlock(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if most.Load() != 1 {
				t.Errorf("%d held it at once", most.Load())
			}
		})
	}
}

func TestLeaseOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	c := start(t, nil, "hold lease", dir, "30s")
	if got := c.line(t); got != "held" {
		t.Fatal(got)
	}
	v, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, err := v.Lock(ctx, "refresh", time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Lock of a held lease = %v", err)
	}
	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	begin := time.Now()
	unlock, err := v.Lock(t.Context(), "refresh", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a dead owner's lease was waited for, %v", took)
	}
	if err := unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// foreign is the lease of an owner about whom nothing can be found out.
func foreign(owner string, expires time.Time, ttl time.Duration) []byte {
	raw, _ := json.Marshal(map[string]any{"owner": owner, "expires": expires, "ttl_ms": ttl.Milliseconds(), "process": map[string]any{"pid": 1}})
	return raw
}

func TestLeaseOfAnUnknownOwner(t *testing.T) {
	tests := []struct {
		name string
		raw  []byte
		min  time.Duration // waited at least
		max  time.Duration
	}{
		{"expired", foreign("x", time.Now().Add(-time.Second), time.Minute), 0, time.Second},
		{"about to expire", foreign("x", time.Now().Add(300*time.Millisecond), time.Minute), 200 * time.Millisecond, 3 * time.Second},
		{"clock was set back", foreign("x", time.Now().Add(9999*time.Hour), 200*time.Millisecond), 200 * time.Millisecond, 3 * time.Second},
		{"damaged", []byte("junk"), 250 * time.Millisecond, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := open(t, nil)
			commit(t, v.Store, vault.Op{Key: vault.LockPrefix + "x", Value: tt.raw})
			begin := time.Now()
			unlock, err := v.Lock(t.Context(), "x", 250*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < tt.min || took > tt.max {
				t.Errorf("waited %v, want %v to %v", took, tt.min, tt.max)
			}
			if err := unlock(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnlockRemovesOnlyItsOwn(t *testing.T) {
	v := open(t, nil)
	unlock, err := v.Lock(t.Context(), "x", 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	second, err := v.Lock(t.Context(), "x", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(t.Context()); !errors.Is(err, vault.ErrConflict) {
		t.Errorf("unlock of a lost lease = %v, want ErrConflict", err)
	}
	if left := contents(t, v.Store, vault.LockPrefix); len(left) != 1 {
		t.Errorf("it took the other's lease away: %v", left)
	}
	if err := second(t.Context()); err != nil {
		t.Error(err)
	}
	// Different names do not meet.
	for _, name := range []string{"a", "ab"} {
		if _, err := v.Lock(t.Context(), name, time.Minute); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.Lock(t.Context(), "", time.Minute); err == nil {
		t.Error("a lease without a name was granted")
	}
}

// A new vault, whose key nobody made yet, can be locked.
func TestLockBeforeTheFirstRecord(t *testing.T) {
	store := openBolt(t, filepath.Join(t.TempDir(), "store.db"))
	v := open(t, store)
	unlock, err := v.Lock(t.Context(), "x", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
	if err := unlock(t.Context()); err != nil {
		t.Error(err)
	}
}
