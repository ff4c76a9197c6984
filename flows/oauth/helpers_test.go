package oauth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

// now is the time at which the tests take place.
var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// canary is part of every secret that the tests send or receive.
const canary = "c4n4ry"

var (
	canaryClient = oauth.Client{ID: "client", Secret: secret.New(canary + "-client/secret+")}
	held         = &oauth.TokenSet{
		AccessToken: secret.New(canary + "-old-access"), RefreshToken: secret.New(canary + "-old-refresh"),
		Scopes: []string{"old"}, ExpiresAt: now.Add(time.Minute), Account: oauth.Account{ID: "1", Label: "ada"},
	}
)

// roundTripper answers requests without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// response makes an answer.
func response(status int, contentType, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {contentType}},
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// offline gives a config whose every request gets one answer.
func offline(status int, contentType, body string) *oauth.Config {
	return scripted(func(*http.Request) (*http.Response, error) { return response(status, contentType, body), nil })
}

func scripted(f roundTripper) *oauth.Config {
	const base = "https://auth.example.test"
	return &oauth.Config{
		OAuth: &provider.OAuth{
			Issuer: base, AuthorizationURL: base + "/authorize", TokenURL: base + "/token",
			RevocationURL: base + "/revoke", DeviceAuthorizationURL: base + "/device",
			RegistrationEndpoint: base + "/register", PKCE: true,
		},
		Client: canaryClient, HTTP: &http.Client{Transport: f}, Clock: clock,
	}
}

// online gives a config whose endpoints are a TLS server on loopback.
func online(t *testing.T, handler http.HandlerFunc) *oauth.Config {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	t.Cleanup(s.Client().CloseIdleConnections)
	c := scripted(nil)
	c.HTTP = s.Client()
	c.OAuth = &provider.OAuth{
		Issuer: s.URL, AuthorizationURL: s.URL + "/authorize", TokenURL: s.URL + "/token",
		RevocationURL: s.URL + "/revoke", DeviceAuthorizationURL: s.URL + "/device",
		RegistrationEndpoint: s.URL + "/register", PKCE: true,
	}
	return c
}

// failureOf asserts that an error is of this package and matches kind.
func failureOf(t *testing.T, err, kind error) *oauth.Error {
	t.Helper()
	var e *oauth.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *oauth.Error that is %q", err, kind)
	}
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %q", err, kind)
	}
	return e
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// exchange completes a callback.
func exchange(c *oauth.Config, auth *oauth.Authorization) func(context.Context, secret.Text) error {
	return func(ctx context.Context, code secret.Text) error {
		_, err := c.Exchange(ctx, auth, code)
		return err
	}
}
