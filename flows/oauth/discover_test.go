package oauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
)

// published gives a config whose server has documents at some URLs, and the URLs that were asked for.
func published(issuer string, documents map[string]string, asked *[]string) *oauth.Config {
	c := scripted(func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.String())
		if body, ok := documents[r.URL.String()]; ok {
			return response(200, "application/json", body), nil
		}
		return response(404, "text/html", "<h1>Not Found</h1>"), nil
	})
	c.OAuth = &provider.OAuth{Issuer: issuer}
	return c
}

func document(issuer string) string {
	return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"https://a.example.test/authorize","token_endpoint":"https://a.example.test/token",
		"registration_endpoint":"https://a.example.test/register","revocation_endpoint":"https://a.example.test/revoke",
		"device_authorization_endpoint":"https://a.example.test/device","scopes_supported":["x"],
		"token_endpoint_auth_methods_supported":["none","client_secret_basic"],"grant_types_supported":["authorization_code"],
		"authorization_response_iss_parameter_supported":true}`, issuer)
}

func TestDiscover(t *testing.T) {
	const plain, nested = "https://a.example.test", "https://a.example.test/tenant/one"
	for _, test := range []struct {
		name, issuer, at string
		asked            int
	}{
		{"RFC 8414", plain, plain + "/.well-known/oauth-authorization-server", 1},
		{"OpenID", plain, plain + "/.well-known/openid-configuration", 2},
		{"trailing slash", plain + "/", plain + "/.well-known/oauth-authorization-server", 1},
		{"path inserted", nested, plain + "/.well-known/oauth-authorization-server/tenant/one", 1},
		{"path appended", nested, nested + "/.well-known/openid-configuration", 2},
		{"OpenID inserted", nested, plain + "/.well-known/openid-configuration/tenant/one", 3},
		{"RFC 8414 appended", nested, nested + "/.well-known/oauth-authorization-server", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked []string
			c := published(test.issuer, map[string]string{test.at: document(test.issuer)}, &asked)
			m, err := c.Discover(t.Context())
			if err != nil {
				t.Fatalf("%v; asked %q", err, asked)
			}
			if len(asked) != test.asked {
				t.Errorf("asked %q", asked)
			}
			filled := m.Fill(&provider.OAuth{Issuer: test.issuer, TokenURL: "https://mine.example.test/token"})
			if filled.TokenURL != "https://mine.example.test/token" || filled.AuthorizationURL != "https://a.example.test/authorize" ||
				filled.RegistrationEndpoint != "https://a.example.test/register" || filled.RevocationURL != "https://a.example.test/revoke" ||
				filled.DeviceAuthorizationURL != "https://a.example.test/device" {
				t.Errorf("filled = %+v", filled)
			}
			if !m.IssInCallback || !slices.Equal(m.AuthMethods, []string{"none", "client_secret_basic"}) {
				t.Errorf("metadata = %+v", m)
			}
			c.Metadata, c.OAuth = m, filled
			auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
			if err != nil || auth.Issuer != test.issuer || !auth.RequireIss {
				t.Errorf("authorization = %+v, %v", auth, err)
			}
		})
	}
}

func TestDiscoverRefuses(t *testing.T) {
	const issuer = "https://a.example.test"
	for _, test := range []struct {
		name, issuer, body string
		status             int
		kind               error
		says               string
	}{
		{"another issuer", issuer, document("https://evil.example.test"), 200, oauth.ErrBadResponse, "https://evil.example.test"},
		{"issuer with a slash", issuer, document(issuer + "/"), 200, oauth.ErrBadResponse, "issuer"},
		{"no issuer", issuer, `{"token_endpoint":"https://a.example.test/token"}`, 200, oauth.ErrBadResponse, "issuer"},
		{"two issuers", issuer, `{"issuer":"https://evil.example.test","issuer":"https://a.example.test"}`, 200, oauth.ErrBadResponse, "issuer twice"},
		{"plain http endpoint", issuer, `{"issuer":"https://a.example.test","token_endpoint":"http://a.example.test/token"}`, 200, oauth.ErrInsecureURL, "https"},
		{"script endpoint", issuer, `{"issuer":"https://a.example.test","authorization_endpoint":"javascript:alert(1)"}`, 200, oauth.ErrInsecureURL, ""},
		{"web page", issuer, `<html>`, 200, oauth.ErrBadResponse, "web page"},
		{"nothing there", issuer, ``, 404, oauth.ErrRejected, "no metadata at"},
		{"down", issuer, ``, 503, oauth.ErrUnavailable, ""},
		{"issuer on plain http", "http://a.example.test", document("http://a.example.test"), 200, oauth.ErrInsecureURL, ""},
		{"no issuer in the definition", "", `{}`, 200, oauth.ErrUnsupported, "issuer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := offline(test.status, "application/json", test.body)
			c.OAuth.Issuer = test.issuer
			_, err := c.Discover(t.Context())
			e := failureOf(t, err, test.kind)
			if !strings.Contains(e.Description, test.says) {
				t.Errorf("got %v, want %q in it", e, test.says)
			}
			checkText(t, err)
		})
	}
	var asked []string
	c := published(issuer, nil, &asked)
	if _, err := c.Discover(t.Context()); err == nil {
		t.Error("nothing was published and something was found")
	}
	for _, u := range asked {
		if !strings.HasPrefix(u, issuer+"/.well-known/") {
			t.Errorf("asked %s", u)
		}
	}
}

func TestRegister(t *testing.T) {
	const redirect = "http://127.0.0.1:7999/callback"
	for _, test := range []struct {
		name      string
		supported []string // by the server's metadata
		preferred string   // by the definition
		answer    string
		asked     string // token_endpoint_auth_method
		want      oauth.Client
		secret    string
		kind      error
	}{
		{"public", nil, "", `{"client_id":"id"}`, "none", oauth.Client{ID: "id", AuthMethod: "none"}, "", nil},
		{"public by metadata", []string{"client_secret_basic", "none"}, "", `{"client_id":"id","token_endpoint_auth_method":"none"}`, "none", oauth.Client{ID: "id", AuthMethod: "none"}, "", nil},
		{"confidential only", []string{"private_key_jwt", "client_secret_basic"}, "", `{"client_id":"id","client_secret":"s","token_endpoint_auth_method":"client_secret_basic"}`, "client_secret_basic", oauth.Client{ID: "id", AuthMethod: "client_secret_basic"}, "s", nil},
		{"the definition prefers", []string{"none", "client_secret_post"}, "client_secret_post", `{"client_id":"id","client_secret":"s"}`, "client_secret_post", oauth.Client{ID: "id", AuthMethod: "client_secret_post"}, "s", nil},
		{"secret without a method", nil, "", `{"client_id":"id","client_secret":"s"}`, "none", oauth.Client{ID: "id", AuthMethod: "client_secret_basic"}, "s", nil},
		{"the server decides", nil, "", `{"client_id":"id","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}`, "none", oauth.Client{ID: "id", AuthMethod: "client_secret_post"}, "s", nil},
		{"redirect URI echoed", nil, "", `{"client_id":"id","redirect_uris":["` + redirect + `"]}`, "none", oauth.Client{ID: "id", AuthMethod: "none"}, "", nil},
		{"other redirect URI", nil, "", `{"client_id":"id","redirect_uris":["https://evil.example.test/"]}`, "none", oauth.Client{}, "", oauth.ErrBadResponse},
		{"no client", nil, "", `{"client_secret":"s"}`, "none", oauth.Client{}, "", oauth.ErrBadResponse},
		{"strange method", nil, "", `{"client_id":"id","token_endpoint_auth_method":"private_key_jwt"}`, "none", oauth.Client{}, "", oauth.ErrBadResponse},
		{"secret that is none", nil, "", `{"client_id":"id","client_secret":{"a":1}}`, "none", oauth.Client{}, "", oauth.ErrBadResponse},
		{"refused", nil, "", `{"error":"invalid_client_metadata","error_description":"no"}`, "none", oauth.Client{}, "", oauth.ErrRejected},
		{"web page", nil, "", `<html>`, "none", oauth.Client{}, "", oauth.ErrBadResponse},
	} {
		t.Run(test.name, func(t *testing.T) {
			var request map[string]any
			c := scripted(func(r *http.Request) (*http.Response, error) {
				if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
					t.Error(err)
				}
				if r.Header.Get("Authorization") != "" {
					t.Error("a registration is not authenticated")
				}
				return response(201, "application/json", test.answer), nil
			})
			c.OAuth.ScopeSeparator = ","
			c.OAuth.TokenAuthMethod = test.preferred
			if test.supported != nil {
				c.Metadata = &oauth.Metadata{AuthMethods: test.supported}
			}
			reg, err := c.Register(t.Context(), oauth.RegistrationRequest{Name: "authsome", RedirectURIs: []string{redirect}, Scopes: []string{"x", "y"}})
			if fmt.Sprint(request["redirect_uris"]) != "["+redirect+"]" || request["token_endpoint_auth_method"] != test.asked || request["scope"] != "x y" {
				t.Errorf("request = %v", request)
			}
			if test.kind != nil {
				failureOf(t, err, test.kind)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if reg.Client.ID != test.want.ID || reg.Client.AuthMethod != test.want.AuthMethod || reg.Client.Secret.Reveal() != test.secret {
				t.Errorf("client = %+v, secret %q", reg.Client, reg.Client.Secret.Reveal())
			}
			if !slices.Equal(reg.RedirectURIs, []string{redirect}) {
				t.Errorf("redirect URIs = %q", reg.RedirectURIs)
			}
		})
	}
}

func TestRegisterDetails(t *testing.T) {
	c := offline(200, "application/json", `{"client_id":"id","client_secret":"s","client_secret_expires_at":1800000000,
		"registration_access_token":"rat","registration_client_uri":"https://a.example.test/register/id"}`)
	reg, err := c.Register(t.Context(), oauth.RegistrationRequest{RedirectURIs: []string{"http://127.0.0.1/cb"}})
	if err != nil {
		t.Fatal(err)
	}
	if !reg.SecretExpiresAt.Equal(time.Unix(1800000000, 0)) || reg.ManagementToken.Reveal() != "rat" || reg.ManagementURL != "https://a.example.test/register/id" {
		t.Errorf("got %+v", reg)
	}
	c.OAuth.RegistrationEndpoint = ""
	if _, err := c.Register(t.Context(), oauth.RegistrationRequest{}); !errors.Is(err, oauth.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}
