package flows_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows"
	"authsome/flows/oauth"
	"authsome/vault"
)

func TestLogout(t *testing.T) {
	for name, test := range map[string]struct {
		set   map[string]any
		calls []string
		done  bool
	}{
		"rfc7009":            {nil, []string{"revoke", "revoke"}, true},
		"no revocation":      {map[string]any{"oauth.revocation_url": nil}, nil, false},
		"basic client":       {map[string]any{"oauth.token_auth_method": "client_secret_basic"}, []string{"revoke", "revoke"}, true},
		"provider's own way": {map[string]any{"oauth.revocation_style": "bearer_post"}, []string{"revoke"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			r := a.rig(test.set)
			a.login(r)
			a.loginAs(r, flows.Login{Connection: "work"})
			r.follow()
			events := r.events()
			c, done, err := r.Logout(t.Context(), "acme", "")
			if err != nil || c.Name != "default" || done.Remote != test.done || done.Err != nil {
				t.Fatalf("got %+v, %v", done, err)
			}
			if calls := a.took(); !slices.Equal(calls, test.calls) {
				t.Errorf("calls = %q, want %q", calls, test.calls)
			}
			a.mu.Lock()
			if len(test.calls) == 2 && (!slices.Equal(a.revoked, []string{"refresh_token", "access_token"}) || a.authz[0] != "app:"+canary+"-app") {
				t.Errorf("revoked %q, as %q", a.revoked, a.authz)
			}
			a.mu.Unlock()
			if got, want := events(), []string{"logout acme/default ok"}; !slices.Equal(got, want) {
				t.Errorf("audit = %q, want %q", got, want)
			}
			_, err = r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrNoConnection)
			list, err := r.List(t.Context())
			if err != nil || !list["acme"].Configured || list["acme"].Default != "work" || len(list["acme"].Connections) != 1 {
				t.Errorf("left: %+v, %v", list["acme"], err)
			}
			_, _, err = r.Logout(t.Context(), "acme", "nobody")
			wants(t, err, flows.ErrNoConnection)
		})
	}
}

// A provider that cannot be told does not keep the connection, and that is said.
func TestLogoutTellsWhatTheProviderDidNot(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
		kind   error
	}{
		"unavailable":    {503, `<html>`, oauth.ErrUnavailable},
		"invalid client": {401, `{"error":"invalid_client"}`, oauth.ErrInvalidClient},
		"error with 200": {200, `{"error":"unsupported_token_type","error_description":"` + canary + `-refresh-2"}`, oauth.ErrRejected},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t)
			r := a.rig(nil)
			a.login(r)
			a.answers("/revoke", answer.status, answer.body)
			_, done, err := r.Logout(t.Context(), "acme", "")
			if err != nil || done.Remote {
				t.Errorf("got %+v, %v", done, err)
			}
			wants(t, done.Err, answer.kind)
			_, err = r.Get(t.Context(), "acme", "")
			wants(t, err, flows.ErrNoConnection)
		})
	}
}

// A logout waits for a refresh that is under way: what it revokes is what the
// refresh was given.
func TestLogoutDuringRefresh(t *testing.T) {
	a, r := due(t, nil)
	r.clock.Add(time.Hour)
	reached, proceed := make(chan bool), make(chan bool)
	goOn := sync.OnceFunc(func() { close(proceed) })
	t.Cleanup(goOn) // else a failure would have to wait for the authority
	a.scripted(func(_ http.ResponseWriter, _ *http.Request, form url.Values) bool {
		if form.Get("grant_type") == "refresh_token" {
			close(reached)
			<-proceed
		}
		return false
	})
	refreshed := make(chan error, 1)
	go func() {
		_, err := r.Credential(t.Context(), "acme", "default")
		refreshed <- err
	}()
	<-reached
	out := make(chan error, 1)
	go func() {
		_, done, err := r.Logout(t.Context(), "acme", "")
		if !done.Remote || done.Err != nil {
			t.Errorf("logout: %+v", done)
		}
		out <- err
	}()
	select {
	case err := <-out:
		t.Fatalf("the logout did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	goOn()
	if err := <-refreshed; err != nil {
		t.Errorf("refresh: %v", err)
	}
	if err := <-out; err != nil {
		t.Errorf("logout: %v", err)
	}
	if f := a.family(); !f.dead {
		t.Error("the new refresh token still works at the provider")
	}
	_, err := r.Get(t.Context(), "acme", "")
	wants(t, err, flows.ErrNoConnection)
}

// A refresh that ends after its connection was removed leaves nothing behind.
func TestRemoveDuringRefresh(t *testing.T) {
	for name, status := range map[string]int{"that succeeds": 0, "that fails": 503} {
		t.Run(name, func(t *testing.T) {
			a, r := due(t, nil)
			r.clock.Add(time.Hour)
			reached, proceed := make(chan bool), make(chan bool)
			a.scripted(func(w http.ResponseWriter, _ *http.Request, _ url.Values) bool {
				close(reached)
				<-proceed
				if status != 0 {
					w.WriteHeader(status)
				}
				return status != 0
			})
			refreshed := make(chan error, 1)
			go func() {
				_, err := r.Credential(t.Context(), "acme", "default")
				refreshed <- err
			}()
			<-reached
			if n, err := r.Remove(t.Context(), "acme"); err != nil || n != 1 {
				t.Errorf("Remove: %d, %v", n, err)
			}
			close(proceed)
			if err := <-refreshed; err == nil {
				t.Error("the refresh of a removed connection gave a token")
			}
			left, err := r.vault.List(t.Context(), "profile:")
			if err != nil || len(left) != 0 {
				t.Errorf("left %d records, %v", len(left), err)
			}
			if calls := a.took(); len(calls) != 1 {
				t.Errorf("calls = %q", calls)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	_, err := r.Revoke(t.Context(), "acme", "")
	wants(t, err, flows.ErrNoConnection)
	a.login(r)
	a.loginAs(r, flows.Login{Connection: "work"})
	a.loginAs(r, flows.Login{Connection: "third"})
	r.follow()
	r.clock.Add(time.Hour)
	a.answers("/token", 503, `{}`) // there is a history to be deleted
	if _, err := r.Credential(t.Context(), "acme", "third"); err == nil {
		t.Error("want an error")
	}
	a.scripted(nil)
	a.took()
	events := r.events()

	done, err := r.Revoke(t.Context(), "acme", "work")
	if err != nil || len(done) != 1 || !done[0].Remote || done[0].Connection != "work" {
		t.Errorf("one: %+v, %v", done, err)
	}
	if list, err := r.List(t.Context()); err != nil || len(list["acme"].Connections) != 2 || !list["acme"].Configured {
		t.Errorf("after one: %+v, %v", list["acme"], err)
	}
	a.scripted(func(w http.ResponseWriter, _ *http.Request, form url.Values) bool {
		if strings.HasSuffix(form.Get("token"), "-2") { // the first login's
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	done, err = r.Revoke(t.Context(), "acme", "")
	if err != nil || len(done) != 2 {
		t.Fatalf("all: %+v, %v", done, err)
	}
	for _, one := range done {
		if one.Remote != (one.Connection == "third") || (one.Err == nil) != (one.Connection == "third") {
			t.Errorf("%+v", one)
		}
		safe(t, one.Err)
	}
	if got, want := events(), []string{"revoke acme/work ok", "revoke acme/ ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	if got := a.took(); len(got) != 6 {
		t.Errorf("calls = %q, want two for each connection", got)
	}
	left, err := r.vault.List(t.Context(), "profile:")
	if err != nil || len(left) != 0 {
		t.Errorf("left %d records, %v: connections, client and history have to go", len(left), err)
	}
}

// Client credentials without a connection are deleted too.
func TestRevokeWithoutConnections(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	if _, _, err := r.Logout(t.Context(), "acme", ""); err != nil {
		t.Fatal(err)
	}
	if done, err := r.Revoke(t.Context(), "acme", ""); err != nil || len(done) != 0 {
		t.Errorf("got %+v, %v", done, err)
	}
	left, err := r.vault.List(t.Context(), "profile:")
	if err != nil || len(left) != 0 {
		t.Errorf("left %d records, %v", len(left), err)
	}
}

func TestRemoveContactsNobody(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	a.loginAs(r, flows.Login{Connection: "work"})
	r.Broker = r.broker(&http.Client{Transport: forbidden{t}})
	events := r.events()
	if n, err := r.Remove(t.Context(), "acme"); err != nil || n != 2 {
		t.Errorf("removed %d, %v; want 2", n, err)
	}
	if got, want := events(), []string{"remove acme/ ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	left, err := r.vault.List(t.Context(), "profile:")
	if err != nil || len(left) != 0 {
		t.Errorf("left %d records, %v", len(left), err)
	}
}

func TestKeysCannotBeRevokedRemotely(t *testing.T) {
	r := setup(t, &http.Client{Transport: forbidden{t}}, keyDefinition)
	flowsKey(r)
	_, done, err := r.Logout(t.Context(), "keyed", "")
	if err != nil || done.Remote || done.Err != nil {
		t.Errorf("got %+v, %v", done, err)
	}
}

// A damaged record can be got rid of, and replaced by a login.
func TestDamagedRecords(t *testing.T) {
	damage := func(r *rig) {
		t.Helper()
		const key = "profile:default:acme:connection:default"
		values, err := r.store.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		bad := []byte(strings.Replace(string(values[key]), "api.acme.test", "api.evil.test", 1))
		if err := r.store.Commit(t.Context(), vault.Batch{Ops: []vault.Op{{Key: key, Value: bad}}}); err != nil {
			t.Fatal(err)
		}
	}
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	r.follow()
	damage(r)
	if err := r.vault.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Credential(t.Context(), "acme", "default"); err == nil {
		t.Errorf("a record that was altered gave %s", text(got))
	}
	if _, err := a.tryLogin(r, flows.Login{}, a.agrees()); err == nil {
		t.Error("a login without --force replaced what it could not read")
	}
	if _, err := a.tryLogin(r, flows.Login{Force: true}, a.agrees()); err != nil {
		t.Errorf("login --force: %v", err)
	}
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Errorf("after it: %v", err)
	}
	damage(r)
	done, err := r.Revoke(t.Context(), "acme", "")
	if err != nil || len(done) != 1 || done[0].Err == nil {
		t.Errorf("revoke: %+v, %v", done, err)
	}
	a.login(r)
	damage(r)
	if n, err := r.Remove(t.Context(), "acme"); err != nil || n != 1 {
		t.Errorf("remove: %d, %v", n, err)
	}
}

func TestRenameTakesTheHistoryAlong(t *testing.T) {
	a, r := due(t, nil)
	a.answers("/token", 503, `{}`)
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Fatal(err)
	}
	if err := r.Rename(t.Context(), "acme", "", "work"); err != nil {
		t.Fatal(err)
	}
	if st := r.state("acme", "work"); st.Backoff.Failures != 1 {
		t.Errorf("history = %+v", st)
	}
	a.scripted(nil)
	r.clock.Add(2 * time.Second)
	if got, err := r.Credential(t.Context(), "acme", "work"); err != nil || text(got) != a.family().access {
		t.Errorf("after the rename: %v", err)
	}
	_, err := r.Credential(t.Context(), "acme", "default")
	wants(t, err, flows.ErrNoConnection)
	wants(t, r.Rename(t.Context(), "acme", "work", "a:b"), flows.ErrBadName)
	wants(t, r.Rename(t.Context(), "acme", "nobody", "x"), flows.ErrNoConnection)
}
