package authsome_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authsome"
	"authsome/flows"
	"authsome/flows/oauth/oauthtest"
	"authsome/provider"
	"authsome/vault/secret"

	"golang.org/x/oauth2"
)

func TestAccessToken(t *testing.T) {
	c := open(t, authsome.Options{})
	for name, want := range map[string]error{"nobody": provider.ErrNotFound, "example": flows.ErrNoConnection} {
		if token, err := c.AccessToken(t.Context(), name, ""); !errors.Is(err, want) || token != "" {
			t.Errorf("%s: got %q, %v, want %v", name, token, err, want)
		}
	}
	login(t, c, "example", "")
	login(t, c, "example", "work")
	for _, connection := range []string{"", "default", "work"} {
		if token, err := c.AccessToken(t.Context(), "example", connection); token != canary || err != nil {
			t.Errorf("connection %q: %v", connection, err)
		}
	}
	all := entries(t, c, "export")
	if len(all) != 3 || all[0].Connection != "default" || all[2].Connection != "work" || all[0].Provider != "example" {
		t.Errorf("audit: %+v", all)
	}
}

func TestAuthHeaders(t *testing.T) {
	c := open(t, authsome.Options{})
	for _, tc := range []struct{ name, key, header, want string }{
		{"example", "k", "Authorization", "Bearer k"},
		{"example", "k", "Example-Version", "7"},
		{"anthropic", "sk-ant-api03-0123456789abcdefghij", "X-Api-Key", "sk-ant-api03-0123456789abcdefghij"},
		{"anthropic", "sk-ant-api03-0123456789abcdefghij", "Anthropic-Version", "2023-06-01"},
		{"datadog", "a:b", "Dd-Application-Key", "b"},
		{"gemini", "g", "X-Goog-Api-Key", "g"},
		{"ashby", "user", "Authorization", "Basic dXNlcjo="},
	} {
		if _, err := c.Login(t.Context(), authsome.LoginRequest{Provider: tc.name, APIKey: secret.New(tc.key), Force: true}, nil); err != nil {
			t.Fatal(err)
		}
		header, err := c.AuthHeaders(t.Context(), tc.name, "")
		if err != nil || header.Get(tc.header) != tc.want {
			t.Errorf("%s: got %v, %v, want %s: %s", tc.name, header, err, tc.header, tc.want)
		}
		header.Set(tc.header, "changed") // is the caller's own
	}
	login(t, c, "asker", "")
	if header, err := c.AuthHeaders(t.Context(), "asker", ""); !errors.Is(err, authsome.ErrNotHeaders) || header != nil || strings.Contains(err.Error(), canary) {
		t.Errorf("query: got %v, %v", header, err)
	}
	key := "AKIATESTTESTTESTTEST:" + strings.Repeat("k", 40)
	if _, err := c.Login(t.Context(), authsome.LoginRequest{Provider: "aws", APIKey: secret.New(key)}, nil); err != nil {
		t.Fatal(err)
	}
	if header, err := c.AuthHeaders(t.Context(), "aws", ""); !errors.Is(err, authsome.ErrNotHeaders) || header != nil {
		t.Errorf("a signature: got %v, %v", header, err)
	}
}

func TestTokenSource(t *testing.T) {
	c := open(t, authsome.Options{})
	source := c.TokenSource(t.Context(), "example", "")
	if _, err := source.Token(); !errors.Is(err, flows.ErrNoConnection) {
		t.Errorf("before the login: %v", err)
	}
	login(t, c, "example", "")
	for range 3 {
		token, err := source.Token()
		if err != nil || token.AccessToken != canary || token.Type() != "Bearer" || !token.Expiry.IsZero() || token.RefreshToken != "" {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := c.Login(t.Context(), authsome.LoginRequest{Provider: "example", Force: true, APIKey: secret.New("another")}, nil); err != nil {
		t.Fatal(err)
	}
	if token, err := source.Token(); err != nil || token.AccessToken != "another" {
		t.Errorf("after another login: %v", err)
	}
	if got := len(entries(t, c, "export")); got != 2 {
		t.Errorf("%d exports on record, want one for each token", got)
	}
	for name, kind := range map[string]string{"klaviyo": "Klaviyo-API-Key", "apollo": "", "rewardful": "", "livestorm": "", "semrush": "", "pagerduty": ""} {
		login(t, c, name, "")
		token, err := c.TokenSource(t.Context(), name, "").Token()
		if kind == "" && !errors.Is(err, authsome.ErrNotToken) || kind != "" && (err != nil || token.TokenType != kind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// person is a caller's prompter.
type person struct {
	key     authsome.KeyAnswer
	asked   []authsome.KeyRequest
	client  flows.ClientAnswer
	browser *oauthtest.Browser
	visits  chan error
}

func (p *person) Key(_ context.Context, req authsome.KeyRequest) (authsome.KeyAnswer, error) {
	p.asked = append(p.asked, req)
	return p.key, nil
}

func (p *person) Client(context.Context, flows.ClientRequest) (flows.ClientAnswer, error) {
	return p.client, nil
}

func (p *person) Visit(_ context.Context, v flows.Visit) error {
	go func() {
		_, _, err := p.browser.Walk(v.URL, "")
		p.visits <- err
	}()
	return nil
}

func TestLoginWithAKey(t *testing.T) {
	env := map[string]string{}
	c := open(t, authsome.Options{Getenv: func(name string) string { return env[name] }})
	p := &person{key: authsome.KeyAnswer{Key: secret.New("from the person")}}
	held := func() string {
		token, err := c.AccessToken(t.Context(), "example", "")
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	try := func(req authsome.LoginRequest, p flows.Prompter, want error) {
		t.Helper()
		if conn, err := c.Login(t.Context(), req, p); !errors.Is(err, want) || (err == nil) != (conn != nil) {
			t.Errorf("%+v: got %v, want %v", req, err, want)
		}
	}
	try(authsome.LoginRequest{Provider: "nobody"}, p, provider.ErrNotFound)
	try(authsome.LoginRequest{Provider: "example"}, nil, flows.ErrBadInput)
	try(authsome.LoginRequest{Provider: "openai", APIKey: secret.New("no such shape")}, nil, flows.ErrBadSecret)
	try(authsome.LoginRequest{Provider: "example"}, p, nil)
	if held() != "from the person" || len(p.asked) != 1 || p.asked[0].AskBaseURL || p.asked[0].Provider.Name != "example" {
		t.Errorf("asked %+v", p.asked)
	}
	try(authsome.LoginRequest{Provider: "example"}, p, flows.ErrAlreadyConnected)
	env["EXAMPLE_API_KEY"] = "authsome-proxy-managed" // what a child of run sees is no key
	try(authsome.LoginRequest{Provider: "example", Force: true}, p, nil)
	env["EXAMPLE_API_KEY"] = "from the environment"
	try(authsome.LoginRequest{Provider: "example", Force: true}, p, nil)
	if held() != "from the environment" || len(p.asked) != 2 {
		t.Errorf("the variable was not taken; asked %d times", len(p.asked))
	}
	try(authsome.LoginRequest{Provider: "example", Force: true, APIKey: secret.New("given")}, p, nil)
	if held() != "given" {
		t.Error("what was given does not come first")
	}

	p.key = authsome.KeyAnswer{Key: secret.New("me@example.com:t"), BaseURL: "https://team.example.com"}
	conn, err := c.Login(t.Context(), authsome.LoginRequest{Provider: "jira"}, p)
	if err != nil || conn.BaseURL != "https://team.example.com" || !p.asked[len(p.asked)-1].AskBaseURL {
		t.Errorf("a per-site provider: %+v, %v", conn, err)
	}
	// Another connection is offered the same site, and is there unless the answer says otherwise.
	p.key = authsome.KeyAnswer{Key: secret.New("you@example.com:t")}
	conn, err = c.Login(t.Context(), authsome.LoginRequest{Provider: "jira", Connection: "you"}, p)
	if err != nil || conn.BaseURL != "https://team.example.com" || p.asked[len(p.asked)-1].BaseURL != conn.BaseURL {
		t.Errorf("a second connection: %+v, %v", conn, err)
	}
	// One that is elsewhere is the latest then, and does not move those that are there.
	p.key.BaseURL = "https://other.example.com"
	try(authsome.LoginRequest{Provider: "jira", Connection: "other"}, p, nil)
	p.key.BaseURL = ""
	conn, err = c.Login(t.Context(), authsome.LoginRequest{Provider: "jira", Force: true}, p)
	if err != nil || conn.BaseURL != "https://team.example.com" || p.asked[len(p.asked)-1].BaseURL != conn.BaseURL {
		t.Errorf("logging in again: %+v, %v", conn, err)
	}
	if got := len(entries(t, c, "login")); got != 8 {
		t.Errorf("%d logins on record", got)
	}
}

func TestList(t *testing.T) {
	c := open(t, authsome.Options{})
	login(t, c, "example", "work")
	login(t, c, "example", "home")
	all, err := c.List(t.Context())
	if err != nil || len(all) < 70 {
		t.Fatalf("%d providers, %v", len(all), err)
	}
	seen := map[string]authsome.ProviderInfo{}
	for _, p := range all {
		seen[p.Name] = p
	}
	if p := seen["github"]; p.State != authsome.Available || p.Source != "bundled" || len(p.Connections) != 0 || p.AuthType != provider.AuthOAuth2 {
		t.Errorf("github: %+v", p)
	}
	p := seen["example"]
	if p.State != authsome.Connected || p.Source != "custom" || len(p.Connections) != 2 {
		t.Fatalf("example: %+v", p)
	}
	if home, work := p.Connections[0], p.Connections[1]; home.Name != "home" || home.Default || work.Name != "work" || !work.Default || work.Status != flows.Connected {
		t.Errorf("connections: %+v", p.Connections)
	}
}

// oauthDefinition is a provider whose API is the authorization server's own
// userinfo endpoint.
func oauthDefinition(issuer string) string {
	return `{"schema_version":1,"name":"idp","display_name":"IdP","auth_type":"oauth2","flow":"pkce","host_url":"` + issuer + `",
	  "oauth":{"issuer":"` + issuer + `","scopes":["openid","email","offline_access"],"pkce":true},
	  "export":{"env":{"access_token":"IDP_ACCESS_TOKEN"}}}`
}

// TestLibraryWithARealServer logs in to a certified authorization server, uses
// the token in every way there is, lives through its expiry, and is told the
// truth once it is revoked.
func TestLibraryWithARealServer(t *testing.T) {
	s := oauthtest.StartOIDCProvider(t, oauthtest.Options{AccessTokenSeconds: 4})
	dir := t.TempDir()
	home, _, err := authsome.OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Register(home.ProvidersDir(), []byte(oauthDefinition(s.Issuer)), false); err != nil {
		t.Fatal(err)
	}
	c := open(t, authsome.Options{Home: dir, HTTP: s.Client(t)})
	p := &person{client: flows.ClientAnswer{ID: "public"}, visits: make(chan error, 1),
		browser: oauthtest.NewBrowser(t, s, map[string]string{"login": "ada", "password": "any"})}
	if _, err := c.Login(t.Context(), authsome.LoginRequest{Provider: "idp", CallbackPort: freePort(t)}, nil); !errors.Is(err, flows.ErrBadInput) {
		t.Errorf("without a prompter: %v", err)
	}
	conn, err := c.Login(t.Context(), authsome.LoginRequest{Provider: "idp", CallbackPort: freePort(t)}, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-p.visits; err != nil {
		t.Errorf("the browser: %v", err)
	}
	if conn.Account.Label != "ada@example.test" || conn.RefreshToken.IsZero() {
		t.Errorf("logged in as %+v", conn.Account)
	}

	var dropped atomic.Pointer[string]
	plain := s.Client(t)
	transport, err := c.Transport(t.Context(), authsome.TransportConfig{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		if old := dropped.Load(); old != nil && r.Header.Get("Authorization") == "Bearer "+*old {
			if r.Body != nil {
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
			return &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
		}
		return plain.Transport.RoundTrip(r)
	})})
	if err != nil {
		t.Fatal(err)
	}
	me := s.Issuer + "/me"
	ways := map[string]*http.Client{
		"Transport":   {Transport: transport},
		"TokenSource": {Transport: &oauth2.Transport{Source: c.TokenSource(t.Context(), "idp", ""), Base: plain.Transport}},
		"AuthHeaders": {Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			header, err := c.AuthHeaders(r.Context(), "idp", "")
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Header = header
			return plain.Transport.RoundTrip(r)
		})},
	}
	used := func() {
		t.Helper()
		for way, client := range ways {
			if got := get(t, client, me); !strings.Contains(got, "ada@example.test") {
				t.Errorf("%s: %s", way, got)
			}
		}
	}
	used()
	first, err := c.AccessToken(t.Context(), "idp", "")
	if err != nil {
		t.Fatal(err)
	}

	// The API drops the token before its time: its 401 leads to another one,
	// also for a request with a body.
	dropped.Store(&first)
	resp, err := (&http.Client{Transport: transport}).Post(me, "application/x-www-form-urlencoded", strings.NewReader("a=b"))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("after a 401: %v, %v", resp, err)
	}
	resp.Body.Close()
	if second, err := c.AccessToken(t.Context(), "idp", ""); err != nil || second == first {
		t.Errorf("the 401 led to no other token: %v", err)
	}

	time.Sleep(4500 * time.Millisecond)
	used()
	if second, err := c.AccessToken(t.Context(), "idp", ""); err != nil || second == first {
		t.Errorf("the token was not renewed: %v", err)
	}
	if got := get(t, &http.Client{Transport: transport}, s.Issuer+"/.well-known/openid-configuration"); !strings.Contains(got, "issuer") {
		t.Errorf("discovery: %s", got)
	}

	// Revoked, there is nothing left to use.
	if _, err := c.Broker.Revoke(t.Context(), "idp", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AccessToken(t.Context(), "idp", ""); !errors.Is(err, flows.ErrNoConnection) {
		t.Errorf("after the revocation: %v", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func get(t *testing.T, client *http.Client, address string) string {
	t.Helper()
	resp, err := client.Get(address)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + string(body)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
