package oauth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth"
	"authsome/flows/oauth/oauthtest"
	"authsome/vault/secret"
)

func TestZitadel(t *testing.T) {
	s := oauthtest.StartZitadel(t, oauthtest.Options{})
	person := func(t *testing.T) *oauthtest.Browser {
		return oauthtest.NewBrowser(t, s, map[string]string{"username": "test-user2", "password": "verysecure"})
	}
	confidential := oauth.Client{ID: "basic", Secret: secret.New("basic+secret/%41 &=:"), AuthMethod: oauth.AuthBasic}

	t.Run("pkce and refresh", func(t *testing.T) {
		for _, test := range []struct {
			client oauth.Client
			listen oauth.ListenConfig
		}{
			{oauth.Client{ID: "public"}, oauth.ListenConfig{AnyPort: true}},
			{confidential, oauth.ListenConfig{}}, // registered with the default port
		} {
			t.Run(test.client.ID, func(t *testing.T) {
				c := discovered(t, s, test.client)
				l := listenRetry(t, test.listen)
				first, _ := logInAt(t, c, person(t), l, "openid", "email", "offline_access")
				if first.Account.ID != "id2" {
					t.Errorf("account = %+v, want id2", first.Account)
				}
				if first.ExpiresAt.IsZero() || first.RefreshToken.IsZero() {
					t.Fatal("the token set is incomplete")
				}
				second, err := c.Refresh(t.Context(), first)
				if err != nil {
					t.Fatalf("Refresh: %v", err)
				}
				if second.RefreshToken.Equal(first.RefreshToken) {
					t.Error("the refresh token was not rotated")
				}
				if _, err := c.Refresh(t.Context(), first); !errors.Is(err, oauth.ErrInvalidGrant) {
					t.Errorf("replay: %v, want ErrInvalidGrant", err)
				}
				if err := c.Revoke(t.Context(), second); err != nil {
					t.Errorf("Revoke: %v", err)
				}
				if _, err := c.Refresh(t.Context(), second); !errors.Is(err, oauth.ErrInvalidGrant) {
					t.Errorf("after revocation: %v, want ErrInvalidGrant", err)
				}
			})
		}
	})

	t.Run("device", func(t *testing.T) {
		for _, test := range []struct {
			action string
			want   error
		}{{"allowed", nil}, {"denied", oauth.ErrAccessDenied}} {
			t.Run(test.action, func(t *testing.T) {
				c := discovered(t, s, oauth.Client{ID: "device", Secret: secret.New("device+secret"), AuthMethod: oauth.AuthBasic})
				d, err := c.BeginDevice(t.Context(), "profile") // for openid it fails: it takes the login for the user's id
				if err != nil {
					t.Fatalf("BeginDevice: %v", err)
				}
				d.Interval = time.Second
				b := person(t)
				b.Fill["user_code"] = d.UserCode
				if _, text, err := b.Walk(d.VerificationURI, ""); err != nil || !strings.Contains(text, "Confirm device authorization") {
					t.Fatalf("the device page ended with %q, %v", text, err)
				}
				answer := s.Issuer + "/device/confirm?action=" + test.action // the page's buttons need scripts
				if _, text, err := b.Walk(answer, ""); err != nil || !strings.Contains(text, "Device authorization "+test.action) {
					t.Fatalf("the device page ended with %q, %v", text, err)
				}
				tokens, err := c.PollDevice(t.Context(), d)
				if !errors.Is(err, test.want) {
					t.Fatalf("PollDevice: %v, want %v", err, test.want)
				}
				if err == nil && tokens.AccessToken.IsZero() {
					t.Error("no access token")
				}
			})
		}
	})

	t.Run("client credentials", func(t *testing.T) {
		c := discovered(t, s, oauth.Client{ID: "sid1", Secret: secret.New("verysecret"), AuthMethod: oauth.AuthBasic})
		tokens, err := c.ClientCredentials(t.Context(), "openid")
		if err != nil || tokens.AccessToken.IsZero() {
			t.Errorf("ClientCredentials: %v", err)
		}
	})

	t.Run("wrong secret", func(t *testing.T) {
		c := discovered(t, s, confidential)
		c.Client.Secret = secret.New("canary-wrong-secret")
		_, err := c.Refresh(t.Context(), &oauth.TokenSet{RefreshToken: secret.New("canary-refresh")})
		if !errors.Is(err, oauth.ErrInvalidClient) {
			t.Errorf("got %v, want ErrInvalidClient", err)
		}
	})

	t.Run("no registration", func(t *testing.T) {
		c := discovered(t, s, oauth.Client{})
		_, err := c.Register(t.Context(), oauth.RegistrationRequest{Name: "x", RedirectURIs: []string{"http://127.0.0.1:7999/callback"}})
		if !errors.Is(err, oauth.ErrUnsupported) {
			t.Errorf("got %v, want ErrUnsupported", err)
		}
	})
}

// listenRetry waits for a port that another test of this machine may hold for a moment.
func listenRetry(t *testing.T, config oauth.ListenConfig) *oauth.Listener {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		l, err := oauth.Listen(t.Context(), config)
		if err == nil {
			return l
		}
		if !errors.Is(err, oauth.ErrPortUnavailable) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
