package pages_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"authsome/flows/oauth"
	"authsome/flows/pages"
	"authsome/vault/secret"
)

// The callback of an OAuth login takes the result page as it is.
func TestResultOfACallback(t *testing.T) {
	t.Parallel()
	const state = "state-that-nobody-knows"
	tests := []struct {
		name    string
		query   url.Values
		verdict error
		status  int
		heading string
		want    []string
		not     []string
	}{
		{"success", url.Values{"state": {state}, "code": {canary}}, nil, 200, "You are logged in", []string{`class="result good"`}, []string{canary, "try again"}},
		{"denied", url.Values{"state": {state}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script>"}}, nil,
			400, "Access was not granted", []string{`class="result note"`, "&lt;script&gt;alert(1)&lt;/script&gt;", "authsome login openai"}, []string{"<script"}},
		{"failure", url.Values{"state": {state}, "error": {"server_error"}, "error_description": {strings.Repeat("long ", 1000)}}, nil,
			400, "The login failed", []string{`class="result bad"`, "<code>server_error</code>"}, []string{strings.Repeat("long ", 100)}},
		{"foreign", url.Values{"state": {"x"}, "code": {canary}}, nil, 400, "This page belongs to no login", []string{`class="result bad"`}, []string{canary}},
		{"exchange fails", url.Values{"state": {state}, "code": {canary}}, fmt.Errorf("exchange: %q", canary), 400, "The login failed", []string{"The terminal says why."}, []string{canary}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := serve(t)
			callback, err := oauth.NewCallback(&oauth.Authorization{
				RedirectURI: "http://127.0.0.1:7999/callback", State: secret.New(state),
			}, oauth.CallbackConfig{Page: l.Result, Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var group sync.WaitGroup
			group.Go(func() {
				_ = callback.Wait(ctx, func(context.Context, secret.Text) error { return test.verdict })
			})
			w := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:7999/callback?"+test.query.Encode(), nil)
			req.RemoteAddr = "127.0.0.1:1"
			callback.ServeHTTP(w, req)
			cancel()
			group.Wait()
			a := answer{w.Result(), w.Body.String()}
			if a.StatusCode != test.status || a.heading() != test.heading {
				t.Errorf("%d %q, want %d %q", a.StatusCode, a.heading(), test.status, test.heading)
			}
			checkHeaders(t, a)
			for _, want := range test.want {
				if !strings.Contains(a.body, want) {
					t.Errorf("the page lacks %s:\n%s", want, a.body)
				}
			}
			for _, not := range test.not {
				if strings.Contains(a.body, not) {
					t.Errorf("the page holds %s:\n%s", not, a.body)
				}
			}
		})
	}
}

func TestResultPageAlone(t *testing.T) {
	t.Parallel()
	page := pages.ResultPage(pages.Config{DisplayName: "GitHub", Name: "github", Connection: "work"})
	tests := []struct {
		result oauth.Result
		status int
		want   []string
	}{
		{oauth.Result{}, 200, []string{"<h1>The login has ended</h1>", `class="result bad"`, "authsome login github --connection work"}},
		{oauth.Result{OK: true, Status: 200, Title: "Done", Code: "x"}, 200, []string{"<h1>Done</h1>", `class="result good"`}},
		{oauth.Result{Status: 9999, Title: "T", Code: strings.Repeat("c", 500)}, 200, []string{"<code>" + strings.Repeat("c", 63) + "…</code>"}},
		{oauth.Result{Status: 409, Code: "already_used", Title: "Used", Detail: "a\x00b\u202ec\n\nd"}, 409, []string{`class="result note"`, "a bc d"}},
	}
	for _, test := range tests {
		w := httptest.NewRecorder()
		page(w, test.result)
		a := answer{w.Result(), w.Body.String()}
		if a.StatusCode != test.status {
			t.Errorf("%+v: status %d, want %d", test.result, a.StatusCode, test.status)
		}
		checkHeaders(t, a)
		for _, want := range test.want {
			if !strings.Contains(a.body, want) {
				t.Errorf("the page lacks %s:\n%s", want, a.body)
			}
		}
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		err       error
		want, not string
		heading   string
	}{
		{"success", nil, `class="result good"`, "try again", "OpenAI is connected"},
		{"cancelled", fmt.Errorf("login: %w", context.Canceled), `class="result note"`, "", "Login cancelled"},
		{"known", &oauth.Error{Code: "invalid_client", Description: "<i>no</i>"}, "&lt;i&gt;no&lt;/i&gt;", "<i>", "The login failed"},
		{"known, wrapped", fmt.Errorf("x: %w", &oauth.Error{Code: "bad_response"}), "The terminal says why.", "", "The login failed"},
		{"anything", errors.New("could not store " + canary), "The terminal says why.", canary, "The login failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := serve(t)
			done := askKey(l)
			where := l.post("key", canary).Header.Get("Location")
			if _, err := result(t, done); err != nil {
				t.Fatal(err)
			}
			finished := make(chan error, 1)
			go func() { finished <- l.Finish(test.err) }()
			a := l.get(strings.TrimPrefix(where, "/"+token(l.Server)+"/"))
			if a.heading() != test.heading || !strings.Contains(a.body, test.want) || test.not != "" && strings.Contains(a.body, test.not) {
				t.Errorf("page %q, want %q with %s and without %q:\n%s", a.heading(), test.heading, test.want, test.not, a.body)
			}
			if err := <-finished; err != nil {
				t.Error(err)
			}
			if _, err := client.Get(l.URL()); err == nil {
				t.Error("the pages are still served")
			}
		})
	}
}

func TestCloseDoesNotWaitForNobody(t *testing.T) {
	tests := map[string]func(l *login){
		"no browser ever": func(*login) {},
		"an idle form":    func(l *login) { askKey(l) },
	}
	for name, prepare := range tests {
		l := serve(t)
		prepare(l)
		l.mayBeGone()
		before := time.Now()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(before); took > time.Second {
			t.Errorf("%s: Close took %v, want it at once", name, took)
		}
	}
}

// mayBeGone lets the time pass in which the page that the helpers fetched at
// first may come back.
func (l *login) mayBeGone() { time.Sleep(3100 * time.Millisecond) }

func TestCloseWaitsForABrowserOnItsWay(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	where := l.post("key", canary).Header.Get("Location")
	if _, err := result(t, done); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	time.Sleep(300 * time.Millisecond) // a slow browser
	if a := l.get(strings.TrimPrefix(where, "/"+token(l.Server)+"/")); a.heading() != "This login has ended" {
		t.Errorf("page %q, want that the login has ended", a.heading())
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	gone := serve(t)
	gone.get("") // a page that waits, whose browser is closed
	before := time.Now()
	_ = gone.Close()
	if took := time.Since(before); took > 4500*time.Millisecond {
		t.Errorf("Close took %v for a browser that does not come, want at most 4 s", took)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { _ = l.Close() })
	}
	if _, err := result(t, done); !errors.Is(err, pages.ErrClosed) {
		t.Errorf("the open question: %v, want ErrClosed", err)
	}
	group.Wait()
	_, keyErr := l.AskKey(t.Context(), openAI)
	_, clientErr := l.AskClient(t.Context(), gitHubClient)
	_, _, deviceErr := l.ShowDevice(t.Context(), gitHubDevice())
	for _, err := range []error{keyErr, clientErr, deviceErr} {
		if !errors.Is(err, pages.ErrClosed) {
			t.Errorf("a question afterwards: %v, want ErrClosed", err)
		}
	}
	if l.Continue("https://a.example/") {
		t.Error("Continue found a browser on a closed server")
	}
}

func TestServerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := pages.Serve(ctx, pages.Config{DisplayName: "OpenAI"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range 500 {
		if _, err := client.Get(s.URL()); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the pages outlive their context")
}

func TestServeNeedsAName(t *testing.T) {
	t.Parallel()
	if _, err := pages.Serve(t.Context(), pages.Config{}); !errors.Is(err, pages.ErrBadForm) {
		t.Errorf("error %v, want ErrBadForm", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := pages.Serve(ctx, pages.Config{DisplayName: "x"}); err == nil {
		_ = s.Close()
		t.Error("Serve with a context that has ended succeeds")
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	l := serve(t)
	l.mayBeGone()
	if l.Continue("https://a.example/authorize?state=x") {
		t.Error("Continue found a browser where there is none")
	}
	page := l.get("")
	for _, target := range []string{"", "javascript:alert(1)", "http://a.example/", "https://a b/"} {
		if l.Continue(target) {
			t.Errorf("Continue led to %q", target)
		}
	}
	if !l.Continue(`https://a.example/authorize?state=x&scope=a+b`) {
		t.Fatal("Continue found no browser")
	}
	a := l.get(strings.TrimPrefix(refreshOf(t, page), "/"+token(l.Server)+"/"))
	if a.heading() != "Continue to OpenAI" || html.UnescapeString(refreshOf(t, a)) != "https://a.example/authorize?state=x&scope=a+b" {
		t.Errorf("page %q goes to %q, want the provider's", a.heading(), refreshOf(t, a))
	}
	if !strings.Contains(html.UnescapeString(a.body), `href="https://a.example/authorize?state=x&scope=a+b"`) {
		t.Errorf("the page has no link for a browser that does not go by itself:\n%s", a.body)
	}
}

func TestOpenIsCalledOnce(t *testing.T) {
	t.Parallel()
	opened := make(chan string, 3)
	l := serve(t, func(c *pages.Config) {
		c.Open = func(ctx context.Context, once, url string) {
			if ctx.Err() == nil {
				opened <- url
			}
		}
	})
	if len(opened) > 0 {
		t.Error("the browser was opened before there was anything to see")
	}
	done := askKey(l)
	accepted(t, l, done)
	askKey(l)
	if got := <-opened; got != l.URL() {
		t.Errorf("opened %q, want %q", got, l.URL())
	}
	if len(opened) > 0 {
		t.Error("the browser was opened twice")
	}
}

func TestClip(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"as it is", 80, "as it is"},
		{"  two\r\n\tlines\x00 ", 80, "two lines"},
		{"\u202eevil\u2066\u200b\ufeff", 80, "evil"},
		{"a\xffb", 80, "ab"},
		{"äöüß", 3, "äö…"},
		{"", 3, ""},
	}
	for _, test := range tests {
		if got := pages.Clip(test.in, test.limit); got != test.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", test.in, test.limit, got, test.want)
		}
	}
}

func FuzzClip(f *testing.F) {
	for _, seed := range []string{"", "a b", "\u202e", "\xff\xfe", strings.Repeat("é", 500), "a\u0085b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := pages.Clip(in, 40)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 40 || strings.ContainsAny(got, "\r\n\x00\x1b\u202e") {
			t.Errorf("Clip(%q) = %q", in, got)
		}
		if again := pages.Clip(got, 40); again != got {
			t.Errorf("Clip(%q) = %q, and again %q", in, got, again)
		}
	})
}
