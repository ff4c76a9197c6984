package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"authsome"
	"authsome/flows"
	"authsome/flows/oauth"
	"authsome/flows/pages"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
)

// Exit codes.
const (
	exitOK            = 0
	exitOther         = 1
	exitUsage         = 2
	exitNoProvider    = 3
	exitAuth          = 4
	exitMissing       = 5
	exitRefresh       = 6
	exitStore         = 7
	exitCancelled     = 8
	exitOwn           = 125 // run: authsome itself failed
	exitNotExecutable = 126
	exitNotFound      = 127
)

// fault is an error of the command line itself.
type fault struct {
	code string // the "error" of --json
	exit int
	msg  string
	hint string
	err  error
}

func (f *fault) Error() string { return f.msg }
func (f *fault) Unwrap() error { return f.err }
func (f *fault) Hint() string  { return f.hint }

// classes map errors to their stable code and exit code; the first match wins.
var classes = []struct {
	is   error
	code string
	exit int
	hint string
}{
	{provider.ErrNotFound, "ProviderNotFound", exitNoProvider, "run: authsome list"},
	{flows.ErrAlreadyConnected, "AlreadyConnected", exitOther, "add --force to log in again"},
	{flows.ErrRefreshFailed, "RefreshFailed", exitRefresh, ""},
	{flows.ErrNoConnection, "CredentialMissing", exitMissing, ""},
	{flows.ErrExpired, "CredentialExpired", exitMissing, ""},
	{flows.ErrRevoked, "CredentialInvalid", exitMissing, ""},
	{pages.ErrCancelled, "Cancelled", exitCancelled, "run the command again when ready"},
	{context.Canceled, "Cancelled", exitCancelled, "run the command again when ready"},
	{oauth.ErrCancelled, "Cancelled", exitCancelled, "run the command again when ready"},
	{pages.ErrUnanswered, "AuthenticationFailed", exitAuth, "run the command again when somebody is at the browser, or with --no-browser"},
	{flows.ErrLoginFailed, "AuthenticationFailed", exitAuth, ""},
	{flows.ErrBadSecret, "InvalidSecret", exitAuth, "check the key and log in again"},
	{flows.ErrNoVariable, "NoVariable", exitOther, ""},
	{flows.ErrSameVariable, "SameVariable", exitMissing, ""},
	{flows.ErrBadName, "InvalidName", exitUsage, "choose another name"},
	{flows.ErrBadInput, "InvalidInput", exitUsage, ""},
	{provider.ErrExists, "ProviderExists", exitOther, "add --force to replace it"},
	{authsome.ErrNoProfile, "ProfileNotFound", exitOther, ""},
	{authsome.ErrConfig, "ConfigInvalid", exitOther, ""},
	{authsome.ErrHome, "StoreUnavailable", exitStore, "check the disk's free space and the permissions of the authsome home"},
	{vault.ErrLocked, "StoreUnavailable", exitStore, "another process holds the store; try again"},
	{vault.ErrWrongKey, "StoreUnavailable", exitStore, "nothing was changed; only the key that the vault was made with opens it"},
	{vault.ErrKeyMissing, "StoreUnavailable", exitStore, "nothing was changed; only the key that the vault was made with opens it"},
	{vault.ErrUnavailable, "StoreUnavailable", exitStore, "check the disk and the permissions of the authsome home"},
	{vault.ErrConflict, "StoreConflict", exitStore, "another process changed the same record; try again"},
	{audit.ErrUnavailable, "AuditUnavailable", exitStore, "check free disk space and the permissions of audit.log"},
}

// describe turns any error into what is printed.
func describe(err error) *fault {
	var own *fault
	if errors.As(err, &own) {
		return own
	}
	out := &fault{code: "Error", exit: exitOther, msg: err.Error(), hint: "run it again with --verbose to see more", err: err}
	for _, c := range classes {
		if errors.Is(err, c.is) {
			out.code, out.exit, out.hint = c.code, c.exit, c.hint
			break
		}
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		out.hint = hinted.Hint()
	}
	var integrity *vault.IntegrityError
	if errors.As(err, &integrity) {
		out.code, out.exit = "StoreUnavailable", exitStore
		out.hint = "run: authsome vault restore FILE, from a backup"
		if name := recordProvider(integrity.Key); name != "" {
			out.hint = "restore a backup, or run: authsome login " + name + " --reset"
		}
	}
	var definition *provider.Error
	if out.code == "Error" && errors.As(err, &definition) {
		out.code, out.exit = "InvalidProvider", exitUsage
	}
	return out
}

// recordProvider is the provider in the key of a record, profile:P:PROVIDER:…, ""
// for the vault's own.
func recordProvider(key string) string {
	if parts := strings.Split(key, ":"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

// jsonError is what a failure prints with --json.
type jsonError struct {
	Error   string `json:"error"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// exit reports a command's end and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return a.code
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &fault{code: "Cancelled", exit: exitCancelled, msg: "cancelled", hint: "run the command again when ready", err: err}
		if _, attended := a.terminal(); attended && !a.ended {
			a.endLine() // it is a question's, or has ^C on it
		}
	}
	f := describe(err)
	a.nameConnections(ctx, err, f)
	msg := oneLine(f.msg)
	// What stdout does not take, stderr must.
	if a.json && !a.printed && a.emit(jsonError{f.code, msg, f.hint}) == nil {
		return f.exit
	}
	if msg != "" {
		line := a.style(red, "error:") + " " + msg
		if f.hint != "" {
			line += " (" + f.hint + ")"
		}
		a.plain(line)
	}
	return f.exit
}

// nameConnections adds to the error of a connection that does not exist which
// ones do.
func (a *app) nameConnections(ctx context.Context, err error, f *fault) {
	var missing *flows.ConnectionError
	if a.client == nil || !errors.As(err, &missing) || !errors.Is(missing.Err, flows.ErrNoConnection) {
		return
	}
	held, _ := a.client.Broker.List(context.WithoutCancel(ctx)) // what cannot be read cannot be named
	if held[missing.Provider] == nil || len(held[missing.Provider].Connections) == 0 {
		return
	}
	var names []string
	for _, c := range held[missing.Provider].Connections {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	if near := provider.Suggest(missing.Connection, names); len(near) > 0 {
		f.hint = "did you mean " + strings.Join(near, ", ") + "? " + f.hint
	} else {
		f.hint = "there are: " + strings.Join(names, ", ") + "; " + f.hint
	}
}

// oneLine joins the lines of a text. Errors that were joined have several.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
}

func (a *app) plain(line string) { fmt.Fprintln(a.stderr, line) }
