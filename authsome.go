// Package authsome gives Go programs the credentials that a person has logged
// in with, without the person handing them over.
//
// The same vault serves the authsome command, its proxy and this package. Most
// programs need no library at all: run them under "authsome run". Use this
// package where a process cannot run behind a proxy.
//
// [Open] opens a profile. From there, in the order of preference:
//
//   - [Client.Transport] is an http.RoundTripper that attaches credentials as
//     the proxy does; the program never holds one.
//   - [Client.TokenSource] is an oauth2.TokenSource, for SDKs that take one.
//   - [Client.AuthHeaders] and [Client.AccessToken] hand a credential out.
//
// [Client.Login] and [Client.List] are for programs that log in by themselves.
// Whatever hands out or attaches a credential is in the audit log, and does not
// happen when it cannot be.
package authsome

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// Options say which vault to open. The zero value opens the default profile of
// the default home.
type Options struct {
	Home    string              // "": $AUTHSOME_HOME, or ~/.authsome
	Profile string              // "": $AUTHSOME_PROFILE, or the home's default
	Getenv  func(string) string // nil: os.Getenv
	Run     string              // names the run in audit entries
	Clock   func() time.Time    // nil: time.Now
	Logger  *slog.Logger        // nil: discarded

	// HTTP carries the calls to providers' own endpoints; nil is one that reads
	// HTTPS_PROXY and the system's roots.
	HTTP *http.Client

	// Memory keeps the records in memory alone, under a key that is written
	// nowhere. The home still holds the audit log and the provider definitions.
	Memory bool

	// Passphrase asks for the passphrase of mode "passphrase" when
	// neither AUTHSOME_PASSPHRASE nor AUTHSOME_PASSPHRASE_FILE is set. Nil: one
	// of them must be.
	Passphrase vault.AskPassphrase
}

// Client is an open profile. Its methods are safe for concurrent use.
type Client struct {
	Home     *Home
	Created  bool // the home was made by this Open
	Profile  string
	Registry *provider.Registry
	Vault    *vault.Vault
	Store    *vault.Bolt // what Vault is in; nil with Options.Memory
	Broker   *flows.Broker
	Audit    *audit.Log
	Warnings []error // user definitions that could not be loaded

	getenv func(string) string
	log    *slog.Logger
}

// Open opens a profile. It fails when the home, its configuration, its key or
// its audit log cannot be used; errors name the file. Close must be called.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Home == "" {
		var err error
		if o.Home, err = DefaultHome(o.Getenv); err != nil {
			return nil, err
		}
	}
	home, created, err := OpenHome(o.Home)
	if err != nil {
		return nil, err
	}
	c := &Client{Home: home, Created: created, Profile: firstOf(o.Profile, o.Getenv("AUTHSOME_PROFILE"), home.Config.DefaultProfile),
		getenv: o.Getenv, log: o.Logger}
	if _, err := home.Profile(c.Profile); err != nil {
		return nil, err
	}
	c.Registry, c.Warnings = provider.Load(home.ProvidersDir())
	c.Audit, err = audit.Open(home.AuditPath(), audit.Config{Profile: c.Profile, Clock: o.Clock,
		Actor: audit.Actor{PID: os.Getpid(), UID: os.Getuid(), Run: o.Run}})
	if err != nil {
		return nil, err
	}
	if err := c.openVault(ctx, o); err != nil {
		c.Audit.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) openVault(ctx context.Context, o Options) (err error) {
	if o.Memory {
		return c.useVault(ctx, o, vault.NewMemory(), vault.EnvKey(randomKey()))
	}
	if c.Store, err = vault.OpenBolt(c.Home.StorePath(c.Profile), vault.BoltConfig{Logger: o.Logger}); err != nil {
		return err
	}
	// What the store was made with counts, not what new ones are made with: a
	// change of mode that was cut short leaves some of each.
	mode, err := vault.Mode(ctx, c.Store)
	if err != nil {
		return err
	}
	wrapper, err := c.Home.Wrapper(ctx, firstOf(mode, c.Home.Config.Encryption.Mode), o)
	if err != nil {
		return err
	}
	return c.useVault(ctx, o, c.Store, wrapper)
}

// randomKey is a key-encryption key for a vault that ends with the process.
func randomKey() secret.Text {
	key := make([]byte, 32)
	rand.Read(key) // never fails, see crypto/rand
	return secret.New(hex.EncodeToString(key))
}

func (c *Client) useVault(ctx context.Context, o Options, store vault.Store, wrapper vault.KeyWrapper) (err error) {
	c.Vault, err = vault.Open(ctx, vault.Config{Store: store, Wrapper: wrapper, Audit: c.Audit, Clock: o.Clock, Logger: o.Logger})
	if err != nil {
		return err
	}
	c.Broker, err = flows.New(flows.Config{Vault: c.Vault, Profile: c.Profile, Registry: c.Registry, Clock: o.Clock, Logger: o.Logger, Getenv: o.Getenv, HTTP: o.HTTP})
	return err
}

// Wrapper returns the key wrapper of an encryption mode: local_key, keyring,
// passphrase or env. For the last it reads the key, until ctx ends.
func (h *Home) Wrapper(ctx context.Context, mode string, o Options) (vault.KeyWrapper, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	switch mode {
	case vault.ModeLocalKey:
		stores, err := filepath.Glob(filepath.Join(h.Dir, "profiles", "*", "store.db"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrHome, err)
		}
		return vault.LocalKey(h.KeyPath(), stores...), nil
	case vault.ModeEnv:
		key, err := envSecret(ctx, o.Getenv, mode, "AUTHSOME_MASTER_KEY")
		if err != nil {
			return nil, err
		}
		return vault.EnvKey(key), nil
	case vault.ModeKeyring:
		return vault.Keyring(h.Dir), nil
	case vault.ModePassphrase:
		// Looked up now: whoever opens a vault for a child unsets them, and a vault
		// that is new asks later.
		given := map[string]string{}
		for _, name := range []string{"AUTHSOME_PASSPHRASE", "AUTHSOME_PASSPHRASE_FILE"} {
			if v := o.Getenv(name); v != "" {
				given[name] = v
			}
		}
		return vault.Passphrase(func(ctx context.Context, confirm bool) (secret.Text, error) {
			if o.Passphrase != nil && len(given) == 0 {
				return o.Passphrase(ctx, confirm)
			}
			return envSecret(ctx, func(name string) string { return given[name] }, mode, "AUTHSOME_PASSPHRASE")
		}), nil
	}
	return nil, fmt.Errorf("%w: encryption mode %.20q is not local_key, keyring, passphrase or env", ErrConfig, mode)
}

// envSecret reads NAME or the file that NAME_FILE points to, for a mode of
// encryption. The line end of a file is no part of the secret; spaces of a
// passphrase are. The file may be a pipe, such as a shell's <(command), which is
// waited for until ctx ends.
func envSecret(ctx context.Context, getenv func(string) string, mode, name string) (secret.Text, error) {
	if v := getenv(name); v != "" {
		return secret.New(v), nil
	}
	path := getenv(name + "_FILE")
	if path == "" {
		return secret.Text{}, &FileError{Path: name, Err: fmt.Errorf("%w: it is not set, and the encryption mode is %s", vault.ErrKeyMissing, mode),
			Next: "set " + name + ", or " + name + "_FILE to a file that holds it"}
	}
	type content struct {
		text []byte
		err  error
	}
	read := make(chan content, 1)
	go func() {
		text, err := os.ReadFile(path)
		read <- content{text, err}
	}()
	select {
	case <-ctx.Done():
		return secret.Text{}, ctx.Err()
	case got := <-read:
		if got.err != nil {
			return secret.Text{}, &FileError{Path: path, Err: fmt.Errorf("%w: %w", vault.ErrKeyMissing, cause(got.err)), Next: "make the file readable, or set " + name}
		}
		return secret.New(strings.TrimRight(string(got.text), "\r\n")), nil
	}
}

// drainTime is how long Close waits for a refresh that is under way. Most take a
// fraction of a second.
const drainTime = 10 * time.Second

// Close releases what Open took. A refresh that is under way is waited for, at
// most 10 s: its tokens would be lost, and with them the login.
func (c *Client) Close() error {
	if c == nil || c.Audit == nil {
		return nil
	}
	var err error
	if c.Broker != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err = c.Broker.Drain(ctx)
	}
	return errors.Join(err, c.Audit.Close())
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// Record writes an audit entry of an event that succeeded.
func (c *Client) Record(event, provider, connection string) error {
	return c.Audit.Write(audit.Event{Event: event, Profile: c.Profile, Provider: provider, Connection: connection, Outcome: "ok"})
}
