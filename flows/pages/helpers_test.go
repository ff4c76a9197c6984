package pages_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows/pages"
)

// canary is the secret that tests type. It must turn up nowhere but in the
// answer.
const canary = "sk-canary-0d5e8a71c3"

// login is a server under test and what it said.
type login struct {
	*pages.Server
	log *buffer
	t   *testing.T
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serve starts the pages of a login at OpenAI, whose log must not hold the
// canary, nor the way to the pages.
func serve(t *testing.T, change ...func(*pages.Config)) *login {
	t.Helper()
	log := new(buffer)
	cfg := pages.Config{
		Name: "openai", DisplayName: "OpenAI", Docs: "https://platform.openai.com/api-keys",
		Connection: "default", Profile: "default",
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := pages.Serve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The protocol that drives Chromium waits while a page waits for the next one.
	s.SetHold(3 * time.Second)
	t.Cleanup(func() {
		_ = s.Close()
		if said := log.String(); strings.Contains(said, canary) || strings.Contains(said, token(s)) {
			t.Errorf("the log holds a secret of the login:\n%s", said)
		}
	})
	return &login{s, log, t}
}

// token is the unguessable part of a server's address.
func token(s *pages.Server) string {
	u, _ := url.Parse(s.URL())
	return strings.Trim(u.Path, "/")
}

// outcome is what a question came to.
type outcome[T any] struct {
	answer T
	err    error
}

// asked runs a question beside the test and waits until its page is there.
func asked[T any](l *login, ask func(ctx context.Context) (T, error)) <-chan outcome[T] {
	l.t.Helper()
	done := make(chan outcome[T], 1)
	before := l.get("").body
	go func() {
		answer, err := ask(l.t.Context())
		done <- outcome[T]{answer, err}
	}()
	for range 500 {
		if l.get("").body != before {
			return done
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Fatal("the question does not appear")
	return nil
}

// result waits for a question's outcome.
func result[T any](t *testing.T, done <-chan outcome[T]) (T, error) {
	t.Helper()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-time.After(20 * time.Second):
		t.Fatal("the question is still open")
	}
	panic("unreachable")
}

// open says that a question has not been decided.
func open[T any](t *testing.T, done <-chan outcome[T]) {
	t.Helper()
	select {
	case o := <-done:
		t.Errorf("the question was decided: %v, want it open", o.err)
	case <-time.After(30 * time.Millisecond):
	}
}

// answer is a response whose body was read, and which is shown without the
// style that all pages have.
type answer struct {
	*http.Response
	body string
}

var styleElement = regexp.MustCompile(`(?s)<style>.*</style>`)

var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

// send makes a request as it is, and looks for the canary in what comes back.
func (l *login) send(req *http.Request) answer {
	l.t.Helper()
	res, err := client.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	a := answer{res, string(body)}
	var head bytes.Buffer
	_ = res.Header.Write(&head)
	if strings.Contains(a.body+head.String(), canary) {
		l.t.Errorf("%s answers with the secret:\n%s\n%s", req.Method, head.String(), a.body)
	}
	a.body = styleElement.ReplaceAllString(a.body, "")
	return a
}

// request makes a request below the server's own path.
func (l *login) request(method, rest string, body io.Reader) *http.Request {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.URL()+rest, body)
	if err != nil {
		l.t.Fatal(err)
	}
	return req
}

func (l *login) get(rest string) answer {
	l.t.Helper()
	return l.send(l.request(http.MethodGet, rest, nil))
}

// form makes the request that a browser makes for a form of ours.
func (l *login) form(values url.Values) *http.Request {
	l.t.Helper()
	req := l.request(http.MethodPost, "", strings.NewReader(values.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "null") // what no-referrer makes of it
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return req
}

var csrfField = regexp.MustCompile(`name="csrf" value="([A-Z2-7]+)"`)

// csrf is the token of the form that is shown.
func (l *login) csrf() string {
	l.t.Helper()
	m := csrfField.FindStringSubmatch(l.get("").body)
	if m == nil {
		l.t.Fatal("the page has no form")
	}
	return m[1]
}

// fill gives a form's values, with its token.
func (l *login) fill(pairs ...string) url.Values {
	l.t.Helper()
	values := url.Values{"csrf": {l.csrf()}}
	for i := 0; i < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values
}

func (l *login) post(pairs ...string) answer {
	l.t.Helper()
	return l.send(l.form(l.fill(pairs...)))
}

var headingElement = regexp.MustCompile(`<h1>([^<]*)</h1>`)

// heading is a page's heading.
func (a answer) heading() string {
	if m := headingElement.FindStringSubmatch(a.body); m != nil {
		return m[1]
	}
	return ""
}
