package pages_test

import (
	"context"
	"errors"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"

	"authsome/flows/pages"
)

// launched are the addresses that a browser's launcher was given, and what the user
// was shown.
type launched struct{ once, url string }

func launching(t *testing.T) (*login, <-chan launched) {
	t.Helper()
	opened := make(chan launched, 3)
	return serve(t, func(c *pages.Config) {
		c.Open = func(_ context.Context, once, url string) { opened <- launched{once, url} }
	}), opened
}

// at makes a GET of an address as it is.
func (l *login) at(method, address string, header ...string) answer {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, address, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return l.send(req)
}

// What is in a launcher's arguments is good for one visit, and says nothing about
// where the pages are.
func TestLaunchedOnce(t *testing.T) {
	t.Parallel()
	l, opened := launching(t)
	done := askKey(l)
	first := <-opened
	if first.url != l.URL() || strings.Contains(first.once, token(l.Server)) {
		t.Errorf("opened %+v, want the way to %s and nothing of it", first, l.URL())
	}
	for _, other := range []answer{
		l.at("HEAD", first.once), l.at("GET", first.once, "Sec-Fetch-Dest", "iframe"), l.at("GET", first.once+"wait/0"),
		l.at("GET", strings.TrimSuffix(first.once, "/")), l.at("POST", first.once),
	} {
		if other.StatusCode != http.StatusNotFound {
			t.Errorf("%s %s: status %d, want 404", other.Request.Method, other.Request.URL.Path, other.StatusCode)
		}
	}
	a := l.at("GET", first.once, "Sec-Fetch-Dest", "document")
	if a.StatusCode != http.StatusSeeOther || "http://"+a.Request.URL.Host+a.Header.Get("Location") != l.URL() {
		t.Fatalf("the visit: status %d, to %s", a.StatusCode, a.Header.Get("Location"))
	}
	checkHeaders(t, a)
	for range 2 {
		if again := l.at("GET", first.once); again.StatusCode != http.StatusGone || !strings.Contains(again.body, "the terminal shows") || strings.Contains(again.body, token(l.Server)) {
			t.Errorf("a second visit: status %d, %q", again.StatusCode, again.body)
		}
	}
	accepted(t, l, done)
}

// A login without a form of ours is led to the provider by a page of ours, so that
// the launcher's arguments do not show the login's state.
func TestContinueLaunches(t *testing.T) {
	t.Parallel()
	l, opened := launching(t)
	target := "https://a.example/authorize?state=secret&scope=" + strings.Repeat("a.b+", 2<<10)
	for _, bad := range []string{"javascript:alert(1)", "http://a.example/"} {
		if l.Continue(bad) {
			t.Errorf("Continue led to %q", bad)
		}
	}
	for range 2 { // the second time because the first browser has left
		if !l.Continue(target) {
			t.Fatal("Continue opened no browser")
		}
		got := <-opened
		if got.url != target || strings.Contains(got.once, "secret") {
			t.Fatalf("opened %+v", got)
		}
		if a := l.at("GET", got.once); a.StatusCode != http.StatusSeeOther {
			t.Fatalf("status %d", a.StatusCode)
		}
		if page := l.get(""); html.UnescapeString(refreshOf(t, page)) != target {
			t.Errorf("the page leads to %q", refreshOf(t, page))
		}
		l.mayBeGone()
	}
	_ = l.Close()
	if l.Continue(target) {
		t.Error("Continue opened a browser at a closed server")
	}
}

func TestFormWaitsNotForEver(t *testing.T) {
	t.Parallel()
	l := serve(t)
	l.SetAnswerTime(50 * time.Millisecond)
	if _, err := l.AskKey(t.Context(), pages.KeyForm{}); !errors.Is(err, pages.ErrUnanswered) || errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want ErrUnanswered", err)
	}
	if page := l.get(""); page.heading() != "This login has ended" {
		t.Errorf("page %q, want that the login has ended", page.heading())
	}
}
