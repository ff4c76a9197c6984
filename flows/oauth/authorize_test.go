package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

func TestAuthorizationURL(t *testing.T) {
	const redirect = "http://127.0.0.1:7999/callback"
	for _, test := range []struct {
		name       string
		definition provider.OAuth
		scopes     []string
		want       map[string]string // besides client_id, redirect_uri, response_type and state
	}{
		{"plain", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize"}, nil, nil},
		{"scopes", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize"}, []string{"x", "y:z"}, map[string]string{"scope": "x y:z"}},
		{"separator", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize", ScopeSeparator: ","}, []string{"x", "y"}, map[string]string{"scope": "x,y"}},
		{"existing query", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize?owner=user&v=1+2#top"}, nil, map[string]string{"owner": "user", "v": "1 2"}},
		{"existing query that repeats ours", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize?client_id=evil&state=fixed&response_type=token"}, nil, nil},
		{"extra parameters", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize?prompt=none", AuthorizeParams: map[string]string{"prompt": "consent", "user_scope": "u:x"}},
			[]string{"x"}, map[string]string{"prompt": "consent", "user_scope": "u:x", "scope": "x"}},
		{"audience and resource", provider.OAuth{AuthorizationURL: "https://a.example.test/authorize", Audience: "api.example", Resource: "https://api.example"},
			nil, map[string]string{"audience": "api.example", "resource": "https://api.example"}},
		{"loopback", provider.OAuth{AuthorizationURL: "http://127.0.0.1:1/authorize?"}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &oauth.Config{OAuth: &test.definition, Client: oauth.Client{ID: "cli&ent"}}
			auth, err := c.BeginAuthorization(redirect, test.scopes...)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(auth.URL)
			if err != nil {
				t.Fatal(err)
			}
			got := u.Query()
			want := url.Values{"client_id": {"cli&ent"}, "redirect_uri": {redirect}, "response_type": {"code"}, "state": {auth.State.Reveal()}}
			for name, value := range test.want {
				want.Set(name, value)
			}
			if got.Encode() != want.Encode() {
				t.Errorf("query\n got %s\nwant %s", got.Encode(), want.Encode())
			}
			if base, _, _ := strings.Cut(test.definition.AuthorizationURL, "?"); !strings.HasPrefix(auth.URL, base+"?") || u.Fragment != "" {
				t.Errorf("URL = %s", auth.URL)
			}
		})
	}
}

func TestPKCE(t *testing.T) {
	c := scripted(nil)
	seen := map[string]bool{}
	for range 100 {
		auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(auth.URL)
		sum := sha256.Sum256([]byte(auth.Verifier.Reveal()))
		if got, want := u.Query().Get("code_challenge"), base64.RawURLEncoding.EncodeToString(sum[:]); got != want {
			t.Fatalf("code_challenge = %q, want %q", got, want)
		}
		if u.Query().Get("code_challenge_method") != "S256" || strings.Contains(auth.URL, auth.Verifier.Reveal()) {
			t.Fatalf("URL = %s", auth.URL)
		}
		state, err := base64.RawURLEncoding.DecodeString(auth.State.Reveal())
		if err != nil || len(state) != 32 {
			t.Fatalf("state has %d bytes, %v", len(state), err)
		}
		if seen[auth.State.Reveal()] || seen[auth.Verifier.Reveal()] {
			t.Fatal("a state or verifier came twice")
		}
		seen[auth.State.Reveal()], seen[auth.Verifier.Reveal()] = true, true
	}
	c.OAuth.PKCE = false
	auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
	if err != nil || strings.Contains(auth.URL, "challenge") || !auth.Verifier.IsZero() {
		t.Errorf("without pkce: %v, %v", auth, err)
	}
}

func TestAuthorizationRefused(t *testing.T) {
	for _, name := range []string{"state", "redirect_uri", "client_id", "code_challenge", "code_challenge_method", "response_type", "response_mode", "request_uri"} {
		c := scripted(nil)
		c.OAuth.AuthorizeParams = map[string]string{name: "x"}
		_, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
		failureOf(t, err, oauth.ErrUnsupported)
	}
	for _, u := range []string{"", "http://a.example.test/", "javascript:alert(1)", "https://a.example.test/?%zz"} {
		c := scripted(nil)
		c.OAuth.AuthorizationURL = u
		if _, err := c.BeginAuthorization("http://127.0.0.1:7999/callback"); err == nil {
			t.Errorf("%q was taken as authorization_url", u)
		}
	}
	for _, uri := range []string{"https://127.0.0.1/cb", "http://a.example.test/cb", "http://127.0.0.1.example.test/", "/cb", "http://127.0.0.1/cb?x=1", "http://u@127.0.0.1/"} {
		if _, err := oauth.NewCallback(&oauth.Authorization{RedirectURI: uri, State: secret.New("s")}, oauth.CallbackConfig{}); err == nil {
			t.Errorf("%q was taken as redirect URI", uri)
		}
	}
}
