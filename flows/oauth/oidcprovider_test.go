package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth"
	"authsome/flows/oauth/oauthtest"
	"authsome/provider"
	"authsome/vault/secret"
)

// The clients of testdata/oidc-provider/server.mjs.
var (
	publicClient = oauth.Client{ID: "public"}
	postClient   = oauth.Client{ID: "post:client", Secret: secret.New("post+secret/%41 &=:"), AuthMethod: oauth.AuthPost}
	basicClient  = oauth.Client{ID: "basic:client", Secret: secret.New("basic+secret/%41 &=:"), AuthMethod: oauth.AuthBasic}
	deviceClient = oauth.Client{ID: "device"}
	machine      = oauth.Client{ID: "machine", Secret: secret.New("machine+secret"), AuthMethod: oauth.AuthBasic}
)

// discovered gives a config for a client at a server, by the server's own metadata.
func discovered(t *testing.T, s *oauthtest.Server, client oauth.Client) *oauth.Config {
	t.Helper()
	c := &oauth.Config{OAuth: &provider.OAuth{Issuer: s.Issuer, PKCE: true}, Client: client, HTTP: s.Client(t)}
	m, err := c.Discover(t.Context())
	if err != nil {
		t.Fatalf("Discover: %v", err)
	}
	c.Metadata, c.OAuth = m, m.Fill(c.OAuth)
	return c
}

// logIn goes through the whole pkce flow as a person would, and gives the callback's URL as well.
func logIn(t *testing.T, c *oauth.Config, b *oauthtest.Browser, scopes ...string) (*oauth.TokenSet, *url.URL) {
	t.Helper()
	l, err := oauth.Listen(t.Context(), oauth.ListenConfig{AnyPort: true})
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	return logInAt(t, c, b, l, scopes...)
}

func logInAt(t *testing.T, c *oauth.Config, b *oauthtest.Browser, l *oauth.Listener, scopes ...string) (*oauth.TokenSet, *url.URL) {
	t.Helper()
	auth, err := c.BeginAuthorization(l.RedirectURI, scopes...)
	if err != nil {
		t.Fatalf("BeginAuthorization: %v", err)
	}
	type outcome struct {
		tokens *oauth.TokenSet
		err    error
	}
	done := make(chan outcome, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		tokens, err := c.AwaitTokens(ctx, l, auth, oauth.CallbackConfig{})
		done <- outcome{tokens, err}
	}()
	callback, text, err := b.Walk(auth.URL, l.RedirectURI)
	if err != nil || callback == "" {
		cancel()
		<-done
		t.Fatalf("the browser did not come back: %v %s", err, text)
	}
	_, page, err := b.Walk(callback, "")
	if err != nil {
		t.Errorf("visit the callback: %v", err)
	}
	got := <-done
	if got.err != nil {
		t.Fatalf("login: %v", got.err)
	}
	if !strings.Contains(page, "You are logged in") {
		t.Errorf("the page says %q", page)
	}
	u, _ := url.Parse(callback)
	return got.tokens, u
}

// active asks the server whether it would accept a token (RFC 7662).
func active(t *testing.T, c *oauth.Config, token secret.Text) bool {
	t.Helper()
	form := url.Values{"token": {token.Reveal()}, "client_id": {c.Client.ID}}
	if !c.Client.Secret.IsZero() {
		form.Set("client_secret", c.Client.Secret.Reveal())
	}
	res, err := c.HTTP.PostForm(c.OAuth.Issuer+"/token/introspection", form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := readAll(t, res.Body)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("introspection: %s %s", res.Status, body)
	}
	return strings.Contains(body, `"active":true`)
}

func TestOIDCProvider(t *testing.T) {
	s := oauthtest.StartOIDCProvider(t, oauthtest.Options{})
	person := func(t *testing.T) *oauthtest.Browser {
		return oauthtest.NewBrowser(t, s, map[string]string{"login": "ada", "password": "any"})
	}

	t.Run("pkce", func(t *testing.T) {
		for _, client := range []oauth.Client{publicClient, postClient, basicClient} {
			t.Run(client.AuthMethod, func(t *testing.T) {
				c := discovered(t, s, client)
				before := time.Now()
				tokens, callback := logIn(t, c, person(t), "openid", "email", "offline_access")
				if tokens.AccessToken.IsZero() || tokens.RefreshToken.IsZero() || tokens.IDToken.IsZero() {
					t.Error("a token is missing")
				}
				if got, want := tokens.Account, (oauth.Account{ID: "ada", Label: "ada@example.test"}); got != want {
					t.Errorf("account = %v, want %v", got, want)
				}
				if !slices.Contains(tokens.Scopes, "email") {
					t.Errorf("scopes = %q", tokens.Scopes)
				}
				if life := tokens.ExpiresAt.Sub(before); life < 59*time.Minute || life > 61*time.Minute {
					t.Errorf("lives %v, want an hour", life)
				}
				if got := callback.Query().Get("iss"); got != s.Issuer {
					t.Errorf("iss = %q, want %q", got, s.Issuer)
				}
			})
		}
	})

	t.Run("wrong secret", func(t *testing.T) {
		for _, client := range []oauth.Client{postClient, basicClient, machine} {
			client.Secret = secret.New("canary-wrong-secret")
			c := discovered(t, s, client)
			_, err := c.Refresh(t.Context(), &oauth.TokenSet{RefreshToken: secret.New("canary-refresh")})
			if !errors.Is(err, oauth.ErrInvalidClient) {
				t.Errorf("%s: %v, want ErrInvalidClient", client.ID, err)
			}
		}
	})

	t.Run("rotation", func(t *testing.T) {
		c := discovered(t, s, publicClient)
		first, _ := logIn(t, c, person(t), "openid", "offline_access")
		second, err := c.Refresh(t.Context(), first)
		if err != nil {
			t.Fatalf("Refresh: %v", err)
		}
		if second.RefreshToken.Equal(first.RefreshToken) || second.AccessToken.Equal(first.AccessToken) {
			t.Error("the tokens were not rotated")
		}
		if !active(t, c, second.AccessToken) {
			t.Fatal("the new token is not active")
		}
		if second.Account != first.Account {
			t.Errorf("account = %v, want %v", second.Account, first.Account)
		}
		if _, err := c.Refresh(t.Context(), first); !errors.Is(err, oauth.ErrInvalidGrant) {
			t.Errorf("replay: %v, want ErrInvalidGrant", err)
		}
		if _, err := c.Refresh(t.Context(), second); !errors.Is(err, oauth.ErrInvalidGrant) {
			t.Errorf("after a replay the family is revoked, so: %v, want ErrInvalidGrant", err)
		}
	})

	t.Run("revocation", func(t *testing.T) {
		for _, client := range []oauth.Client{publicClient, postClient, basicClient} {
			c := discovered(t, s, client)
			tokens, _ := logIn(t, c, person(t), "openid", "offline_access")
			if err := c.Revoke(t.Context(), tokens); err != nil {
				t.Fatalf("%s: Revoke: %v", client.ID, err)
			}
			if _, err := c.Refresh(t.Context(), tokens); !errors.Is(err, oauth.ErrInvalidGrant) {
				t.Errorf("%s: refresh after revocation: %v, want ErrInvalidGrant", client.ID, err)
			}
			if err := c.Revoke(t.Context(), tokens); err != nil {
				t.Errorf("%s: revoking again: %v", client.ID, err)
			}
		}
		wrong := basicClient
		wrong.Secret = secret.New("canary-wrong-secret")
		c := discovered(t, s, wrong)
		err := c.Revoke(t.Context(), &oauth.TokenSet{AccessToken: secret.New("canary-access")})
		if !errors.Is(err, oauth.ErrInvalidClient) {
			t.Errorf("wrong secret: %v, want ErrInvalidClient", err)
		}
	})

	t.Run("code twice", func(t *testing.T) {
		c := discovered(t, s, publicClient)
		auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback", "openid")
		if err != nil {
			t.Fatal(err)
		}
		callback, text, err := person(t).Walk(auth.URL, auth.RedirectURI)
		if err != nil || callback == "" {
			t.Fatalf("Walk: %v %s", err, text)
		}
		u, _ := url.Parse(callback)
		code := secret.New(u.Query().Get("code"))
		if _, err := c.Exchange(t.Context(), auth, code); err != nil {
			t.Fatalf("Exchange: %v", err)
		}
		if _, err := c.Exchange(t.Context(), auth, code); !errors.Is(err, oauth.ErrInvalidGrant) {
			t.Errorf("second exchange: %v, want ErrInvalidGrant", err)
		}
	})

	t.Run("wrong verifier", func(t *testing.T) {
		c := discovered(t, s, publicClient)
		auth, _ := c.BeginAuthorization("http://127.0.0.1:7999/callback", "openid")
		callback, _, err := person(t).Walk(auth.URL, auth.RedirectURI)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(callback)
		auth.Verifier = secret.New(strings.Repeat("v", 43))
		if _, err := c.Exchange(t.Context(), auth, secret.New(u.Query().Get("code"))); !errors.Is(err, oauth.ErrInvalidGrant) {
			t.Errorf("got %v, want ErrInvalidGrant", err)
		}
	})

	t.Run("device", func(t *testing.T) {
		c := discovered(t, s, deviceClient)
		d, err := c.BeginDevice(t.Context(), "openid", "offline_access")
		if err != nil {
			t.Fatalf("BeginDevice: %v", err)
		}
		if d.VerificationURIComplete == "" || !strings.Contains(d.VerificationURIComplete, url.QueryEscape(d.UserCode)) {
			t.Errorf("verification_uri_complete = %q", d.VerificationURIComplete)
		}
		done := make(chan error, 1)
		d.Interval = time.Second
		var tokens *oauth.TokenSet
		go func() {
			var err error
			tokens, err = c.PollDevice(t.Context(), d)
			done <- err
		}()
		time.Sleep(1500 * time.Millisecond) // at least one authorization_pending
		b := person(t)
		b.Fill["user_code"] = d.UserCode
		if _, text, err := b.Walk(d.VerificationURI, ""); err != nil || !strings.Contains(text, "Sign-in Success") {
			t.Errorf("the device page ended with %q, %v", text, err)
		}
		if err := <-done; err != nil {
			t.Fatalf("PollDevice: %v", err)
		}
		if !active(t, c, tokens.AccessToken) || tokens.RefreshToken.IsZero() {
			t.Error("the tokens do not work")
		}
		if _, err := c.Refresh(t.Context(), tokens); err != nil {
			t.Errorf("Refresh: %v", err)
		}
	})

	t.Run("registration", func(t *testing.T) {
		for _, method := range []string{"", oauth.AuthBasic, oauth.AuthPost} {
			t.Run(method, func(t *testing.T) {
				c := discovered(t, s, oauth.Client{})
				c.OAuth.TokenAuthMethod = method
				l, err := oauth.Listen(t.Context(), oauth.ListenConfig{AnyPort: true})
				if err != nil {
					t.Fatal(err)
				}
				reg, err := c.Register(t.Context(), oauth.RegistrationRequest{
					Name: "authsome", RedirectURIs: []string{l.RedirectURI}, Scopes: []string{"openid", "offline_access"},
				})
				if err != nil {
					t.Fatalf("Register: %v", err)
				}
				if got, want := reg.Client.Secret.IsZero(), method == ""; got != want {
					t.Errorf("public = %v, want %v", got, want)
				}
				c.Client = reg.Client
				tokens, _ := logInAt(t, c, person(t), l, "openid", "offline_access")
				if _, err := c.Refresh(t.Context(), tokens); err != nil {
					t.Errorf("Refresh: %v", err)
				}
			})
		}
		c := discovered(t, s, oauth.Client{})
		_, err := c.Register(t.Context(), oauth.RegistrationRequest{Name: "x", RedirectURIs: []string{"not a URI"}})
		var e *oauth.Error
		if !errors.As(err, &e) || e.Code != "invalid_redirect_uri" {
			t.Errorf("bad redirect URI: %v, want invalid_redirect_uri", err)
		}
	})

	t.Run("client credentials", func(t *testing.T) {
		c := discovered(t, s, machine)
		c.OAuth.Resource = "urn:example:api"
		tokens, err := c.ClientCredentials(t.Context(), "api:read")
		if err != nil {
			t.Fatalf("ClientCredentials: %v", err)
		}
		if !slices.Equal(tokens.Scopes, []string{"api:read"}) || tokens.ExpiresAt.IsZero() {
			t.Errorf("scopes = %q, expires at %v", tokens.Scopes, tokens.ExpiresAt)
		}
		if !active(t, c, tokens.AccessToken) {
			t.Error("the token is not active")
		}
		c.OAuth.Resource = "not a URI"
		var e *oauth.Error
		if _, err := c.ClientCredentials(t.Context(), "api:read"); !errors.As(err, &e) || e.Code != "invalid_target" {
			t.Errorf("bad resource: %v, want invalid_target", err)
		}
	})

	t.Run("error in the callback", func(t *testing.T) {
		c := discovered(t, s, publicClient)
		l, err := oauth.Listen(t.Context(), oauth.ListenConfig{AnyPort: true})
		if err != nil {
			t.Fatal(err)
		}
		c.OAuth.AuthorizeParams = map[string]string{"prompt": "none"} // nobody is logged in
		auth, _ := c.BeginAuthorization(l.RedirectURI, "openid")
		done := make(chan error, 1)
		go func() {
			_, err := c.AwaitTokens(t.Context(), l, auth, oauth.CallbackConfig{})
			done <- err
		}()
		if _, page, err := person(t).Walk(auth.URL, ""); err != nil || !strings.Contains(page, "login_required") {
			t.Errorf("page = %q, %v", page, err)
		}
		var e *oauth.Error
		if err := <-done; !errors.As(err, &e) || e.Code != "login_required" {
			t.Errorf("got %v, want login_required", err)
		}
	})
}
