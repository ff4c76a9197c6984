package flows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// client is a provider's OAuth client as it is stored, once per provider and
// profile.
type client struct {
	ID           string      `json:"client_id"`
	AuthMethod   string      `json:"token_auth_method,omitempty"`
	RedirectURIs []string    `json:"redirect_uris,omitempty"` // of a client that was registered for us
	Secret       secret.Text `json:"-"`

	entry *vault.Entry
}

func (b *Broker) client(ctx context.Context, name string) (*client, error) {
	e, err := b.vault.Get(ctx, clientKey(b.profile, name))
	if errors.Is(err, vault.ErrNotFound) {
		return &client{}, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err := e.Record()
	if err != nil {
		return nil, err
	}
	c := &client{entry: e}
	if err := unmarshalFields(rec.Fields, c); err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	c.Secret = rec.Secrets["client_secret"]
	return c, nil
}

func unmarshalFields(fields map[string]json.RawMessage, v any) error {
	b, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func (b *Broker) storeClient(ctx context.Context, name string, c *client) error {
	rec := vault.Record{Fields: map[string]json.RawMessage{}, Secrets: map[string]secret.Text{}}
	if err := mergeFields(rec.Fields, c); err != nil {
		return err
	}
	if !c.Secret.IsZero() {
		rec.Secrets["client_secret"] = c.Secret
	}
	return b.vault.Apply(ctx, b.event("login.client", name, ""), vault.Change{Key: clientKey(b.profile, name), Record: &rec})
}

// oauth is the client as the protocol wants it.
func (c *client) oauth() oauth.Client {
	return oauth.Client{ID: c.ID, Secret: c.Secret, AuthMethod: c.AuthMethod}
}

// ClientRequest says what a [Prompter] has to ask for.
type ClientRequest struct {
	Provider    *provider.Definition
	RedirectURI string   // to register with the provider; "" when the flow has none
	ClientID    string   // already known; ask for the secret only
	BaseURL     string   // what the login uses unless the user changes it
	AskBaseURL  bool     // let the user change it
	Scopes      []string // what will be asked for
	NeedsSecret bool     // the flow cannot do without
}

// ClientAnswer is a user's OAuth client. A zero Secret is a public client.
type ClientAnswer struct {
	ID      string
	Secret  secret.Text
	BaseURL string   // "": as asked
	Scopes  []string // nil: as asked
}

// findClient gets the client for a login: the one given, the stored one, the
// one in the variables that the definition names, or the user's answer.
func (b *Broker) findClient(ctx context.Context, l Login, req ClientRequest, p Prompter) (found *client, answer ClientAnswer, err error) {
	def := l.Provider.Definition
	stored, err := b.client(ctx, def.Name)
	if err != nil {
		return nil, answer, err
	}
	given := &client{ID: l.ClientID, Secret: l.ClientSecret}
	if given.ID == "" && stored.ID != "" && given.Secret.IsZero() {
		return stored, answer, nil
	}
	getenv := b.getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if given.ID == "" && def.Client.ClientIDEnv != "" {
		given.ID = getenv(def.Client.ClientIDEnv)
	}
	if given.Secret.IsZero() && def.Client.ClientSecretEnv != "" {
		if v := getenv(def.Client.ClientSecretEnv); v != "" {
			given.Secret = secret.New(v)
		}
	}
	if given.ID == "" || given.Secret.IsZero() && req.NeedsSecret {
		req.ClientID = given.ID
		if answer, err = p.Client(ctx, req); err != nil {
			return nil, answer, err
		}
		given.ID, given.Secret = answer.ID, answer.Secret
	}
	if given.ID == "" {
		return nil, answer, connectionError(def.Name, l.Connection, fmt.Errorf("%w: a client id is needed", ErrBadInput))
	}
	return given, answer, b.storeClient(ctx, def.Name, given)
}
