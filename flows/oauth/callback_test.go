package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authsome/flows/oauth"
	"authsome/vault/secret"
)

const state = "the-state-of-this-login"

// waiting gives a callback that waits, and what it will end with.
func waiting(t *testing.T, change func(*oauth.Authorization), complete func(context.Context, secret.Text) error) (*oauth.Callback, <-chan error) {
	t.Helper()
	auth := &oauth.Authorization{
		State: secret.New(state), Verifier: secret.New(canary + "-verifier"),
		RedirectURI: "http://127.0.0.1:7999/callback", Issuer: "https://a.example.test",
	}
	if change != nil {
		change(auth)
	}
	callback, err := oauth.NewCallback(auth, oauth.CallbackConfig{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		done <- callback.Wait(ctx, complete)
	}()
	t.Cleanup(func() { cancel(); <-finished })
	return callback, done
}

// visit makes a request as a browser on this machine would.
func visit(h http.Handler, method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:7999"+target, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func undecided(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("the login ended: %v", err)
	default:
	}
}

func TestCallbackSuccess(t *testing.T) {
	var got string
	callback, done := waiting(t, nil, func(_ context.Context, code secret.Text) error {
		got = code.Reveal()
		return nil
	})
	w := visit(callback, "GET", "/callback?code=the-code&state="+state+"&iss=https%3A%2F%2Fa.example.test")
	if err := <-done; err != nil || got != "the-code" {
		t.Errorf("code %q, error %v", got, err)
	}
	if w.Code != 200 || !strings.Contains(w.Body.String(), "You are logged in") || strings.Contains(w.Body.String(), "the-code") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Content-Type": "text/html; charset=utf-8",
	} {
		if v := w.Header().Get(name); v != want {
			t.Errorf("%s = %q, want %q", name, v, want)
		}
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("Content-Security-Policy = %q, want %q in it", csp, want)
		}
	}
	if strings.Contains(w.Body.String(), "src=") || strings.Contains(w.Body.String(), "href=") {
		t.Error("the page loads something")
	}

	again := visit(callback, "GET", "/callback?code=the-code&state="+state)
	if again.Code != http.StatusConflict || !strings.Contains(again.Body.String(), "already ended") {
		t.Errorf("second visit: %d %s", again.Code, again.Body)
	}
}

// What does not belong to the login changes nothing: the real callback still works afterwards.
func TestCallbackIgnores(t *testing.T) {
	callback, done := waiting(t, nil, nil)
	for _, test := range []struct {
		name, method, target string
		change               func(*http.Request)
		want                 int
	}{
		{"favicon", "GET", "/favicon.ico", nil, 404},
		{"root", "GET", "/", nil, 404},
		{"longer path", "GET", "/callback/x?code=c&state=" + state, nil, 404},
		{"other case", "GET", "/Callback?code=c&state=" + state, nil, 404},
		{"post", "POST", "/callback?code=c&state=" + state, nil, 405},
		{"head", "HEAD", "/callback?code=c&state=" + state, nil, 405},
		{"nothing", "GET", "/callback", nil, 400},
		{"no state", "GET", "/callback?code=c", nil, 400},
		{"empty state", "GET", "/callback?code=c&state=", nil, 400},
		{"wrong state", "GET", "/callback?code=c&state=x" + state, nil, 400},
		{"half a state", "GET", "/callback?code=c&state=" + state[:5], nil, 400},
		{"two states", "GET", "/callback?code=c&state=" + state + "&state=x", nil, 400},
		{"error without state", "GET", "/callback?error=access_denied", nil, 400},
		{"malformed query", "GET", "/callback?code=c&state=" + state + "&x=%zz", nil, 400},
		{"rebound name", "GET", "/callback?code=c&state=" + state, func(r *http.Request) { r.Host = "evil.example.test:7999" }, 421},
		{"other name", "GET", "/callback?code=c&state=" + state, func(r *http.Request) { r.Host = "localhost:7999" }, 421},
		{"other port", "GET", "/callback?code=c&state=" + state, func(r *http.Request) { r.Host = "127.0.0.1:80" }, 421},
		{"no host", "GET", "/callback?code=c&state=" + state, func(r *http.Request) { r.Host = "" }, 421},
		{"from elsewhere", "GET", "/callback?code=c&state=" + state, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			change := test.change
			if change == nil {
				change = func(*http.Request) {}
			}
			w := visit(callback, test.method, test.target, change)
			if w.Code != test.want {
				t.Errorf("got %d, want %d", w.Code, test.want)
			}
			if body := w.Body.String(); strings.Contains(body, "logged in") || strings.Contains(body, state) || strings.Contains(body, "evil") {
				t.Errorf("page = %s", body)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be stored")
			}
			undecided(t, done)
		})
	}
	visit(callback, "GET", "/callback?code=c&state="+state)
	if err := <-done; err != nil {
		t.Errorf("login: %v", err)
	}
}

func TestCallbackFailures(t *testing.T) {
	const evil = `<script>alert("x")</script>`
	for _, test := range []struct {
		name, query string
		change      func(*oauth.Authorization)
		kind        error
		code        string
		page        string
	}{
		{"denied", "error=access_denied&error_description=" + url.QueryEscape(evil), nil, oauth.ErrAccessDenied, "access_denied", "&lt;script&gt;"},
		{"error that is no word", "error=" + url.QueryEscape(evil), nil, oauth.ErrRejected, "unknown_error", "unknown_error"},
		{"long description", "error=server_error&error_description=" + strings.Repeat("long", 1000), nil, oauth.ErrUnavailable, "server_error", "longlong"},
		{"terminal escapes", "error=invalid_scope&error_description=a%1b%5b31mb%e2%80%aec", nil, oauth.ErrRejected, "invalid_scope", "a [31mb c"},
		{"error and code", "error=access_denied&code=c", nil, oauth.ErrAccessDenied, "access_denied", ""},
		{"description that repeats the state", "error=x&error_description=" + state, nil, oauth.ErrRejected, "x", "REDACTED"},
		{"neither", "foo=bar", nil, oauth.ErrBadResponse, "bad_response", "without a usable code"},
		{"empty code", "code=", nil, oauth.ErrBadResponse, "bad_response", ""},
		{"two codes", "code=a&code=b", nil, oauth.ErrBadResponse, "bad_response", ""},
		{"huge code", "code=" + strings.Repeat("a", 9000), nil, oauth.ErrBadResponse, "bad_response", ""},
		{"code with a line break", "code=a%0d%0ab", nil, oauth.ErrBadResponse, "bad_response", ""},
		{"wrong iss", "code=c&iss=https%3A%2F%2Fevil.example.test", nil, oauth.ErrBadResponse, "bad_response", "another issuer"},
		{"iss with a slash", "code=c&iss=https%3A%2F%2Fa.example.test%2F", nil, oauth.ErrBadResponse, "bad_response", "another issuer"},
		{"iss twice", "code=c&iss=https%3A%2F%2Fa.example.test&iss=https%3A%2F%2Fa.example.test", nil, oauth.ErrBadResponse, "bad_response", ""},
		{"wrong iss with an error", "error=access_denied&iss=https%3A%2F%2Fevil.example.test", nil, oauth.ErrBadResponse, "bad_response", "another issuer"},
		{"no iss though announced", "code=c", func(a *oauth.Authorization) { a.RequireIss = true }, oauth.ErrBadResponse, "bad_response", "without the iss"},
	} {
		t.Run(test.name, func(t *testing.T) {
			callback, done := waiting(t, test.change, nil)
			w := visit(callback, "GET", "/callback?state="+state+"&"+test.query)
			err := <-done
			if e := failureOf(t, err, test.kind); e.Code != test.code {
				t.Errorf("code = %q, want %q", e.Code, test.code)
			}
			checkText(t, err)
			page := w.Body.String()
			if w.Code != 400 || !strings.Contains(page, test.page) || strings.Contains(page, "<script") || strings.Contains(page, state) || len(page) > 3000 {
				t.Errorf("got %d %s", w.Code, page)
			}
		})
	}
}

// Without an issuer to compare it with, iss says nothing.
func TestCallbackUnknownIssuer(t *testing.T) {
	callback, done := waiting(t, func(a *oauth.Authorization) { a.Issuer = "" }, nil)
	visit(callback, "GET", "/callback?code=c&iss=https%3A%2F%2Fb.example.test&state="+state)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The page waits for the exchange and tells its outcome, but no more of a foreign error than that.
func TestCallbackTellsTheTruth(t *testing.T) {
	callback, done := waiting(t, nil, func(context.Context, secret.Text) error { return errors.New("vault: " + canary) })
	w := visit(callback, "GET", "/callback?code=c&state="+state)
	if err := <-done; err == nil || w.Code != 400 {
		t.Errorf("got %d, %v", w.Code, err)
	}
	if page := w.Body.String(); strings.Contains(page, canary) || !strings.Contains(page, "The login failed") {
		t.Errorf("page = %s", page)
	}
}

// Of many callbacks at once exactly one is used.
func TestCallbackOnce(t *testing.T) {
	var exchanges int
	callback, done := waiting(t, nil, func(context.Context, secret.Text) error { exchanges++; return nil })
	var group sync.WaitGroup
	codes := make(chan int, 50)
	for i := range 50 {
		group.Go(func() { codes <- visit(callback, "GET", fmt.Sprintf("/callback?code=c%d&state=%s", i, state)).Code })
	}
	group.Wait()
	close(codes)
	count := map[int]int{}
	for code := range codes {
		count[code]++
	}
	if err := <-done; err != nil || exchanges != 1 || count[200] != 1 || count[409] != 49 {
		t.Errorf("%v, %d exchanges, answers %v", err, exchanges, count)
	}
}

func TestCallbackCustomPage(t *testing.T) {
	auth := &oauth.Authorization{State: secret.New(state), RedirectURI: "http://127.0.0.1:7999/callback"}
	callback, err := oauth.NewCallback(auth, oauth.CallbackConfig{Page: func(w http.ResponseWriter, r oauth.Result) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		fmt.Fprintf(w, "mine: %v %s", r.OK, r.Code)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := visit(callback, "GET", "/callback?state=wrong")
	if w.Code != 400 || w.Body.String() != "mine: false wrong_state" || w.Header().Get("Content-Security-Policy") != "default-src 'self'" {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestCallbackEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		callback, done := waiting(t, nil, nil)
		time.Sleep(299 * time.Second)
		synctest.Wait()
		undecided(t, done)
		time.Sleep(2 * time.Second)
		failureOf(t, <-done, oauth.ErrTimeout)
		if w := visit(callback, "GET", "/callback?code=c&state="+state); w.Code != 409 {
			t.Errorf("after the end: %d", w.Code)
		}
	})
	auth := &oauth.Authorization{State: secret.New(state), RedirectURI: "http://127.0.0.1:7999/callback"}
	callback, _ := oauth.NewCallback(auth, oauth.CallbackConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := callback.Wait(ctx, nil); !errors.Is(err, oauth.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestListen(t *testing.T) {
	first, err := oauth.Listen(t.Context(), oauth.ListenConfig{AnyPort: true, Path: "/back"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	u, err := url.Parse(first.RedirectURI)
	if err != nil || u.Hostname() != "127.0.0.1" || u.Path != "/back" {
		t.Fatalf("redirect URI = %q", first.RedirectURI)
	}
	var port int
	fmt.Sscan(u.Port(), &port)
	_, err = oauth.Listen(t.Context(), oauth.ListenConfig{Port: port})
	if e := failureOf(t, err, oauth.ErrPortUnavailable); e.Code != "port_unavailable" || !strings.Contains(e.Description, u.Port()) {
		t.Errorf("got %v", e)
	}
	second, err := oauth.Listen(t.Context(), oauth.ListenConfig{Port: port, AnyPort: true})
	if err != nil {
		t.Fatalf("AnyPort: %v", err)
	}
	if second.RedirectURI == first.RedirectURI {
		t.Error("the same port twice")
	}
	second.Close()
	for _, host := range []string{"0.0.0.0", "::", "a.example.test", "127.0.0.2"} {
		if l, err := oauth.Listen(t.Context(), oauth.ListenConfig{Host: host, AnyPort: true}); err == nil {
			l.Close()
			t.Errorf("listens on %s", host)
		}
	}
}

// By real HTTP: with localhost as the host, as well as with the address, the page arrives before the
// server goes, and the port is free afterwards.
func TestAwait(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		t.Run(host, func(t *testing.T) {
			l, err := oauth.Listen(t.Context(), oauth.ListenConfig{Host: host, AnyPort: true})
			if err != nil {
				t.Fatal(err)
			}
			c := offline(200, "application/json", `{"access_token":"a"}`)
			auth, err := c.BeginAuthorization(l.RedirectURI)
			if err != nil {
				t.Fatal(err)
			}
			auth.Issuer = ""
			done := make(chan error, 1)
			go func() {
				tokens, err := c.AwaitTokens(t.Context(), l, auth, oauth.CallbackConfig{})
				if err == nil && tokens.AccessToken.Reveal() != "a" {
					err = errors.New("wrong tokens")
				}
				done <- err
			}()
			ahead, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(l.RedirectURI, "/callback"), "http://"))
			if err != nil { // browsers open connections that they may not use
				t.Fatal(err)
			}
			defer ahead.Close()
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			browser := &http.Client{Transport: transport}
			base := strings.TrimSuffix(l.RedirectURI, "/callback")
			for path, want := range map[string]int{"/favicon.ico": 404, "/callback?code=x&state=wrong": 400} {
				res, err := browser.Get(base + path)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != want {
					t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
				}
			}
			res, err := browser.Get(l.RedirectURI + "?code=c&state=" + auth.State.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			page := readAll(t, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || !strings.Contains(page, "You are logged in") {
				t.Errorf("got %s %s", res.Status, page)
			}
			answered := time.Now()
			if err := <-done; err != nil {
				t.Errorf("login: %v", err)
			}
			if took := time.Since(answered); took > time.Second {
				t.Errorf("the login ended %v after its page", took)
			}
			if conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")); err == nil {
				conn.Close()
				t.Error("the port is still taken")
			}
		})
	}
}
