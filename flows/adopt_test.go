package flows_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"
)

const adoptedKey = `{"schema_version":1,"name":"key","display_name":"Key","auth_type":"api_key","flow":"api_key","host_url":"api.key.example",
  "api_key":{"key_pattern":"k-.*"},"export":{"env":{"api_key":"KEY"}}}`

func adoptedOAuth(base string) string {
	return `{"schema_version":1,"name":"idp","display_name":"IdP","auth_type":"oauth2","flow":"pkce","host_url":"{base_url}/api",
	  "oauth":{"base_url":"` + base + `","authorization_url":"{base_url}/authorize","token_url":"{base_url}/token"},
	  "export":{"env":{"access_token":"IDP"}}}`
}

// TestAdopt takes over tokens and holds that they are kept, used and renewed as
// those of a login are.
func TestAdopt(t *testing.T) {
	var asked []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		asked = append(asked, r.URL.Path+" "+r.PostForm.Get("grant_type")+" "+r.PostForm.Get("refresh_token")+" "+r.PostForm.Get("client_id")+" "+r.PostForm.Get("client_secret"))
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"access_token":"` + canary + `-new","token_type":"Bearer","expires_in":3600}`))
	}))
	defer server.Close()
	r := setup(t, server.Client(), adoptedOAuth(server.URL), adoptedKey)
	ctx := t.Context()
	l := flows.Login{Provider: r.entry("idp")}

	// An access token alone is used as it is, for as long as it works.
	c, err := r.Adopt(ctx, l, flows.Adopted{AccessToken: secret.New(canary + "-access"), Account: flows.Account{Label: "ada"}})
	if err != nil || c.Status != flows.Connected || c.TokenType != "Bearer" || !c.ExpiresAt.IsZero() || !c.ObtainedAt.Equal(epoch) ||
		c.TokenURL != server.URL+"/token" || len(c.HostURL) != 1 || c.HostURL[0] != server.URL+"/api" {
		t.Fatalf("got %+v, %v", c, err)
	}
	if got, err := r.Fresh(ctx, "idp", ""); err != nil || got.Credential().Reveal() != canary+"-access" || got.Account.Label != "ada" {
		t.Errorf("fresh: %v", err)
	}
	if _, err := r.Adopt(ctx, l, flows.Adopted{AccessToken: secret.New("x")}); !errors.Is(err, flows.ErrAlreadyConnected) {
		t.Errorf("over a valid one: %v", err)
	}

	// A refresh token alone is renewed at its first use, with its own client.
	l.Connection, l.ClientID, l.ClientSecret = "work", "theirs", secret.New(canary+"-client")
	if _, err := r.Adopt(ctx, l, flows.Adopted{RefreshToken: secret.New(canary + "-refresh")}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Fresh(ctx, "idp", "work")
	if err != nil || got.Credential().Reveal() != canary+"-new" || got.Status != flows.Connected {
		t.Errorf("fresh: %v", err)
	}
	if want := "/token refresh_token " + canary + "-refresh theirs " + canary + "-client"; len(asked) != 1 || asked[0] != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
	held, err := r.List(ctx)
	if err != nil || held["idp"].Configured {
		t.Errorf("another program's client became the provider's: %v", err)
	}

	// A client of one's own is kept, once.
	l.Connection, l.ClientID = "own", "mine"
	for _, id := range []string{"mine", "second"} {
		l.Force, l.ClientID = true, id
		if _, err := r.Adopt(ctx, l, flows.Adopted{AccessToken: secret.New("t"), RefreshToken: secret.New("r"), ExpiresAt: epoch.Add(time.Hour), KeepClient: true}); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := r.List(ctx); err != nil || !held["idp"].Configured {
		t.Errorf("the client was not kept: %v", err)
	}
	p := &person{}
	next := flows.Login{Provider: l.Provider, Connection: "next", Flow: provider.FlowClientCredentials}
	if c, err := r.LoginOAuth(ctx, next, p); err != nil || c.ClientID != "mine" || len(p.asked) > 0 {
		t.Errorf("the kept client does not log in: %+v, %v, asked %+v", c, err, p.asked)
	}
	if c, err := r.Get(ctx, "idp", "own"); err != nil || c.ClientID != "second" || !c.ExpiresAt.Equal(epoch.Add(time.Hour)) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	r := setup(t, nil, adoptedOAuth("https://idp.example"), adoptedKey)
	idp, key := flows.Login{Provider: r.entry("idp")}, flows.Login{Provider: r.entry("key")}
	badBase := idp
	badBase.BaseURL = "http://plain.example"
	for name, tc := range map[string]struct {
		l    flows.Login
		a    flows.Adopted
		want error
	}{
		"no token":           {idp, flows.Adopted{APIKey: secret.New("k-1")}, flows.ErrBadInput},
		"token with a break": {idp, flows.Adopted{AccessToken: secret.New(canary + "\r\nX: y")}, flows.ErrBadSecret},
		"token with a space": {idp, flows.Adopted{RefreshToken: secret.New(canary + " " + canary)}, flows.ErrBadSecret},
		"not https":          {badBase, flows.Adopted{AccessToken: secret.New("t")}, flows.ErrBadInput},
		"key of no shape":    {key, flows.Adopted{APIKey: secret.New(canary)}, flows.ErrBadSecret},
		"no key":             {key, flows.Adopted{AccessToken: secret.New("t")}, flows.ErrBadSecret},
	} {
		c, err := r.Adopt(t.Context(), tc.l, tc.a)
		if !errors.Is(err, tc.want) || c != nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if held, err := r.List(t.Context()); len(held) != 0 || err != nil {
		t.Errorf("something was stored: %v, %v", held, err)
	}
}
