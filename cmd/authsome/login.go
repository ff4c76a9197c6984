package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"authsome"
	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// loginFlags are the flags of login.
type loginFlags struct {
	connection, baseURL, secretFile string
	force, ifNeeded, reset          bool
}

func newLogin(a *app) *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login PROVIDER",
		Short: "Store a credential for a provider",
		Long: `Store a credential for a provider.

The secret never comes in by flag or argument. It is read from, in this order:
the environment variable that the provider's definition names, the file given
with --secret-file ("-" is stdin), or a masked prompt.`,
		Example: `  authsome login openai
  OPENAI_API_KEY=… authsome login openai
  pass show openai | authsome login openai --secret-file -
  authsome login jira --base-url https://example.atlassian.net`,
		Args: exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.login(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.connection, "connection", "", "name of the connection (default: the provider's default one)")
	flags.StringVar(&f.baseURL, "base-url", "", "base URL of a self-hosted or per-site provider")
	flags.StringVar(&f.secretFile, "secret-file", "", `read the secret from this file, "-" for stdin`)
	flags.BoolVar(&f.force, "force", false, "log in though the connection is valid")
	flags.BoolVar(&f.ifNeeded, "if-needed", false, "exit 0 when the connection is valid already")
	flags.BoolVar(&f.reset, "reset", false, "forget what is stored for the provider first")
	return cmd
}

func (a *app) login(ctx context.Context, name string, f loginFlags) error {
	client, entry, err := a.lookup(ctx, name)
	if err != nil {
		return err
	}
	in := flows.Login{Provider: entry, Connection: f.connection, BaseURL: f.baseURL, Force: f.force}
	if !f.force && !f.reset {
		have, err := client.Broker.Valid(ctx, in)
		if err != nil {
			return err
		}
		if have != nil && f.ifNeeded {
			return a.loggedIn("already_connected", have)
		}
		if have != nil {
			return &flows.ConnectionError{Provider: name, Connection: have.Name, Err: flows.ErrAlreadyConnected,
				Next: "add --force to log in again, or --if-needed to accept it"}
		}
	}
	if entry.AuthType != provider.AuthAPIKey {
		return &fault{code: "FlowUnavailable", exit: exitAuth, msg: fmt.Sprintf("%s logs in with OAuth (%s)", name, entry.Flow),
			hint: "this build logs in with API keys only"}
	}
	key, err := a.readKey(ctx, entry, f.secretFile)
	if err != nil {
		return err
	}
	if f.reset {
		if _, err := client.Broker.Remove(ctx, name); err != nil {
			return err
		}
	}
	c, err := client.Broker.LoginAPIKey(ctx, in, key)
	if err != nil {
		return err
	}
	return a.loggedIn("success", c)
}

func (a *app) loggedIn(status string, c *flows.Connection) error {
	if a.json {
		return a.emit(map[string]any{"status": status, "provider": c.Provider, "connection": c.Name, "record_status": c.Status})
	}
	if status == "already_connected" {
		a.say("%s/%s is connected already.", c.Provider, c.Name)
		return nil
	}
	a.say("%s Logged in to %s (connection %s). Next: authsome run -- your command", a.style(green, "✓"), c.Provider, c.Name)
	return nil
}

// readKey gets an API key from the first source that has one.
func (a *app) readKey(ctx context.Context, entry *provider.Entry, file string) (secret.Text, error) {
	variable := ""
	if entry.APIKey != nil {
		variable = entry.APIKey.EnvVar
	}
	if v := a.getenv(variable); variable != "" && v != "" && v != entry.Placeholder() {
		a.say("Using the secret in %s.", variable)
		if file != "" {
			a.warn("--secret-file was not read: %s is set and comes first", variable)
		}
		return secret.New(v), nil
	}
	if file != "" {
		return a.readSecretFile(file)
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		hint := "pipe the secret into: authsome login " + entry.Name + " --secret-file -"
		if variable != "" {
			hint = "set " + variable + ", or " + hint
		}
		return secret.Text{}, &fault{code: "CredentialMissing", exit: exitMissing,
			msg: "no secret for " + entry.Name + ": there is no terminal to ask on", hint: hint}
	}
	return a.promptSecret(ctx, in, entry)
}

// secretFileBytes is more than any key; a larger file is the wrong file.
const secretFileBytes = 64 << 10

func (a *app) readSecretFile(path string) (secret.Text, error) {
	bad := func(err error) (secret.Text, error) {
		return secret.Text{}, &fault{code: "CredentialMissing", exit: exitMissing, msg: fmt.Sprintf("secret file %s: %v", path, err),
			hint: "give a readable file that holds the secret alone", err: err}
	}
	r := a.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return bad(errors.Unwrap(err))
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, secretFileBytes+1))
	if err != nil {
		return bad(err)
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

// promptSecret asks on the terminal, without showing what is typed.
func (a *app) promptSecret(ctx context.Context, in *os.File, entry *provider.Entry) (secret.Text, error) {
	if entry.Docs != "" {
		a.say("Make a key at %s", entry.Docs)
	}
	fmt.Fprintf(a.stderr, "%s key for %s: ", entry.DisplayName, authsome.DisplayHosts(entry.Definition))
	type answer struct {
		b   []byte
		err error
	}
	done := make(chan answer, 1)
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return secret.Text{}, err
	}
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
		if got.err != nil || len(got.b) == 0 {
			return secret.Text{}, &fault{code: "Cancelled", exit: exitCancelled, msg: "no key was entered", hint: "run: authsome login " + entry.Name}
		}
		return secret.New(strings.TrimSpace(string(got.b))), nil
	}
}

// confirm asks a yes-or-no question; anything but yes is no.
func (a *app) confirm(question string) bool {
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(a.stderr)
		return false
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
