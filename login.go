package authsome

import (
	"context"
	"fmt"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"
)

// LoginRequest says what to log in to. Only Provider must be set.
type LoginRequest struct {
	Provider   string
	Connection string // "" is the provider's default one
	BaseURL    string // of a self-hosted or per-site provider; "" is the definition's
	Force      bool   // log in though the connection is valid

	// APIKey is the key to store. The zero value: the variable that the
	// definition names, or the prompter.
	APIKey secret.Text

	// For OAuth alone.
	Flow         provider.Flow // "" is the definition's
	Scopes       []string      // nil is the definition's
	ClientID     string        // "" is the stored one, the variable's, or the prompter's
	ClientSecret secret.Text
	CallbackPort int // 0 is 7999
}

// KeyRequest says what key a [KeyPrompter] has to ask for.
type KeyRequest struct {
	Provider   *provider.Definition
	BaseURL    string // what to offer: the connection's, the latest login's, or the definition's
	AskBaseURL bool   // the provider has a base URL to choose
}

// KeyAnswer is a user's API key.
type KeyAnswer struct {
	Key     secret.Text
	BaseURL string // "": as asked
}

// KeyPrompter is the power of a [flows.Prompter] to ask for an API key.
type KeyPrompter interface {
	Key(ctx context.Context, req KeyRequest) (KeyAnswer, error)
}

// Login logs in to a provider and stores the connection, whose secrets print
// redacted. p is asked for what nobody else says: an OAuth client and the user's
// visit to the provider's page, or, when it is a [KeyPrompter], an API key. It
// may be nil when nothing has to be asked.
//
// It fails with an error that matches [flows.ErrAlreadyConnected] when the
// connection is valid and Force is not set, with [flows.ErrBadSecret] for a key
// that cannot be right, with [flows.ErrLoginFailed] when the provider did not
// agree, and with [flows.ErrBadInput] when something is missing. Nothing is
// stored then.
func (c *Client) Login(ctx context.Context, req LoginRequest, p flows.Prompter) (*flows.Connection, error) {
	entry, err := c.Registry.Lookup(req.Provider)
	if err != nil {
		return nil, err
	}
	in := flows.Login{Provider: entry, Connection: req.Connection, BaseURL: req.BaseURL, Force: req.Force, Flow: req.Flow,
		Scopes: req.Scopes, ClientID: req.ClientID, ClientSecret: req.ClientSecret, CallbackPort: req.CallbackPort}
	if !req.Force { // before anybody is asked
		have, err := c.Broker.Valid(ctx, in)
		if err != nil {
			return nil, err
		}
		if have != nil {
			return nil, &flows.ConnectionError{Provider: req.Provider, Connection: have.Name, Err: flows.ErrAlreadyConnected, Next: "set Force to log in again"}
		}
	}
	if entry.AuthType != provider.AuthAPIKey {
		if p == nil {
			p = nobody{}
		}
		return c.Broker.LoginOAuth(ctx, in, p)
	}
	answer, err := c.key(ctx, in, req, p)
	if err != nil {
		return nil, err
	}
	if answer.BaseURL != "" {
		in.BaseURL = answer.BaseURL
	}
	return c.Broker.LoginAPIKey(ctx, in, answer.Key)
}

// key finds the API key: given, in the environment, or the user's answer.
func (c *Client) key(ctx context.Context, in flows.Login, req LoginRequest, p flows.Prompter) (KeyAnswer, error) {
	entry := in.Provider
	if !req.APIKey.IsZero() {
		return KeyAnswer{Key: req.APIKey}, nil
	}
	variable := ""
	if entry.APIKey != nil {
		variable = entry.APIKey.EnvVar
	}
	if v := c.getenv(variable); variable != "" && v != "" && v != entry.Placeholder() {
		return KeyAnswer{Key: secret.New(v)}, nil
	}
	asker, ok := p.(KeyPrompter)
	if !ok {
		return KeyAnswer{}, fmt.Errorf("%s: %w: there is no key, and the prompter is no KeyPrompter", entry.Name, flows.ErrBadInput)
	}
	base := req.BaseURL
	if base == "" {
		var err error
		if base, err = c.Broker.SuggestBaseURL(ctx, in); err != nil {
			return KeyAnswer{}, err
		}
	}
	answer, err := asker.Key(ctx, KeyRequest{Provider: entry.Definition, BaseURL: base, AskBaseURL: req.BaseURL == "" && entry.NeedsBaseURL()})
	if answer.BaseURL == "" && entry.NeedsBaseURL() {
		answer.BaseURL = base
	}
	return answer, err
}

// nobody is a prompter that knows nothing and opens no page.
type nobody struct{}

// Client implements flows.Prompter.
func (nobody) Client(_ context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	if req.ClientID == "" {
		return flows.ClientAnswer{}, fmt.Errorf("%s: %w: there is no client id, and no prompter to ask", req.Provider.Name, flows.ErrBadInput)
	}
	return flows.ClientAnswer{ID: req.ClientID}, nil
}

// Visit implements flows.Prompter.
func (nobody) Visit(context.Context, flows.Visit) error {
	return fmt.Errorf("%w: the user has to approve the login on a page, and there is no prompter to show it", flows.ErrBadInput)
}
