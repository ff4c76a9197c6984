package oauth

import (
	"context"
	"maps"

	"authsome/vault/secret"
)

// defaultTokenPath is where RFC 6749 section 5.1 puts the access token.
const defaultTokenPath = "access_token"

// Exchange trades the code of an authorization for tokens (RFC 6749 section 4.1.3). The code is good
// for one attempt.
func (c *Config) Exchange(ctx context.Context, auth *Authorization, code secret.Text) (*TokenSet, error) {
	p := params{}
	p.set("grant_type", "authorization_code")
	p.set("code", code.Reveal())
	p.set("redirect_uri", auth.RedirectURI)
	p.set("code_verifier", auth.Verifier.Reveal())
	return c.grant(ctx, "exchange code", p, expected{scopes: auth.Scopes}, code, auth.Verifier)
}

// Refresh trades a refresh token for a new access token (RFC 6749 section 6). Current is the token set
// that is held: its refresh token is used, and kept when the answer brings no other; its scopes and
// account are kept when the answer names none. Its expiry is never kept: an answer without expires_in
// has no expiry.
//
// Many providers rotate the refresh token and revoke all tokens of the login when an old one comes
// again: a caller must not run two refreshes of one connection at once, and must store the answer
// before it uses it.
func (c *Config) Refresh(ctx context.Context, current *TokenSet) (*TokenSet, error) {
	const op = "refresh"
	if current.RefreshToken.IsZero() {
		return nil, unsupported(op, "there is no refresh token")
	}
	p := params{}
	p.set("grant_type", "refresh_token")
	p.set("refresh_token", current.RefreshToken.Reveal())
	fresh, err := c.grant(ctx, op, p, expected{scopes: current.Scopes, atTop: true}, current.RefreshToken, current.AccessToken)
	if err != nil {
		return nil, err
	}
	if fresh.RefreshToken.IsZero() {
		fresh.RefreshToken = current.RefreshToken
	}
	if fresh.IDToken.IsZero() {
		fresh.IDToken = current.IDToken
	}
	if fresh.Account == (Account{}) {
		fresh.Account = current.Account
	}
	if fresh.Extra == nil {
		fresh.Extra = maps.Clone(current.Extra)
	}
	return fresh, nil
}

// ClientCredentials asks for a token for the client itself (RFC 6749 section 4.4). Such a token is not
// refreshed but asked for again.
func (c *Config) ClientCredentials(ctx context.Context, scopes ...string) (*TokenSet, error) {
	const op = "client credentials"
	if c.Client.Secret.IsZero() {
		return nil, unsupported(op, "the flow needs a client secret")
	}
	p := params{}
	p.set("grant_type", "client_credentials")
	p.set("scope", c.joinScopes(scopes))
	return c.grant(ctx, op, p, expected{scopes: scopes})
}

// expected is what a grant assumes when the answer does not say.
type expected struct {
	scopes []string
	atTop  bool // the token may be at the top although the definition's token_path says otherwise
}

// grant asks the token endpoint and reads its answer.
func (c *Config) grant(ctx context.Context, op string, p params, want expected, hide ...secret.Text) (*TokenSet, error) {
	c.target(p)
	out := c.post(op, c.OAuth.TokenURL, p, hide...)
	r, err := c.send(ctx, out)
	if err != nil {
		return nil, err
	}
	return c.tokens(op, r, out.secrets, want)
}

// target says what the token shall be good for, with every request for one: the authorization, the
// device code and each grant (RFC 8707 section 2; audience is its forerunner in the field).
func (c *Config) target(p params) {
	p.set("audience", c.OAuth.Audience)
	p.set("resource", c.OAuth.Resource)
}
