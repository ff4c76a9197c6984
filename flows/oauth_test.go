package flows_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"authsome/flows"
	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

func TestLoginPKCE(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	p := a.agrees()
	var visited flows.Visit
	agree := p.visit
	p.visit = func(v flows.Visit) error { visited = v; return agree(v) }
	events := r.events()
	c, err := a.tryLogin(r, flows.Login{Scopes: []string{"read", "write"}}, p)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(visited.URL)
	q := u.Query()
	for name, want := range map[string]string{"tenant": "1", "client_id": "app", "scope": "read write", "response_type": "code", "code_challenge_method": "S256"} {
		if got := q.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if visited.RedirectURI != q.Get("redirect_uri") || p.asked[0].RedirectURI != visited.RedirectURI {
		t.Errorf("redirect URI %q, on the form %q", visited.RedirectURI, p.asked[0].RedirectURI)
	}
	stored := r.get("acme", "")
	if c.Name != "default" || stored.Status != flows.Connected || text(stored.RefreshToken) != a.family().refresh || stored.ClientID != "app" {
		t.Errorf("stored %+v", stored)
	}
	if !slices.Equal(stored.Scopes, []string{"read"}) { // what was granted
		t.Errorf("scopes = %q", stored.Scopes)
	}
	if stored.TokenURL != a.url+"/token" || !slices.Equal(stored.HostURL, []string{"api.acme.test"}) || !stored.ExpiresAt.Equal(epoch.Add(time.Hour)) {
		t.Errorf("token_url %s, host_url %q, expires_at %v", stored.TokenURL, stored.HostURL, stored.ExpiresAt)
	}
	if got, want := events(), []string{"login acme/default ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	// The client is kept, and not asked for again.
	_, err = a.tryLogin(r, flows.Login{}, p)
	wants(t, err, flows.ErrAlreadyConnected)
	if _, err := a.tryLogin(r, flows.Login{Connection: "work"}, p); err != nil || len(p.asked) != 1 {
		t.Errorf("second connection: %v; asked %d times", err, len(p.asked))
	}
	if _, err := a.tryLogin(r, flows.Login{Force: true}, p); err != nil {
		t.Errorf("with --force: %v", err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list["acme"].Connections) != 2 || list["acme"].Default != "default" || !list["acme"].Configured {
		t.Errorf("list = %+v, %v", list["acme"], err)
	}
}

// A definition that is registered anew can move neither where a stored refresh
// token is sent, nor where it is revoked, nor where the credential is injected.
func TestRedefinitionRedirectsNothing(t *testing.T) {
	a, evil := newAuthority(t), newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	r.register(a.definition(map[string]any{
		"host_url": "api.evil.test", "oauth.token_url": evil.url + "/token", "oauth.revocation_url": evil.url + "/revoke",
		"oauth.authorization_url": evil.url + "/authorize", "oauth.issuer": evil.url,
	}))
	r.Broker = r.broker(a.client)
	r.follow()
	r.clock.Add(2 * time.Hour)
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Errorf("refresh: %v", err)
	}
	if got := r.get("acme", ""); !slices.Equal(got.HostURL, []string{"api.acme.test"}) || got.TokenURL != a.url+"/token" {
		t.Errorf("host_url %q, token_url %q", got.HostURL, got.TokenURL)
	}
	grants, err := r.Grants(nil, nil)
	if err != nil || len(grants) != 1 || !slices.Equal(grants[0].Connection.HostURL, []string{"api.acme.test"}) {
		t.Errorf("grants = %+v, %v", grants, err)
	}
	if _, done, err := r.Logout(t.Context(), "acme", ""); err != nil || done.Err != nil || !done.Remote {
		t.Errorf("logout: %+v, %v", done, err)
	}
	if got, want := a.took(), []string{"refresh_token", "revoke", "revoke"}; !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
	if got := evil.took(); len(got) != 0 {
		t.Errorf("the new endpoints were asked: %q", got)
	}
	// An API key does not follow its definition either.
	k := setup(t, &http.Client{Transport: forbidden{t}}, keyDefinition)
	flowsKey(k)
	k.register(strings.Replace(keyDefinition, "api.keyed.test", "api.evil.test", 1))
	k.Broker = k.broker(nil)
	k.follow()
	grants, err = k.Grants(nil, nil)
	if err != nil || len(grants) != 1 || !slices.Equal(grants[0].Connection.HostURL, []string{"api.keyed.test"}) {
		t.Errorf("grants = %+v, %v", grants, err)
	}
}

// based is a definition whose every URL hangs on a base URL.
func (a *authority) based(base any) map[string]any {
	return map[string]any{"oauth.base_url": base, "oauth.authorization_url": "{base_url}/authorize", "oauth.token_url": "{base_url}/token",
		"oauth.revocation_url": "{base_url}/revoke", "oauth.device_authorization_url": "{base_url}/device",
		"oauth.registration_endpoint": "{base_url}/register", "host_url": []string{"api.acme.test", "{base_url}/api"}}
}

func TestBaseURL(t *testing.T) {
	vendor, own := newAuthority(t), newAuthority(t)
	r := setup(t, own.client, own.definition(own.based(vendor.url)))
	c := own.loginAs(r, flows.Login{BaseURL: own.url + "/"})
	if c.BaseURL != own.url || !slices.Equal(c.HostURL, []string{own.url + "/api"}) || c.TokenURL != own.url+"/token" {
		t.Errorf("base_url %s, host_url %q, token_url %s", c.BaseURL, c.HostURL, c.TokenURL)
	}
	r.follow()
	r.clock.Add(2 * time.Hour)
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Errorf("refresh: %v", err)
	}
	// Whoever logs in again means the same site.
	c = own.loginAs(r, flows.Login{Force: true})
	if c.BaseURL != own.url {
		t.Errorf("after another login base_url = %s, want %s", c.BaseURL, own.url)
	}
	if got := vendor.took(); len(got) != 0 {
		t.Errorf("the vendor's own site was asked: %q", got)
	}
	// Another connection is at the definition's own site.
	p := vendor.agrees()
	v := setup(t, vendor.client, own.definition(own.based(vendor.url)))
	if c, err := vendor.tryLogin(v, flows.Login{Connection: "public"}, p); err != nil || c.BaseURL != vendor.url || len(c.HostURL) != 2 {
		t.Errorf("at the default: %+v, %v", c, err)
	}
	if !p.asked[0].AskBaseURL || p.asked[0].BaseURL != vendor.url {
		t.Errorf("the form offers %+v", p.asked[0])
	}
}

func TestBaseURLIsAskedFor(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(a.based(nil))
	p := a.agrees()
	p.client = func(req flows.ClientRequest) (flows.ClientAnswer, error) {
		if !req.AskBaseURL || req.BaseURL != "" {
			t.Errorf("asked for %+v", req)
		}
		return flows.ClientAnswer{ID: "app", BaseURL: a.url}, nil
	}
	c, err := a.tryLogin(r, flows.Login{}, p)
	if err != nil || c.BaseURL != a.url || c.TokenURL != a.url+"/token" {
		t.Fatalf("got %+v, %v", c, err)
	}
	// The client is known now. Who cannot be asked for the base URL alone is asked
	// for both; where nobody answers, it has to be said.
	if c, err := a.tryLogin(r, flows.Login{Connection: "other"}, p); err != nil || c.BaseURL != a.url || len(p.asked) != 2 {
		t.Errorf("got %+v, %v, asked %d times", c, err, len(p.asked))
	}
	_, err = r.LoginOAuth(t.Context(), flows.Login{Provider: r.entry("acme"), Connection: "third", CallbackPort: freePort(t)}, &silent{p})
	wants(t, err, flows.ErrBadInput)
	if !strings.Contains(err.Error(), "--base-url") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"http://plain.test", "https://user@host.test", "https://host.test/?a=b", "ftp://host.test", "https://"} {
		_, err := a.tryLogin(r, flows.Login{Connection: "third", BaseURL: bad}, p)
		wants(t, err, flows.ErrBadInput)
	}
}

// silent is where nobody answers for the base URL.
type silent struct{ *person }

func (silent) BaseURL(context.Context, *provider.Definition, string) (string, error) { return "", nil }

// sited is a person who can be asked for the base URL alone.
type sited struct {
	*person
	answer string
	last   []string // what was offered, each time
}

func (s *sited) BaseURL(_ context.Context, _ *provider.Definition, last string) (string, error) {
	s.last = append(s.last, last)
	return cmp.Or(s.answer, last), nil
}

// Another connection may be at another site, whose client is another too: a secret
// goes to no site but its own.
func TestEachSiteHasItsClient(t *testing.T) {
	one, two := newAuthority(t), newAuthority(t)
	r := setup(t, one.client, one.definition(one.based("https://vendor.acme.test")))
	for site, a := range map[string]*authority{"one": one, "two": two} {
		a.knows("app-"+site, canary+"-"+site)
	}
	as := func(a *authority, site string) *sited {
		p := &sited{person: a.agrees()}
		p.client = func(req flows.ClientRequest) (flows.ClientAnswer, error) {
			if req.BaseURL != a.url {
				t.Errorf("%s: the client is asked for %s, want %s", site, req.BaseURL, a.url)
			}
			return flows.ClientAnswer{ID: "app-" + site, Secret: secret.New(canary + "-" + site)}, nil
		}
		return p
	}
	try := func(a *authority, l flows.Login, p *sited, questions ...string) *flows.Connection {
		t.Helper()
		p.last, p.asked = nil, nil
		l.Provider, l.CallbackPort = r.entry("acme"), freePort(t)
		c, err := r.LoginOAuth(t.Context(), l, p)
		if err != nil || c.BaseURL != a.url || c.TokenURL != a.url+"/token" {
			t.Fatalf("got %+v, %v", c, err)
		}
		if !slices.Equal(p.last, questions) {
			t.Errorf("the base URL was asked for, offering %q; want %q", p.last, questions)
		}
		return c
	}
	// The first login's form asks for the client and the base URL at once.
	first := as(one, "one")
	first.person.client = func(req flows.ClientRequest) (flows.ClientAnswer, error) {
		return flows.ClientAnswer{ID: "app-one", Secret: secret.New(canary + "-one"), BaseURL: one.url}, nil
	}
	try(one, flows.Login{}, first)
	// Another connection at the same site needs no client, and is offered that site.
	p := as(one, "one")
	try(one, flows.Login{Connection: "again"}, p, one.url)
	if len(p.asked) > 0 {
		t.Errorf("asked for the client of the same site: %+v", p.asked)
	}
	// At another site, said on the form or by flag, it needs another.
	p = as(two, "two")
	p.answer = two.url
	r.clock.Add(time.Second)
	if c := try(two, flows.Login{Connection: "second"}, p, one.url); c.ClientID != "app-two" || len(p.asked) != 1 || p.asked[0].AskBaseURL {
		t.Errorf("client %s, asked %+v", c.ClientID, p.asked)
	}
	if c := try(two, flows.Login{Connection: "third", BaseURL: strings.ToUpper(two.url[:10]) + two.url[10:] + "/"}, p); c.ClientID != "app-two" || len(p.asked) > 0 {
		t.Errorf("client %s, asked %+v", c.ClientID, p.asked)
	}
	// What is offered: the connection's own, else the latest.
	for connection, want := range map[string]string{"": one.url, "second": two.url, "fourth": two.url} {
		if got, err := r.SuggestBaseURL(t.Context(), flows.Login{Provider: r.entry("acme"), Connection: connection}); err != nil || got != want {
			t.Errorf("%q is offered %s, %v; want %s", connection, got, err, want)
		}
	}
	// Whoever logs in again means the same site, and is asked for nothing.
	for name, a := range map[string]*authority{"default": one, "second": two} {
		p := as(a, "")
		if try(a, flows.Login{Connection: name, Force: true}, p); len(p.asked) > 0 {
			t.Errorf("%s: asked %+v", name, p.asked)
		}
	}
	// Each is renewed at its own site, by its own client.
	r.follow()
	r.clock.Add(2 * time.Hour)
	for _, name := range []string{"default", "again", "second", "third"} {
		if _, err := r.Credential(t.Context(), "acme", name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Sites may name their clients alike.
func TestSameClientIDAtTwoSites(t *testing.T) {
	one, two := newAuthority(t), newAuthority(t)
	r := setup(t, one.client, one.definition(one.based(one.url)))
	for site, a := range map[string]*authority{"one": one, "two": two} {
		a.knows("app", canary+"-"+site)
		l := flows.Login{Connection: site, BaseURL: a.url, ClientID: "app", ClientSecret: secret.New(canary + "-" + site)}
		if _, err := a.tryLogin(r, l, a.agrees()); err != nil {
			t.Fatalf("%s: %v", site, err)
		}
	}
	r.follow()
	r.clock.Add(2 * time.Hour)
	for _, site := range []string{"one", "two"} {
		if _, err := r.Credential(t.Context(), "acme", site); err != nil {
			t.Errorf("%s: %v", site, err)
		}
	}
}

func TestRegistrationAsksForTheBaseURL(t *testing.T) {
	for _, flow := range []provider.Flow{provider.FlowDCRPKCE, provider.FlowDeviceCode} {
		a := newAuthority(t)
		set := a.based(nil)
		set["flow"], set["oauth.device_token_request"] = string(flow), "json"
		r := a.rig(set)
		p := &sited{person: a.agrees(), answer: a.url}
		c, err := r.LoginOAuth(t.Context(), flows.Login{Provider: r.entry("acme")}, p)
		if flow == provider.FlowDeviceCode { // this authority has never heard of the JSON variant
			if err == nil || len(a.took()) == 0 {
				t.Errorf("%s: the authority was not asked: %v", flow, err)
			}
		} else if err != nil || c.BaseURL != a.url {
			t.Errorf("%s: %v", flow, err)
		}
		if len(p.last) != 1 || len(p.asked) != 0 {
			t.Errorf("%s: asked %q, %+v", flow, p.last, p.asked)
		}
	}
}

func TestDiscoveryFollowsTheBaseURL(t *testing.T) {
	a, vendor := newAuthority(t), newAuthority(t)
	discovers := func(x *authority) {
		x.scripted(func(w http.ResponseWriter, r *http.Request, _ url.Values) bool {
			if r.URL.Path != "/.well-known/oauth-authorization-server" {
				return false
			}
			json.NewEncoder(w).Encode(map[string]any{"issuer": x.url, "authorization_endpoint": x.url + "/authorize",
				"token_endpoint": x.url + "/token", "revocation_endpoint": x.url + "/revoke", "device_authorization_endpoint": x.url + "/device"})
			return true
		})
	}
	discovers(a)
	discovers(vendor)
	set := a.based(vendor.url)
	for _, name := range []string{"authorization_url", "token_url", "revocation_url", "device_authorization_url", "registration_endpoint"} {
		set["oauth."+name] = nil
	}
	set["oauth.issuer"], set["oauth.supports_dcr"] = "{base_url}", nil
	r := a.rig(set)
	p := a.agrees()
	p.client = func(req flows.ClientRequest) (flows.ClientAnswer, error) {
		return flows.ClientAnswer{ID: "app", Secret: secret.New(canary), BaseURL: a.url}, nil
	}
	c, err := a.tryLogin(r, flows.Login{}, p)
	if err != nil {
		t.Fatal(err)
	}
	if c.TokenURL != a.url+"/token" || c.Metadata["revocation_url"] != a.url+"/revoke" {
		t.Errorf("token_url %s, metadata %v", c.TokenURL, c.Metadata)
	}
	if got := vendor.took(); len(got) != 0 {
		t.Errorf("the vendor's site was asked: %q", got)
	}
}

// rejecting makes an authority know one client only.
func (a *authority) knows(id, password string) {
	a.scripted(func(w http.ResponseWriter, r *http.Request, form url.Values) bool {
		if r.URL.Path == "/token" && (form.Get("client_id") != id || form.Get("client_secret") != password) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s is wrong"}`, form.Get("client_secret"))
			return true
		}
		return false
	})
}

func TestWhereTheClientComesFrom(t *testing.T) {
	file := secret.New(canary + "-file")
	for _, test := range []struct {
		name      string
		login     flows.Login
		env       map[string]string
		set       map[string]any
		id, value string
		asked     bool
	}{
		{"asked", flows.Login{}, nil, nil, "typed", canary + "-typed", true},
		{"variables", flows.Login{}, map[string]string{"ACME_CLIENT_ID": "env", "ACME_CLIENT_SECRET": canary + "-env"}, nil, "env", canary + "-env", false},
		{"public from a variable", flows.Login{}, map[string]string{"ACME_CLIENT_ID": "env"}, nil, "env", "", false},
		{"flag and file", flows.Login{ClientID: "flag", ClientSecret: file}, nil, nil, "flag", canary + "-file", false},
		{"variable before file", flows.Login{ClientID: "env", ClientSecret: file}, map[string]string{"ACME_CLIENT_ID": "env", "ACME_CLIENT_SECRET": canary + "-env"}, nil, "env", canary + "-env", false},
		{"another client's variable", flows.Login{ClientID: "flag", ClientSecret: file}, map[string]string{"ACME_CLIENT_ID": "env", "ACME_CLIENT_SECRET": canary + "-env"}, nil, "flag", canary + "-file", false},
		{"flag alone", flows.Login{ClientID: "flag"}, nil, nil, "flag", canary + "-typed", true},
		{"flag alone of a public client", flows.Login{ClientID: "flag"}, nil, map[string]any{"oauth.token_auth_method": "none"}, "flag", "", false},
		{"secret variable of no id", flows.Login{ClientID: "flag"}, map[string]string{"ACME_CLIENT_SECRET": canary + "-env"}, nil, "flag", canary + "-env", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t)
			r := a.rig(test.set)
			r.env = test.env
			p := a.agrees()
			p.client = func(req flows.ClientRequest) (flows.ClientAnswer, error) {
				if req.ClientID != "" {
					return flows.ClientAnswer{ID: req.ClientID, Secret: secret.New(canary + "-typed")}, nil
				}
				return flows.ClientAnswer{ID: "typed", Secret: secret.New(canary + "-typed")}, nil
			}
			a.knows(test.id, test.value)
			c, err := a.tryLogin(r, test.login, p)
			if err != nil {
				t.Fatal(err)
			}
			if (len(p.asked) > 0) != test.asked {
				t.Errorf("asked %v, want %v", len(p.asked) > 0, test.asked)
			}
			if c.ClientID != test.id || text(c.ClientSecret) != test.value {
				t.Errorf("client %s %s, want %s %s", c.ClientID, text(c.ClientSecret), test.id, test.value)
			}
			// Stored: another login needs no variables and no answers.
			r.env, p.asked = nil, nil
			if _, err := a.tryLogin(r, flows.Login{Connection: "again"}, p); err != nil || len(p.asked) > 0 {
				t.Errorf("another login: %v, asked %v", err, p.asked)
			}
		})
	}
}

// A client that was never accepted is not kept: the next login would use it
// without asking.
func TestRejectedClientIsNotKept(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.knows("app", canary+"-right")
	p := a.agrees()
	_, err := a.tryLogin(r, flows.Login{}, p) // types canary-app
	wants(t, err, flows.ErrLoginFailed)
	wants(t, err, oauth.ErrInvalidClient)
	if !strings.Contains(hint(err), "client id and secret") {
		t.Errorf("hint = %q", hint(err))
	}
	p.client = func(flows.ClientRequest) (flows.ClientAnswer, error) {
		return flows.ClientAnswer{ID: "app", Secret: secret.New(canary + "-right")}, nil
	}
	if _, err := a.tryLogin(r, flows.Login{}, p); err != nil {
		t.Errorf("with the right secret: %v", err)
	}
	if len(p.asked) != 2 {
		t.Errorf("asked %d times, want 2", len(p.asked))
	}
}

// A connection is renewed by the client that its tokens were issued to, though
// the provider's client is another by now.
func TestConnectionsKeepTheirClient(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	first := a.login(r)
	a.loginAs(r, flows.Login{Connection: "work", ClientID: "second", ClientSecret: secret.New(canary + "-second")})
	r.follow()
	r.clock.Add(2 * time.Hour)
	a.knows("app", canary+"-app")
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Errorf("the first connection: %v", err)
	}
	a.knows("second", canary+"-second")
	if _, err := r.Credential(t.Context(), "acme", "work"); err != nil {
		t.Errorf("the second connection: %v", err)
	}
	// The same client with a new secret serves all that it issued.
	a.scripted(nil)
	a.loginAs(r, flows.Login{Force: true, ClientID: "app", ClientSecret: secret.New(canary + "-rotated")})
	a.loginAs(r, flows.Login{Connection: "third"})
	if got := r.get("acme", "third"); got.ClientID != "app" || text(got.ClientSecret) != canary+"-rotated" {
		t.Errorf("third has client %s %s", got.ClientID, text(got.ClientSecret))
	}
	if first.ClientID != "app" {
		t.Errorf("client of the first = %s", first.ClientID)
	}
}

func TestDynamicRegistration(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(map[string]any{"flow": "dcr_pkce"})
	p := a.agrees()
	port := freePort(t)
	events := r.events()
	c, err := a.tryLogin(r, flows.Login{CallbackPort: port}, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := events(), []string{"login.client acme/ ok", "login acme/default ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	if got, want := a.took(), []string{"register", "authorization_code"}; !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
	if len(p.asked) != 0 || !strings.HasPrefix(c.ClientID, "registered-") {
		t.Errorf("asked %v, client %s", p.asked, c.ClientID)
	}
	// The same redirect URI needs no other registration.
	if _, err := a.tryLogin(r, flows.Login{CallbackPort: port, Force: true}, p); err != nil {
		t.Fatal(err)
	}
	if got, want := a.took(), []string{"authorization_code"}; !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
	// Another one does, and the first connection keeps its client.
	second, err := a.tryLogin(r, flows.Login{CallbackPort: freePort(t), Connection: "work"}, p)
	if err != nil || second.ClientID == c.ClientID {
		t.Fatalf("second connection: %v, client %s", err, second.ClientID)
	}
	a.took()
	r.follow()
	r.clock.Add(2 * time.Hour)
	a.knows(c.ClientID, "")
	if _, err := r.Credential(t.Context(), "acme", "default"); err != nil {
		t.Errorf("the first connection: %v", err)
	}
	// A client that was made by another server is not used here.
	a.scripted(nil)
	r.register(a.definition(map[string]any{"flow": "dcr_pkce", "oauth.registration_endpoint": a.url + "/register?tenant=2"}))
	if _, err := a.tryLogin(r, flows.Login{CallbackPort: port, Connection: "third"}, p); err != nil {
		t.Fatal(err)
	}
	if got := a.took(); !slices.Contains(got, "register") {
		t.Errorf("calls = %q, want a registration", got)
	}
}

// A login that is called off keeps the registration that it made.
func TestRegistrationSurvivesACancelledLogin(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(map[string]any{"flow": "dcr_pkce"})
	port := freePort(t)
	p := a.agrees()
	leaves := &person{visit: func(flows.Visit) error { return context.Canceled }}
	_, err := a.tryLogin(r, flows.Login{CallbackPort: port}, leaves)
	wants(t, err, context.Canceled)
	if _, err := a.tryLogin(r, flows.Login{CallbackPort: port}, p); err != nil {
		t.Fatal(err)
	}
	if got, want := a.took(), []string{"register", "authorization_code"}; !slices.Equal(got, want) {
		t.Errorf("calls = %q, want %q", got, want)
	}
}

func TestDeviceLogin(t *testing.T) {
	for variant, set := range map[string]map[string]any{
		"form": {"flow": "device_code"},
		"json": {"flow": "device_code", "oauth.device_token_request": "json"},
	} {
		t.Run(variant, func(t *testing.T) {
			a := newAuthority(t)
			r := a.rig(set)
			polls := 0
			if variant == "json" {
				a.scripted(func(w http.ResponseWriter, req *http.Request, _ url.Values) bool {
					if req.URL.Path != "/token" {
						return false
					}
					if polls++; polls == 1 {
						w.WriteHeader(http.StatusAccepted)
						io.WriteString(w, `{"status":"pending"}`)
						return true
					}
					fmt.Fprintf(w, `{"access_token":"%s-json","token_type":"Bearer"}`, canary)
					return true
				})
			}
			p := a.agrees()
			var shown flows.Visit
			p.visit = func(v flows.Visit) error { shown = v; return nil }
			c, err := a.tryLogin(r, flows.Login{}, p)
			if err != nil {
				t.Fatal(err)
			}
			if shown.Device == nil || shown.Device.UserCode != "ABCD-EFGH" || shown.URL != "https://acme.test/device" {
				t.Errorf("shown %+v", shown)
			}
			if variant == "json" && (len(p.asked) != 0 || polls != 2 || text(c.AccessToken) != canary+"-json") {
				t.Errorf("asked %v, %d polls", p.asked, polls)
			}
			if c.Status != flows.Connected || c.Metadata["flow"] != "device_code" {
				t.Errorf("status %s, metadata %v", c.Status, c.Metadata)
			}
		})
	}
}

func TestLoginThatFails(t *testing.T) {
	const markup = `<script>alert(1)</script>`
	for _, test := range []struct {
		name string
		back func(redirect, state string) string // what the browser brings back
		kind error
		page string // what it is shown
	}{
		{"denied", func(redirect, state string) string {
			return redirect + "?state=" + state + "&error=access_denied&error_description=" + url.QueryEscape(markup)
		}, oauth.ErrAccessDenied, "Access was not granted"},
		{"spent code", func(redirect, state string) string { return redirect + "?state=" + state + "&code=unknown" }, oauth.ErrInvalidGrant, "The login failed"},
		{"no code", func(redirect, state string) string { return redirect + "?state=" + state }, oauth.ErrBadResponse, "The login failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t)
			r := a.rig(nil)
			p := a.agrees()
			page := make(chan string, 1)
			p.visit = func(v flows.Visit) error {
				u, _ := url.Parse(v.URL)
				redirect, state := u.Query().Get("redirect_uri"), u.Query().Get("state")
				go func() {
					// What a browser also asks for, and what an attacker tries, ends no login.
					root := strings.TrimSuffix(redirect, "/callback")
					for _, other := range []string{root + "/favicon.ico", root + "/", redirect + "?state=guessed&code=x", redirect + "?code=x"} {
						if res, err := http.Get(other); err == nil {
							res.Body.Close()
						}
					}
					res, err := http.Get(test.back(redirect, state))
					if err != nil {
						page <- err.Error()
						return
					}
					defer res.Body.Close()
					b, _ := io.ReadAll(res.Body)
					page <- string(b)
				}()
				return nil
			}
			events := r.events()
			_, err := a.tryLogin(r, flows.Login{}, p)
			wants(t, err, flows.ErrLoginFailed)
			wants(t, err, test.kind)
			if hint(err) == "" {
				t.Error("nothing is said about what to do")
			}
			if got := <-page; !strings.Contains(got, test.page) || strings.Contains(got, markup) || strings.Contains(got, canary) {
				t.Errorf("the page says %s", got)
			}
			_, err = r.Get(t.Context(), "acme", "")
			wants(t, err, flows.ErrNoConnection)
			if got := events(); len(got) != 0 {
				t.Errorf("audit = %q, want nothing", got)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	a := newAuthority(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	r := a.rig(nil)
	_, err = a.tryLogin(r, flows.Login{CallbackPort: port}, a.agrees())
	wants(t, err, oauth.ErrPortUnavailable)
	if !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(hint(err), "--callback-port") {
		t.Errorf("got %v (%s)", err, hint(err))
	}
}

// A login that is called off leaves everything as it was.
func TestCancelledLogin(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	old := a.login(r)
	for name, l := range map[string]flows.Login{"force": {Force: true}, "reset": {Force: true, Reset: true}, "client": {Force: true, ClientID: "other", ClientSecret: secret.New(canary)}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			l.Provider, l.CallbackPort = r.entry("acme"), freePort(t)
			before := r.audited()
			_, err := r.LoginOAuth(ctx, l, &person{visit: func(flows.Visit) error { cancel(); return nil }})
			wants(t, err, context.Canceled)
			if got := r.get("acme", ""); !got.AccessToken.Equal(old.AccessToken) || got.ClientID != "app" {
				t.Error("the connection was changed")
			}
			if got := r.audited(); len(got) != len(before) {
				t.Errorf("audit = %q", got[len(before):])
			}
		})
	}
	if _, err := a.tryLogin(r, flows.Login{Connection: "work"}, &person{visit: a.agrees().visit,
		client: func(flows.ClientRequest) (flows.ClientAnswer, error) {
			return flows.ClientAnswer{}, errors.New("asked")
		}}); err != nil {
		t.Errorf("the client is gone: %v", err)
	}
}

func TestResetForgetsOnceTheLoginHasSucceeded(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	a.login(r)
	a.loginAs(r, flows.Login{Connection: "work"})
	events := r.events()
	p := a.agrees()
	if _, err := a.tryLogin(r, flows.Login{Reset: true, Force: true}, p); err != nil {
		t.Fatal(err)
	}
	if len(p.asked) != 1 {
		t.Errorf("asked %d times for the client, want once", len(p.asked))
	}
	if got, want := events(), []string{"remove acme/ ok", "login acme/default ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	_, err := r.Get(t.Context(), "acme", "work")
	wants(t, err, flows.ErrNoConnection)
	if got := r.get("acme", "").Status; got != flows.Connected {
		t.Errorf("status = %s", got)
	}
}

// The page on which the browser ends up tells the truth: not "logged in" when
// the tokens could not be kept.
func TestPageWaitsForTheStore(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(nil)
	r.store.failing(func(b vault.Batch) error {
		if writes(b, ":connection:default") {
			return errDisk
		}
		return nil
	})
	page := make(chan string, 1)
	p := a.agrees()
	p.visit = func(v flows.Visit) error {
		go func() {
			res, err := http.Get(a.callback(v.URL))
			if err != nil {
				page <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			page <- string(b)
		}()
		return nil
	}
	_, err := a.tryLogin(r, flows.Login{}, p)
	wants(t, err, errDisk)
	if got := <-page; strings.Contains(got, "You are logged in") {
		t.Errorf("the page says %s", got)
	}
}

func TestFlowsThatTheDefinitionDoesNotKnow(t *testing.T) {
	a := newAuthority(t)
	r := a.rig(map[string]any{"oauth.supports_device_flow": nil, "oauth.supports_dcr": nil})
	for _, flow := range []provider.Flow{provider.FlowDeviceCode, provider.FlowDCRPKCE, provider.FlowAPIKey, "made_up"} {
		_, err := a.tryLogin(r, flows.Login{Flow: flow}, a.agrees())
		wants(t, err, flows.ErrBadInput)
	}
	k := setup(t, nil, keyDefinition)
	_, err := k.LoginOAuth(t.Context(), flows.Login{Provider: k.entry("keyed")}, a.agrees())
	wants(t, err, flows.ErrBadInput)
	// An API key's login goes to an OAuth provider as little.
	if calls := a.took(); len(calls) != 0 {
		t.Errorf("calls = %q", calls)
	}
}

// What an old login left in a record does not mix with the new one.
func TestNothingOfTheOldLoginIsLeft(t *testing.T) {
	a := newAuthority(t)
	a.scripted(func(w http.ResponseWriter, r *http.Request, _ url.Values) bool {
		fmt.Fprintf(w, `{"access_token":"%s-a","refresh_token":"%s-r","id_token":"x.y.z","workspace_name":"old","expires_in":60}`, canary, canary)
		return true
	})
	r := a.rig(nil)
	if c := a.login(r); c.Metadata["workspace_name"] != "old" || c.Account.Label != "old" {
		t.Fatalf("metadata %v, account %+v", c.Metadata, c.Account)
	}
	a.answers("/token", 200, `{"access_token":"`+canary+`-new"}`)
	c := a.loginAs(r, flows.Login{Force: true})
	stored := r.get("acme", "")
	for _, got := range []*flows.Connection{c, stored} {
		if got.Metadata["workspace_name"] != nil || got.Account.Label != "" || !got.RefreshToken.IsZero() || !got.IDToken.IsZero() || !got.ExpiresAt.IsZero() {
			t.Errorf("got %+v", got)
		}
	}
}

// A definition that replaces another one under its name is not given the client
// that was entered, or registered, for the first.
func TestRedefinitionGetsNoClient(t *testing.T) {
	for _, flow := range []provider.Flow{provider.FlowPKCE, provider.FlowDCRPKCE} {
		t.Run(string(flow), func(t *testing.T) {
			a, evil := newAuthority(t), newAuthority(t)
			r := a.rig(nil)
			first, err := a.tryLogin(r, flows.Login{Flow: flow}, a.agrees())
			if err != nil {
				t.Fatal(err)
			}
			r.register(a.definition(map[string]any{"oauth.token_url": evil.url + "/token"}))
			r.Broker = r.broker(a.client)
			r.follow()
			asked := 0
			evil.scripted(func(_ http.ResponseWriter, req *http.Request, form url.Values) bool {
				asked++
				if user, password, _ := req.BasicAuth(); user+form.Get("client_id") == first.ClientID ||
					!first.ClientSecret.IsZero() && password+form.Get("client_secret") == text(first.ClientSecret) {
					t.Error("the other site was given the client")
				}
				return false
			})
			p := a.agrees()
			p.client = func(flows.ClientRequest) (flows.ClientAnswer, error) {
				return flows.ClientAnswer{ID: "other", Secret: secret.New(canary + "-of-the-other")}, nil
			}
			for _, l := range []flows.Login{{Flow: flow, Force: true}, {Flow: flow, Connection: "second"}} {
				_, err := a.tryLogin(r, l, p)
				wants(t, err, flows.ErrLoginFailed) // the other site knows no code of ours
			}
			if asked != 2 {
				t.Errorf("the other site was asked %d times, want 2", asked)
			}
		})
	}
}
