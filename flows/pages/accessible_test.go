package pages_test

import (
	"context"
	_ "embed"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/audit.js
var auditScript string

// audit looks over the page that is open.
func audit(t *testing.T, tab context.Context) []string {
	t.Helper()
	for {
		complaints := evaluate[[]string](t, tab, auditScript)
		if len(complaints) != 1 || complaints[0] != "not loaded" {
			return complaints
		}
		time.Sleep(20 * time.Millisecond) // evaluate fails when the tab's time is over
	}
}

// Every page, light and dark: accessible, loading nothing, and kept as a
// picture.
func TestPages(t *testing.T) {
	for _, e := range exhibits {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(e.name+"-"+scheme, func(t *testing.T) {
				tab := person(t)
				seen := watch(t, tab)
				do(t, tab, chromedp.EmulateViewport(720, 480, chromedp.EmulateScale(1.5)), theme(scheme))
				l := e.show(t, tab)
				do(t, tab, heading(e.heading))
				picture(t, tab, e.name+"-"+scheme)
				for _, complaint := range audit(t, tab) {
					t.Error(complaint)
				}
				ground := evaluate[string](t, tab, `getComputedStyle(document.body).backgroundColor`)
				if want := map[string]string{"light": "rgb(244, 245, 248)", "dark": "rgb(16, 20, 27)"}[scheme]; ground != want {
					t.Errorf("the page's ground is %s, want %s: its style counts, and follows the scheme", ground, want)
				}
				requests, complaints := seen()
				for _, url := range requests {
					if !strings.HasPrefix(url, l.URL()) {
						t.Errorf("the page asks for %s", url)
					}
				}
				for _, complaint := range complaints {
					t.Errorf("the browser says: %s", complaint)
				}
			})
		}
	}
}

// watch gathers what a tab asks for, and what the browser dislikes about it: a
// violation of the page's policy, above all.
func watch(t *testing.T, tab context.Context) func() (requests, complaints []string) {
	t.Helper()
	var mu sync.Mutex
	var requests, complaints []string
	err := chromedp.Listen(tab, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			requests = append(requests, ev.Request.URL)
		case *log.EventEntryAdded:
			serious := ev.Entry.Level == log.EntryLevelError || ev.Entry.Level == log.EntryLevelWarning
			if serious && !strings.Contains(ev.Entry.Text, "status of 422") { // a form to be corrected
				complaints = append(complaints, ev.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() ([]string, []string) {
		mu.Lock()
		defer mu.Unlock()
		if len(requests) == 0 {
			t.Error("no request was seen")
		}
		return requests, complaints
	}
}

// The watching and the audit see what they are there for.
func TestAuditNoticesFaults(t *testing.T) {
	tab := person(t)
	seen := watch(t, tab)
	l := serve(t)
	asked(l, keyQuestion(l))
	do(t, tab, visit(l.URL()), heading("Add your OpenAI API key"))
	evaluate[string](t, tab, `(() => {
		document.documentElement.removeAttribute("lang");
		document.querySelector("label").remove();
		document.querySelector("main").insertAdjacentHTML("beforeend", '<h1 onclick="x()">2</h1><p style="x">faint</p><img src="https://attacker.example/x.png"><svg></svg>');
		document.body.append(Object.assign(document.createElement("p"), {id: "faint", textContent: "faint"}));
		const sheet = new CSSStyleSheet(); sheet.replaceSync("#faint { color: #c8c8d0 } .brand { animation: turn 1s }");
		document.adoptedStyleSheets = [sheet];
		return "" })()`)
	complaints := strings.Join(audit(t, tab), "\n")
	for _, want := range []string{"language", "2 h1", "has no label", "a script or a style of its own", "loads something", "without words", "text of 16px has a contrast", "moves"} {
		if !strings.Contains(complaints, want) {
			t.Errorf("the audit does not notice: %s\n%s", want, complaints)
		}
	}
	requests, said := seen()
	if !strings.Contains(strings.Join(said, "\n"), "Content Security Policy") {
		t.Errorf("the browser's complaints %q lack the policy's violation", said)
	}
	_ = requests
}

// What a screen reader is told about a field that is wrong.
func TestWhatAReaderIsTold(t *testing.T) {
	l, _, tab := keyPage(t)
	do(t, tab, enter("#key", "wrong"), press("Save key"), see("#key-error"), until(focused, "key"))
	field := node(t, tab, "textbox", "API key")
	if got, want := text(field.Description), "Error: This does not look like the right key. It starts with sk-."; got != want {
		t.Errorf("the field is described as %q, want %q", got, want)
	}
	properties := map[string]string{}
	for _, p := range field.Properties {
		properties[string(p.Name)] = text(p.Value)
	}
	for name, want := range map[string]string{"invalid": "true", "focused": "true", "required": "true"} {
		if properties[name] != want {
			t.Errorf("the field's %s is %q, want %q", name, properties[name], want)
		}
	}
	node(t, tab, "heading", "Add your OpenAI API key")
	node(t, tab, "link", "Where to get a key (opens in a new tab)")
	node(t, tab, "button", "Save key")
	node(t, tab, "button", "Cancel")
	_ = l
}

// node finds what a screen reader calls by a role and a name.
func node(t *testing.T, tab context.Context, role, name string) *accessibility.Node {
	t.Helper()
	tree := run(t, tab, func(ctx context.Context, tab *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	var names []string
	for _, n := range tree.Nodes {
		if !n.Ignored && text(n.Role) == role {
			if text(n.Name) == name {
				return n
			}
			names = append(names, text(n.Name))
		}
	}
	t.Fatalf("no %s is called %q, only %q", role, name, names)
	return nil
}

// text is a value as a reader says it.
func text(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}

// Whoever sets their own colours still sees every part of a page.
func TestForcedColors(t *testing.T) {
	tab := person(t)
	do(t, tab, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "forced-colors", Value: "active"}},
		})
		return err
	}))
	finish(t, tab, nil)
	do(t, tab, heading("GitHub is connected"))
	ink := evaluate[string](t, tab, `getComputedStyle(document.querySelector(".mark")).stroke`)
	paper := evaluate[string](t, tab, `getComputedStyle(document.body).backgroundColor`)
	if ink == paper {
		t.Errorf("the mark is %s on %s", ink, paper)
	}
}
