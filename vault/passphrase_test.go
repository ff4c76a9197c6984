package vault_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"authsome/vault"
	"authsome/vault/secret"
)

func TestPassphrase(t *testing.T) {
	store := vault.NewMemory()
	v, err := reopen(t, store, phrase("corr\u00e9ct"))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
	tests := []struct {
		name, text string
		want       error
	}{
		{"right", "corr\u00e9ct", nil},
		{"right, decomposed", "corre\u0301ct", nil},
		{"wrong", "correct", vault.ErrWrongKey},
		{"empty", "", vault.ErrKeyMissing},
	}
	for _, tt := range tests {
		again, err := reopen(t, store, phrase(tt.text))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Open = %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			if _, err := get(t, again, "a").Record(); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
	}
	// A wrong one is not remembered.
	answers := []string{"wrong", "corr\u00e9ct"}
	asked := 0
	patient := vault.QuickPassphrase(func(_ context.Context, confirm bool) (secret.Text, error) {
		asked++
		if confirm {
			t.Error("asked to confirm an old passphrase")
		}
		return secret.New(answers[asked-1]), nil
	})
	if _, err := reopen(t, store, patient); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("first answer: %v", err)
	}
	if _, err := reopen(t, store, patient); err != nil {
		t.Errorf("second answer: %v", err)
	}
	if _, err := reopen(t, store, patient); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	cancelled := vault.Passphrase(func(context.Context, bool) (secret.Text, error) { return secret.Text{}, context.Canceled })
	if _, err := reopen(t, store, cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	proper, err := reopen(t, vault.NewMemory(), vault.Passphrase(func(_ context.Context, confirm bool) (secret.Text, error) {
		if !confirm {
			t.Error("a new passphrase is not confirmed")
		}
		return secret.New("x"), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := proper.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	store = proper.Store.(*vault.Memory)
	var doc struct {
		Keys map[string]struct {
			Wrapped struct {
				Argon2id struct {
					Time, Threads int
					MemoryKiB     int `json:"memory_kib"`
					Salt          []byte
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(contents(t, store, vault.KeysKey)[vault.KeysKey]), &doc); err != nil {
		t.Fatal(err)
	}
	for _, k := range doc.Keys {
		if p := k.Wrapped.Argon2id; p.Time < 3 || p.MemoryKiB < 64<<10 || p.Threads < 1 || len(p.Salt) != 16 {
			t.Errorf("parameters %+v are weaker than RFC 9106 recommends", p)
		}
	}
}

// Parameters that would hang or exhaust the reader are refused.
func TestHostilePassphraseParameters(t *testing.T) {
	blob, err := phrase("x").Wrap(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, params := range []string{
		`null`, `{}`, `{"time":1,"memory_kib":4294967295,"threads":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
		`{"time":4294967295,"memory_kib":8,"threads":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
		`{"time":1,"memory_kib":8,"threads":0,"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}`, `{"time":1,"memory_kib":64,"threads":1,"salt":""}`,
	} {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(blob, &m); err != nil {
			t.Fatal(err)
		}
		m["argon2id"] = json.RawMessage(params)
		hostile, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := phrase("x").Unwrap(t.Context(), hostile); err == nil || errors.Is(err, vault.ErrWrongKey) {
			t.Errorf("%s: Unwrap = %v", params, err)
		}
	}
	if key, err := phrase("x").Unwrap(t.Context(), blob); err != nil || hex.EncodeToString(key) != hex.EncodeToString(testKey) {
		t.Errorf("untouched: %x, %v", key, err)
	}
}

func TestKeyringFaults(t *testing.T) {
	keyring.MockInit()
	store := vault.NewMemory()
	v, err := reopen(t, store, vault.Keyring("home"))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, v, vault.Change{Key: "a", Record: record("h", "t")})
	if _, err := reopen(t, store, vault.Keyring("another home")); !errors.Is(err, vault.ErrKeyMissing) {
		t.Errorf("another account: %v", err)
	}
	keyring.MockInitWithError(errors.New("no such bus"))
	if _, err := reopen(t, store, vault.Keyring("home")); !errors.Is(err, vault.ErrKeyringUnavailable) || !strings.Contains(err.Error(), "no such bus") {
		t.Errorf("headless: %v", err)
	}
	keyring.MockInit() // and everything is forgotten
	if _, err := reopen(t, store, vault.Keyring("home")); !errors.Is(err, vault.ErrKeyMissing) {
		t.Errorf("item gone: %v", err)
	}
}
