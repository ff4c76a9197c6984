package flows_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authsome/flows"
	"authsome/vault"
	"authsome/vault/audit"
)

var errDisk = errors.New("no space left on device")

// writes reports whether a batch writes a record whose key ends so.
func writes(b vault.Batch, suffix string) bool {
	return slices.ContainsFunc(b.Ops, func(op vault.Op) bool {
		return !op.Check && strings.HasPrefix(op.Key, "profile:") && strings.HasSuffix(op.Key, suffix)
	})
}

// near is due, with time that passes by itself.
func nearlyDue(t *testing.T, set map[string]any) (*authority, *rig) {
	t.Helper()
	a := nearAuthority(t)
	set2 := map[string]any{"flow": "device_code"}
	for k, v := range set {
		set2[k] = v
	}
	r := a.rig(set2)
	a.login(r)
	r.follow()
	r.clock.Add(58 * time.Minute)
	return a, r
}

// The provider has rotated the token when the store fails: it must not be used
// before it is stored, and not be lost either.
func TestRotatedTokenIsStoredBeforeItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := nearlyDue(t, nil)
		r.clock.Add(time.Hour)
		r.store.failing(func(b vault.Batch) error {
			if writes(b, ":connection:default") {
				return errDisk
			}
			return nil
		})
		events := r.events()
		began := time.Now()
		_, err := r.Credential(t.Context(), "acme", "default")
		wants(t, err, flows.ErrRefreshFailed)
		wants(t, err, errDisk)
		if took := time.Since(began); took < 3*time.Second || took > 10*time.Second {
			t.Errorf("storing was tried for %v", took)
		}
		got := events()
		if len(got) < 5 || got[0] != "refresh.start acme/default ok" || got[2] != "refresh acme/default failed store_unavailable" {
			t.Errorf("audit = %q", got)
		}
		if f := a.family(); f.refreshes != 1 {
			t.Fatalf("%d refreshes, want 1", f.refreshes)
		}
		// The disk is still full: the token waits, the provider is left alone.
		for range 3 {
			r.clock.Add(2 * time.Second)
			_, err = r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRefreshFailed)
		}
		synctest.Wait() // the snapshot follows the lease
		before := r.store.count()
		for range 50 {
			_, err = r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRefreshFailed)
		}
		if n := r.store.count() - before; n != 0 {
			t.Errorf("%d looks into a store that has just failed, want 0", n)
		}
		// Room was made.
		r.store.failing(nil)
		r.clock.Add(2 * time.Second)
		cred, err := r.Credential(t.Context(), "acme", "default")
		f := a.family()
		if err != nil || text(cred) != f.access || f.refreshes != 1 || f.dead {
			t.Errorf("after room was made: %v; %d refreshes, dead %v", err, f.refreshes, f.dead)
		}
		if c := r.get("acme", ""); text(c.RefreshToken) != f.refresh || c.Status != flows.Connected {
			t.Errorf("stored %s, want %s", text(c.RefreshToken), f.refresh)
		}
		if got, want := r.outcomes.String(), "acme failed\nacme failed\nacme failed\nacme failed\nacme ok\n"; got != want {
			t.Errorf("outcomes = %q, want %q", got, want)
		}
	})
}

// A store or a log that cannot be written is found out before the refresh token
// is spent.
func TestNothingIsAskedWhenItCouldNotBeKept(t *testing.T) {
	for name, refuse := range map[string]func(vault.Batch) error{
		"lease": func(vault.Batch) error { return errDisk },
		"state": func(b vault.Batch) error {
			if writes(b, ":state") {
				return errDisk
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, r := due(t, nil)
			old := r.get("acme", "").AccessToken
			r.store.failing(refuse)
			if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || !got.Equal(old) {
				t.Errorf("while the token is good: %v", err)
			}
			r.clock.Add(time.Hour)
			_, err := r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRefreshFailed)
			if calls := a.took(); len(calls) != 0 {
				t.Errorf("calls = %q, want none", calls)
			}
			r.store.failing(nil)
			r.clock.Add(2 * time.Second)
			if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
				t.Errorf("with a store again: %v", err)
			}
		})
	}
	t.Run("audit log", func(t *testing.T) {
		a, r := due(t, nil)
		r.clock.Add(time.Hour)
		log, err := audit.Open(r.auditPath+".closed", audit.Config{Profile: "default"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := vault.Open(t.Context(), vault.Config{Store: r.store, Wrapper: vault.LocalKey(r.dir + "/master.key"), Audit: log, Clock: r.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		log.Close() // nothing can be recorded any more
		r.vault = v
		b := r.broker(a.client)
		_, err = b.Fresh(t.Context(), "acme", "")
		wants(t, err, audit.ErrUnavailable)
		if calls := a.took(); len(calls) != 0 {
			t.Errorf("calls = %q, want none", calls)
		}
	})
}

// An endpoint that does not answer holds requests up for a moment only while the
// old token is good, and the answer is kept when it comes.
func TestSlowEndpointDoesNotHoldUpRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := nearlyDue(t, nil)
		old := r.get("acme", "").AccessToken
		a.scripted(func(http.ResponseWriter, *http.Request, url.Values) bool {
			time.Sleep(20 * time.Second)
			return false
		})
		began := time.Now()
		for _, want := range []time.Duration{5 * time.Second, 0, 0} { // the later ones know that it is slow
			before := time.Now()
			got, err := r.Credential(t.Context(), "acme", "default")
			if err != nil || !got.Equal(old) {
				t.Errorf("got %s, %v; want the old token", text(got), err)
			}
			if took := time.Since(before); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
		}
		// An export waits: its process ends with its answer.
		c, err := r.Fresh(t.Context(), "acme", "")
		if err != nil || c.AccessToken.Equal(old) {
			t.Errorf("Fresh: %v", err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("took %v, want 20s", took)
		}
		if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || text(got) != a.family().access {
			t.Errorf("after the answer: %v", err)
		}
	})
}

// A token that has expired is worth waiting for.
func TestExpiredTokenIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := nearlyDue(t, nil)
		r.clock.Add(time.Hour)
		a.scripted(func(http.ResponseWriter, *http.Request, url.Values) bool {
			time.Sleep(20 * time.Second)
			return false
		})
		if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || text(got) != a.family().access {
			t.Errorf("got %v", err)
		}
	})
}

// A client that hangs up, or a run that ends, does not tear off a refresh.
func TestRefreshOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := nearlyDue(t, nil)
		r.clock.Add(time.Hour)
		a.scripted(func(http.ResponseWriter, *http.Request, url.Values) bool {
			time.Sleep(3 * time.Second)
			return false
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Credential(ctx, "acme", "default")
		wants(t, err, context.DeadlineExceeded)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wants(t, r.Drain(short), context.DeadlineExceeded)
		if err := r.Drain(t.Context()); err != nil {
			t.Errorf("Drain: %v", err)
		}
		if c, f := r.get("acme", ""), a.family(); text(c.RefreshToken) != f.refresh || f.refreshes != 1 {
			t.Errorf("stored %s, want %s", text(c.RefreshToken), f.refresh)
		}
		if err := r.Drain(t.Context()); err != nil {
			t.Errorf("Drain with nothing under way: %v", err)
		}
	})
}

// An answer that got lost is remembered: when the provider then does not know
// the old token any more, the error says why.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r := nearlyDue(t, nil)
		r.clock.Add(time.Hour)
		asked := r.clock.Now()
		var lose atomic.Bool
		lose.Store(true)
		a.scripted(func(w http.ResponseWriter, req *http.Request, form url.Values) bool {
			if lose.Load() {
				a.mu.Lock()
				a.token(discard{}, form) // it is carried out
				a.mu.Unlock()
				<-req.Context().Done() // and never answered
			}
			return false
		})
		_, err := r.Credential(t.Context(), "acme", "default")
		wants(t, err, flows.ErrRefreshFailed)
		if st := r.state("acme", "default"); !st.Asked.Equal(asked) {
			t.Errorf("asked = %v, want %v", st.Asked, asked)
		}
		lose.Store(false)
		r.clock.Add(2 * time.Second)
		// A failure in between, which is answered, does not make it forgotten.
		a.answers("/token", 503, `{}`)
		_, err = r.Credential(t.Context(), "acme", "default")
		wants(t, err, flows.ErrRefreshFailed)
		a.scripted(nil)
		r.clock.Add(3 * time.Second)
		_, err = r.Credential(t.Context(), "acme", "default")
		wants(t, err, flows.ErrRevoked)
		if !strings.Contains(err.Error(), "answer to the refresh of "+asked.Format(time.RFC3339)+" was lost") || hint(err) != "run: authsome login acme" {
			t.Errorf("got %v (%s)", err, hint(err))
		}
		if st := r.state("acme", "default"); !st.Asked.IsZero() {
			t.Errorf("asked = %v after an answer", st.Asked)
		}
	})
}

// discard is an answer that nobody gets.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// A login replaces what a refresh that is under way was given, whichever of the
// two is stored first.
func TestLoginDuringRefresh(t *testing.T) {
	a, r := due(t, nil)
	r.clock.Add(time.Hour)
	reached, proceed := make(chan bool), make(chan bool)
	var once sync.Once
	a.scripted(func(_ http.ResponseWriter, _ *http.Request, form url.Values) bool {
		if form.Get("grant_type") == "refresh_token" {
			once.Do(func() { close(reached) })
			<-proceed
		}
		return false
	})
	got := make(chan error, 1)
	var cred string
	go func() {
		c, err := r.Credential(t.Context(), "acme", "default")
		cred = text(c)
		got <- err
	}()
	<-reached
	in, err := a.tryLogin(r, flows.Login{}, a.agrees())
	if err != nil {
		t.Fatalf("login during a refresh: %v", err)
	}
	close(proceed)
	if err := <-got; err != nil || cred != text(in.AccessToken) {
		t.Errorf("the refresh gave %s, %v; want the login's token", cred, err)
	}
	if c := r.get("acme", ""); !c.RefreshToken.Equal(in.RefreshToken) || c.Status != flows.Connected {
		t.Error("the login was overwritten")
	}
	if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || !got.Equal(in.AccessToken) {
		t.Errorf("afterwards: %v", err)
	}
}

// A refresh that fails while somebody logs in says nothing about the new login.
func TestLoginDuringFailingRefresh(t *testing.T) {
	a, r := due(t, nil)
	r.clock.Add(time.Hour)
	reached, proceed := make(chan bool), make(chan bool)
	a.scripted(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
		if form.Get("grant_type") == "refresh_token" {
			close(reached)
			<-proceed
			fail(w, "invalid_grant")
			return true
		}
		return false
	})
	got := make(chan error, 1)
	go func() {
		_, err := r.Credential(t.Context(), "acme", "default")
		got <- err
	}()
	<-reached
	in := a.login(r)
	close(proceed)
	<-got
	if c, st := r.get("acme", ""), r.state("acme", "default"); c.Status != flows.Connected || st != (flows.ConnectionState{}) {
		t.Errorf("status %s, state %+v; want those of the new login", c.Status, st)
	}
	if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || !got.Equal(in.AccessToken) {
		t.Errorf("afterwards: %v", err)
	}
}

// A refresh of one connection and a login of another share records. None is lost.
func TestConnectionsDoNotDisturbEachOther(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(map[string]any{"flow": "client_credentials"})
	const n = 12
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if _, err := a.tryLogin(r, flows.Login{Connection: fmt.Sprintf("c%d", i)}, a.agrees()); err != nil {
				t.Errorf("login %d: %v", i, err)
			}
		})
	}
	all.Wait()
	r.follow()
	r.clock.Add(2 * time.Hour)
	a.answers("/token", 503, `{}`)
	for i := range n {
		all.Go(func() {
			_, err := r.Credential(t.Context(), "acme", fmt.Sprintf("c%d", i))
			wants(t, err, flows.ErrRefreshFailed)
		})
	}
	all.Wait()
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acme := list["acme"]
	if len(acme.Connections) != n || len(acme.States) != n || acme.Default == "" {
		t.Errorf("%d connections, %d states, default %q; want %d", len(acme.Connections), len(acme.States), acme.Default, n)
	}
	for name, st := range acme.States {
		if st.Backoff.Failures != 1 || st.LastError == "" {
			t.Errorf("%s: %+v", name, st)
		}
	}
}
