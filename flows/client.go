package flows

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// client is a provider's OAuth client as it is stored, once per provider and
// profile.
type client struct {
	ID         string      `json:"client_id"`
	AuthMethod string      `json:"token_auth_method,omitempty"`
	BaseURL    string      `json:"base_url,omitempty"`   // of the site that knows it
	TokenSite  string      `json:"token_site,omitempty"` // scheme and host that its secret was given to; "" is not known
	Secret     secret.Text `json:"-"`

	// Of a client that was registered for us (RFC 7591): where, for which
	// redirect URIs and scopes, and until when its secret is good (zero: for
	// ever).
	RegisteredAt    string    `json:"registered_at,omitempty"`
	RedirectURIs    []string  `json:"redirect_uris,omitempty"`
	Scopes          []string  `json:"scopes,omitempty"`
	SecretExpiresAt time.Time `json:"secret_expires_at,omitzero"`

	entry *vault.Entry
}

// client returns the stored client, a zero one when there is none.
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

// change is the part of a commit that makes c the provider's client.
func (c *client) change(profile, name string) (vault.Change, error) {
	rec := &vault.Record{Fields: map[string]json.RawMessage{}, Secrets: map[string]secret.Text{}}
	if !c.Secret.IsZero() {
		rec.Secrets["client_secret"] = c.Secret
	}
	return vault.Change{Key: clientKey(profile, name), Record: rec}, mergeFields(rec.Fields, c)
}

// oauth is the client as the protocol wants it.
func (c *client) oauth() oauth.Client {
	return oauth.Client{ID: c.ID, Secret: c.Secret, AuthMethod: c.AuthMethod}
}

// serves reports whether a known client can be used: its secret is for its own
// site alone, whatever the definition says by now, and one that was registered
// for us knows its own redirect URIs only.
func (c *client) serves(base, site, redirect string) bool {
	return c.BaseURL == base && (c.TokenSite == "" || c.TokenSite == site) &&
		(c.RegisteredAt == "" || redirect == "" || slices.Contains(c.RedirectURIs, redirect))
}

// tokenSite is where a definition has a client's secret sent: to its token
// endpoint, or to one that its issuer names.
func tokenSite(def *provider.Definition, base string) string {
	resolved, err := def.Resolve(base)
	if err != nil || resolved.OAuth == nil {
		return ""
	}
	return siteOf(cmp.Or(resolved.OAuth.TokenURL, resolved.OAuth.Issuer))
}

// siteOf is a URL's scheme and host.
func siteOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// covers reports whether a client that was registered for us may ask for scopes.
func (c *client) covers(scopes []string) bool {
	return !slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(c.Scopes, s) })
}

// clientOf is the client that renews and revokes a connection: the one that its
// tokens were issued to, as it is stored now when the provider's is the same.
func (b *Broker) clientOf(ctx context.Context, c *Connection) (oauth.Client, error) {
	stored, err := b.client(ctx, c.Provider)
	if err != nil {
		return oauth.Client{}, err
	}
	if c.ClientID == "" || c.ClientID == stored.ID && c.BaseURL == stored.BaseURL {
		return stored.oauth(), nil
	}
	method, _ := c.Metadata[metaAuthMethod].(string)
	return oauth.Client{ID: c.ClientID, Secret: c.ClientSecret, AuthMethod: method}, nil
}

// ClientRequest says what a [Prompter] has to ask for.
type ClientRequest struct {
	Provider    *provider.Definition
	RedirectURI string   // to register with the provider; "" when the flow has none
	ClientID    string   // already known; ask for the secret only
	BaseURL     string   // what the login uses unless the user changes it
	AskBaseURL  bool     // let the user change it; when BaseURL is "", it has to be asked
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

// knownClients are the clients of earlier logins: the provider's, and the one
// that the connection was made with, which may be of another site.
func (s *oauthLogin) knownClients(ctx context.Context) ([]*client, error) {
	if s.l.Reset {
		return nil, nil
	}
	stored, err := s.b.client(ctx, s.c.Provider)
	if err != nil {
		return nil, err
	}
	var known []*client
	for _, c := range []*client{stored, s.ownClient(ctx)} {
		if c.ID != "" && (s.l.ClientID == "" || s.l.ClientID == c.ID) && s.l.ClientSecret.IsZero() {
			known = append(known, c)
		}
	}
	return known, nil
}

// ownClient is the client that an earlier login to the connection was made with, a
// zero one when there was none or when it was registered for that login alone.
func (s *oauthLogin) ownClient(ctx context.Context) *client {
	old, err := s.b.Get(ctx, s.c.Provider, s.c.Name)
	if err != nil || old.Metadata[metaFlow] == string(provider.FlowDCRPKCE) {
		return &client{} // a damaged record is made anew
	}
	method, _ := old.Metadata[metaAuthMethod].(string)
	return &client{ID: old.ClientID, Secret: old.ClientSecret, AuthMethod: method, BaseURL: old.BaseURL, TokenSite: siteOf(old.TokenURL), entry: old.entry}
}

// findClient gets the client for a login: a known one that serves, the one given,
// the one in the variables that the definition names, or the user's answer.
func (s *oauthLogin) findClient(ctx context.Context, known []*client, req ClientRequest) (found *client, answer ClientAnswer, err error) {
	site := tokenSite(req.Provider, req.BaseURL)
	for _, c := range known {
		if c.serves(req.BaseURL, site, req.RedirectURI) && !(req.NeedsSecret && c.Secret.IsZero()) {
			return c, answer, nil
		}
	}
	given := s.b.givenClient(s.l, req.Provider.Client)
	public := req.Provider.OAuth.TokenAuthMethod == oauth.AuthNone
	// A client id on the command line has its secret elsewhere, if it has one.
	if given.ID == "" || given.Secret.IsZero() && (req.NeedsSecret || s.l.ClientID != "" && !public) {
		req.ClientID = given.ID
		if answer, err = s.p.Client(ctx, req); err != nil {
			return nil, answer, err
		}
		given.ID, given.Secret = answer.ID, answer.Secret
	}
	if given.ID == "" {
		return nil, answer, s.b.connectionError(req.Provider.Name, s.c.Name, fmt.Errorf("%w: a client id is needed", ErrBadInput))
	}
	return given, answer, nil
}

// givenClient is what nobody has to be asked for. A variable's secret belongs to
// that variable's client: with another one it is of no use.
func (b *Broker) givenClient(l Login, env provider.Client) *client {
	given := &client{ID: l.ClientID, Secret: l.ClientSecret}
	id, value := "", ""
	if env.ClientIDEnv != "" {
		id = strings.TrimSpace(b.getenv(env.ClientIDEnv))
	}
	if env.ClientSecretEnv != "" {
		value = strings.TrimSpace(b.getenv(env.ClientSecretEnv))
	}
	if given.ID == "" {
		given.ID = id
	}
	if value != "" && (id == "" || id == given.ID) {
		given.Secret = secret.New(value)
	}
	return given
}
