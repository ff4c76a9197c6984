package oauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

// recorded is what a server got.
type recorded struct {
	method, url, authorization, contentType, body string
	header                                        http.Header
}

// recording gives a config whose server accepts everything and notes it.
func recording(t *testing.T, got *[]recorded) *oauth.Config {
	return scripted(func(r *http.Request) (*http.Response, error) {
		rec := recorded{
			method: r.Method, url: r.URL.String(), authorization: r.Header.Get("Authorization"),
			contentType: r.Header.Get("Content-Type"), header: r.Header,
		}
		if r.Body != nil {
			rec.body = readAll(t, r.Body)
		}
		*got = append(*got, rec)
		return response(200, "application/json", `{"access_token":"a","device_code":"d","user_code":"u","verification_uri":"https://x.example.test"}`), nil
	})
}

// The bodies are compared in a canonical spelling: sorted names, decoded values.
func canonical(t *testing.T, contentType, body string) string {
	t.Helper()
	switch contentType {
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(map[string][]string(values))
	case "application/json":
		var object map[string]any
		if err := json.Unmarshal([]byte(body), &object); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(object)
	}
	return body
}

func TestTokenRequests(t *testing.T) {
	const form, asJSON = "application/x-www-form-urlencoded", "application/json"
	// RFC 6749 section 2.3.1: base64(urlencode("cli:ent+") + ":" + urlencode("p+/:% w")).
	odd := oauth.Client{ID: "cli:ent+", Secret: secret.New("p+/:% w")}
	const oddBasic = "Basic Y2xpJTNBZW50JTJCOnAlMkIlMkYlM0ElMjUrdw=="
	exchange := func(t *testing.T, c *oauth.Config) error {
		auth := &oauth.Authorization{RedirectURI: "http://127.0.0.1:7999/callback", Verifier: secret.New("v")}
		_, err := c.Exchange(t.Context(), auth, secret.New("co+de"))
		return err
	}
	refresh := func(t *testing.T, c *oauth.Config) error {
		_, err := c.Refresh(t.Context(), &oauth.TokenSet{RefreshToken: secret.New("r")})
		return err
	}
	for _, test := range []struct {
		name          string
		client        oauth.Client
		definition    provider.OAuth
		do            func(*testing.T, *oauth.Config) error
		authorization string
		contentType   string
		body          string
	}{
		{"post is the default", odd, provider.OAuth{}, refresh, "", form,
			"map[client_id:[cli:ent+] client_secret:[p+/:% w] grant_type:[refresh_token] refresh_token:[r]]"},
		{"basic", odd, provider.OAuth{TokenAuthMethod: "client_secret_basic"}, refresh, oddBasic, form,
			"map[grant_type:[refresh_token] refresh_token:[r]]"},
		{"none", odd, provider.OAuth{TokenAuthMethod: "none"}, refresh, "", form,
			"map[client_id:[cli:ent+] grant_type:[refresh_token] refresh_token:[r]]"},
		{"without a secret basic is none", oauth.Client{ID: "x"}, provider.OAuth{TokenAuthMethod: "client_secret_basic"}, refresh, "", form,
			"map[client_id:[x] grant_type:[refresh_token] refresh_token:[r]]"},
		{"the client's own method wins", oauth.Client{ID: odd.ID, Secret: odd.Secret, AuthMethod: oauth.AuthBasic}, provider.OAuth{TokenAuthMethod: "client_secret_post"}, refresh, oddBasic, form,
			"map[grant_type:[refresh_token] refresh_token:[r]]"},
		{"JSON", odd, provider.OAuth{TokenRequest: "json", TokenAuthMethod: "client_secret_basic"}, exchange, oddBasic, asJSON,
			"map[code:co+de code_verifier:v grant_type:authorization_code redirect_uri:http://127.0.0.1:7999/callback]"},
		{"exchange", odd, provider.OAuth{}, exchange, "", form,
			"map[client_id:[cli:ent+] client_secret:[p+/:% w] code:[co+de] code_verifier:[v] grant_type:[authorization_code] redirect_uri:[http://127.0.0.1:7999/callback]]"},
		{"audience and resource", oauth.Client{ID: "x"}, provider.OAuth{Audience: "api.example", Resource: "https://api.example"}, refresh, "", form,
			"map[audience:[api.example] client_id:[x] grant_type:[refresh_token] refresh_token:[r] resource:[https://api.example]]"},
		{"client credentials", odd, provider.OAuth{ScopeSeparator: ",", Audience: "a"}, func(t *testing.T, c *oauth.Config) error {
			_, err := c.ClientCredentials(t.Context(), "x", "y")
			return err
		}, "", form, "map[audience:[a] client_id:[cli:ent+] client_secret:[p+/:% w] grant_type:[client_credentials] scope:[x,y]]"},
		{"device", oauth.Client{ID: "x"}, provider.OAuth{Resource: "urn:r"}, func(t *testing.T, c *oauth.Config) error {
			_, err := c.BeginDevice(t.Context(), "x", "y")
			return err
		}, "", form, "map[client_id:[x] resource:[urn:r] scope:[x y]]"},
		{"device as JSON", oauth.Client{}, provider.OAuth{DeviceTokenRequest: "json"}, func(t *testing.T, c *oauth.Config) error {
			_, err := c.BeginDevice(t.Context())
			return err
		}, "", asJSON, "map[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []recorded
			c := recording(t, &got)
			urls := *c.OAuth
			test.definition.TokenURL, test.definition.DeviceAuthorizationURL = urls.TokenURL, urls.DeviceAuthorizationURL
			test.definition.TokenHeaders = map[string]string{"X-Version": "2026-01-01", "Content-Type": "text/odd", "Authorization": "odd"}
			if test.authorization == "" {
				delete(test.definition.TokenHeaders, "Authorization")
			}
			c.OAuth, c.Client = &test.definition, test.client
			if err := test.do(t, c); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].method != http.MethodPost {
				t.Fatalf("got %+v", got)
			}
			r := got[0]
			if r.authorization != test.authorization || r.contentType != test.contentType {
				t.Errorf("authorization %q, content type %q, want %q, %q", r.authorization, r.contentType, test.authorization, test.contentType)
			}
			if body := canonical(t, r.contentType, r.body); body != test.body {
				t.Errorf("body\n got %s\nwant %s", body, test.body)
			}
			if r.header.Get("X-Version") != "2026-01-01" || r.header.Get("Accept") != "application/json" || r.header.Get("User-Agent") != "authsome" {
				t.Errorf("header = %v", r.header)
			}
		})
	}
}

func TestRevocationRequests(t *testing.T) {
	refresh, access := secret.New("re/fresh"), secret.New("access")
	both := &oauth.TokenSet{AccessToken: access, RefreshToken: refresh}
	for _, test := range []struct {
		name       string
		definition provider.OAuth
		tokens     *oauth.TokenSet
		want       []string // method, URL, Authorization and body of each request
	}{
		{"standard", provider.OAuth{RevocationURL: "https://a.example.test/revoke", TokenAuthMethod: "client_secret_basic"}, both, []string{
			"POST https://a.example.test/revoke Basic aWQ6cyUyQg== map[token:[re/fresh] token_type_hint:[refresh_token]]",
			"POST https://a.example.test/revoke Basic aWQ6cyUyQg== map[token:[access] token_type_hint:[access_token]]",
		}},
		{"access token only", provider.OAuth{RevocationURL: "https://a.example.test/revoke", RevocationStyle: "rfc7009"}, &oauth.TokenSet{AccessToken: access}, []string{
			"POST https://a.example.test/revoke  map[client_id:[id] client_secret:[s+] token:[access] token_type_hint:[access_token]]",
		}},
		{"JSON", provider.OAuth{RevocationURL: "https://a.example.test/revoke", TokenRequest: "json"}, &oauth.TokenSet{AccessToken: access}, []string{
			"POST https://a.example.test/revoke  map[client_id:id client_secret:s+ token:access token_type_hint:access_token]",
		}},
		{"path", provider.OAuth{RevocationURL: "https://a.example.test/tokens/", RevocationStyle: "delete_path"}, both, []string{
			"DELETE https://a.example.test/tokens/re%2Ffresh  ",
		}},
		{"bearer", provider.OAuth{RevocationURL: "https://a.example.test/revoke", RevocationStyle: "bearer_post"}, both, []string{
			"POST https://a.example.test/revoke Bearer access map[]",
		}},
		{"basic delete", provider.OAuth{RevocationURL: "https://a.example.test/applications/{client_id}/token", RevocationStyle: "basic_delete"}, both, []string{
			"DELETE https://a.example.test/applications/id/token Basic aWQ6cyUyQg== map[access_token:access]",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []recorded
			c := recording(t, &got)
			c.OAuth, c.Client = &test.definition, oauth.Client{ID: "id", Secret: secret.New("s+")}
			if err := c.Revoke(t.Context(), test.tokens); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, r := range got {
				lines = append(lines, fmt.Sprint(r.method, " ", r.url, " ", r.authorization, " ", canonical(t, r.contentType, r.body)))
			}
			if fmt.Sprintf("%q", lines) != fmt.Sprintf("%q", test.want) {
				t.Errorf("got\n%q\nwant\n%q", lines, test.want)
			}
		})
	}
}

func TestRevocationAnswers(t *testing.T) {
	for _, test := range []struct {
		status      int
		contentType string
		body        string
		want        error
	}{
		{200, "application/json", ``, nil},
		{204, "", ``, nil},
		{200, "text/html", `<p>Revoked</p>`, nil}, // RFC 7009 section 2.2: the body means nothing
		{200, "application/json", `{"ok":true,"revoked":true}`, nil},
		{200, "application/json", `{"status":"success","message":"done"}`, nil},
		{200, "application/json", `{"ok":false,"error":"not_allowed"}`, oauth.ErrRejected},
		{400, "application/json", `{"error":"invalid_token"}`, nil}, // gone already
		{400, "application/json", `{"error":"token_revoked"}`, nil},
		{400, "application/json", `{"error":"unsupported_token_type"}`, oauth.ErrRejected},
		{401, "application/json", `{"error":"invalid_client"}`, oauth.ErrInvalidClient},
		{404, "text/html", `<h1>Not found`, oauth.ErrBadResponse},
		{302, "text/html", ``, oauth.ErrBadResponse},
		{503, "text/plain", `later`, oauth.ErrUnavailable},
	} {
		t.Run(fmt.Sprint(test.status, test.body), func(t *testing.T) {
			err := offline(test.status, test.contentType, test.body).Revoke(t.Context(), held)
			if test.want == nil {
				if err != nil {
					t.Errorf("got %v, want success", err)
				}
				return
			}
			failureOf(t, err, test.want)
			checkText(t, err)
			if n := strings.Count(err.Error(), "revoke:"); n != 1 { // the same for both tokens
				t.Errorf("said %d times: %v", n, err)
			}
		})
	}
	for name, change := range map[string]func(*provider.OAuth){
		"no URL":          func(o *provider.OAuth) { o.RevocationURL = "" },
		"unknown style":   func(o *provider.OAuth) { o.RevocationStyle = "magic" },
		"no refresh":      func(o *provider.OAuth) { o.RevocationStyle = oauth.RevokeDeletePath },
		"no access token": func(o *provider.OAuth) { o.RevocationStyle = oauth.RevokeBearerPost },
	} {
		c := offline(200, "", "")
		change(c.OAuth)
		if err := c.Revoke(t.Context(), &oauth.TokenSet{}); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			failureOf(t, err, oauth.ErrUnsupported)
		}
	}
}
