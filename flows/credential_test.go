package flows_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"authsome/flows"
	"authsome/vault/secret"
)

// full is a broker with 300 connections.
func full(t testing.TB) *rig {
	t.Helper()
	r := setup(t, &http.Client{Transport: forbidden{t}}, keyDefinition)
	entry := r.entry("keyed")
	for i := range 300 {
		l := flows.Login{Provider: entry, Connection: fmt.Sprintf("c%03d", i)}
		if _, err := r.LoginAPIKey(t.Context(), l, secret.New(fmt.Sprintf("%s-%d", canary, i))); err != nil {
			t.Fatal(err)
		}
	}
	r.follow()
	return r
}

// While nothing is due a credential costs a lookup: no garbage, no disk.
func TestCredentialCostsNothing(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	r.follow()
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Fatal(err)
	}
	before, ctx := r.store.settled(), t.Context()
	if n := testing.AllocsPerRun(1000, func() { r.Credential(ctx, "acme", "default") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if n := r.store.count() - before; n != 0 {
		t.Errorf("%d looks into the store, want 0", n)
	}
}

// What another process, or this one, changes is served at once.
func TestCredentialFollowsTheVault(t *testing.T) {
	r := setup(t, nil, keyDefinition)
	r.follow()
	_, err := r.Credential(t.Context(), "keyed", "default")
	wants(t, err, flows.ErrNoConnection)
	key := flowsKey(r)
	if got, err := r.Credential(t.Context(), "keyed", "default"); err != nil || !got.Equal(key) {
		t.Errorf("after a login: %v", err)
	}
	next := secret.New(canary + "-next")
	other := r.broker(nil)
	if _, err := other.LoginAPIKey(t.Context(), flows.Login{Provider: r.entry("keyed"), Force: true}, next); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if got, err := r.Credential(t.Context(), "keyed", "default"); err == nil && got.Equal(next) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got, err := r.Credential(t.Context(), "keyed", "default"); err != nil || !got.Equal(next) {
		t.Errorf("after another login: %v", err)
	}
	if _, err := r.Remove(t.Context(), "keyed"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Credential(t.Context(), "keyed", "default")
	wants(t, err, flows.ErrNoConnection)
}

func BenchmarkCredential(b *testing.B) {
	r := full(b)
	ctx := b.Context()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.Credential(ctx, "keyed", "c150")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.Credential(ctx, "keyed", "c150")
			}
		})
	})
}
