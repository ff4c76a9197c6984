package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"authsome/vault"
	"authsome/vault/audit"
)

// auditEvents returns "event outcome code" of every line of the vault's log.
func auditEvents(t testing.TB, v *kit) []string {
	t.Helper()
	file, err := os.Open(v.AuditPath)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []string
	for e, err := range audit.Read(file, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintln(e.Event, e.Outcome, e.Code)))
	}
	return all
}

func TestOpenNeedsItsParts(t *testing.T) {
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.log"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	whole := vault.Config{Store: vault.NewMemory(), Wrapper: vault.LocalKey("k"), Audit: log}
	for name, drop := range map[string]func(*vault.Config){
		"store": func(c *vault.Config) { c.Store = nil }, "wrapper": func(c *vault.Config) { c.Wrapper = nil }, "audit": func(c *vault.Config) { c.Audit = nil },
	} {
		cfg := whole
		drop(&cfg)
		if _, err := vault.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Open without %s = %v", name, err)
		}
	}
}

func TestApplyRecordsFirst(t *testing.T) {
	v := open(t, openBolt(t, filepath.Join(t.TempDir(), "store.db")))
	apply(t, v, vault.Change{Key: "a", Record: record("h", "1"), Create: true})
	old := get(t, v, "a")
	apply(t, v, vault.Change{Key: "a", Record: record("h", "2"), Previous: old})
	logout := audit.Event{Event: "logout", Provider: "github"}
	for name, c := range map[string]vault.Change{
		"previous": {Key: "a", Record: record("h", "3"), Previous: old},
		"create":   {Key: "a", Record: record("h", "3"), Create: true},
		"delete":   {Key: "a", Previous: old},
	} {
		if err := v.Apply(t.Context(), logout, c); !errors.Is(err, vault.ErrConflict) {
			t.Errorf("%s: Apply = %v, want ErrConflict", name, err)
		}
	}
	want := []string{"login ok", "login ok",
		"logout ok", "logout failed conflict", "logout ok", "logout failed conflict", "logout ok", "logout failed conflict"}
	if got := auditEvents(t, v); !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	r, err := get(t, v, "a").Record()
	if err != nil || r.Secrets["access_token"].Reveal() != "2" {
		t.Errorf("the record became %v, %v", r, err)
	}
}

func TestApplyIsRefusedWhenItCannotBeRecorded(t *testing.T) {
	dir := t.TempDir()
	log, err := audit.Open(filepath.Join(dir, "audit.log"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	store := vault.NewMemory()
	v, err := vault.Open(t.Context(), vault.Config{Store: store, Wrapper: vault.LocalKey(filepath.Join(dir, "k")), Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Apply(t.Context(), login, vault.Change{Key: "a", Record: record("h", "t")}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Apply = %v, want audit.ErrUnavailable", err)
	}
	if _, err := v.Get(t.Context(), "a"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("the record was written all the same: %v", err)
	}
}

// Goroutines that increment one number by compare-and-swap lose no increment.
func TestCompareAndSwap(t *testing.T) {
	for kind, newStore := range stores {
		t.Run(kind, func(t *testing.T) {
			v := open(t, newStore(t))
			apply(t, v, vault.Change{Key: "n", Record: numbered(0)})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 10 {
						for {
							e, err := v.Get(context.Background(), "n")
							if err != nil {
								t.Error(err)
								return
							}
							n, err := number(e)
							if err != nil {
								t.Error(err)
								return
							}
							err = v.Apply(context.Background(), login, vault.Change{Key: "n", Record: numbered(n + 1), Previous: e})
							if err == nil {
								break
							}
							if !errors.Is(err, vault.ErrConflict) {
								t.Error(err)
								return
							}
						}
					}
				})
			}
			wg.Wait()
			if n, err := number(get(t, v, "n")); err != nil || n != 40 {
				t.Errorf("the number is %d, %v; want 40", n, err)
			}
		})
	}
}

// What is deleted or replaced does not stay behind in the file: PITFALLS 34.
func TestNothingReplacedStaysInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	v := open(t, openBolt(t, path))
	var gone [][]byte
	remember := func(key string) {
		r := raw(t, v.Store, key)
		gone = append(gone, r["access_token"])
	}
	for i := range 30 {
		apply(t, v, vault.Change{Key: fmt.Sprintf("k%d", i), Record: record("h", "t")})
	}
	remember("k7")
	apply(t, v, vault.Change{Key: "k7", Record: record("h", "t2")})
	unlock, err := v.Lock(t.Context(), "refresh", 1e9) // copies pages without erasing
	if err != nil {
		t.Fatal(err)
	}
	remember("k3")
	if err := unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "k3"})
	remember("k7")
	apply(t, v, vault.Change{Key: "k7"})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, envelope := range gone {
		if strings.Contains(string(content), string(envelope)) {
			t.Errorf("ciphertext %d of %d is still in the file", i, len(gone))
		}
	}
	if len(gone) != 3 || !strings.Contains(string(content), `"k8`) && !strings.Contains(string(content), "k8") {
		t.Error("the test looks for the wrong thing")
	}
}
