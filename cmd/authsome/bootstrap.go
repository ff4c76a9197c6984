package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"authsome"
	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"
)

// bootstrap puts the configured credentials into the vault, and keeps them there
// as the files change.
type bootstrap struct {
	app    *app
	client *authsome.Client
	done   map[connectionName][sha256.Size]byte // what each was last made from
}

type connectionName struct{ provider, connection string }

// apply logs in with every source that is new or has changed, and forgets the
// connections whose source is gone. What fails does not keep the others.
func (b *bootstrap) apply(ctx context.Context, sources []credentialSource) error {
	if b.done == nil {
		b.done = map[connectionName][sha256.Size]byte{}
	}
	wanted := map[connectionName]bool{}
	var errs []error
	for _, src := range sources {
		name := connectionName{src.Provider, src.Connection}
		if wanted[name] {
			errs = append(errs, src.fault(errors.New("the same connection twice"), "name one of them with connection"))
			continue
		}
		wanted[name] = true
		if err := b.login(ctx, name, src); err != nil {
			errs = append(errs, err)
		}
	}
	for name := range b.done {
		if wanted[name] {
			continue
		}
		if _, _, err := b.client.Broker.Logout(ctx, name.provider, name.connection); err != nil && !errors.Is(err, flows.ErrNoConnection) {
			errs = append(errs, err)
			continue
		}
		delete(b.done, name)
	}
	return errors.Join(errs...)
}

// fault words what is wrong with a source.
func (src credentialSource) fault(err error, hint string) error {
	f := describe(err)
	if hint == "" {
		hint = f.hint
	}
	return &fault{code: f.code, exit: f.exit, msg: src.where + ": " + f.msg, hint: hint, err: err}
}

func (b *bootstrap) login(ctx context.Context, name connectionName, src credentialSource) error {
	entry, err := b.client.Registry.Lookup(src.Provider)
	if err != nil {
		return src.fault(err, "")
	}
	in := flows.Login{Provider: entry, Connection: src.Connection, BaseURL: src.BaseURL, Scopes: src.Scopes, ClientID: src.ClientID, Force: true}
	key, err := b.secret(ctx, src, entry, &in)
	if err != nil {
		return err
	}
	made := sha256.Sum256([]byte(strings.Join(append([]string{key.Reveal(), in.ClientID, in.BaseURL}, in.Scopes...), "\x00")))
	if made == b.done[name] {
		return nil
	}
	if entry.AuthType == provider.AuthAPIKey {
		err = b.storeKey(ctx, in, key)
	} else {
		in.Flow, in.ClientSecret = provider.FlowClientCredentials, key
		if _, err = b.client.Broker.LoginOAuth(ctx, in, nobody{src}); b.outlives(ctx, in, err) {
			b.app.warn("%s: %v; the token of an earlier login is used", src.where, err)
			return nil
		}
	}
	if err != nil {
		return src.fault(err, "")
	}
	b.done[name] = made
	return nil
}

// secret reads a source's secret, and its client id into in.
func (b *bootstrap) secret(ctx context.Context, src credentialSource, entry *provider.Entry, in *flows.Login) (secret.Text, error) {
	if entry.AuthType == provider.AuthAPIKey {
		if src.ClientID != "" || src.ClientIDFile != "" || src.Scopes != nil {
			return secret.Text{}, src.fault(fmt.Errorf("%w: %s takes an API key: no client id, no scopes", flows.ErrBadInput, src.Provider), "give secret_file alone")
		}
		key, found, err := b.app.givenKey(ctx, entry, src.SecretFile)
		if err == nil && !found {
			err = &fault{code: "CredentialMissing", exit: exitMissing, msg: "no secret", hint: "give secret_file"}
		}
		if err != nil {
			return key, src.fault(err, "")
		}
		return key, nil
	}
	if src.ClientIDFile != "" {
		id, err := b.app.readCredentialFile(ctx, src.ClientIDFile)
		if err != nil {
			return id, src.fault(err, "")
		}
		in.ClientID = id.Reveal()
	}
	if src.SecretFile == "" {
		return secret.Text{}, nil // the definition's variables may have it
	}
	key, err := b.app.readCredentialFile(ctx, src.SecretFile)
	if err != nil {
		return key, src.fault(err, "")
	}
	return key, nil
}

// storeKey stores an API key, unless it is what the vault holds already: a
// restart is no login.
func (b *bootstrap) storeKey(ctx context.Context, in flows.Login, key secret.Text) error {
	have, err := b.client.Broker.Valid(ctx, in)
	if err != nil {
		return err
	}
	if have != nil && have.APIKey.Reveal() == key.Reveal() && (in.BaseURL == "" || in.BaseURL == have.BaseURL) {
		return flows.CheckKey(in.Provider.Definition, key)
	}
	_, err = b.client.Broker.LoginAPIKey(ctx, in, key)
	return err
}

// outlives reports whether a login failed that an earlier one makes up for.
func (b *bootstrap) outlives(ctx context.Context, in flows.Login, err error) bool {
	if !errors.Is(err, flows.ErrLoginFailed) {
		return false
	}
	have, err := b.client.Broker.Valid(ctx, in)
	return err == nil && have != nil
}

// nobody is asked when there is nobody to ask.
type nobody struct{ src credentialSource }

var _ flows.Prompter = nobody{}

// Client implements flows.Prompter.
func (n nobody) Client(_ context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	return flows.ClientAnswer{}, &fault{code: "CredentialMissing", exit: exitMissing,
		msg: "an OAuth client of " + req.Provider.Name + " needs an id and a secret", hint: "give client_id and secret_file; a login that needs a person is not for here: log in elsewhere, and give the proxy that home with store: file"}
}

// Visit implements flows.Prompter.
func (n nobody) Visit(context.Context, flows.Visit) error {
	return fmt.Errorf("%w: this login needs a person", flows.ErrBadInput)
}
