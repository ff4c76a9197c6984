package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// kit is a vault with what a test wants to look at.
type kit struct {
	*vault.Vault
	Store     vault.Store
	AuditPath string
	Dir       string
}

// open returns a vault over store with a key and a log in a new directory. A nil
// store is in memory.
func open(t testing.TB, store vault.Store) *kit {
	t.Helper()
	dir := t.TempDir()
	if store == nil {
		store = vault.NewMemory()
	}
	k := &kit{Store: store, Dir: dir, AuditPath: filepath.Join(dir, "audit.log")}
	log, err := audit.Open(k.AuditPath, audit.Config{Profile: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	k.Vault, err = vault.Open(t.Context(), vault.Config{
		Store: store, Wrapper: vault.LocalKey(filepath.Join(dir, "master.key")), Audit: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var login = audit.Event{Event: "login", Provider: "github", Connection: "default"}

// record returns a record with one plain field and one secret.
func record(host, token string) *vault.Record {
	quoted, _ := json.Marshal(host)
	return &vault.Record{
		Fields:  map[string]json.RawMessage{"host_url": quoted, "unknown": json.RawMessage(`{"b" : [1, 2],"a":null}`)},
		Secrets: map[string]secret.Text{"access_token": secret.New(token)},
	}
}

func TestPutGetDelete(t *testing.T) {
	v := open(t, nil)
	ctx := context.Background()
	if _, err := v.Get(ctx, "a"); !errors.Is(err, vault.ErrNotFound) {
		t.Fatalf("Get of nothing = %v, want ErrNotFound", err)
	}
	if err := v.Apply(ctx, login, vault.Change{Key: "a", Record: record("api.github.com", "s3cret"), Create: true}); err != nil {
		t.Fatal(err)
	}
	entry, err := v.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	got, err := entry.Record()
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Secrets["access_token"].Reveal(); s != "s3cret" {
		t.Errorf("secret = %q", s)
	}
	if s := string(got.Fields["unknown"]); s != `{"b" : [1, 2],"a":null}` {
		t.Errorf("unknown field = %s, want it byte for byte", s)
	}
	if err := v.Apply(ctx, login, vault.Change{Key: "a", Previous: entry}); err != nil {
		t.Fatal(err)
	}
	if err := v.Apply(ctx, login, vault.Change{Key: "a", Previous: entry, Record: &got}); !errors.Is(err, vault.ErrConflict) {
		t.Errorf("Apply over a deleted version = %v, want ErrConflict", err)
	}
}
