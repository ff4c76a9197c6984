package flows_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows"
)

func TestWindow(t *testing.T) {
	for _, test := range []struct {
		life, after time.Duration
		refreshed   bool
	}{
		{time.Hour, time.Hour - 301*time.Second, false},
		{time.Hour, time.Hour - 300*time.Second, true},
		{time.Hour, time.Hour, true},
		{time.Hour, 48 * time.Hour, true},
		{10 * time.Minute, 10*time.Minute - 301*time.Second, false},
		{10 * time.Minute, 10*time.Minute - 300*time.Second, true},
		{100 * time.Second, 49 * time.Second, false}, // half its life, or it would be renewed before every request
		{100 * time.Second, 50 * time.Second, true},
		{time.Second, 0, false},
		{0, 1000 * time.Hour, false}, // never expires
	} {
		a := newAuthority(t)
		a.life = test.life
		r := a.rig(nil)
		a.login(r)
		r.follow()
		before, events := r.get("acme", "").AccessToken, r.events()
		r.clock.Add(test.after)
		got, err := r.Credential(t.Context(), "acme", "default")
		if err != nil {
			t.Fatal(err)
		}
		want, wantCalls, wantEvents := text(before), []string(nil), []string{}
		if test.refreshed {
			want, wantCalls = a.family().access, []string{"refresh_token"}
			wantEvents = []string{"refresh.start acme/default ok", "refresh acme/default ok"}
		}
		if text(got) != want {
			t.Errorf("%v after a login for %v: got %s, want %s", test.after, test.life, text(got), want)
		}
		if calls := a.took(); !slices.Equal(calls, wantCalls) {
			t.Errorf("%v after a login for %v: calls %q, want %q", test.after, test.life, calls, wantCalls)
		}
		if got := events(); !slices.Equal(got, wantEvents) {
			t.Errorf("audit = %q, want %q", got, wantEvents)
		}
		fresh, err := r.Fresh(t.Context(), "acme", "")
		if err != nil || text(fresh.AccessToken) != want {
			t.Errorf("Fresh after Credential: %v, %v", fresh, err)
		}
	}
}

// due brings a login for an hour to the last minutes of its token.
func due(t *testing.T, set map[string]any) (*authority, *rig) {
	t.Helper()
	a := newAuthority(t)
	r := a.rig(set)
	a.login(r)
	r.follow()
	r.clock.Add(58 * time.Minute)
	return a, r
}

// What an endpoint can answer instead of tokens, and the code that is recorded.
var uselessAnswers = map[string]struct {
	status int
	body   string
	code   string
}{
	"unavailable":         {503, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable"},
	"gateway page":        {502, `<html>bad gateway</html>`, "http_502"},
	"page":                {200, `<html>log in</html>`, "bad_response"},
	"error with 200":      {200, `{"error":"server_error","error_description":"no"}`, "server_error"},
	"ok false":            {200, `{"ok":false,"error":"ratelimited"}`, "ratelimited"},
	"no token":            {200, `{"token_type":"Bearer","expires_in":3600}`, "bad_response"},
	"empty":               {200, ``, "bad_response"},
	"unknown error":       {400, `{"error":"` + canary + `-refresh-2 is bad"}`, ""},
	"ten megabytes":       {200, `{"access_token":"` + strings.Repeat("x", 10<<20) + `"}`, "bad_response"},
	"token of two lines":  {200, `{"access_token":"a\nb"}`, "bad_response"},
	"echo of the request": {400, `{"error":"invalid_request","error_description":"refresh_token ` + canary + `-refresh-2 client_secret ` + canary + `-app"}`, "invalid_request"},
}

func TestFailureWhileTheTokenIsGood(t *testing.T) {
	for name, answer := range uselessAnswers {
		t.Run(name, func(t *testing.T) {
			a, r := due(t, nil)
			old := r.get("acme", "").AccessToken
			a.answers("/token", answer.status, answer.body)
			events := r.events()
			for range 3 {
				got, err := r.Credential(t.Context(), "acme", "default")
				if err != nil || !got.Equal(old) {
					t.Errorf("got %s, %v; want the old token", text(got), err)
				}
			}
			if calls := a.took(); len(calls) != 1 {
				t.Errorf("calls = %q, want one: a failing endpoint is not hammered", calls)
			}
			if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings, want 1:\n%s", n, r.log)
			}
			got := events()
			want := []string{"refresh.start acme/default ok", "refresh acme/default failed " + answer.code}
			if answer.code == "" { // the provider's own code had a secret in it
				want = append(want[:1], got[len(got)-1])
			}
			if !slices.Equal(got, want) {
				t.Errorf("audit = %q, want %q", got, want)
			}
			st := r.state("acme", "default")
			if st.LastError == "" || !st.LastErrorAt.Equal(r.clock.Now()) || st.Backoff.Failures != 1 || !st.Asked.IsZero() {
				t.Errorf("state = %+v", st)
			}
			if strings.Contains(st.LastError, canary) {
				t.Errorf("the recorded error holds a secret: %s", st.LastError)
			}
			if got := r.get("acme", "").Status; got != flows.Connected {
				t.Errorf("status = %s, want connected", got)
			}
			if got := r.outcomes.String(); got != "acme failed\n" {
				t.Errorf("outcomes = %q", got)
			}
		})
	}
}

func TestFailureAfterExpiry(t *testing.T) {
	for name, answer := range uselessAnswers {
		t.Run(name, func(t *testing.T) {
			a, r := due(t, nil)
			r.clock.Add(2 * time.Minute)
			a.answers("/token", answer.status, answer.body)
			_, err := r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRefreshFailed)
			_, err = r.Fresh(t.Context(), "acme", "")
			wants(t, err, flows.ErrRefreshFailed)
			if got := r.get("acme", "").Status; got != flows.Expired {
				t.Errorf("status = %s, want expired", got)
			}
			if calls := a.took(); len(calls) != 1 {
				t.Errorf("calls = %q, want one", calls)
			}
			// Once the endpoint is mended all is well without a login.
			a.scripted(nil)
			r.clock.Add(2 * time.Second)
			got, err := r.Credential(t.Context(), "acme", "default")
			if err != nil || text(got) != a.family().access {
				t.Errorf("after the endpoint was mended: %v", err)
			}
			if c, st := r.get("acme", ""), r.state("acme", "default"); c.Status != flows.Connected || st.LastError != "" || st.Backoff.Failures != 0 || !st.LastRefresh.Equal(r.clock.Now()) {
				t.Errorf("status %s, state %+v", c.Status, st)
			}
		})
	}
}

func TestInvalidGrantEndsTheConnection(t *testing.T) {
	for _, left := range []time.Duration{2 * time.Minute, -time.Minute} {
		a, r := due(t, nil)
		r.clock.Add(2*time.Minute - left)
		a.answers("/token", 400, `{"error":"invalid_grant"}`)
		events := r.events()
		_, err := r.Credential(t.Context(), "acme", "default")
		wants(t, err, flows.ErrRevoked)
		wants(t, err, flows.ErrRefreshFailed)
		if got, want := hint(err), "run: authsome login acme"; got != want {
			t.Errorf("hint = %q, want %q", got, want)
		}
		if got, want := events(), []string{"refresh.start acme/default ok", "refresh acme/default failed invalid_grant"}; !slices.Equal(got, want) {
			t.Errorf("audit = %q, want %q", got, want)
		}
		if got := r.get("acme", "").Status; got != flows.Invalid {
			t.Errorf("status = %s, want invalid", got)
		}
		a.took()
		a.scripted(nil)
		stale := r.get("acme", "").AccessToken
		for range 3 {
			r.clock.Add(10 * time.Minute)
			_, err = r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRevoked)
			_, err = r.Fresh(t.Context(), "acme", "")
			wants(t, err, flows.ErrRevoked)
			if _, err := r.Refresh(t.Context(), "acme", "default", stale); err != nil {
				t.Errorf("Refresh: %v", err)
			}
		}
		if calls := a.took(); len(calls) != 0 {
			t.Errorf("calls = %q, want none until a login", calls)
		}
		if got := events(); len(got) != 0 {
			t.Errorf("audit = %q, want nothing", got)
		}
		a.login(r)
		if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || got.Equal(stale) {
			t.Errorf("after a login: %v", err)
		}
		if st := r.state("acme", "default"); st != (flows.ConnectionState{}) {
			t.Errorf("a login begins a history anew, but there is %+v", st)
		}
	}
}

func TestInvalidClientSaysSo(t *testing.T) {
	a, r := due(t, nil)
	r.clock.Add(time.Hour)
	a.answers("/token", 401, `{"error":"invalid_client","error_description":"unknown client"}`)
	_, err := r.Credential(t.Context(), "acme", "default")
	wants(t, err, flows.ErrRefreshFailed)
	if !strings.Contains(err.Error(), "invalid_client") || !strings.Contains(hint(err), "client id and secret") || !strings.Contains(hint(err), "--reset") {
		t.Errorf("got %v (%s)", err, hint(err))
	}
	c, st := r.get("acme", ""), r.state("acme", "default")
	if advice := r.advice(c); c.Status != flows.Expired || !st.ClientRejected || !strings.Contains(advice, "client id and secret") {
		t.Errorf("status %s, advice %q", c.Status, advice)
	}
}

func TestAnswerWithoutExpiryClearsTheOldOne(t *testing.T) {
	a, r := due(t, nil)
	a.life = 0
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Fatal(err)
	}
	if at := r.get("acme", "").ExpiresAt; !at.IsZero() {
		t.Errorf("expires at %v, want never", at)
	}
	a.took()
	r.clock.Add(1000 * time.Hour)
	for range 3 {
		if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
			t.Error(err)
		}
	}
	if calls := a.took(); len(calls) != 0 {
		t.Errorf("calls = %q, want none", calls)
	}
}

func TestBackoff(t *testing.T) {
	a, r := due(t, nil)
	r.clock.Add(time.Hour) // expired: nothing but a refresh helps
	a.answers("/token", 503, `{}`)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if _, err := r.Credential(t.Context(), "acme", "default"); err == nil {
					t.Error("want an error")
				}
			})
		}
		all.Wait()
		if calls := a.took(); len(calls) != 1 {
			t.Fatalf("%d calls of 200 goroutines, want 1", len(calls))
		}
		// Not before the pause is over, and until then without a look at the disk.
		r.clock.Add(pause*time.Second - time.Millisecond)
		before, events := r.store.settled(), r.events()
		for range 100 {
			_, err := r.Credential(t.Context(), "acme", "default")
			wants(t, err, flows.ErrRefreshFailed)
		}
		if n := r.store.count() - before; n != 0 {
			t.Errorf("%d looks into the store while paused, want 0", n)
		}
		if got := events(); len(got) != 0 {
			t.Errorf("audit while paused = %q", got)
		}
		// Nor do others who know only the vault: an export in another process.
		if _, err := r.broker(a.client).Fresh(t.Context(), "acme", ""); err == nil {
			t.Error("another process: want an error")
		}
		if calls := a.took(); len(calls) != 0 {
			t.Errorf("calls while paused = %q, want none", calls)
		}
		r.clock.Add(time.Millisecond)
	}
	if n := strings.Count(r.log.String(), "level=WARN"); n != 0 { // the error is returned, and so not logged
		t.Errorf("%d warnings:\n%s", n, r.log)
	}
}

func TestRetryAfterIsRespected(t *testing.T) {
	a, r := due(t, nil)
	a.scripted(func(w http.ResponseWriter, _ *http.Request, _ url.Values) bool {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	for _, test := range []struct {
		wait time.Duration
		want int
	}{{0, 1}, {89 * time.Second, 0}, {2 * time.Second, 1}} {
		r.clock.Add(test.wait)
		if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
			t.Error(err)
		}
		if calls := a.took(); len(calls) != test.want {
			t.Errorf("%v later: calls = %q, want %d", test.wait, calls, test.want)
		}
	}
	// A login is not held up by what happened before it.
	a.scripted(nil)
	a.life = 2 * time.Second
	if _, err := a.tryLogin(r, flows.Login{Force: true}, a.agrees()); err != nil {
		t.Fatal(err)
	}
	a.took()
	r.clock.Add(3 * time.Second)
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Error(err)
	}
	if calls := a.took(); len(calls) != 1 {
		t.Errorf("calls = %q, want a refresh", calls)
	}
}

func TestForcedRefresh(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	r.follow()
	ctx := t.Context()
	first, err := r.Credential(ctx, "acme", "default")
	if err != nil {
		t.Fatal(err)
	}
	events := r.events()
	second, err := r.Refresh(ctx, "acme", "default", first)
	if err != nil || second.Equal(first) || text(second) != a.family().access {
		t.Fatalf("Refresh: %v", err)
	}
	if got, want := events(), []string{"refresh.start acme/default ok", "refresh acme/default ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	// Many requests fail with the same token: the first has mended it for all.
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if got, err := r.Refresh(ctx, "acme", "default", first); err != nil || !got.Equal(second) {
				t.Errorf("the same stale token again: %v", err)
			}
		})
	}
	all.Wait()
	// The API answers 401 for another reason: once a minute is enough.
	for range 5 {
		r.clock.Add(10 * time.Second)
		if got, err := r.Refresh(ctx, "acme", "default", second); err != nil || !got.Equal(second) {
			t.Errorf("within a minute: %v", err)
		}
	}
	// Another process comes to the same conclusion, and need not try either.
	other := r.broker(a.client)
	if got, err := other.Refresh(ctx, "acme", "default", second); err != nil || !got.Equal(second) {
		t.Errorf("another process within a minute: %v", err)
	}
	if calls := a.took(); !slices.Equal(calls, []string{"refresh_token"}) {
		t.Errorf("calls = %q, want one", calls)
	}
	r.clock.Add(10 * time.Second)
	if got, err := r.Refresh(ctx, "acme", "default", second); err != nil || got.Equal(second) {
		t.Errorf("after a minute: %v", err)
	}
	if calls := a.took(); len(calls) != 1 {
		t.Errorf("calls = %q, want one", calls)
	}
	// It cannot be had: the old one is returned, with the reason.
	r.clock.Add(2 * time.Minute)
	a.answers("/token", 503, `{}`)
	third, _ := r.Credential(ctx, "acme", "default")
	got, err := r.Refresh(ctx, "acme", "default", third)
	wants(t, err, flows.ErrRefreshFailed)
	if !got.Equal(third) {
		t.Error("the stale token is not returned")
	}
	if _, err := r.Refresh(ctx, "nobody", "default", third); err == nil {
		t.Error("an unknown connection: want an error")
	}
}

// Of many requests that fail at once, with nobody having mended it yet, one
// refreshes.
func TestForcedRefreshIsShared(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	r.follow()
	stale, err := r.Credential(t.Context(), "acme", "default")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range 100 {
		all.Go(func() {
			cred, err := r.Refresh(t.Context(), "acme", "default", stale)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got[text(cred)]++
			mu.Unlock()
		})
	}
	all.Wait()
	if calls := a.took(); len(calls) != 1 {
		t.Errorf("%d calls, want 1", len(calls))
	}
	if f := a.family(); f.dead || got[f.access] != 100 {
		t.Errorf("got %v, want 100 times %s", got, f.access)
	}
}

func TestKeysAreNeverRefreshed(t *testing.T) {
	r := setup(t, &http.Client{Transport: forbidden{t}}, keyDefinition)
	key := flowsKey(r)
	r.follow()
	got, err := r.Refresh(t.Context(), "keyed", "default", key)
	if err != nil || !got.Equal(key) {
		t.Errorf("got %v, want the key itself", err)
	}
	r.clock.Add(10000 * time.Hour)
	if got, err := r.Credential(t.Context(), "keyed", "default"); err != nil || !got.Equal(key) {
		t.Errorf("Credential: %v", err)
	}
}

// forbidden is a network that nobody may use.
type forbidden struct{ t testing.TB }

func (f forbidden) RoundTrip(r *http.Request) (*http.Response, error) {
	f.t.Errorf("%s %s was called", r.Method, r.URL)
	return nil, io.ErrUnexpectedEOF
}

func TestNothingRenewsWithoutARefreshToken(t *testing.T) {
	a := newAuthority(t)
	a.scripted(func(w http.ResponseWriter, r *http.Request, _ url.Values) bool {
		fmt.Fprintf(w, `{"access_token":"%s-only","expires_in":60}`, canary)
		return true
	})
	r := a.rig(nil)
	a.login(r)
	r.follow()
	r.clock.Add(59 * time.Second)
	if got, err := r.Credential(t.Context(), "acme", "default"); err != nil || text(got) != canary+"-only" {
		t.Errorf("to its last second: %v", err)
	}
	r.clock.Add(time.Second)
	_, err := r.Credential(t.Context(), "acme", "default")
	wants(t, err, flows.ErrExpired)
	if got, want := hint(err), "run: authsome login acme"; got != want {
		t.Errorf("hint = %q, want %q", got, want)
	}
	_, err = r.Fresh(t.Context(), "acme", "")
	wants(t, err, flows.ErrExpired)
	if calls := a.took(); len(calls) != 0 {
		t.Errorf("calls = %q, want none", calls)
	}
	c := r.get("acme", "")
	if got, want := r.advice(c), "run: authsome login acme"; got != want {
		t.Errorf("advice = %q, want %q", got, want)
	}
	// Logging in again needs no --force.
	if _, err := a.tryLogin(r, flows.Login{}, a.agrees()); err != nil {
		t.Errorf("login to an expired connection: %v", err)
	}
}

func TestClientCredentialsAreAskedForAgain(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(map[string]any{"flow": "client_credentials"})
	c, err := a.tryLogin(r, flows.Login{}, a.agrees())
	if err != nil {
		t.Fatal(err)
	}
	r.follow()
	a.took()
	r.clock.Add(56 * time.Minute)
	got, err := r.Credential(t.Context(), "acme", "default")
	if err != nil || got.Equal(c.AccessToken) {
		t.Errorf("near its end: %v", err)
	}
	if calls := a.took(); !slices.Equal(calls, []string{"client_credentials"}) {
		t.Errorf("calls = %q", calls)
	}
	if now := r.get("acme", ""); !slices.Equal(now.Scopes, []string{"read"}) || !now.ExpiresAt.Equal(r.clock.Now().Add(time.Hour)) {
		t.Errorf("scopes %q, expires at %v", now.Scopes, now.ExpiresAt)
	}
	stale := got
	if got, err = r.Refresh(t.Context(), "acme", "default", stale); err != nil || !got.Equal(stale) {
		t.Errorf("a forced refresh within a minute of another: %v", err)
	}
	r.clock.Add(2 * time.Minute)
	if got, err = r.Refresh(t.Context(), "acme", "default", stale); err != nil || got.Equal(stale) {
		t.Errorf("forced refresh: %v", err)
	}
}
