package pages_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authsome/flows/pages"
	"authsome/vault/secret"
)

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	form := openAI
	form.Check = func(key secret.Text) error {
		switch key.Reveal() {
		case "sk-placeholder":
			return errors.New("it is the placeholder, not a key")
		case "sk-gossiping-check":
			return fmt.Errorf("%q is not allowed", key.Reveal())
		}
		return nil
	}
	tests := []struct{ name, key, want string }{
		{"empty", "", "Enter the key."},
		{"blank", " \t ", "Enter the key."},
		{"wrong", "pk-" + canary, "This does not look like the right key. It starts with sk-."},
		{"inside", "x " + canary + " x", "This does not look like the right key. It starts with sk-."},
		{"two lines", canary + "\r\n" + canary, "The key holds a line break or another control character."},
		{"escape", canary + "\x1b[2J", "The key holds a line break or another control character."},
		{"not UTF-8", canary + "\xff", "The key holds a line break or another control character."},
		{"long", canary + strings.Repeat("x", 16<<10), "That is too long for a key: more than 16 KiB."},
		{"check", "sk-placeholder", "It is the placeholder, not a key."},
		{"check that quotes", "sk-gossiping-check", "The key was refused."},
	}
	l := serve(t)
	done := asked(l, func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, form) })
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			res := l.post("key", test.key)
			if res.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("status %d, want 422", res.StatusCode)
			}
			checkHeaders(t, res)
			for _, want := range []string{
				test.want + `</span>`, `id="key-error"`, `aria-describedby="key-error`, `aria-invalid="true" autofocus`, `<title>Error: `,
			} {
				if !strings.Contains(res.body, want) {
					t.Errorf("the page lacks %s:\n%s", want, res.body)
				}
			}
			if key := strings.TrimSpace(test.key); key != "" && strings.Contains(res.body, key) || strings.Contains(res.body, `type="password" value`) {
				t.Errorf("the page repeats the key:\n%s", res.body)
			}
		})
	}
	open(t, done)
	if res := l.post("key", " \t"+canary+"\r\n"); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("a good key afterwards: status %d, want 303", res.StatusCode)
	}
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the key without the white space around it", got.Key.Reveal(), err)
	}
}

func TestKeyPage(t *testing.T) {
	t.Parallel()
	l := serve(t, func(c *pages.Config) { c.DisplayName = "A<b>cme & Sons"; c.Connection = "work" })
	form := pages.KeyForm{
		Hosts: []string{"api.acme.example", "*.acme.example", "https://acme.example/api", `regex:.*\.acme\.example`, "{base_url}", "{base_url}/v2"},
		Hint:  `40 signs & "more" <i>`, AskBaseURL: true, BaseURL: "https://acme.example",
	}
	asked(l, func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, form) })
	body := l.get("").body
	for _, want := range []string{
		"Add your A&lt;b&gt;cme &amp; Sons API key", "<code>api.acme.example</code>", "<code>*.acme.example</code>", "<code>acme.example/api</code>",
		`<code>.*\.acme\.example</code> <small>(pattern)</small>`, "<code>the base URL</code>", "<code>/v2</code> <small>below the base URL</small>",
		`40 signs &amp; &#34;more&#34; &lt;i&gt;`, `value="https://acme.example"`, `href="https://platform.openai.com/api-keys"`,
		"connection <b>work</b>, profile <b>default</b>", `lang="en"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s:\n%s", want, body)
		}
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "http-equiv") {
		t.Error("a form must not reload itself, nor hold a script")
	}
}

func TestDocsAreLinkedOnlyToTheWeb(t *testing.T) {
	t.Parallel()
	for docs, want := range map[string]bool{
		"https://a.example/keys": true, "http://127.0.0.1:8/x": true, "http://a.example/": false, "javascript:alert(1)": false,
		"data:text/html,x": false, "file:///etc/passwd": false, "//a.example": false, "https://user@a.example": false, "": false,
	} {
		l := serve(t, func(c *pages.Config) { c.Docs = docs })
		askKey(l)
		if got := strings.Contains(l.get("").body, "<a href="); got != want {
			t.Errorf("docs %q linked: %v, want %v", docs, got, want)
		}
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	tests := []struct{ typed, want string }{
		{"https://gitlab.example.com", "https://gitlab.example.com"},
		{"  https://gitlab.example.com/ ", "https://gitlab.example.com"},
		{"gitlab.example.com:8443/sub/", "https://gitlab.example.com:8443/sub"},
		{"http://gitlab.example.com", ""},
		{"https://", ""},
		{"https://user:pass@gitlab.example.com", ""},
		{"https://gitlab.example.com?x", ""},
		{"https://gitlab.example.com?", ""},
		{"https://gitlab.example.com#x", ""},
		{"https://gitlab example.com", ""},
		{"https://gitlab.example.com/\x00", ""},
		{"https://[::1", ""},
		{"javascript://x/%0aalert(1)", ""},
		{"", ""},
	}
	for _, test := range tests {
		t.Run(test.typed, func(t *testing.T) {
			t.Parallel()
			l := serve(t)
			form := pages.KeyForm{AskBaseURL: true, BaseURL: "https://gitlab.com"}
			done := asked(l, func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, form) })
			res := l.post("key", canary, "base_url", test.typed)
			if test.want == "" {
				if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(res.body, `id="base_url-error"`) {
					t.Errorf("status %d, want 422 with an error at the field", res.StatusCode)
				}
				open(t, done)
				return
			}
			if got, err := result(t, done); err != nil || got.BaseURL != test.want {
				t.Errorf("base URL %q, %v; want %q", got.BaseURL, err, test.want)
			}
			// The form that asks for nothing else reads it alike.
			alone := asked(l, func(ctx context.Context) (string, error) { return l.AskBaseURL(ctx, gitLabSite) })
			if res := l.get(""); !strings.Contains(res.body, `value="https://gitlab.com"`) {
				t.Errorf("the form does not offer the default:\n%s", res.body)
			}
			if res := l.post("base_url", "http://elsewhere"); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(res.body, `value="http://elsewhere"`) {
				t.Errorf("status %d, want 422 with what was typed", res.StatusCode)
			}
			l.post("base_url", test.typed)
			if got, err := result(t, alone); err != nil || got != test.want {
				t.Errorf("base URL alone %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestAskRefusesABadPattern(t *testing.T) {
	t.Parallel()
	l := serve(t)
	if _, err := l.AskKey(t.Context(), pages.KeyForm{Pattern: "("}); !errors.Is(err, pages.ErrBadForm) {
		t.Errorf("error %v, want ErrBadForm", err)
	}
}

func TestClientForm(t *testing.T) {
	t.Parallel()
	form := pages.ClientForm{
		RedirectURI: "http://127.0.0.1:7999/callback", ClientID: "old-id", AskBaseURL: true, BaseURL: "https://gitlab.com",
		Scopes: []string{"api", "read_user"}, Separator: ",",
	}
	type values = map[string]string
	tests := []struct {
		name    string
		require bool
		values  values
		want    pages.ClientAnswer
		secret  string
		wrong   []string // fields; nil: accepted
	}{
		{"public", false, values{"client_id": " id ", "base_url": "git.example", "scopes": "api"},
			pages.ClientAnswer{ClientID: "id", BaseURL: "https://git.example", Scopes: []string{"api"}}, "", nil},
		{"confidential", true, values{"client_id": "id", "client_secret": canary, "base_url": "https://gitlab.com/", "scopes": "a,b  c\r\na"},
			pages.ClientAnswer{ClientID: "id", BaseURL: "https://gitlab.com", Scopes: []string{"a", "b", "c"}}, canary, nil},
		{"no scopes", false, values{"client_id": "id", "base_url": "https://gitlab.com", "scopes": " "},
			pages.ClientAnswer{ClientID: "id", BaseURL: "https://gitlab.com"}, "", nil},
		{"nothing", true, values{}, pages.ClientAnswer{}, "", []string{"base_url", "client_id", "client_secret"}},
		{"no secret", true, values{"client_id": "id", "base_url": "https://gitlab.com"}, pages.ClientAnswer{}, "", []string{"client_secret"}},
		{"secret twice", false, values{"client_id": "same", "client_secret": "same", "base_url": "https://gitlab.com"}, pages.ClientAnswer{}, "", []string{"client_secret"}},
		{"bad signs", false, values{"client_id": "i\x01d", "client_secret": canary + "\u00e9", "base_url": "https://gitlab.com", "scopes": `a"b`}, pages.ClientAnswer{}, "",
			[]string{"client_id", "client_secret", "scopes"}},
		{"too long", false, values{"client_id": strings.Repeat("i", 2<<10), "client_secret": strings.Repeat("s", 17<<10), "base_url": "https://gitlab.com", "scopes": strings.Repeat("s", 9<<10)},
			pages.ClientAnswer{}, "", []string{"client_id", "client_secret", "scopes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := serve(t)
			form := form
			form.RequireSecret = test.require
			done := asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, form) })
			filled := l.fill()
			for name, value := range test.values {
				filled.Set(name, value)
			}
			res := l.send(l.form(filled))
			for _, field := range []string{"base_url", "client_id", "client_secret", "scopes"} {
				want := strings.Contains(strings.Join(test.wrong, " "), field)
				if got := strings.Contains(res.body, `id="`+field+`-error"`); got != want {
					t.Errorf("error at %s: %v, want %v", field, got, want)
				}
			}
			if test.wrong != nil {
				if first := `aria-invalid="true" autofocus`; strings.Count(res.body, "autofocus") != 1 || !strings.Contains(res.body, first) {
					t.Error("the focus is not on the first field that is wrong")
				}
				open(t, done)
				return
			}
			got, err := result(t, done)
			if err != nil || got.ClientSecret.Reveal() != test.secret {
				t.Errorf("secret %q, %v; want %q", got.ClientSecret.Reveal(), err, test.secret)
			}
			got.ClientSecret = secret.Text{}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(secret.Text{})); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// A client that is asked for alone is one instance's.
func TestClientFormNamesTheInstance(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{true, false} {
		l := serve(t)
		form := pages.ClientForm{AskBaseURL: asks, BaseURL: "https://git.example/<b>"}
		asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, form) })
		if body := l.get("").body; strings.Contains(body, "at <b>https://git.example/&lt;b&gt;</b>") == asks || strings.Contains(body, "<b>\n") {
			t.Errorf("asks %v:\n%s", asks, body)
		}
	}
}

// What was typed is there again, escaped, except what is secret.
func TestClientFormIsShownAgain(t *testing.T) {
	t.Parallel()
	l := serve(t)
	asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
	body := l.get("").body
	for _, want := range []string{`value="http://127.0.0.1:7999/callback"`, ">\nrepo read:user</textarea>", "(optional)", `href="https://platform.openai.com/api-keys"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s:\n%s", want, body)
		}
	}
	res := l.post("client_id", `"><b>`, "client_secret", canary, "scopes", `</textarea>"`)
	for _, want := range []string{`value="&#34;&gt;&lt;b&gt;"`, "&lt;/textarea&gt;&#34;</textarea>"} {
		if !strings.Contains(res.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, res.body)
		}
	}
}

func TestOneOfManySubmissionsCounts(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	csrf := l.csrf()
	const many = 40
	statuses := make([]int, many)
	var group sync.WaitGroup
	for i := range many {
		req := l.form(url.Values{"csrf": {csrf}, "key": {fmt.Sprintf("sk-number-%04d", i)}})
		group.Go(func() { statuses[i] = l.send(req).StatusCode })
	}
	group.Wait()
	got, err := result(t, done)
	if err != nil {
		t.Fatal(err)
	}
	for i, status := range statuses {
		want := http.StatusConflict
		if got.Key.Reveal() == fmt.Sprintf("sk-number-%04d", i) {
			want = http.StatusSeeOther
		}
		if status != want {
			t.Errorf("submission %d: status %d, want %d", i, status, want)
		}
	}
}

func TestSubmittingAgain(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	values := l.fill("key", canary)
	first := l.send(l.form(values))
	if c := first.Cookies(); len(c) != 1 || !c[0].HttpOnly || c[0].Path != "/"+token(l.Server)+"/" || c[0].SameSite != http.SameSiteStrictMode || c[0].MaxAge > 60 {
		t.Errorf("cookies %v, want one for this address, that scripts do not see", c)
	}
	if _, err := result(t, done); err != nil {
		t.Fatal(err)
	}
	for name, again := range map[string]url.Values{
		"the same": values, "another key": {"csrf": values["csrf"], "key": {"sk-another-key"}}, "cancel": {"csrf": values["csrf"], "action": {"cancel"}},
	} {
		res := l.send(l.form(again))
		if res.StatusCode != http.StatusConflict || res.heading() != "This form is already done" {
			t.Errorf("%s: status %d, %q; want 409 and a polite page", name, res.StatusCode, res.heading())
		}
		if where := first.Header.Get("Location"); !strings.Contains(res.body, `content="2; url=`+where+`"`) {
			t.Errorf("%s: the page does not go on to %s:\n%s", name, where, res.body)
		}
	}
	next := asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
	if res := l.send(l.form(values)); res.StatusCode != http.StatusConflict {
		t.Errorf("the first form during the second question: status %d, want 409", res.StatusCode)
	}
	open(t, next)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	res := l.post("action", "cancel", "key", canary)
	if res.StatusCode != http.StatusSeeOther {
		t.Errorf("status %d, want 303", res.StatusCode)
	}
	got, err := result(t, done)
	if !errors.Is(err, pages.ErrCancelled) || !errors.Is(err, context.Canceled) || !got.Key.IsZero() {
		t.Errorf("answer %v, %v; want ErrCancelled, which is a context.Canceled, and no key", got, err)
	}
	page := l.get("")
	if page.heading() != "Login cancelled" || !strings.Contains(page.body, "authsome login openai") {
		t.Errorf("page %q, want that it was cancelled and how to start again", page.heading())
	}
}

func TestQuestionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l := serve(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the terminal was faster")
	done := asked(l, func(context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, openAI) })
	values := l.fill("key", canary)
	cancel(reason)
	if _, err := result(t, done); !errors.Is(err, reason) {
		t.Errorf("error %v, want the cause", err)
	}
	if page := l.get(""); page.heading() != "This login has ended" {
		t.Errorf("page %q, want that the login has ended", page.heading())
	}
	if res := l.send(l.form(values)); res.StatusCode != http.StatusConflict {
		t.Errorf("a form afterwards: status %d, want 409", res.StatusCode)
	}
	done = askKey(l) // the next question is as good as the first
	accepted(t, l, done)
}

func TestFormMayBeSentSlowlyButNotForEver(t *testing.T) {
	t.Parallel()
	l := serve(t)
	l.SetBodyTimeout(200 * time.Millisecond)
	done := askKey(l)
	before := time.Now()
	u, _ := url.Parse(l.URL())
	got := raw(t, u.Host, "POST "+u.Path+" HTTP/1.1\r\nHost: "+u.Host+"\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nkey=")
	if !strings.HasPrefix(got, "HTTP/1.1 400") || time.Since(before) > 5*time.Second {
		t.Errorf("a body that does not come: %.40q after %v, want 400 after 200 ms", got, time.Since(before))
	}
	accepted(t, l, done)
}

// Whoever calls a login off closes its pages too; that it was called off is what
// the question ends with, whichever comes first.
func TestQuestionEndsWithTheCause(t *testing.T) {
	t.Parallel()
	for range 50 {
		ctx, cancel := context.WithCancelCause(t.Context())
		s, err := pages.Serve(ctx, pages.Config{DisplayName: "OpenAI"})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.AskKey(ctx, pages.KeyForm{})
			done <- err
		}()
		reason := errors.New("called off")
		cancel(reason)
		if err := <-done; !errors.Is(err, reason) {
			t.Fatalf("got %v, want the cause", err)
		}
	}
}
