package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"authsome/flows"
	"authsome/flows/oauth"
	"authsome/flows/pages"
	"authsome/provider"
	"authsome/vault/secret"

	"github.com/pkg/browser"
	"golang.org/x/term"
)

// prompter asks the person who logs in: in the browser when there is one, on
// the terminal otherwise. With neither it says what to set instead.
type prompter struct {
	a      *app
	entry  *provider.Entry
	web    *pages.Server // nil: no browser
	cancel context.CancelCauseFunc
}

var (
	_ flows.Prompter    = (*prompter)(nil)
	_ flows.ResultPager = (*prompter)(nil)
)

// newPrompter begins a login's conversation. The context ends when the user
// calls the login off in the browser.
func (a *app) newPrompter(ctx context.Context, entry *provider.Entry, connection string, noBrowser bool) (context.Context, *prompter, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &prompter{a: a, entry: entry, cancel: cancel}
	if noBrowser || !pages.Display(a.getenv) {
		return ctx, p, nil
	}
	var err error
	p.web, err = pages.Serve(ctx, pages.Config{Name: entry.Name, DisplayName: entry.DisplayName, Docs: entry.Docs,
		Connection: connection, Profile: a.client.Profile, Logger: a.logger(),
		Open: func(_ context.Context, url string) { a.openBrowser(url) }})
	if err != nil {
		cancel(err)
		return nil, nil, err
	}
	return ctx, p, nil
}

// openBrowser opens a page, or says where it is.
func (a *app) openBrowser(url string) {
	// What the browser's launcher prints is not ours to put on stdout.
	browser.Stdout, browser.Stderr = a.stderr, a.stderr
	if err := browser.OpenURL(url); err != nil {
		a.plain("Open this page in a browser:\n  " + url)
		return
	}
	a.say("Opened your browser. If it does not show, open:\n  %s", url)
}

// finish shows how the login went and ends the conversation.
func (p *prompter) finish(err error) {
	if p.web != nil {
		p.web.Finish(err)
	}
	p.cancel(err)
}

// terminal returns stdin when a person is at it.
func (a *app) terminal() (*os.File, bool) {
	stdin, ok := a.stdin.(*input)
	if !ok {
		return nil, false
	}
	in, ok := stdin.r.(*os.File)
	return in, ok && term.IsTerminal(int(in.Fd()))
}

// Key asks for an API key.
func (p *prompter) Key(ctx context.Context, askBaseURL bool) (pages.KeyAnswer, error) {
	def := p.entry.Definition
	if p.web != nil {
		form := pages.KeyForm{Hosts: def.HostURL, AskBaseURL: askBaseURL, BaseURL: def.DefaultBaseURL()}
		if def.APIKey != nil {
			form.Pattern, form.Hint = def.APIKey.KeyPattern, def.APIKey.KeyPatternHint
		}
		return p.web.AskKey(ctx, form)
	}
	in, ok := p.a.terminal()
	if !ok {
		return pages.KeyAnswer{}, p.nobody("secret", variables(def.APIKey))
	}
	var answer pages.KeyAnswer
	var err error
	if askBaseURL {
		if answer.BaseURL, err = p.a.ask(ctx, "Base URL", def.DefaultBaseURL()); err != nil {
			return answer, err
		}
	}
	answer.Key, err = p.a.promptSecret(ctx, in, p.entry, "key")
	return answer, err
}

func variables(k *provider.APIKey) []string {
	if k == nil || k.EnvVar == "" {
		return nil
	}
	return []string{k.EnvVar}
}

// nobody is the error of a login that has to ask and cannot.
func (p *prompter) nobody(what string, set []string) error {
	hint := "pipe the secret into: authsome login " + p.entry.Name + " --secret-file -"
	if len(set) > 0 {
		hint = "set " + strings.Join(set, " and ") + ", or " + hint
	}
	return &fault{code: "CredentialMissing", exit: exitMissing, hint: hint,
		msg: fmt.Sprintf("no %s for %s: there is neither a terminal nor a display to ask on", what, p.entry.Name)}
}

// Client implements flows.Prompter.
func (p *prompter) Client(ctx context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	def := req.Provider
	if p.web != nil {
		got, err := p.web.AskClient(ctx, pages.ClientForm{RedirectURI: req.RedirectURI, ClientID: req.ClientID, RequireSecret: req.NeedsSecret,
			AskBaseURL: req.AskBaseURL, BaseURL: req.BaseURL, Scopes: req.Scopes, Separator: def.OAuth.ScopeSeparator})
		return flows.ClientAnswer{ID: got.ClientID, Secret: got.ClientSecret, BaseURL: got.BaseURL, Scopes: got.Scopes}, err
	}
	in, ok := p.a.terminal()
	if !ok {
		var set []string
		for _, name := range []string{def.Client.ClientIDEnv, def.Client.ClientSecretEnv} {
			if name != "" {
				set = append(set, name)
			}
		}
		err := p.nobody("OAuth client", set).(*fault)
		err.hint = strings.Replace(err.hint, "pipe the secret into: authsome login "+p.entry.Name+" --secret-file -",
			"give --client-id ID and its secret by --secret-file FILE", 1)
		return flows.ClientAnswer{}, err
	}
	p.a.say("%s needs an OAuth client of yours, once.", def.DisplayName)
	if def.Docs != "" {
		p.a.say("Make one at %s", def.Docs)
	}
	if req.RedirectURI != "" {
		p.a.say("Register this redirect URI with it: %s", req.RedirectURI)
	}
	answer := flows.ClientAnswer{ID: req.ClientID}
	var err error
	if req.AskBaseURL {
		if answer.BaseURL, err = p.a.ask(ctx, "Base URL", req.BaseURL); err != nil {
			return answer, err
		}
	}
	if answer.ID == "" {
		if answer.ID, err = p.a.ask(ctx, "Client id", ""); err != nil {
			return answer, err
		}
	}
	what := "client secret (empty for a public client)"
	if req.NeedsSecret {
		what = "client secret"
	}
	answer.Secret, err = p.a.readMasked(ctx, in, p.entry.DisplayName+" "+what+": ")
	return answer, err
}

// Visit implements flows.Prompter.
func (p *prompter) Visit(ctx context.Context, v flows.Visit) error {
	if v.Device == nil {
		if p.web != nil && p.web.Continue(v.URL) {
			return nil
		}
		if p.web != nil {
			p.a.openBrowser(v.URL)
			return nil
		}
		p.a.plain("Open this page in a browser to approve the login:\n  " + v.URL)
		return nil
	}
	p.a.plain(fmt.Sprintf("Open %s and enter the code %s", v.Device.VerificationURI, p.a.style(bold, v.Device.UserCode)))
	if p.web == nil {
		return nil
	}
	wait, stop, err := p.web.ShowDevice(ctx, pages.Device{UserCode: v.Device.UserCode, VerificationURI: v.Device.VerificationURI,
		VerificationURIComplete: v.Device.VerificationURIComplete, ExpiresAt: v.Device.ExpiresAt, Scopes: v.Device.Scopes})
	if err != nil {
		return err
	}
	go func() {
		defer stop()
		<-wait.Done()
		if errors.Is(context.Cause(wait), pages.ErrCancelled) {
			p.cancel(pages.ErrCancelled)
		}
	}()
	return nil
}

// ResultPage implements flows.ResultPager.
func (p *prompter) ResultPage(w http.ResponseWriter, r oauth.Result) {
	if p.web != nil {
		p.web.Result(w, r)
		return
	}
	pages.ResultPage(pages.Config{Name: p.entry.Name, DisplayName: p.entry.DisplayName})(w, r)
}

// ask reads one visible line from the terminal.
func (a *app) ask(ctx context.Context, question, def string) (string, error) {
	if def != "" {
		question += " [" + def + "]"
	}
	fmt.Fprintf(a.stderr, "%s: ", question)
	type answer struct {
		line string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		done <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return "", context.Canceled
	case got := <-done:
		line := strings.TrimSpace(got.line)
		if line == "" && got.err != nil {
			return "", &fault{code: "Cancelled", exit: exitCancelled, msg: "nothing was entered", hint: "run the command again when ready"}
		}
		if line == "" {
			line = def
		}
		return line, nil
	}
}

// promptSecret asks for a secret that must be given.
func (a *app) promptSecret(ctx context.Context, in *os.File, entry *provider.Entry, what string) (secret.Text, error) {
	if entry.Docs != "" {
		a.say("Make a %s at %s", what, entry.Docs)
	}
	text, err := a.readMasked(ctx, in, fmt.Sprintf("%s %s for %s: ", entry.DisplayName, what, strings.Join(entry.HostURL, ", ")))
	if err == nil && text.IsZero() {
		err = &fault{code: "Cancelled", exit: exitCancelled, msg: "no " + what + " was entered", hint: "run: authsome login " + entry.Name}
	}
	return text, err
}

// readMasked reads a line without showing what is typed.
func (a *app) readMasked(ctx context.Context, in *os.File, prompt string) (secret.Text, error) {
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return secret.Text{}, err
	}
	fmt.Fprint(a.stderr, prompt)
	type answer struct {
		b   []byte
		err error
	}
	done := make(chan answer, 1)
	go func() {
		b, err := term.ReadPassword(int(in.Fd()))
		done <- answer{b, err}
	}()
	select {
	case <-ctx.Done():
		term.Restore(int(in.Fd()), state)
		fmt.Fprintln(a.stderr)
		return secret.Text{}, context.Canceled
	case got := <-done:
		fmt.Fprintln(a.stderr)
		if got.err != nil {
			return secret.Text{}, &fault{code: "Cancelled", exit: exitCancelled, msg: "nothing was entered", hint: "run the command again when ready"}
		}
		text := strings.TrimSpace(string(got.b))
		if text == "" {
			return secret.Text{}, nil
		}
		return secret.New(text), nil
	}
}
