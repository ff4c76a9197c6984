package flows

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// LoginOAuth runs the provider's OAuth flow and stores the connection.
func (b *Broker) LoginOAuth(ctx context.Context, l Login, p Prompter) (*Connection, error) {
	def := l.Provider.Definition
	flow, err := chooseFlow(def, l.Flow)
	if err != nil {
		return nil, b.connectionError(def.Name, l.Connection, err)
	}
	c, err := b.begin(ctx, l)
	if err != nil {
		return nil, err
	}
	s := &oauthLogin{b: b, l: l, c: c, p: p, flow: flow, cfg: oauth.Config{HTTP: b.http, Clock: b.clock}}
	s.scopes = def.OAuth.Scopes
	if len(l.Scopes) > 0 {
		s.scopes = l.Scopes
	}
	if err := s.run(ctx); err != nil {
		return nil, b.oauthFailure(c, err)
	}
	return c, nil
}

// oauthLogin is one login under way.
type oauthLogin struct {
	b      *Broker
	l      Login
	c      *Connection // what is being made
	p      Prompter
	flow   provider.Flow
	cfg    oauth.Config
	scopes []string
	made   *client // a client that is not stored yet
}

func (s *oauthLogin) run(ctx context.Context) error {
	switch s.flow {
	case provider.FlowPKCE, provider.FlowDCRPKCE:
		return s.authorize(ctx)
	case provider.FlowDeviceCode:
		return s.device(ctx)
	case provider.FlowClientCredentials:
		if err := s.client(ctx, ""); err != nil {
			return err
		}
		tokens, err := s.cfg.ClientCredentials(ctx, s.scopes...)
		if err != nil {
			return err
		}
		return s.done(ctx, tokens)
	}
	return fmt.Errorf("%w: flow %q", ErrBadInput, s.flow)
}

// settle pins the routes of the connection, and finds the endpoints.
func (s *oauthLogin) settle(ctx context.Context, base string) error {
	if err := s.c.settle(s.l.Provider.Definition, base); err != nil {
		return err
	}
	resolved, err := s.l.Provider.Resolve(s.c.BaseURL)
	if err != nil {
		return s.b.connectionError(s.c.Provider, s.c.Name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	s.cfg.OAuth, s.cfg.Metadata = resolved.OAuth, nil
	if resolved.OAuth.Issuer == "" || !needsDiscovery(resolved.OAuth, s.flow) {
		return nil
	}
	m, err := s.cfg.Discover(ctx)
	if err != nil {
		return err
	}
	s.cfg.Metadata, s.cfg.OAuth = m, m.Fill(resolved.OAuth)
	return nil
}

// needsDiscovery reports whether the definition leaves open what a flow needs.
func needsDiscovery(o *provider.OAuth, flow provider.Flow) bool {
	switch {
	case o.TokenURL == "":
		return true
	case flow == provider.FlowDCRPKCE:
		return o.RegistrationEndpoint == "" || o.AuthorizationURL == ""
	case flow == provider.FlowDeviceCode:
		return o.DeviceAuthorizationURL == ""
	}
	return flow == provider.FlowPKCE && o.AuthorizationURL == ""
}

// client finds the client and settles the connection. Who is asked for the client
// is asked for the base URL on the same form.
func (s *oauthLogin) client(ctx context.Context, redirect string) error {
	def := s.l.Provider.Definition
	known, err := s.knownClients(ctx)
	if err != nil {
		return err
	}
	asksBase := s.l.BaseURL == "" && def.NeedsBaseURL()
	if len(known) > 0 || s.b.givenClient(s.l, def.Client).ID != "" {
		asked, err := s.askBaseURL(ctx)
		if err != nil {
			return err
		}
		asksBase = asksBase && !asked
	}
	base, err := BaseURL(def, cmp.Or(s.l.BaseURL, s.c.BaseURL))
	if err != nil && !(asksBase && errors.Is(err, errNoBaseURL)) {
		return s.b.connectionError(def.Name, s.c.Name, err)
	}
	found, answer, err := s.findClient(ctx, known, ClientRequest{Provider: def, RedirectURI: redirect,
		BaseURL: base, AskBaseURL: asksBase, Scopes: s.scopes, NeedsSecret: s.flow == provider.FlowClientCredentials})
	if err != nil {
		return err
	}
	if answer.Scopes != nil {
		s.scopes = answer.Scopes
	}
	s.cfg.Client = found.oauth()
	if err := s.settle(ctx, cmp.Or(answer.BaseURL, s.l.BaseURL)); err != nil {
		return err
	}
	if found.entry == nil { // it is stored nowhere yet
		found.BaseURL, found.TokenSite = s.c.BaseURL, tokenSite(def, s.c.BaseURL)
		s.made = found
	}
	return nil
}

// askBaseURL asks where a new connection is, if there is somebody to ask. An
// earlier login to the same one has answered that.
func (s *oauthLogin) askBaseURL(ctx context.Context) (asked bool, err error) {
	def := s.l.Provider.Definition
	asker, ok := s.p.(BaseURLPrompter)
	if !ok || s.l.BaseURL != "" || s.c.BaseURL != "" || !def.NeedsBaseURL() {
		return false, nil
	}
	last, err := s.b.SuggestBaseURL(ctx, s.l)
	if err != nil {
		return false, err
	}
	s.l.BaseURL, err = asker.BaseURL(ctx, def, last)
	return true, err
}

// authorize sends the user to the provider and waits for the callback.
func (s *oauthLogin) authorize(ctx context.Context) error {
	register := s.flow == provider.FlowDCRPKCE
	// A client that is registered on the fly may be called back anywhere.
	listener, err := oauth.Listen(ctx, oauth.ListenConfig{Port: s.l.CallbackPort, AnyPort: register && s.l.CallbackPort == 0})
	if err != nil {
		return err
	}
	defer listener.Close()
	if register {
		err = s.register(ctx, listener.RedirectURI)
	} else {
		err = s.client(ctx, listener.RedirectURI)
	}
	if err != nil {
		return err
	}
	auth, err := s.cfg.BeginAuthorization(listener.RedirectURI, s.scopes...)
	if err != nil {
		return err
	}
	cfg := oauth.CallbackConfig{}
	if pager, ok := s.p.(ResultPager); ok {
		cfg.Page = pager.ResultPage
	}
	callback, err := oauth.NewCallback(auth, cfg)
	if err != nil {
		return err
	}
	visitCtx, done := context.WithCancel(ctx)
	defer done()
	if err := s.p.Visit(visitCtx, Visit{URL: auth.URL, RedirectURI: listener.RedirectURI}); err != nil {
		return err
	}
	// The page that the browser ends up on is shown once all is stored.
	return listener.Await(ctx, callback, func(ctx context.Context, code secret.Text) error {
		tokens, err := s.cfg.Exchange(ctx, auth, code)
		if err != nil {
			return err
		}
		return s.done(ctx, tokens)
	})
}

// register uses the client that was registered for this redirect URI, or
// registers one (RFC 7591). It is kept at once: a login that is called off and
// begun again shall not register another.
func (s *oauthLogin) register(ctx context.Context, redirect string) error {
	if p, ok := s.p.(VisitChecker); ok {
		if err := p.Visitable(); err != nil {
			return err
		}
	}
	if _, err := s.askBaseURL(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx, s.l.BaseURL); err != nil {
		return err
	}
	at, site := s.cfg.OAuth.RegistrationEndpoint, tokenSite(s.l.Provider.Definition, s.c.BaseURL)
	if !s.l.Reset {
		stored, err := s.b.client(ctx, s.c.Provider)
		if err != nil {
			return err
		}
		good := stored.SecretExpiresAt.IsZero() || s.b.clock().Before(stored.SecretExpiresAt)
		if at != "" && stored.RegisteredAt == at && stored.serves(s.c.BaseURL, site, redirect) && stored.covers(s.scopes) && good {
			s.cfg.Client = stored.oauth()
			return nil
		}
	}
	reg, err := s.cfg.Register(ctx, oauth.RegistrationRequest{Name: "authsome", RedirectURIs: []string{redirect}, Scopes: s.scopes})
	if err != nil {
		return err
	}
	s.cfg.Client = reg.Client
	s.made = &client{ID: reg.Client.ID, Secret: reg.Client.Secret, AuthMethod: reg.Client.AuthMethod, BaseURL: s.c.BaseURL, TokenSite: site,
		RegisteredAt: at, RedirectURIs: reg.RedirectURIs, Scopes: s.scopes, SecretExpiresAt: reg.SecretExpiresAt}
	if s.l.Reset {
		return nil // what is stored stays until the login has succeeded
	}
	change, err := s.made.change(s.b.profile, s.c.Provider)
	if err != nil {
		return err
	}
	return s.b.vault.Apply(ctx, s.b.event("login.client", s.c.Provider, ""), change)
}

func (s *oauthLogin) device(ctx context.Context) error {
	var err error
	if s.l.Provider.OAuth.DeviceTokenRequest == "json" { // this variant knows no clients
		if _, err = s.askBaseURL(ctx); err == nil {
			err = s.settle(ctx, s.l.BaseURL)
		}
	} else {
		err = s.client(ctx, "")
	}
	if err != nil {
		return err
	}
	d, err := s.cfg.BeginDevice(ctx, s.scopes...)
	if err != nil {
		return err
	}
	visitCtx, done := context.WithCancel(ctx)
	defer done()
	if err := s.p.Visit(visitCtx, Visit{URL: cmp.Or(d.VerificationURIComplete, d.VerificationURI), Device: d}); err != nil {
		return err
	}
	tokens, err := s.cfg.PollDevice(ctx, d)
	if err != nil {
		return err
	}
	return s.done(ctx, tokens)
}

// done stores what the flow gave. It is not called off any more: the code that
// the tokens were had for is spent.
func (s *oauthLogin) done(ctx context.Context, tokens *oauth.TokenSet) error {
	s.c.pin(s.cfg.OAuth, s.flow)
	s.c.ClientID, s.c.ClientSecret = s.cfg.Client.ID, s.cfg.Client.Secret
	if s.cfg.Client.AuthMethod != "" {
		s.c.Metadata[metaAuthMethod] = s.cfg.Client.AuthMethod
	}
	s.c.apply(tokens)
	return s.b.store(context.WithoutCancel(ctx), s.l, s.c, s.made)
}

// What a login keeps in a connection's metadata.
const (
	metaFlow       = "flow"
	metaRevocation = "revocation_url"
	metaAuthMethod = "token_auth_method" // of the client, when it is its own
	metaRenewable  = "renewable"         // false: a login is all that helps once it has expired
)

// pin keeps where this connection is renewed and revoked: a definition that is
// registered later must not be able to ask for the refresh token elsewhere.
func (c *Connection) pin(o *provider.OAuth, flow provider.Flow) {
	c.TokenURL = o.TokenURL
	c.Metadata = map[string]any{metaFlow: string(flow), metaRevocation: o.RevocationURL}
}

// pinned returns an OAuth section that talks to where the login talked.
func (c *Connection) pinned(o *provider.OAuth) *provider.OAuth {
	out := *o
	out.TokenURL = c.TokenURL
	out.RevocationURL, _ = c.Metadata[metaRevocation].(string)
	return &out
}

// apply takes over what a grant gave.
func (c *Connection) apply(t *oauth.TokenSet) {
	c.Status = Connected
	c.AccessToken, c.RefreshToken, c.IDToken = t.AccessToken, t.RefreshToken, t.IDToken
	c.TokenType, c.Scopes = t.TokenType, t.Scopes
	c.ExpiresAt, c.ObtainedAt = t.ExpiresAt, t.ObtainedAt.UTC()
	if !t.ExpiresAt.IsZero() {
		c.ExpiresAt = t.ExpiresAt.UTC()
	}
	if t.Account != (oauth.Account{}) {
		c.Account = Account{t.Account.ID, t.Account.Label}
	}
	meta := map[string]any{} // the old one may be shared
	for name, value := range c.Metadata {
		meta[name] = value
	}
	for name, value := range t.Extra {
		meta[name] = value
	}
	c.Metadata = meta
	c.Metadata[metaRenewable] = c.renewable()
}

// tokens is the other way round, for a refresh or a revocation.
func (c *Connection) tokens() *oauth.TokenSet {
	return &oauth.TokenSet{AccessToken: c.AccessToken, RefreshToken: c.RefreshToken, IDToken: c.IDToken,
		TokenType: c.TokenType, Scopes: c.Scopes, ExpiresAt: c.ExpiresAt, ObtainedAt: c.ObtainedAt,
		Account: oauth.Account{ID: c.Account.ID, Label: c.Account.Label}}
}

// oauthFailure words why a login failed and what to do.
func (b *Broker) oauthFailure(c *Connection, err error) error {
	var own *ConnectionError
	if errors.As(err, &own) || errors.Is(err, context.Canceled) || errors.Is(err, vault.ErrUnavailable) {
		return err
	}
	var failure *oauth.Error
	if !errors.As(err, &failure) {
		return err
	}
	out := b.connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrLoginFailed, err))
	var local *oauth.LocalError
	switch {
	case errors.As(err, &local):
		out.Next = local.Next
	case errors.Is(err, oauth.ErrUntrusted):
		out.Next = "a private authority belongs in a PEM file that SSL_CERT_FILE names, with the others that you need; run: authsome doctor"
	case errors.Is(err, oauth.ErrPortUnavailable):
		out.Next = "free the port, or choose one that the provider knows with --callback-port"
	case errors.Is(err, oauth.ErrInvalidClient):
		out.Next = "check the client id and secret, then " + out.Next + " --reset"
	case errors.Is(err, oauth.ErrAccessDenied):
		out.Next = "approve the request, or ask for less with --scopes; then " + out.Next
	case errors.Is(err, oauth.ErrUnreachable), errors.Is(err, oauth.ErrUnavailable):
		out.Next = "check the network and try again; run: authsome doctor"
	case errors.Is(err, oauth.ErrUnsupported):
		out.Next = "correct the definition (authsome inspect " + c.Provider + " prints it) and register it again with --force"
	}
	return out
}
