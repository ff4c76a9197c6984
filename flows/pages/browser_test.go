package pages_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"authsome/flows/pages"
)

// focused is the id of the element that has the focus.
const focused = `document.activeElement?.id ?? ""`

// keyPage brings a person to the form for a key.
func keyPage(t *testing.T) (*login, <-chan outcome[pages.KeyAnswer], context.Context) {
	t.Helper()
	l := serve(t)
	done := askKey(l)
	tab := person(t)
	do(t, tab, visit(l.URL()), heading("Add your OpenAI API key"))
	return l, done, tab
}

// clean says that the secret is not in the page, not even as a field's value.
func clean(t *testing.T, tab context.Context) {
	t.Helper()
	got := evaluate[string](t, tab, `document.documentElement.outerHTML + [...document.querySelectorAll("input, textarea")].map(e => e.value).join() + document.cookie + location`)
	if strings.Contains(got, canary) {
		t.Errorf("the page holds the secret:\n%s", got)
	}
}

func TestBrowserKey(t *testing.T) {
	l, done, tab := keyPage(t)
	do(t, tab, until(focused, "key"), enter("#key", "pk-"+canary), press("Save key"), see("#key-error"), until(focused, "key"))
	if got := evaluate[string](t, tab, `document.querySelector("#key").value`); got != "" {
		t.Errorf("the field holds %q after a wrong key, want it empty", got)
	}
	clean(t, tab)
	do(t, tab, enter("#key", canary), press("Save key"))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the key", got.Key.Reveal(), err)
	}
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	do(t, tab, heading("OpenAI is connected"))
	clean(t, tab)
}

// Everything can be done with the keyboard alone.
func TestBrowserKeyboard(t *testing.T) {
	l, done, tab := keyPage(t)
	do(t, tab, until(focused, "key"), chromedp.KeyEvent(canary+kb.Enter))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("Enter in the field: answer %q, %v; want the key", got.Key.Reveal(), err)
	}
	next := askKey(l)
	do(t, tab, heading("Add your OpenAI API key"), until(focused, "key"), chromedp.KeyEvent(kb.Tab))
	if got := evaluate[string](t, tab, `document.activeElement.textContent`); got != "Save key" {
		t.Errorf("Tab leads from the field to %q, want the button", got)
	}
	do(t, tab, chromedp.KeyEvent(kb.Tab+kb.Enter))
	if _, err := result(t, next); !errors.Is(err, pages.ErrCancelled) {
		t.Errorf("Enter on Cancel: %v, want ErrCancelled", err)
	}
	do(t, tab, heading("Login cancelled"))
}

// Cancel does not send what was typed.
func TestBrowserCancel(t *testing.T) {
	l, done, tab := keyPage(t)
	sent := posts(t, tab)
	do(t, tab, enter("#key", canary), press("Cancel"), heading("Login cancelled"))
	if _, err := result(t, done); !errors.Is(err, pages.ErrCancelled) {
		t.Errorf("error %v, want ErrCancelled", err)
	}
	if err := l.Finish(pages.ErrCancelled); err != nil {
		t.Fatal(err)
	}
	bodies := sent()
	if len(bodies) != 1 || strings.Contains(strings.Join(bodies, " "), canary) || strings.Contains(bodies[0], "key=") {
		t.Errorf("sent %q, want one form without the field", bodies)
	}
	clean(t, tab)
}

// posts gathers the bodies of the forms that a tab sends.
func posts(t *testing.T, tab context.Context) func() []string {
	t.Helper()
	var mu sync.Mutex
	var bodies []string
	err := chromedp.Listen(tab, func(ev any) {
		if sent, ok := ev.(*network.EventRequestWillBeSent); ok && sent.Request.Method == http.MethodPost {
			mu.Lock()
			defer mu.Unlock()
			for _, entry := range sent.Request.PostDataEntries {
				bodies = append(bodies, string(entry.Bytes))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return bodies
	}
}

func TestBrowserBackAndReload(t *testing.T) {
	l, done, tab := keyPage(t)
	do(t, tab, enter("#key", canary), press("Save key"))
	if _, err := result(t, done); err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(l.URL())
	do(t, tab, heading("One moment"), back(), until(`location.pathname`, u.Path), heading("One moment"))
	clean(t, tab)
	if evaluate[bool](t, tab, `!!document.querySelector("#key")`) {
		t.Error("the form is there again, with what was typed")
	}
	do(t, tab, reload(), heading("One moment"))
	next := asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
	do(t, tab, heading("Connect OpenAI"), reload(), heading("Connect OpenAI"))
	open(t, next)
	if strings.Contains(l.log.String(), "code=") {
		t.Errorf("going back and reloading was refused:\n%s", l.log)
	}
}

func TestBrowserTwoTabs(t *testing.T) {
	l, done, one := keyPage(t)
	two := tab(t, one)
	do(t, two, visit(l.URL()), heading("Add your OpenAI API key"))
	do(t, one, enter("#key", canary), press("Save key"))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the first tab's", got.Key.Reveal(), err)
	}
	do(t, two, enter("#key", "sk-of-the-second-tab"), press("Save key"), heading("This form is already done"))
	clean(t, two)
	next := asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
	do(t, one, heading("Connect OpenAI"))
	do(t, two, heading("Connect OpenAI")) // by itself
	do(t, two, enter("#client_id", "two"), press("Continue"))
	if got, err := result(t, next); err != nil || got.ClientID != "two" {
		t.Errorf("answer %+v, %v; want the second tab's", got, err)
	}
	do(t, one, press("Cancel"), heading("This form is already done"))
}

func TestBrowserDoubleClick(t *testing.T) {
	l, done, tab := keyPage(t)
	do(t, tab, enter("#key", canary), chromedp.DoubleClick(chromedp.Search(`//button[normalize-space()="Save key"]`)))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the key", got.Key.Reveal(), err)
	}
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	do(t, tab, heading("OpenAI is connected"))
}

func TestBrowserFavicon(t *testing.T) {
	l, done, one := keyPage(t)
	two := tab(t, one)
	u, _ := url.Parse(l.URL())
	for _, path := range []string{"/favicon.ico", u.Path + "favicon.ico"} {
		do(t, two, visit("http://"+u.Host+path), until(`location.pathname + " " + document.body?.innerText.trim()`, path+" not found"))
	}
	do(t, one, enter("#key", canary), press("Save key"))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the key", got.Key.Reveal(), err)
	}
}

// An attacker who knows everything, the address and the token of the form, and
// whose page is open in the same browser, still cannot send it.
func TestBrowserAttacker(t *testing.T) {
	l, done, victim := keyPage(t)
	csrf := l.csrf()
	form := func(attributes string) string {
		return fmt.Sprintf(`<form method="post" action="%s" %s><input name="csrf" value="%s"><input name="key" value="sk-of-the-attacker"><input name="action" value="%%s"></form>`,
			l.URL(), attributes, csrf)
	}
	submit := `<script>document.forms[0].submit()</script>`
	attacks := map[string]string{
		"/key":     fmt.Sprintf(form(""), "") + submit,
		"/cancel":  fmt.Sprintf(form(""), "cancel") + submit,
		"/plain":   fmt.Sprintf(form(`enctype="text/plain"`), "") + submit,
		"/upload":  fmt.Sprintf(form(`enctype="multipart/form-data"`), "") + submit,
		"/silent":  `<meta name="referrer" content="no-referrer">` + fmt.Sprintf(form(""), "") + submit,
		"/sandbox": `<iframe sandbox="allow-scripts allow-forms" srcdoc="` + strings.ReplaceAll(fmt.Sprintf(form(""), "")+submit, `"`, "&quot;") + `"></iframe>`,
		"/fetch":   fmt.Sprintf(`<script>fetch(%q, {method: "POST", mode: "no-cors", body: new URLSearchParams({csrf: %q, key: "sk-of-the-attacker"})})</script>`, l.URL(), csrf),
		"/frame":   fmt.Sprintf(`<iframe src="%s"></iframe>`, l.URL()),
	}
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html>", attacks[r.URL.Path])
	}))
	t.Cleanup(evil.Close)
	u, _ := url.Parse(evil.URL)
	// Another port of this address is another origin of the same site; another name is another site.
	for _, origin := range []string{evil.URL, "http://localhost:" + u.Port()} {
		for path := range attacks {
			t.Run(origin[:17]+path, func(t *testing.T) {
				attack := tab(t, victim)
				before := strings.Count(l.log.String(), "refused")
				do(t, attack, scripts(true), visit(origin+path))
				for range 500 {
					if strings.Count(l.log.String(), "refused") > before {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				if strings.Count(l.log.String(), "refused") == before {
					t.Error("the attack was not noticed")
				}
				open(t, done)
			})
		}
	}
	do(t, victim, enter("#key", canary), press("Save key"))
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the victim's own key", got.Key.Reveal(), err)
	}
}

// The page of a device code goes on by itself, without a script, and is left
// alone until then.
func TestBrowserDevice(t *testing.T) {
	l := serve(t, gitHub)
	l.SetHold(30 * time.Second)
	_, stop := showDevice(t, l, gitHubDevice())
	tab := person(t)
	seen := watch(t, tab)
	do(t, tab, visit(l.URL()), heading("Enter this code at GitHub"))
	time.Sleep(3 * time.Second)
	requests, _ := seen()
	if len(requests) != 2 || l.Answering() != 1 {
		t.Errorf("after 3 s there were %d requests, of which %d wait; want the page, and one for the next", len(requests), l.Answering())
	}
	stop()
	if err := l.Finish(nil); err != nil {
		t.Fatal(err)
	}
	do(t, tab, heading("GitHub is connected"))
}

// The page can be used while it waits.
func TestBrowserDeviceCancel(t *testing.T) {
	l := serve(t, gitHub)
	l.SetHold(30 * time.Second)
	wait, _ := showDevice(t, l, gitHubDevice())
	tab := person(t)
	do(t, tab, visit(l.URL()), heading("Enter this code at GitHub"), until(focused, "code"))
	for l.Answering() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	do(t, tab, chromedp.KeyEvent(kb.Tab+kb.Tab+kb.Enter)) // past the link
	select {
	case <-wait.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("Cancel does nothing while the page waits")
	}
	if cause := context.Cause(wait); !errors.Is(cause, pages.ErrCancelled) {
		t.Errorf("the wait ended with %v, want ErrCancelled", cause)
	}
	do(t, tab, heading("Login cancelled"))
}

// A login stays in its tab on the way to the provider, who is not told where
// the person comes from.
func TestBrowserContinue(t *testing.T) {
	arrived := make(chan string, 1)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/authorize" {
			arrived <- r.URL.RawQuery + r.Referer()
		}
		fmt.Fprint(w, "<!doctype html><h1>The provider</h1>")
	}))
	t.Cleanup(provider.Close)
	l := serve(t, gitHub)
	done := asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
	tab := person(t)
	do(t, tab, visit(l.URL()), heading("Connect GitHub"), enter("#client_id", "id"), enter("#client_secret", canary), press("Continue"))
	if got, err := result(t, done); err != nil || got.ClientID != "id" || got.ClientSecret.Reveal() != canary {
		t.Errorf("answer %+v, %v; want what was typed", got, err)
	}
	if !l.Continue(provider.URL + "/authorize?state=a%26b&scope=x+y") {
		t.Fatal("Continue found no browser")
	}
	do(t, tab, heading("The provider"))
	if got := <-arrived; got != "state=a%26b&scope=x+y" {
		t.Errorf("the provider gets %q, want the address as it was and no Referer", got)
	}
}

// Narrow windows and large type need no scrolling sideways.
func TestBrowserNarrow(t *testing.T) {
	for _, e := range exhibits {
		t.Run(e.name, func(t *testing.T) {
			tab := person(t)
			do(t, tab, chromedp.EmulateViewport(320, 640))
			e.show(t, tab)
			do(t, tab, heading(e.heading))
			if got := evaluate[int](t, tab, `document.documentElement.scrollWidth`); got > 320 {
				t.Errorf("the page is %d wide in a window of 320", got)
			}
		})
	}
}
