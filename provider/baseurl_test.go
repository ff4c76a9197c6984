package provider_test

import (
	"strings"
	"testing"

	"authsome/provider"

	"github.com/google/go-cmp/cmp"
)

const selfHosted = `{"schema_version":1,"name":"forge","display_name":"Forge","auth_type":"oauth2","flow":"pkce",
	"host_url":["api.forge.com","{base_url}/api","{base_url}"],
	"oauth":{"base_url":"https://forge.com/","issuer":"{base_url}","authorization_url":"{base_url}/authorize","token_url":"{base_url}/token","revocation_url":"{base_url}/apps/{client_id}/token",
		"resource":"{base_url}/r","scopes":["a"],"authorize_params":{"a":"b"}},
	"inject":[{"manner":"bearer"},{"manner":"basic","username":"{credential}","host_url":["{base_url}"]}]}`

func TestRoutes(t *testing.T) {
	d := mustParse(t, selfHosted)
	public := []string{"api.forge.com", "https://forge.com/api", "https://forge.com"}
	for base, want := range map[string][]string{
		"":                                public,
		"https://forge.com":               public,
		"https://forge.com/":              public,
		"https://FORGE.com:443":           public,
		"https://forge.corp.example":      {"https://forge.corp.example/api", "https://forge.corp.example"},
		"https://corp.example:8443/f/":    {"https://corp.example:8443/f/api", "https://corp.example:8443/f"},
		"https://forge.com:8443":          {"https://forge.com:8443/api", "https://forge.com:8443"},
		"https://forge.com/tenant":        {"https://forge.com/tenant/api", "https://forge.com/tenant"},
		"https://10.0.0.5":                {"https://10.0.0.5/api", "https://10.0.0.5"},
		"https://localhost:4443":          {"https://localhost:4443/api", "https://localhost:4443"},
		"https://forge.com.evil.example/": {"https://forge.com.evil.example/api", "https://forge.com.evil.example"},
	} {
		got, err := d.Routes(base)
		if err != nil {
			t.Errorf("Routes(%q): %v", base, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Routes(%q) (-want +got):\n%s", base, diff)
		}
	}
	for _, base := range []string{"http://forge.corp.example", "http://localhost:8080", "forge.corp.example", "https://u@forge.com", "https://forge.com?x", "https://forge.com/../x", "https://127.1", "ftp://forge.com", "{base_url}"} {
		if got, err := d.Routes(base); err == nil {
			t.Errorf("Routes(%q) = %q, want an error", base, got)
		}
	}
}

// The credential of a self-managed instance never goes to the public host:
// where no entry depends on the base URL, there is nowhere to send it.
func TestRoutesFailClosed(t *testing.T) {
	d := mustParse(t, with(t, oauthBase, map[string]any{"oauth.base_url": "https://acme.com", "oauth.token_url": "{base_url}/token"}))
	if got, err := d.Routes("https://acme.corp.example"); err == nil {
		t.Errorf("Routes = %q, want an error", got)
	}
	if got, err := d.Routes(""); err != nil || len(got) != 1 {
		t.Errorf("Routes(\"\") = %q, %v", got, err)
	}
	d = mustParse(t, with(t, apiKeyBase, map[string]any{"host_url": []string{"api.acme.com", "{base_url}/api"}}))
	if got, err := d.Routes(""); err == nil {
		t.Errorf("Routes without a base URL = %q, want an error", got)
	}
	if got, err := d.Routes("https://a.acme.com"); err != nil || len(got) != 1 || got[0] != "https://a.acme.com/api" {
		t.Errorf("Routes = %q, %v", got, err)
	}
}

func TestResolve(t *testing.T) {
	d := mustParse(t, selfHosted)
	before, _ := d.MarshalJSON()
	r, err := d.Resolve("https://corp.example/f/")
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		r.OAuth.Issuer: "https://corp.example/f", r.OAuth.AuthorizationURL: "https://corp.example/f/authorize",
		r.OAuth.TokenURL: "https://corp.example/f/token", r.OAuth.RevocationURL: "https://corp.example/f/apps/{client_id}/token",
		r.OAuth.Resource: "https://corp.example/f/r", r.HostURL[1]: "https://corp.example/f/api", r.Inject[1].HostURL[0]: "https://corp.example/f",
		r.HostURL[0]: "api.forge.com",
	} {
		if got != want {
			t.Errorf("resolved %q, want %q", got, want)
		}
	}
	if diff := cmp.Diff([]string{"https://corp.example/f/authorize", "https://corp.example/f/token", "https://corp.example/f/apps"}, r.OwnEndpoints()); diff != "" {
		t.Errorf("OwnEndpoints (-want +got):\n%s", diff)
	}
	r.OAuth.Scopes[0], r.OAuth.AuthorizeParams["a"] = "changed", "changed"
	after, _ := d.MarshalJSON()
	if string(before) != string(after) {
		t.Errorf("the definition changed:\n%s\n%s", before, after)
	}
	if _, err := d.Resolve("nonsense"); err == nil {
		t.Error("Resolve(nonsense): no error")
	}
}

// What a login pins and what the route table resolves later must be spelled
// alike: an inject finds its host by that.
func TestRoutesAndResolveAgree(t *testing.T) {
	for _, e := range provider.Bundled().All() {
		for _, base := range []string{"", "https://x.example.com", "https://X.example.com:8443/sub/"} {
			hosts, err := e.Routes(base)
			if wantErr := e.NeedsBaseURL() == (base == "" && e.DefaultBaseURL() == ""); err != nil {
				if !wantErr {
					t.Errorf("%s: Routes(%q): %v", e.Name, base, err)
				}
				continue
			}
			r, err := e.Resolve(base)
			if err != nil {
				t.Errorf("%s: Resolve(%q): %v", e.Name, base, err)
				continue
			}
			for _, h := range hosts {
				if !contains(r.HostURL, h) {
					t.Errorf("%s: %q is pinned and not in the resolved %q", e.Name, h, r.HostURL)
				}
				if len(provider.InjectsFor(r.Injects(), h)) == 0 {
					t.Errorf("%s: nothing is injected at %q", e.Name, h)
				}
				if strings.ContainsAny(h, "{}") {
					t.Errorf("%s: %q is not substituted", e.Name, h)
				}
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func TestDefaultBaseURL(t *testing.T) {
	if got := mustParse(t, selfHosted).DefaultBaseURL(); got != "https://forge.com/" {
		t.Errorf("oauth: %q", got)
	}
	d := mustParse(t, with(t, apiKeyBase, map[string]any{"host_url": "{base_url}", "api_key.base_url": "https://acme.com"}))
	if got := d.DefaultBaseURL(); got != "https://acme.com" || !d.NeedsBaseURL() {
		t.Errorf("api key: %q, needs one: %v", got, d.NeedsBaseURL())
	}
	d = mustParse(t, apiKeyBase)
	if got := d.DefaultBaseURL(); got != "" || d.NeedsBaseURL() || d.OwnEndpoints() != nil {
		t.Errorf("none: %q, needs one: %v, endpoints %q", got, d.NeedsBaseURL(), d.OwnEndpoints())
	}
}
