package authsome

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"authsome/flows"
	"authsome/injector"
	"authsome/vault/secret"

	"golang.org/x/oauth2"
)

var (
	// ErrNotHeaders is returned when a provider takes its credential in the
	// query, so that no header carries it. [Client.Transport] does.
	ErrNotHeaders = errors.New("credential does not go into a header")

	// ErrNotToken is returned when a provider's credential cannot be had as an
	// oauth2.Token: it goes elsewhere than into "Authorization: TYPE TOKEN".
	ErrNotToken = errors.New("credential is not an OAuth token")
)

// AccessToken returns the current credential of a connection in clear: the
// access token, renewed first when it is near its end, or the API key. An empty
// connection is the provider's default one.
//
// It is recorded in the audit log as an export, and fails when it cannot be. It
// fails with an error that matches [provider.ErrNotFound],
// [flows.ErrNoConnection], [flows.ErrExpired], [flows.ErrRevoked] or
// [flows.ErrRefreshFailed] when there is no usable credential.
//
// Keep the result no longer than one request takes: the next call returns a
// newer one when there is one. A program that only makes requests is better
// served by [Client.Transport], which never shows it.
func (c *Client) AccessToken(ctx context.Context, provider, connection string) (string, error) {
	held, err := c.fresh(ctx, provider, connection)
	if err != nil {
		return "", err
	}
	if err := c.Record("export", provider, held.Name); err != nil {
		return "", err
	}
	return held.Credential().Reveal(), nil
}

// fresh returns a connection whose credential can be used now. An unknown
// provider is told apart from one without a connection.
func (c *Client) fresh(ctx context.Context, name, connection string) (*flows.Connection, error) {
	if _, err := c.Registry.Lookup(name); err != nil {
		return nil, err
	}
	return c.Broker.Fresh(ctx, name, connection)
}

// AuthHeaders returns the headers that a request to the provider's API has to
// carry: the credential's and those that the provider wants on every call, such
// as a version. Providers with several hosts may want them in several ways; the
// headers are those of the first host of the connection. It fails like
// [Client.AccessToken], and with ErrNotHeaders.
//
// The caller is the one to see to it that they go to that host only, and over
// https. [Client.Transport] does so by itself.
func (c *Client) AuthHeaders(ctx context.Context, provider, connection string) (http.Header, error) {
	held, err := c.fresh(ctx, provider, connection)
	if err != nil {
		return nil, err
	}
	header, err := c.headers(held)
	if err != nil {
		return nil, err
	}
	return header, c.Record("export", provider, held.Name)
}

// headers attaches a connection's credential to a request that goes nowhere.
func (c *Client) headers(held *flows.Connection) (http.Header, error) {
	entry, err := c.Registry.Lookup(held.Provider)
	if err != nil {
		return nil, err
	}
	routes, err := injector.Compile(entry.Definition, pinned(held))
	if err != nil {
		return nil, err
	}
	if len(routes) == 0 || routes[0].Never {
		return nil, fmt.Errorf("%s/%s: %w: it goes to no host", held.Provider, held.Name, ErrNotHeaders)
	}
	modifier, err := injector.NewModifier(routes[0].Injects, routes[0].Headers, held.Credential())
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", held.Provider, held.Name, err)
	}
	r := &http.Request{URL: &url.URL{}, Header: http.Header{}}
	err = modifier.ModifyRequest(r)
	if errors.Is(err, injector.ErrUnsigned) {
		return nil, fmt.Errorf("%s/%s: %w: it signs each request", held.Provider, held.Name, ErrNotHeaders)
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", held.Provider, held.Name, err)
	}
	if r.URL.RawQuery != "" {
		return nil, fmt.Errorf("%s/%s: %w: it goes into the query", held.Provider, held.Name, ErrNotHeaders)
	}
	return r.Header.Clone(), nil
}

func pinned(c *flows.Connection) injector.Connection {
	return injector.Connection{Name: c.Name, BaseURL: c.BaseURL, HostURL: c.HostURL, TokenURL: c.TokenURL}
}

// TokenSource returns a source of a connection's current token, for libraries
// that take one. Each call of Token reads the vault, so that a login, a refresh
// or a logout elsewhere takes effect at once; oauth2.ReuseTokenSource makes it
// cheaper and later. Token fails like [Client.AccessToken], and with ErrNotToken
// for a provider that wants its credential elsewhere than in Authorization.
//
// The audit log has an export for each token that is handed out anew. A refresh
// token is never in it. ctx is used for every call of Token.
func (c *Client) TokenSource(ctx context.Context, provider, connection string) oauth2.TokenSource {
	return &tokenSource{ctx: ctx, client: c, provider: provider, connection: connection}
}

type tokenSource struct {
	ctx                  context.Context
	client               *Client
	provider, connection string

	mu       sync.Mutex  // guards recorded
	recorded secret.Text // the last that is in the audit log
}

var _ oauth2.TokenSource = (*tokenSource)(nil)

// Token implements oauth2.TokenSource.
func (s *tokenSource) Token() (*oauth2.Token, error) {
	held, err := s.client.fresh(s.ctx, s.provider, s.connection)
	if err != nil {
		return nil, err
	}
	kind, err := s.client.tokenType(held)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recorded.Equal(held.Credential()) {
		if err := s.client.Record("export", s.provider, held.Name); err != nil {
			return nil, err
		}
		s.recorded = held.Credential()
	}
	return &oauth2.Token{AccessToken: held.Credential().Reveal(), TokenType: kind, Expiry: held.ExpiresAt}, nil
}

// tokenType is what comes before the token in Authorization.
func (c *Client) tokenType(held *flows.Connection) (string, error) {
	header, err := c.headers(held)
	if errors.Is(err, ErrNotHeaders) {
		return "", fmt.Errorf("%w: %w", ErrNotToken, err)
	}
	if err != nil {
		return "", err
	}
	kind, ok := strings.CutSuffix(header.Get("Authorization"), " "+held.Credential().Reveal())
	if !ok || kind == "" || strings.ContainsAny(kind, " \t") {
		return "", fmt.Errorf("%s/%s: %w", held.Provider, held.Name, ErrNotToken)
	}
	return kind, nil
}
