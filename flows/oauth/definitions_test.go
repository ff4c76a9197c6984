package oauth_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"authsome/flows/oauth"
	"authsome/provider"
)

// What a definition may say is what is acted on here, and the other way round.
func TestDefinitionValues(t *testing.T) {
	const definition = `{"schema_version":1,"name":"x","display_name":"X","auth_type":"oauth2","flow":"pkce","host_url":"api.example.com",
		"oauth":{"authorization_url":"https://a.example.com/authorize","token_url":"https://a.example.com/token","revocation_url":"https://a.example.com/revoke",%q:%q}}`
	for key, values := range map[string][]string{
		"token_auth_method":    {oauth.AuthPost, oauth.AuthBasic, oauth.AuthNone},
		"revocation_style":     {oauth.RevokeRFC7009, oauth.RevokeDeletePath, oauth.RevokeBearerPost, oauth.RevokeBasicDelete},
		"token_request":        {"form", "json"},
		"device_token_request": {"oauth2_form", "json"},
	} {
		for _, value := range values {
			d, err := provider.Parse(fmt.Appendf(nil, definition, key, value))
			if err != nil {
				t.Errorf("%s %s: %v", key, value, err)
				continue
			}
			c := offline(200, "application/json", `{"access_token":"a"}`)
			c.OAuth = d.OAuth
			if _, err := c.Refresh(t.Context(), held); err != nil {
				t.Errorf("%s %s: Refresh: %v", key, value, err)
			}
			if err := c.Revoke(t.Context(), held); err != nil {
				t.Errorf("%s %s: Revoke: %v", key, value, err)
			}
		}
	}
}

// Every bundled definition makes requests that this package is willing to send.
func TestBundledDefinitions(t *testing.T) {
	registry, errs := provider.Load(t.TempDir())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, entry := range registry.All() {
		if entry.OAuth == nil {
			continue
		}
		t.Run(entry.Name, func(t *testing.T) {
			base := ""
			if entry.NeedsBaseURL() && entry.DefaultBaseURL() == "" {
				base = "https://self-managed.example.com"
			}
			d, err := entry.Resolve(base)
			if err != nil {
				t.Fatal(err)
			}
			path := cmp.Or(d.OAuth.TokenPath, "access_token")
			body := `{"` + strings.ReplaceAll(path, ".", `":{"`) + `":"a"` + strings.Repeat("}", strings.Count(path, ".")+1)
			c := offline(200, "application/json", body)
			c.OAuth = d.OAuth
			auth := &oauth.Authorization{RedirectURI: "http://127.0.0.1:7999/callback"}
			if d.OAuth.AuthorizationURL != "" {
				if auth, err = c.BeginAuthorization(auth.RedirectURI, d.OAuth.Scopes...); err != nil {
					t.Errorf("BeginAuthorization: %v", err)
				}
			}
			if d.OAuth.TokenURL != "" {
				if _, err := c.Exchange(t.Context(), auth, held.AccessToken); err != nil {
					t.Errorf("Exchange: %v", err)
				}
			}
			if d.OAuth.RevocationURL != "" {
				if err := c.Revoke(t.Context(), held); err != nil {
					t.Errorf("Revoke: %v", err)
				}
			}
		})
	}
}
