package flows

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"authsome/flows/oauth"
	"authsome/provider"
)

// Prompter is the person, or what stands in for one, during an OAuth login.
type Prompter interface {
	// Client asks for the OAuth client to log in with.
	Client(ctx context.Context, req ClientRequest) (ClientAnswer, error)

	// Visit has the user open a page and returns at once. ctx ends when the
	// login has been decided.
	Visit(ctx context.Context, v Visit) error
}

// ResultPager is the optional power of a [Prompter] to dress the page on which
// the browser ends up.
type ResultPager interface {
	ResultPage(w http.ResponseWriter, r oauth.Result)
}

// Visit is a page that the user has to open to approve a login.
type Visit struct {
	URL    string
	Device *oauth.DeviceAuthorization // of a device login; nil otherwise
}

// LoginOAuth runs the provider's OAuth flow and stores the connection.
func (b *Broker) LoginOAuth(ctx context.Context, l Login, p Prompter) (*Connection, error) {
	def := l.Provider.Definition
	flow, err := chooseFlow(def, l.Flow)
	if err != nil {
		return nil, connectionError(def.Name, l.Connection, err)
	}
	c, err := b.begin(ctx, l)
	if err != nil {
		return nil, err
	}
	session := &oauthLogin{b: b, l: l, p: p, cfg: oauth.Config{HTTP: b.http, Clock: b.clock}}
	if err := session.use(c); err != nil {
		return nil, err
	}
	session.scopes = session.cfg.OAuth.Scopes
	if len(l.Scopes) > 0 {
		session.scopes = l.Scopes
	}
	tokens, err := session.run(ctx, flow)
	c = session.c
	if err != nil {
		return nil, b.oauthFailure(c, err)
	}
	c.pin(session.cfg.OAuth, flow)
	c.apply(tokens)
	return c, b.store(ctx, c)
}

// chooseFlow checks that a provider knows the flow that was asked for.
func chooseFlow(def *provider.Definition, want provider.Flow) (provider.Flow, error) {
	if def.AuthType != provider.AuthOAuth2 {
		return "", fmt.Errorf("%w: it takes an API key, not OAuth", ErrBadInput)
	}
	switch {
	case want == "", want == def.Flow:
		return def.Flow, nil
	case want == provider.FlowDeviceCode && def.OAuth.SupportsDeviceFlow,
		want == provider.FlowDCRPKCE && def.OAuth.SupportsDCR,
		want == provider.FlowPKCE && def.OAuth.AuthorizationURL != "",
		want == provider.FlowClientCredentials && def.OAuth.TokenURL != "":
		return want, nil
	}
	return "", fmt.Errorf("%w: --flow %s: its definition knows %s", ErrBadInput, want, def.Flow)
}

// oauthLogin is one login under way.
type oauthLogin struct {
	b      *Broker
	l      Login
	c      *Connection
	p      Prompter
	cfg    oauth.Config
	scopes []string
}

// use sets the connection that is being made, and with its base URL the
// endpoints.
func (s *oauthLogin) use(c *Connection) error {
	resolved, err := s.l.Provider.Resolve(c.BaseURL)
	if err != nil {
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	s.c, s.cfg.OAuth = c, resolved.OAuth
	return nil
}

func (s *oauthLogin) run(ctx context.Context, flow provider.Flow) (*oauth.TokenSet, error) {
	if s.cfg.OAuth.Issuer != "" && needsDiscovery(s.cfg.OAuth, flow) {
		m, err := s.cfg.Discover(ctx)
		if err != nil {
			return nil, err
		}
		s.cfg.Metadata, s.cfg.OAuth = m, m.Fill(s.cfg.OAuth)
	}
	switch flow {
	case provider.FlowPKCE:
		return s.authorize(ctx, false)
	case provider.FlowDCRPKCE:
		return s.authorize(ctx, true)
	case provider.FlowDeviceCode:
		return s.device(ctx)
	case provider.FlowClientCredentials:
		if err := s.client(ctx, "", true); err != nil {
			return nil, err
		}
		return s.cfg.ClientCredentials(ctx, s.scopes...)
	}
	return nil, fmt.Errorf("%w: flow %q", ErrBadInput, flow)
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

func (s *oauthLogin) client(ctx context.Context, redirect string, needsSecret bool) error {
	found, answer, err := s.b.findClient(ctx, s.l, ClientRequest{Provider: s.l.Provider.Definition, RedirectURI: redirect,
		BaseURL: s.c.BaseURL, AskBaseURL: s.l.BaseURL == "" && s.l.Provider.NeedsBaseURL(), Scopes: s.scopes, NeedsSecret: needsSecret}, s.p)
	if err != nil {
		return err
	}
	if answer.Scopes != nil {
		s.scopes = answer.Scopes
	}
	s.cfg.Client = found.oauth()
	if answer.BaseURL == "" || answer.BaseURL == s.c.BaseURL {
		return nil
	}
	s.l.BaseURL = answer.BaseURL
	c, err := s.b.begin(ctx, s.l)
	if err != nil {
		return err
	}
	return s.use(c)
}

// authorize sends the user to the provider and waits for the callback.
func (s *oauthLogin) authorize(ctx context.Context, register bool) (*oauth.TokenSet, error) {
	// A client that is registered on the fly may be called back anywhere.
	listener, err := oauth.Listen(ctx, oauth.ListenConfig{Port: s.l.CallbackPort, AnyPort: register && s.l.CallbackPort == 0})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	if register {
		err = s.register(ctx, listener.RedirectURI)
	} else {
		err = s.client(ctx, listener.RedirectURI, false)
	}
	if err != nil {
		return nil, err
	}
	auth, err := s.cfg.BeginAuthorization(listener.RedirectURI, s.scopes...)
	if err != nil {
		return nil, err
	}
	visitCtx, done := context.WithCancel(ctx)
	defer done()
	if err := s.p.Visit(visitCtx, Visit{URL: auth.URL}); err != nil {
		return nil, err
	}
	callback := oauth.CallbackConfig{}
	if pager, ok := s.p.(ResultPager); ok {
		callback.Page = pager.ResultPage
	}
	return s.cfg.AwaitTokens(ctx, listener, auth, callback)
}

// register uses the client that was registered for this redirect URI, or
// registers one (RFC 7591).
func (s *oauthLogin) register(ctx context.Context, redirect string) error {
	name := s.l.Provider.Name
	stored, err := s.b.client(ctx, name)
	if err != nil {
		return err
	}
	if stored.ID != "" && slices.Contains(stored.RedirectURIs, redirect) {
		s.cfg.Client = stored.oauth()
		return nil
	}
	made, err := s.cfg.Register(ctx, oauth.RegistrationRequest{Name: "authsome", RedirectURIs: []string{redirect}, Scopes: s.scopes})
	if err != nil {
		return err
	}
	s.cfg.Client = made.Client
	return s.b.storeClient(ctx, name, &client{ID: made.Client.ID, AuthMethod: made.Client.AuthMethod,
		RedirectURIs: made.RedirectURIs, Secret: made.Client.Secret})
}

func (s *oauthLogin) device(ctx context.Context) (*oauth.TokenSet, error) {
	if s.cfg.OAuth.DeviceTokenRequest != "json" { // the json variant knows no clients
		if err := s.client(ctx, "", false); err != nil {
			return nil, err
		}
	}
	d, err := s.cfg.BeginDevice(ctx, s.scopes...)
	if err != nil {
		return nil, err
	}
	visitCtx, done := context.WithCancel(ctx)
	defer done()
	page := d.VerificationURIComplete
	if page == "" {
		page = d.VerificationURI
	}
	if err := s.p.Visit(visitCtx, Visit{URL: page, Device: d}); err != nil {
		return nil, err
	}
	return s.cfg.PollDevice(ctx, d)
}

// pin keeps where this connection is renewed and revoked: a definition that is
// registered later must not be able to ask for the refresh token elsewhere.
func (c *Connection) pin(o *provider.OAuth, flow provider.Flow) {
	c.TokenURL = o.TokenURL
	if c.Metadata == nil {
		c.Metadata = map[string]any{}
	}
	c.Metadata["flow"], c.Metadata["revocation_url"] = string(flow), o.RevocationURL
}

// pinned returns an OAuth section that talks to where the login talked.
func (c *Connection) pinned(o *provider.OAuth) *provider.OAuth {
	out := *o
	out.TokenURL = c.TokenURL
	out.RevocationURL, _ = c.Metadata["revocation_url"].(string)
	return &out
}

// apply takes over what a grant gave.
func (c *Connection) apply(t *oauth.TokenSet) {
	c.Status = Connected
	c.AccessToken, c.RefreshToken, c.IDToken = t.AccessToken, t.RefreshToken, t.IDToken
	c.TokenType, c.Scopes = t.TokenType, t.Scopes
	c.ExpiresAt, c.ObtainedAt = t.ExpiresAt.UTC(), t.ObtainedAt.UTC()
	if t.ExpiresAt.IsZero() {
		c.ExpiresAt = t.ExpiresAt
	}
	if t.Account.ID != "" || t.Account.Label != "" {
		c.Account = Account{t.Account.ID, t.Account.Label}
	}
	for name, value := range t.Extra {
		c.Metadata[name] = value
	}
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
	if errors.As(err, &own) || errors.Is(err, context.Canceled) {
		return err
	}
	var failure *oauth.Error
	if !errors.As(err, &failure) {
		return err
	}
	out := connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrLoginFailed, err))
	switch {
	case errors.Is(err, oauth.ErrPortUnavailable):
		out.Next = "free the port, or choose one that the provider knows with --callback-port"
	case errors.Is(err, oauth.ErrInvalidClient):
		out.Next = "check the client id and secret, then run: authsome login " + c.Provider + " --reset"
	case errors.Is(err, oauth.ErrAccessDenied):
		out.Next = "approve the request, or ask for less with --scopes; then run: authsome login " + c.Provider
	case errors.Is(err, oauth.ErrUnreachable), errors.Is(err, oauth.ErrUnavailable):
		out.Next = "check the network and try again; run: authsome doctor"
	}
	return out
}
