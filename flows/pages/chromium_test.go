package pages_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// tabTime bounds what one test does in one tab.
const tabTime = 120 * time.Second

// chromium is the browser that the tests share. It is started by the first that
// needs it; each test gets tabs with a profile of their own.
var chromium browser

type browser struct {
	once   sync.Once
	ctx    context.Context
	cancel func()
	err    error
}

func (b *browser) start() {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		b.err = fmt.Errorf("no Chromium on PATH; these tests are nothing without one: apt-get install -y chromium")
		return
	}
	dir, err := os.MkdirTemp("", "authsome-chromium-")
	if err != nil {
		b.err = err
		return
	}
	fonts, err := fontConfig(dir)
	if err != nil {
		b.err = err
		return
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("FONTCONFIG_FILE="+fonts),
		chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.Headless, chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.WSURLReadTimeout(60*time.Second))
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // events newer than the library
	b.ctx = ctx
	b.cancel = func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to end
		cancel()
		stop()
		_ = os.RemoveAll(dir)
	}
	b.err = chromedp.Do(ctx)
}

// fontConfig makes the pictures independent of which sans-serif a machine
// happens to prefer: Liberation comes with Chromium.
func fontConfig(dir string) (path string, err error) {
	path = filepath.Join(dir, "fonts.conf")
	return path, os.WriteFile(path, []byte(`<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
<include ignore_missing="yes">/etc/fonts/fonts.conf</include>
<match target="pattern"><test name="family"><string>system-ui</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Liberation Sans</string></edit></match>
<match target="pattern"><test name="family"><string>sans-serif</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Liberation Sans</string></edit></match>
</fontconfig>
`), 0o600)
}

func (b *browser) stop() {
	if b.cancel != nil {
		b.cancel()
	}
}

// person is a browser profile of its own; its tabs share cookies and history.
func person(t *testing.T) context.Context {
	t.Helper()
	chromium.once.Do(chromium.start)
	if chromium.err != nil {
		t.Fatalf("start Chromium: %v", chromium.err)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	return prepare(t, ctx)
}

// tab opens another tab of the same person.
func tab(t *testing.T, person context.Context) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(person)
	t.Cleanup(cancel)
	return prepare(t, ctx)
}

// prepare starts a tab in which pages have no scripts.
func prepare(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first run
		t.Fatalf("open a tab: %v", err)
	}
	limited, cancel := context.WithTimeout(ctx, tabTime)
	t.Cleanup(cancel)
	do(t, limited, scripts(false), chromedp.EmulateViewport(900, 900))
	return limited
}

// do runs steps in a tab, or fails the test.
func do(t *testing.T, tab context.Context, steps ...step) {
	t.Helper()
	for i, one := range steps {
		if err := chromedp.Do(tab, one); err != nil {
			title, _ := chromedp.Run(tab, chromedp.Title())
			where, _ := chromedp.Run(tab, chromedp.Location())
			t.Fatalf("step %d, on %q at %s: %v", i, title, where, err)
		}
	}
}

// step is something that is done in a tab.
type step = chromedp.Action[chromedp.Void]

// run returns the value of an action in a tab.
func run[T any](t *testing.T, tab context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(tab, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// evaluate returns the value of an expression in the page. It works in pages
// whose own scripts are off.
func evaluate[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	return run(t, tab, chromedp.Evaluate[T](expression))
}

// heading waits until the page's heading is this one.
func heading(want string) step {
	return until(`document.querySelector("h1")?.textContent ?? ""`, want)
}

// until waits until an expression has a value, whatever page it takes.
func until(expression, want string) step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		for {
			got, err := chromedp.Evaluate[string](expression)(ctx, tab)
			if err == nil && got == want {
				return nil
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s is %q, want %q: %w", expression, got, want, ctx.Err())
			}
		}
	})
}

// scripts switches the scripts of pages on or off.
func scripts(on bool) step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	})
}

// theme makes the person prefer light or dark, and little motion.
func theme(name string) step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	})
}

// visit goes to an address. Unlike the library's it does not wait until nothing
// is being loaded any more: a page that waits is always loading the next one.
func visit(url string) step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, page.Navigate, page.NavigateParams{URL: url})
		return err
	})
}

// back presses the back button.
func back() step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		history, err := cdp.Call(ctx, tab, page.GetNavigationHistory, cdp.Empty{})
		if err != nil || history.CurrentIndex == 0 {
			return fmt.Errorf("nowhere to go back to: %w", err)
		}
		_, err = cdp.Call(ctx, tab, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{
			EntryID: history.Entries[history.CurrentIndex-1].ID,
		})
		return err
	})
}

// reload presses the reload button and waits until the page is another one.
func reload() step {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := chromedp.Evaluate[string](`document.body.dataset.old = "yes"`)(ctx, tab); err != nil {
			return err
		}
		if _, err := cdp.Call(ctx, tab, page.Reload, page.ReloadParams{}); err != nil {
			return err
		}
		_, err := until(`document.body?.dataset.old ?? "no"`, "no")(ctx, tab)
		return err
	})
}

// see waits until an element is visible.
func see(selector string) step { return chromedp.WaitVisible(chromedp.CSS(selector)) }

// enter types into a field, after what is there.
func enter(selector, text string) step { return chromedp.SendKeys(chromedp.CSS(selector), text) }

// press clicks the button with this caption.
func press(caption string) step {
	return chromedp.Click(chromedp.Search(`//button[normalize-space()="` + caption + `"]`))
}
