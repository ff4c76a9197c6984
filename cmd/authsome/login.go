package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"authsome"
	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

// loginFlags are the flags of login.
type loginFlags struct {
	connection, baseURL, secretFile string
	flow, clientID                  string
	scopes                          []string
	callbackPort                    int
	force, ifNeeded, reset          bool
	noBrowser                       bool
}

func newLogin(a *app) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login PROVIDER",
		Short: "Store a credential for a provider",
		Long: `Store a credential for a provider: an API key, or an OAuth login.

A secret never comes in by flag or argument. It is read from, in this order: the
environment variable that the provider's definition names, the file given with
--secret-file ("-" is stdin), a form in the browser when there is a display, or
a masked prompt on the terminal.

The first OAuth login to a provider asks for a client id and, if it has one, its
secret, and keeps them.`,
		Example: `  authsome login openai
  OPENAI_API_KEY=… authsome login openai
  pass show openai | authsome login openai --secret-file -
  authsome login jira --base-url https://example.atlassian.net
  authsome login github --flow device_code --scopes repo`,
		Args: secretlessArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.callbackPort < 0 || f.callbackPort > 65535 {
				return usageError(cmd, fmt.Errorf("--callback-port %d: want 1 to 65535", f.callbackPort))
			}
			if f.ifNeeded && (f.force || f.reset) {
				return usageError(cmd, errors.New("--if-needed leaves a valid connection alone, --force and --reset do not: choose one"))
			}
			f.scopes = slices.DeleteFunc(f.scopes, func(s string) bool { return strings.TrimSpace(s) == "" })
			return a.login(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.flow, "flow", "", "OAuth flow, where the provider knows several: pkce, device_code, dcr_pkce or client_credentials")
	flags.StringVar(&f.connection, "connection", "", "name of the connection (default: the provider's default one)")
	flags.StringSliceVar(&f.scopes, "scopes", nil, "OAuth scopes to ask for, separated by commas")
	flags.StringVar(&f.baseURL, "base-url", "", "base URL of a self-hosted or per-site provider")
	flags.StringVar(&f.clientID, "client-id", "", "OAuth client id; its secret comes from --secret-file or a prompt")
	flags.StringVar(&f.secretFile, "secret-file", "", `read the secret from this file, "-" for stdin`)
	flags.IntVar(&f.callbackPort, "callback-port", 0, "port of the OAuth redirect URI (default 7999)")
	flags.BoolVar(&f.noBrowser, "no-browser", false, "open no browser; print what to open")
	flags.BoolVar(&f.force, "force", false, "log in though the connection is valid")
	flags.BoolVar(&f.ifNeeded, "if-needed", false, "exit 0 when the connection is valid already")
	flags.BoolVar(&f.reset, "reset", false, "ask for everything anew, and forget what is stored for the provider once the login has succeeded")
	cmd.RegisterFlagCompletionFunc("flow", cobra.FixedCompletions([]string{"pkce", "device_code", "dcr_pkce", "client_credentials"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) login(ctx context.Context, name string, f loginFlags) error {
	client, entry, err := a.lookup(ctx, name)
	if err != nil {
		return err
	}
	in := flows.Login{Provider: entry, Connection: f.connection, BaseURL: f.baseURL, Force: f.force || f.reset, Reset: f.reset,
		Flow: provider.Flow(f.flow), Scopes: f.scopes, ClientID: f.clientID, CallbackPort: f.callbackPort}
	if !in.Force {
		have, err := a.alreadyConnected(ctx, client, in, f.ifNeeded)
		if err != nil {
			return err
		}
		if have != nil {
			return a.loggedIn("already_connected", have)
		}
	}
	login := a.loginOAuth
	if entry.AuthType == provider.AuthAPIKey {
		login = a.loginKey
	}
	c, err := login(ctx, client, in, f)
	if err != nil {
		return err
	}
	return a.loggedIn("success", c)
}

// alreadyConnected returns the connection that makes a login unneeded. It fails
// with flows.ErrAlreadyConnected unless that is what was asked for.
func (a *app) alreadyConnected(ctx context.Context, client *authsome.Client, in flows.Login, ifNeeded bool) (*flows.Connection, error) {
	have, err := client.Broker.Valid(ctx, in)
	switch {
	case err != nil:
		return nil, err
	case have != nil && !ifNeeded:
		return nil, &flows.ConnectionError{Provider: have.Provider, Connection: have.Name, Err: flows.ErrAlreadyConnected,
			Next: "add --force to log in again, or --if-needed to accept it"}
	case have == nil && ifNeeded:
		// What a refresh can mend needs no login.
		if have, err = client.Broker.Fresh(ctx, in.Provider.Name, in.Connection); err != nil {
			return nil, ctx.Err()
		}
	}
	return have, nil
}

// loginKey stores an API key.
func (a *app) loginKey(ctx context.Context, client *authsome.Client, in flows.Login, f loginFlags) (*flows.Connection, error) {
	if f.flow != "" && in.Flow != provider.FlowAPIKey || f.clientID != "" || len(f.scopes) > 0 {
		return nil, &fault{code: "Usage", exit: exitUsage, msg: in.Provider.Name + " takes an API key: --flow, --client-id and --scopes are for OAuth",
			hint: "run: authsome login " + in.Provider.Name}
	}
	key, found, err := a.givenKey(ctx, in.Provider, f.secretFile)
	if err != nil {
		return nil, err
	}
	if found {
		return client.Broker.LoginAPIKey(ctx, in, key)
	}
	base, err := client.Broker.SuggestBaseURL(ctx, in)
	if err != nil {
		return nil, err
	}
	if f.baseURL != "" { // wrong, it is said before a key is typed
		if base, err = flows.BaseURL(in.Provider.Definition, f.baseURL); err != nil {
			return nil, &flows.ConnectionError{Provider: in.Provider.Name, Connection: f.connection, Err: err,
				Next: "run: authsome login " + in.Provider.Name + " --base-url https://…"}
		}
	}
	ctx, p, err := a.newPrompter(ctx, in.Provider, in.Connection, f.noBrowser)
	if err != nil {
		return nil, err
	}
	answer, err := p.Key(ctx, f.baseURL == "" && in.Provider.NeedsBaseURL(), base)
	var c *flows.Connection
	if err == nil {
		if answer.BaseURL != "" {
			in.BaseURL = answer.BaseURL
		}
		c, err = client.Broker.LoginAPIKey(ctx, in, answer.Key)
	}
	p.finish(err)
	return c, err
}

// loginOAuth runs the provider's OAuth flow.
func (a *app) loginOAuth(ctx context.Context, client *authsome.Client, in flows.Login, f loginFlags) (*flows.Connection, error) {
	if f.secretFile != "" {
		if f.clientID == "" {
			return nil, &fault{code: "Usage", exit: exitUsage, msg: "--secret-file holds the secret of an OAuth client: give its --client-id too",
				hint: "run: authsome login " + in.Provider.Name + " --client-id ID --secret-file FILE"}
		}
		var err error
		if in.ClientSecret, err = a.readCredentialFile(ctx, f.secretFile); err != nil {
			return nil, err
		}
	}
	ctx, p, err := a.newPrompter(ctx, in.Provider, in.Connection, f.noBrowser)
	if err != nil {
		return nil, err
	}
	c, err := client.Broker.LoginOAuth(ctx, in, p)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, context.Canceled) {
		err = cause
	}
	p.finish(err)
	return c, err
}

func (a *app) loggedIn(status string, c *flows.Connection) error {
	if a.json {
		return a.emit(map[string]any{"status": status, "provider": c.Provider, "connection": c.Name, "record_status": c.Status})
	}
	if status == "already_connected" {
		a.say("%s/%s is connected already.", c.Provider, c.Name)
		return nil
	}
	whose := ""
	if c.Account.Label != "" {
		whose = " as " + c.Account.Label
	}
	a.say("%s Logged in to %s%s (connection %s). Next: authsome run -- your command", a.style(green, "✓"), c.Provider, whose, c.Name)
	return nil
}

// givenKey gets an API key from where nobody has to be asked.
func (a *app) givenKey(ctx context.Context, entry *provider.Entry, file string) (key secret.Text, found bool, err error) {
	variable := ""
	if entry.APIKey != nil {
		variable = entry.APIKey.EnvVar
	}
	if v := a.getenv(variable); variable != "" && v != "" && v != entry.Placeholder() {
		a.say("Using the secret in %s.", variable)
		if file != "" {
			a.warn("--secret-file was not read: %s is set and comes first", variable)
		}
		return bareCredential(secret.New(v)), true, nil
	}
	if file == "" {
		return secret.Text{}, false, nil
	}
	key, err = a.readCredentialFile(ctx, file)
	return key, true, err
}

// readCredentialFile is readSecretFile for what a provider issued.
func (a *app) readCredentialFile(ctx context.Context, path string) (secret.Text, error) {
	text, err := a.readSecretFile(ctx, path)
	return bareCredential(text), err
}

// bareCredential drops what editors, pasting and manifests put around a
// credential: a byte order mark, line ends, spaces. The form and the prompt do
// the same. None of it is part of a key, and all of it would be sent.
func bareCredential(text secret.Text) secret.Text {
	return secret.New(strings.TrimSpace(strings.TrimPrefix(text.Reveal(), byteOrderMark)))
}

// byteOrderMark begins the text files of some editors.
const byteOrderMark = "\ufeff"

// secretFileBytes is more than any key; a larger file is the wrong file.
const secretFileBytes = 64 << 10

func (a *app) readSecretFile(ctx context.Context, path string) (secret.Text, error) {
	bad := func(err error) (secret.Text, error) {
		return secret.Text{}, &fault{code: "CredentialMissing", exit: exitMissing, msg: fmt.Sprintf("secret file %s: %v", repeatedPath(path), err),
			hint: "give a readable file that holds the secret alone", err: err}
	}
	b, err := a.readInput(ctx, path, secretFileBytes+1)
	if err != nil {
		return bad(bareCause(err))
	}
	if len(b) > secretFileBytes {
		return bad(errors.New("it is larger than 64 KiB"))
	}
	v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if v == "" {
		return bad(errors.New("it is empty"))
	}
	return secret.New(v), nil
}
