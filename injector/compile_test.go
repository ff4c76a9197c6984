package injector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"authsome/injector"
	"authsome/provider"
)

// definition is an OAuth provider with a base URL, such as one that companies
// host themselves, and a public host beside it.
const definition = `{"schema_version":1,"name":"forge","display_name":"Forge","auth_type":"oauth2","flow":"pkce",
	"host_url":["{base_url}/api","api.forge.example.com"],
	"inject":[{"manner":"bearer"},{"manner":"basic","username":"x","password":"{credential}","host_url":["api.forge.example.com"]}],
	"headers":{"X-Forge-Version":"2"},
	"oauth":{"base_url":"https://forge.example.com","authorization_url":"{base_url}/oauth/authorize","token_url":"{base_url}/api/oauth/token",
		"revocation_url":"{base_url}/api/oauth/revoke"}}`

func parse(t testing.TB, text string) *provider.Definition {
	t.Helper()
	d, err := provider.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func compiled(t *testing.T, d *provider.Definition, c injector.Connection) []*injector.Route {
	t.Helper()
	if c.HostURL == nil {
		hosts, err := d.Routes(c.BaseURL)
		if err != nil {
			t.Fatal(err)
		}
		c.HostURL = hosts
	}
	routes, err := injector.Compile(d, c)
	if err != nil {
		t.Fatal(err)
	}
	return routes
}

func TestCompile(t *testing.T) {
	routes := compiled(t, parse(t, definition), injector.Connection{Name: "c"})
	var got []string
	for _, r := range routes {
		var manners []string
		for _, in := range r.Injects {
			manners = append(manners, in.Manner)
		}
		got = append(got, fmt.Sprintf("%s %s:%d%s %v refreshable=%v never=%v headers=%d", r.Provider, r.Pattern.Host, r.Pattern.Port,
			r.Pattern.PathPrefix, manners, r.Refreshable, r.Never, len(r.Headers)))
	}
	want := []string{
		"forge forge.example.com:443/api [bearer] refreshable=true never=false headers=1",
		"forge api.forge.example.com:443 [basic] refreshable=true never=false headers=1",
		"forge forge.example.com:443/oauth/authorize [] refreshable=false never=true headers=0",
		"forge forge.example.com:443/api/oauth/token [] refreshable=false never=true headers=0",
		"forge forge.example.com:443/api/oauth/revoke [] refreshable=false never=true headers=0",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

// PITFALLS 6: the credential of an instance of one's own goes there only.
func TestSelfManagedInstanceKeepsItsCredential(t *testing.T) {
	d := parse(t, definition)
	for _, base := range []string{"https://git.corp.example.net", "https://git.corp.example.net/", "https://GIT.corp.example.net:443"} {
		routes := injector.NewTable(compiled(t, d, injector.Connection{Name: "own", BaseURL: base}))
		for target, want := range map[string]string{"git.corp.example.net:443": "own", "forge.example.com:443": "", "api.forge.example.com:443": ""} {
			if got := winner(t, routes, target, "/api/v4", ""); got != want {
				t.Errorf("base %s, %s: got %q, want %q", base, target, got, want)
			}
		}
		for path, want := range map[string]string{"/api/oauth/token": "", "/oauth/authorize": "", "/": "", "/apix": "", "/api/oauth/tokens": "own"} {
			if got := winner(t, routes, "git.corp.example.net:443", path, ""); got != want {
				t.Errorf("base %s, %s: got %q, want %q", base, path, got, want)
			}
		}
	}
	// An instance below a path and on a port.
	routes := injector.NewTable(compiled(t, d, injector.Connection{Name: "own", BaseURL: "https://corp.example.net:8443/forge"}))
	for _, tt := range []struct{ target, path, want string }{
		{"corp.example.net:8443", "/forge/api/x", "own"},
		{"corp.example.net:8443", "/api/x", ""},
		{"corp.example.net:443", "/forge/api/x", ""},
		{"corp.example.net:8443", "/forge/api/oauth/token", ""},
	} {
		if got := winner(t, routes, tt.target, tt.path, ""); got != tt.want {
			t.Errorf("%s%s: got %q, want %q", tt.target, tt.path, got, tt.want)
		}
	}
}

// PITFALLS 7, as far as routes go: a definition that changed after the login
// does not move where the credential is sent, and where it was exchanged stays
// protected.
func TestChangedDefinitionDoesNotMoveACredential(t *testing.T) {
	changed := strings.ReplaceAll(definition, "forge.example.com", "evil.example.org")
	routes := injector.NewTable(compiled(t, parse(t, changed), injector.Connection{Name: "c",
		HostURL: []string{"https://forge.example.com/api"}, TokenURL: "https://forge.example.com/api/oauth/token"}))
	for _, tt := range []struct{ target, path, want string }{
		{"forge.example.com:443", "/api/x", "c"},
		{"forge.example.com:443", "/api/oauth/token", ""},
		{"evil.example.org:443", "/api/x", ""},
		{"api.evil.example.org:443", "/", ""},
	} {
		if got := winner(t, routes, tt.target, tt.path, ""); got != tt.want {
			t.Errorf("%s%s: got %q, want %q", tt.target, tt.path, got, tt.want)
		}
	}
}

// PITFALLS 14: no provider's own endpoint is ever injected, whatever the
// catalogue says of its hosts.
func TestOwnEndpointsOfTheCatalogueAreNeverInjected(t *testing.T) {
	registry, errs := provider.Load(t.TempDir())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	checked := 0
	for _, entry := range registry.All() {
		base := ""
		if entry.NeedsBaseURL() && entry.DefaultBaseURL() == "" {
			base = "https://tenant.example.com"
		}
		hosts, err := entry.Routes(base)
		if err != nil {
			t.Errorf("%s: %v", entry.Name, err)
			continue
		}
		c := injector.Connection{Name: "c", BaseURL: base, HostURL: hosts}
		routes := injector.NewTable(compiled(t, entry.Definition, c))
		resolved, err := entry.Resolve(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, endpoint := range resolved.OwnEndpoints() {
			scheme, rest, _ := strings.Cut(endpoint, "://")
			host, path, _ := strings.Cut(rest, "/")
			path, _, _ = strings.Cut("/"+path, "?")
			if scheme != "https" {
				continue
			}
			checked++
			for _, p := range []string{path, path + "/", strings.ReplaceAll(path, "/", "//"), path + "?grant_type=refresh_token", path + "/."} {
				if got := winner(t, routes, host, p, ""); got != "" && got != "ambiguous" {
					t.Errorf("%s: its own endpoint %s%s is injected", entry.Name, host, p)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d endpoints were checked", checked)
	}
}

func TestCompileErrors(t *testing.T) {
	d := parse(t, definition)
	for name, c := range map[string]injector.Connection{
		"a pinned host that is none":   {Name: "c", HostURL: []string{"not a host"}},
		"a pinned http host":           {Name: "c", HostURL: []string{"http://forge.example.com"}},
		"a base URL that is none":      {Name: "c", BaseURL: "forge", HostURL: []string{"forge.example.com"}},
		"a pinned sloppy expression":   {Name: "c", HostURL: []string{"regex:.*forge.*"}},
		"a template that stayed there": {Name: "c", HostURL: []string{"{base_url}/api"}},
		"an endpoint that cannot be protected": {Name: "c", HostURL: []string{"forge.example.com"},
			TokenURL: "https://forge.example.com//api/%2e%2e/token"},
	} {
		if routes, err := injector.Compile(d, c); err == nil {
			t.Errorf("%s: got %d routes and no error", name, len(routes))
		}
	}
}
