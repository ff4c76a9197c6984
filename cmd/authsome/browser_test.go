//go:build linux

package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth/oauthtest"

	"github.com/chromedp/chromedp"
)

// chromium opens a tab of a real browser, which does not know the certificates
// of the tests and does not ask for them.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed; run: make deps")
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.NoFirstRun, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.WSURLReadTimeout(60*time.Second))
	tab, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // events newer than the library
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab) // waits for the browser to end
		cancel()
		stop()
	})
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	limited, end := context.WithTimeout(tab, 60*time.Second)
	t.Cleanup(end)
	return limited
}

// display is an environment with a display, in which whatever opens a browser
// leaves the page's address in a file instead.
func display(t *testing.T) (env []string, opened func() string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "url")
	script := "#!/bin/sh\nprintf %s \"$1\" > " + file + ".new && mv " + file + ".new " + file + "\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{"DISPLAY=:99", "PATH=" + dir + ":" + os.Getenv("PATH")}, func() string {
		t.Helper()
		for range 300 {
			if b, err := os.ReadFile(file); err == nil {
				os.Remove(file)
				if strings.Contains(string(b), "?") { // such as the state of a login
					t.Errorf("the browser's launcher was given %s, which others can read", b)
				}
				return string(b)
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("no browser was opened")
		return ""
	}
}

// do takes steps in a tab.
func do(t *testing.T, tab context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for i, step := range steps {
		if err := chromedp.Do(tab, step); err != nil {
			title, _ := chromedp.Run(tab, chromedp.Title())
			where, _ := chromedp.Run(tab, chromedp.Location())
			t.Fatalf("step %d, on %q at %s: %v", i, title, where, err)
		}
	}
}

// heading waits for a page by its heading.
func heading(want string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		for {
			got, err := chromedp.Evaluate[string](`document.querySelector("h1")?.textContent ?? ""`)(ctx, tab)
			if err == nil && strings.Contains(got, want) {
				return nil
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("the heading is %q, want %q", got, want)
			}
		}
	})
}

func press(caption string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.Search(`//button[normalize-space()="` + caption + `"]`))
}

func enter(field, text string) chromedp.Action[chromedp.Void] {
	return chromedp.SendKeys(chromedp.CSS(`[name="`+field+`"]`), text)
}

// testChromium logs in as a person with a browser does: a form of ours asks for
// the client, the same tab goes on to the provider and ends at our result.
func testChromium(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	tab := chromium(t)

	t.Run("cancel", func(t *testing.T) {
		env, opened := display(t)
		a := r.begin(env, "login", "acme", "--callback-port", freePort(t))
		do(t, tab, chromedp.Navigate(opened()), heading("Connect Acme"), press("Cancel"), heading("Login cancelled"))
		if got := a.ended(8); !strings.Contains(got.stderr, "cancelled in the browser") {
			t.Errorf("said %s", got.stderr)
		}
	})
	t.Run("login", func(t *testing.T) {
		env, opened := display(t)
		port := freePort(t)
		a := r.begin(env, "login", "acme", "--callback-port", port)
		do(t, tab, chromedp.Navigate(opened()), heading("Connect Acme"))
		redirect, err := chromedp.Run(tab, chromedp.Evaluate[string](`document.querySelector("#redirect_uri").value`))
		if err != nil || redirect != "http://127.0.0.1:"+port+"/callback" {
			t.Errorf("the form says to register %q, %v", redirect, err)
		}
		do(t, tab, enter("client_id", "public"), press("Continue"),
			heading("Sign-in"), enter("login", "ada"), enter("password", "any"), chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
			heading("Authorize"), chromedp.Click(chromedp.CSS(`button[type="submit"]`)),
			heading("You are logged in"))
		if got := a.ended(0); !strings.Contains(got.stderr, "Logged in to acme as ada@example.test") {
			t.Errorf("said %s", got.stderr)
		}
		if got := r.must(curl...); got.stdout != "welcome 1\n" {
			t.Errorf("the API answered %q", got.stdout)
		}
	})
	t.Run("denied", func(t *testing.T) {
		env, opened := display(t)
		a := r.begin(env, "login", "acme", "--force", "--callback-port", freePort(t))
		do(t, tab, chromedp.Navigate(opened()), heading("Authorize"),
			chromedp.Click(chromedp.Search(`//a[contains(., "Cancel")]`)), heading("Access was not granted"))
		if got := a.ended(4); !strings.Contains(got.stderr, "access_denied") {
			t.Errorf("said %s", got.stderr)
		}
		r.must(curl...) // the old connection goes on
	})
	t.Run("device", func(t *testing.T) {
		env, opened := display(t)
		a := r.begin(append(env, "ACME_CLIENT_ID=device"), "login", "acme", "--reset", "--flow", "device_code")
		do(t, tab, chromedp.Navigate(opened()), heading("Enter this code at Acme"))
		code := a.until(`enter the code (\S+)$`)
		shown, err := chromedp.Run(tab, chromedp.Evaluate[string](`document.querySelector("input[readonly]").value`))
		if err != nil || shown != code {
			t.Errorf("the page does not show %s: %q, %v", code, shown, err)
		}
		do(t, tab, press("Cancel"), heading("Login cancelled"))
		a.ended(8)
		r.must(curl...) // the old connection goes on, though --reset was asked for
	})
}
