package flows

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

// Adopted is a credential that was obtained elsewhere: by another program, or
// by the user at the provider's own page.
type Adopted struct {
	APIKey secret.Text // for providers that take one; the rest is for OAuth

	AccessToken  secret.Text
	RefreshToken secret.Text
	IDToken      secret.Text
	TokenType    string
	Scopes       []string
	ExpiresAt    time.Time // zero: never, as far as anybody knows
	ObtainedAt   time.Time // zero: now
	Account      Account

	// KeepClient stores the login's ClientID and ClientSecret as the provider's
	// client too, unless it has one. Without it they serve this connection only.
	KeepClient bool
}

// Adopt stores a credential that was obtained elsewhere, as a login would have.
// l.ClientID and l.ClientSecret are the client that the tokens were issued to,
// without which a refresh token is of no use. The provider is not asked, but for
// its endpoints where the definition only says who its issuer is.
//
// It fails like [Broker.LoginAPIKey], and with ErrBadInput when there is no
// token.
func (b *Broker) Adopt(ctx context.Context, l Login, a Adopted) (*Connection, error) {
	def := l.Provider.Definition
	if def.AuthType == provider.AuthAPIKey {
		return b.LoginAPIKey(ctx, l, a.APIKey)
	}
	if a.AccessToken.IsZero() && a.RefreshToken.IsZero() {
		return nil, b.connectionError(def.Name, l.Connection, fmt.Errorf("%w: it takes a token", ErrBadInput))
	}
	for _, token := range []secret.Text{a.AccessToken, a.RefreshToken} {
		if err := tokenText(token); err != nil {
			return nil, b.connectionError(def.Name, l.Connection, err)
		}
	}
	c, err := b.begin(ctx, l)
	if err != nil {
		return nil, err
	}
	// A refresh token is spent at the token endpoint, whatever flow gave it.
	s := &oauthLogin{b: b, l: l, c: c, flow: provider.FlowPKCE, cfg: oauth.Config{HTTP: b.http, Clock: b.clock}}
	if err := s.settleAdopted(ctx, !a.RefreshToken.IsZero()); err != nil {
		return nil, b.oauthFailure(c, err)
	}
	if s.made, err = b.adoptedClient(ctx, l, a.KeepClient); err != nil {
		return nil, err
	}
	if s.made != nil {
		s.made.BaseURL, s.made.TokenSite = c.BaseURL, tokenSite(l.Provider.Definition, c.BaseURL)
	}
	s.cfg.Client = oauth.Client{ID: l.ClientID, Secret: l.ClientSecret}
	if err := s.done(ctx, b.adoptedTokens(a)); err != nil {
		return nil, err
	}
	return c, nil
}

// settleAdopted is settle that asks the issuer only for what will be needed.
func (s *oauthLogin) settleAdopted(ctx context.Context, renewable bool) error {
	if renewable {
		return s.settle(ctx, s.l.BaseURL)
	}
	if err := s.c.settle(s.l.Provider.Definition, s.l.BaseURL); err != nil {
		return err
	}
	resolved, err := s.l.Provider.Resolve(s.c.BaseURL)
	if err == nil {
		s.cfg.OAuth = resolved.OAuth
	}
	return err
}

// adoptedClient is the client that is to be stored, nil for none.
func (b *Broker) adoptedClient(ctx context.Context, l Login, keep bool) (*client, error) {
	if !keep || l.ClientID == "" {
		return nil, nil
	}
	stored, err := b.client(ctx, l.Provider.Name)
	if err != nil || stored.ID != "" && !l.Reset {
		return nil, err
	}
	return &client{ID: l.ClientID, Secret: l.ClientSecret}, nil
}

func (b *Broker) adoptedTokens(a Adopted) *oauth.TokenSet {
	t := &oauth.TokenSet{AccessToken: a.AccessToken, RefreshToken: a.RefreshToken, IDToken: a.IDToken, TokenType: cmp.Or(a.TokenType, "Bearer"),
		Scopes: a.Scopes, ExpiresAt: a.ExpiresAt, ObtainedAt: a.ObtainedAt, Account: oauth.Account{ID: a.Account.ID, Label: a.Account.Label}}
	if t.ObtainedAt.IsZero() {
		t.ObtainedAt = b.Now()
	}
	if t.AccessToken.IsZero() { // the first use renews it
		t.ExpiresAt = t.ObtainedAt
	}
	return t
}

// tokenText rejects what no Authorization header can carry (RFC 6750 section
// 2.1), without quoting it.
func tokenText(token secret.Text) error {
	for _, r := range token.Reveal() {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%w: a token has no spaces, control characters or letters beyond ASCII", ErrBadSecret)
		}
	}
	return nil
}
