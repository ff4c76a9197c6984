package pages_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"authsome/flows/pages"
)

func TestDevicePage(t *testing.T) {
	t.Parallel()
	l := serve(t, gitHub)
	l.SetHold(200 * time.Millisecond)
	wait, stop := showDevice(t, l, gitHubDevice())
	page := l.get("")
	for _, want := range []string{
		`value="WDJB-MJHT"`, `href="https://github.com/login/device"`, "Open github.com/login/device", "about 15 minutes",
		"<code>repo</code>", "<code>read:user</code>", `http-equiv="refresh" content="1; url=/`, " autofocus",
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, page.body)
		}
	}
	before := time.Now()
	again := l.get(strings.TrimPrefix(refreshOf(t, page), "/"+token(l.Server)+"/"))
	if took := time.Since(before); took < 150*time.Millisecond || again.heading() != page.heading() {
		t.Errorf("the next page is %q after %v, want the same, held back 200 ms", again.heading(), took)
	}
	if strings.Contains(again.body, "autofocus") {
		t.Error("a page that reloads itself takes the focus")
	}
	if res := l.post("code", "x"); res.StatusCode != http.StatusUnprocessableEntity || wait.Err() != nil {
		t.Errorf("a form that is not Cancel: status %d, %v; want 422 and the wait goes on", res.StatusCode, wait.Err())
	}
	stop()
	stop() // is harmless
	if page := l.get(""); page.heading() != "One moment" {
		t.Errorf("page %q after stop, want the one between two others", page.heading())
	}
	if cause := context.Cause(wait); !errors.Is(cause, context.Canceled) || errors.Is(cause, pages.ErrCancelled) {
		t.Errorf("the wait ended with %v, want it only stopped", cause)
	}
}

// refreshOf is where a page goes by itself.
func refreshOf(t *testing.T, a answer) string {
	t.Helper()
	_, rest, found := strings.Cut(a.body, `http-equiv="refresh" content="`)
	content, _, _ := strings.Cut(rest, `"`)
	_, where, _ := strings.Cut(content, "url=")
	if !found || where == "" {
		t.Fatalf("the page does not go on by itself:\n%s", a.body)
	}
	return where
}

func TestDeviceEnds(t *testing.T) {
	t.Parallel()
	reason := errors.New("the code ran out")
	tests := []struct {
		name string
		end  func(l *login, cancel context.CancelCauseFunc)
		want error
		page string
	}{
		{"cancelled", func(l *login, _ context.CancelCauseFunc) { l.post("action", "cancel") }, pages.ErrCancelled, "Login cancelled"},
		{"context", func(_ *login, cancel context.CancelCauseFunc) { cancel(reason) }, reason, "This login has ended"},
		{"closed", func(l *login, _ context.CancelCauseFunc) { go l.Close() }, pages.ErrClosed, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := serve(t, gitHub)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			wait, stop, err := l.ShowDevice(ctx, gitHubDevice())
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			test.end(l, cancel)
			select {
			case <-wait.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the wait goes on")
			}
			if cause := context.Cause(wait); !errors.Is(cause, test.want) {
				t.Errorf("the wait ended with %v, want %v", cause, test.want)
			}
			stop()
			if test.page != "" {
				if page := l.get(""); page.heading() != test.page {
					t.Errorf("page %q, want %q", page.heading(), test.page)
				}
			}
		})
	}
}

func TestDeviceLinks(t *testing.T) {
	t.Parallel()
	const good = "https://a.example/device"
	tests := []struct {
		code, uri, complete string
		want                string // link; "" is an error
	}{
		{"AB-CD", good, "", good},
		{"AB-CD", good, good + "?user_code=AB-CD", good + "?user_code=AB-CD"},
		{"AB-CD", good, "javascript:alert(1)", good},
		{"AB-CD", good, "http://a.example/device", good},
		{"AB-CD", "http://localhost:9/device", "", "http://localhost:9/device"},
		{strings.Repeat("A", 64), good, "", good},
		{strings.Repeat("A", 65), good, "", ""},
		{"", good, "", ""},
		{"A\nB", good, "", ""},
		{"AB-CD", "", "", ""},
		{"AB-CD", "http://a.example/device", "", ""},
		{"AB-CD", "javascript:alert(1)", "", ""},
		{"AB-CD", "https://user:pass@a.example/", "", ""},
		{"AB-CD", "file:///etc/passwd", "", ""},
	}
	for _, test := range tests {
		l := serve(t)
		_, stop, err := l.ShowDevice(t.Context(), pages.Device{UserCode: test.code, VerificationURI: test.uri, VerificationURIComplete: test.complete})
		if test.want == "" {
			if !errors.Is(err, pages.ErrBadForm) {
				t.Errorf("%q at %s: %v, want ErrBadForm", test.code, test.uri, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q at %s: %v", test.code, test.uri, err)
			continue
		}
		if body := l.get("").body; !strings.Contains(body, `href="`+test.want+`"`) {
			t.Errorf("%s: the page does not link to %s:\n%s", test.uri, test.want, body)
		}
		stop()
	}
}

func TestDeviceTimeLeft(t *testing.T) {
	t.Parallel()
	for left, want := range map[time.Duration]string{
		15 * time.Minute: "about 15 minutes", 61 * time.Second: "about a minute", 20 * time.Second: "less than a minute", -time.Minute: "less than a minute",
	} {
		l := serve(t)
		d := gitHubDevice()
		d.ExpiresAt = time.Now().Add(left)
		showDevice(t, l, d)
		if body := l.get("").body; !strings.Contains(body, "good for "+want+".") {
			t.Errorf("%v left: the page does not say %q", left, want)
		}
	}
	l := serve(t)
	showDevice(t, l, pages.Device{UserCode: "AB-CD", VerificationURI: "https://a.example/"})
	if body := l.get("").body; strings.Contains(body, "good for") || strings.Contains(body, "will be asked for") {
		t.Error("the page tells a time or scopes that nobody knows")
	}
}

// A waiting page's request is answered when there is something new, and not
// before.
func TestWaitingIsHeldBack(t *testing.T) {
	t.Parallel()
	l := serve(t, gitHub)
	_, stop := showDevice(t, l, gitHubDevice())
	where := refreshOf(t, l.get(""))
	u, _ := url.Parse(l.URL())
	u.Path = where
	next := make(chan answer, 1)
	go func() {
		req := l.request(http.MethodGet, "", nil)
		req.URL = u
		next <- l.send(req)
	}()
	select {
	case a := <-next:
		t.Fatalf("answered with %q though nothing is new", a.heading())
	case <-time.After(300 * time.Millisecond):
	}
	stop()
	before := time.Now()
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-next:
		if a.heading() != "GitHub is connected" {
			t.Errorf("page %q, want the result", a.heading())
		}
	case <-time.After(time.Second):
		t.Fatal("Finish returned before the page that waits was answered")
	}
	if took := time.Since(before); took > time.Second {
		t.Errorf("Finish took %v although the browser was there", took)
	}
}
