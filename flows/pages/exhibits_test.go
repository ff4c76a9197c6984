package pages_test

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"authsome/flows/oauth"
	"authsome/flows/pages"
)

// exhibits are all the pages there are, each brought about as a login does.
// They are looked over for who uses a keyboard or a reader, and photographed.
var exhibits = []struct {
	name    string
	heading string
	show    func(t *testing.T, tab context.Context) *login
}{
	{"key", "Add your OpenAI API key", func(t *testing.T, tab context.Context) *login {
		l := serve(t)
		asked(l, func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, openAI) })
		do(t, tab, visit(l.URL()), until(focused, "key"))
		return l
	}},
	{"key-error", "Add your OpenAI API key", func(t *testing.T, tab context.Context) *login {
		l := serve(t)
		asked(l, func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, openAI) })
		do(t, tab, visit(l.URL()), enter("#key", "pk-wrong"), press("Save key"), see("#key-error"), until(focused, "key"))
		return l
	}},
	{"client", "Connect GitHub", func(t *testing.T, tab context.Context) *login {
		l := serve(t, gitHub)
		asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, gitHubClient) })
		do(t, tab, visit(l.URL()), until(focused, "client_id"))
		return l
	}},
	{"client-error", "Connect GitLab", func(t *testing.T, tab context.Context) *login {
		l := serve(t, func(c *pages.Config) {
			c.Name, c.DisplayName, c.Docs, c.Connection = "gitlab", "GitLab", "https://docs.gitlab.com/integration/oauth_provider/", "work"
		})
		form := gitHubClient
		form.AskBaseURL, form.BaseURL, form.RequireSecret, form.Scopes = true, "https://gitlab.com", true, []string{"api", "read_user"}
		asked(l, func(ctx context.Context) (pages.ClientAnswer, error) { return l.AskClient(ctx, form) })
		do(t, tab, visit(l.URL()),
			chromedp.SetValue(chromedp.CSS("#base_url"), "http://gitlab.example.com"), enter("#client_id", "0f5d2c9e41"),
			press("Continue"), see(".summary"), until(focused, "base_url"))
		return l
	}},
	{"site-error", "Which GitLab?", func(t *testing.T, tab context.Context) *login {
		l := serve(t, func(c *pages.Config) { c.Name, c.DisplayName, c.Connection = "gitlab", "GitLab", "work" })
		asked(l, func(ctx context.Context) (string, error) { return l.AskBaseURL(ctx, gitLabSite) })
		do(t, tab, visit(l.URL()), until(focused, "base_url"), chromedp.SetValue(chromedp.CSS("#base_url"), "http://gitlab.example.com"),
			press("Continue"), see("#base_url-error"), until(focused, "base_url"))
		return l
	}},
	{"device", "Enter this code at GitHub", func(t *testing.T, tab context.Context) *login {
		l := serve(t, gitHub)
		showDevice(t, l, gitHubDevice())
		do(t, tab, visit(l.URL()))
		return l
	}},
	{"waiting", "One moment", func(t *testing.T, tab context.Context) *login {
		l := serve(t, gitHub)
		do(t, tab, visit(l.URL()))
		return l
	}},
	{"success", "GitHub is connected", func(t *testing.T, tab context.Context) *login { return finish(t, tab, nil) }},
	{"failure", "The login failed", func(t *testing.T, tab context.Context) *login {
		return finish(t, tab, &oauth.Error{Code: "invalid_client", Description: "The client_id and/or client_secret passed are incorrect."})
	}},
	{"cancelled", "Login cancelled", func(t *testing.T, tab context.Context) *login { return finish(t, tab, pages.ErrCancelled) }},
}

// finish shows a result as a login ends: to a tab that waits for it.
func finish(t *testing.T, tab context.Context, outcome error) *login {
	t.Helper()
	l := serve(t, gitHub)
	do(t, tab, visit(l.URL()), heading("One moment"))
	for l.Answering() == 0 { // until it has asked for the next page
		time.Sleep(10 * time.Millisecond)
	}
	if err := l.Finish(outcome); err != nil {
		t.Fatal(err)
	}
	return l
}

func showDevice(t *testing.T, l *login, d pages.Device) (wait context.Context, stop func()) {
	t.Helper()
	wait, stop, err := l.ShowDevice(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return wait, stop
}

var openAI = pages.KeyForm{
	Hosts: []string{"api.openai.com"}, Pattern: `sk-[A-Za-z0-9_-]{8,}`, Hint: "It starts with sk-.",
}

func gitHub(c *pages.Config) {
	c.Name, c.DisplayName, c.Docs = "github", "GitHub", "https://github.com/settings/developers"
}

var gitHubClient = pages.ClientForm{
	RedirectURI: "http://127.0.0.1:7999/callback", Scopes: []string{"repo", "read:user"},
}

var gitLabSite = pages.BaseURLForm{BaseURL: "https://gitlab.com"}

func gitHubDevice() pages.Device {
	return pages.Device{
		UserCode: "WDJB-MJHT", VerificationURI: "https://github.com/login/device",
		ExpiresAt: time.Now().Add(15 * time.Minute), Scopes: []string{"repo", "read:user"},
	}
}

// picture takes a picture of a page, and keeps it under -update.
func picture(t *testing.T, tab context.Context, name string) {
	t.Helper()
	dir := t.TempDir()
	if *update {
		dir = filepath.Join("..", "..", "docs", "screenshots")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	save(t, filepath.Join(dir, name+".png"), run(t, tab, chromedp.FullScreenshot(100)))
}

// save writes a picture, packed tighter than a browser in a hurry does.
func save(t *testing.T, path string, shot []byte) {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	if b.Len() < 5_000 {
		t.Errorf("the picture has %d bytes, want a page", b.Len())
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
