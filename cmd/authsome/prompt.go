package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"authsome/flows"
	"authsome/flows/oauth"
	"authsome/flows/pages"
	"authsome/provider"

	"github.com/pkg/browser"
	"golang.org/x/term"
)

// prompter asks the person who logs in: in the browser when there is one, on
// the terminal otherwise. With neither it says what to set instead.
type prompter struct {
	a      *app
	entry  *provider.Entry
	web    *pages.Server // nil: no browser
	print  bool          // the user said that they open pages themselves
	cancel context.CancelCauseFunc
}

var (
	_ flows.Prompter        = (*prompter)(nil)
	_ flows.BaseURLPrompter = (*prompter)(nil)
	_ flows.VisitChecker    = (*prompter)(nil)
	_ flows.ResultPager     = (*prompter)(nil)
)

// newPrompter begins a login's conversation. The context ends when the user
// calls the login off in the browser.
func (a *app) newPrompter(ctx context.Context, entry *provider.Entry, connection string, noBrowser bool) (context.Context, *prompter, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &prompter{a: a, entry: entry, print: noBrowser, cancel: cancel}
	if noBrowser || !pages.Display(a.getenv) {
		return ctx, p, nil
	}
	var err error
	p.web, err = pages.Serve(ctx, pages.Config{Name: entry.Name, DisplayName: entry.DisplayName, Docs: entry.Docs,
		Connection: connection, Profile: a.client.Profile, Logger: a.logger(),
		Open: func(_ context.Context, once, url string) { a.openBrowser(once, url) }})
	if err != nil {
		cancel(err)
		return nil, nil, err
	}
	return ctx, p, nil
}

// openBrowser opens a page, or says where it is. What the launcher is given, others
// can read in its arguments: once is good for one visit.
func (a *app) openBrowser(once, url string) {
	// What the browser's launcher prints is not ours to put on stdout.
	browser.Stdout, browser.Stderr = a.stderr, a.stderr
	// Said first: some launchers return when the browser is closed.
	a.say("Opening your browser. If it does not show, open:\n  %s", url)
	if err := browser.OpenURL(once); err != nil {
		a.plain("The browser did not start. Open this page yourself:\n  " + url)
	}
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

// Key asks for an API key, and with askBaseURL for the base URL, which is base
// unless the answer says otherwise.
func (p *prompter) Key(ctx context.Context, askBaseURL bool, base string) (pages.KeyAnswer, error) {
	def := p.entry.Definition
	if p.web != nil {
		form := pages.KeyForm{Hosts: def.HostURL, AskBaseURL: askBaseURL, BaseURL: base}
		if def.APIKey != nil {
			form.Pattern, form.Hint = def.APIKey.KeyPattern, def.APIKey.KeyPatternHint
		}
		return p.web.AskKey(ctx, form)
	}
	in, ok := p.a.terminal()
	if !ok {
		hint := "pipe the secret into: authsome login " + p.entry.Name + " --secret-file -"
		if def.APIKey != nil && def.APIKey.EnvVar != "" {
			hint = "set " + def.APIKey.EnvVar + ", or " + hint
		}
		return pages.KeyAnswer{}, p.nobody("secret for "+p.entry.Name, hint)
	}
	var answer pages.KeyAnswer
	var err error
	if askBaseURL {
		if answer.BaseURL, err = p.askBaseURL(ctx, base); err != nil {
			return answer, err
		}
		base = answer.BaseURL
	}
	answer.Key, err = p.a.promptSecret(ctx, in, p.entry, base)
	return answer, err
}

// askBaseURL asks for a base URL on the terminal.
func (p *prompter) askBaseURL(ctx context.Context, base string) (string, error) {
	return p.a.askFor(ctx, "Base URL", base, func(answer string) error {
		_, err := flows.BaseURL(p.entry.Definition, answer)
		return err
	})
}

// nobody is the error of a login that has to ask and cannot.
func (p *prompter) nobody(what, hint string) error {
	return &fault{code: "CredentialMissing", exit: exitMissing, hint: hint,
		msg: fmt.Sprintf("no %s: there is neither a terminal nor a display to ask on", what)}
}

// Client implements flows.Prompter.
func (p *prompter) Client(ctx context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	if p.web != nil {
		return p.clientForm(ctx, req)
	}
	in, ok := p.a.terminal()
	if !ok {
		return p.clientOfNobody(req)
	}
	def := req.Provider
	p.a.say("%s needs an OAuth client of yours, once.", at(def.DisplayName, req))
	if def.Docs != "" {
		p.a.say("Make one at %s", def.Docs)
	}
	if req.RedirectURI != "" {
		p.a.say("Register this redirect URI with it: %s", req.RedirectURI)
	}
	answer := flows.ClientAnswer{ID: req.ClientID}
	var err error
	if req.AskBaseURL {
		if answer.BaseURL, err = p.askBaseURL(ctx, req.BaseURL); err != nil {
			return answer, err
		}
	}
	if answer.ID == "" {
		if answer.ID, err = p.a.askFor(ctx, "Client id", "", needed); err != nil {
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

// at names a provider, with the instance that a client is asked for when that is
// settled: a client of another instance may be stored.
func at(name string, req flows.ClientRequest) string {
	if req.AskBaseURL || req.BaseURL == "" {
		return name
	}
	return name + " at " + req.BaseURL
}

// BaseURL implements flows.BaseURLPrompter. Nobody to ask is no error here: the
// definition may know the answer.
func (p *prompter) BaseURL(ctx context.Context, _ *provider.Definition, last string) (string, error) {
	if p.web != nil {
		return p.web.AskBaseURL(ctx, pages.BaseURLForm{BaseURL: last})
	}
	if _, ok := p.a.terminal(); !ok {
		return "", nil
	}
	return p.askBaseURL(ctx, last)
}

// clientForm asks in the browser.
func (p *prompter) clientForm(ctx context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	got, err := p.web.AskClient(ctx, pages.ClientForm{RedirectURI: req.RedirectURI, ClientID: req.ClientID, RequireSecret: req.NeedsSecret,
		AskBaseURL: req.AskBaseURL, BaseURL: req.BaseURL, Scopes: req.Scopes, Separator: req.Provider.OAuth.ScopeSeparator})
	answer := flows.ClientAnswer{ID: got.ClientID, Secret: got.ClientSecret, BaseURL: got.BaseURL, Scopes: got.Scopes}
	if answer.Scopes == nil {
		answer.Scopes = []string{} // the user wants none
	}
	return answer, err
}

// clientOfNobody makes do with what is known, or says what to set.
func (p *prompter) clientOfNobody(req flows.ClientRequest) (flows.ClientAnswer, error) {
	baseMissing := req.AskBaseURL && req.BaseURL == ""
	if req.ClientID != "" && !req.NeedsSecret && !baseMissing {
		return flows.ClientAnswer{ID: req.ClientID}, nil // a public client
	}
	var ways []string
	var set []string
	for _, name := range []string{req.Provider.Client.ClientIDEnv, req.Provider.Client.ClientSecretEnv} {
		if name != "" {
			set = append(set, name)
		}
	}
	if len(set) > 0 {
		ways = append(ways, "set "+strings.Join(set, " and "))
	}
	ways = append(ways, "give --client-id ID and its secret by --secret-file FILE")
	hint := strings.Join(ways, ", or ")
	if baseMissing {
		hint += "; and say where it is with --base-url"
	}
	return flows.ClientAnswer{}, p.nobody("OAuth client for "+at(p.entry.Name, req), hint)
}

// Visit implements flows.Prompter.
func (p *prompter) Visit(ctx context.Context, v flows.Visit) error {
	switch {
	case v.Device != nil:
		return p.showDevice(ctx, v.Device)
	case p.web != nil && p.web.Continue(v.URL):
		return nil
	}
	if err := p.Visitable(); err != nil {
		return err
	}
	p.a.plain("Open this page in a browser to approve the login:\n  " + v.URL)
	if p.a.getenv("SSH_CONNECTION") != "" {
		port := portOf(v.RedirectURI)
		p.a.say("The browser comes back to port %s of this machine. From your own, forward it: ssh -L %s:127.0.0.1:%s HOST", port, port, port)
	}
	return nil
}

func portOf(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil {
		return ""
	}
	return u.Port()
}

// Visitable implements flows.VisitChecker: somebody at a terminal, or who asked for
// the page to be printed, can be expected to open it.
func (p *prompter) Visitable() error {
	if _, attended := p.a.terminal(); p.web != nil || p.print || attended {
		return nil
	}
	hint := "log in on a machine with a browser; or run: authsome login " + p.entry.Name + " --no-browser, and open what it prints in a browser on this machine"
	if p.entry.OAuth.SupportsDeviceFlow {
		hint = "run: authsome login " + p.entry.Name + " --flow device_code, which can be approved on any device"
	}
	return &fault{code: "CredentialMissing", exit: exitMissing, hint: hint,
		msg: "a login to " + p.entry.Name + " needs a browser: there is neither a terminal nor a display"}
}

// showDevice shows a device code on the terminal and, with a browser, on a page
// whose Cancel button ends the login.
func (p *prompter) showDevice(ctx context.Context, d *oauth.DeviceAuthorization) error {
	p.a.plain(fmt.Sprintf("Open %s and enter the code %s", d.VerificationURI, p.a.style(bold, d.UserCode)))
	if p.web == nil {
		return nil
	}
	wait, stop, err := p.web.ShowDevice(ctx, pages.Device{UserCode: d.UserCode, VerificationURI: d.VerificationURI,
		VerificationURIComplete: d.VerificationURIComplete, ExpiresAt: d.ExpiresAt, Scopes: d.Scopes})
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
