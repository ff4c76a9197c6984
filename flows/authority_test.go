package flows_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"
)

// authority is an authorization server that rotates refresh tokens and revokes
// the whole family when an old one comes again, as the strict ones do. What it
// answers can be scripted.
type authority struct {
	t      *testing.T
	url    string
	client *http.Client
	life   time.Duration // of access tokens; 0: it does not say

	mu       sync.Mutex
	script   func(w http.ResponseWriter, r *http.Request, form url.Values) bool // guarded by mu; true: it has answered
	families map[string]*family                                                 // guarded by mu; by refresh token, old ones included
	codes    map[string]bool                                                    // guarded by mu; unspent codes
	serial   int                                                                // guarded by mu
	calls    []string                                                           // guarded by mu; grant types and other endpoints
	revoked  []string                                                           // guarded by mu; tokens that were taken back, by hint
	authz    []string                                                           // guarded by mu; how clients authenticated at /revoke
}

// family are the tokens of one login.
type family struct {
	refresh, access string
	dead            bool
	refreshes       int
}

// newAuthority starts one over TLS on loopback.
func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, life: time.Hour, families: map[string]*family{}, codes: map[string]bool{}}
	server := httptest.NewTLSServer(a)
	t.Cleanup(server.Close)
	a.url, a.client = server.URL, server.Client()
	return a
}

// nearAuthority is one that is asked without a network, for tests whose time
// passes by itself.
func nearAuthority(t *testing.T) *authority {
	a := &authority{t: t, life: time.Hour, families: map[string]*family{}, codes: map[string]bool{}, url: "https://auth.acme.test"}
	a.client = &http.Client{Transport: near{a}}
	return a
}

// near carries requests to a handler.
type near struct{ http.Handler }

func (n near) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{})
	}
	answer := make(chan *http.Response, 1)
	go func() {
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		answer <- w.Result()
	}()
	select {
	case res := <-answer:
		return res, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// definition is of a provider "acme" at this authority, with changes.
func (a *authority) definition(set map[string]any) string {
	u := a.url
	return object(a.t, `{
		"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "pkce", "host_url": "api.acme.test",
		"oauth": {"authorization_url": "`+u+`/authorize?tenant=1", "token_url": "`+u+`/token", "revocation_url": "`+u+`/revoke",
			"device_authorization_url": "`+u+`/device", "registration_endpoint": "`+u+`/register", "scopes": ["read"],
			"supports_device_flow": true, "supports_dcr": true},
		"client": {"client_id_env": "ACME_CLIENT_ID", "client_secret_env": "ACME_CLIENT_SECRET"},
		"export": {"env": {"access_token": "ACME_TOKEN"}}}`, set)
}

// rig is a broker for the provider.
func (a *authority) rig(set map[string]any) *rig {
	return setup(a.t, a.client, a.definition(set))
}

// scripted makes f answer first, until it is replaced. f must not touch the
// authority.
func (a *authority) scripted(f func(w http.ResponseWriter, r *http.Request, form url.Values) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.script = f
}

// answers makes every call to an endpoint end with this answer.
func (a *authority) answers(path string, status int, body string) {
	a.scripted(func(w http.ResponseWriter, r *http.Request, _ url.Values) bool {
		if r.URL.Path != path {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	})
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	a.mu.Lock()
	call := strings.TrimPrefix(r.URL.Path, "/")
	if call == "token" {
		call = form.Get("grant_type")
	}
	a.calls = append(a.calls, call)
	script := a.script
	a.mu.Unlock()
	if script != nil && script(w, r, form) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/token":
		a.token(w, form)
	case "/revoke":
		a.revoke(w, r, form)
	case "/register":
		a.register(w, body)
	case "/device":
		fmt.Fprintf(w, `{"device_code":"%s-device","user_code":"ABCD-EFGH","verification_uri":"https://acme.test/device","interval":1,"expires_in":60}`, canary)
	default:
		http.NotFound(w, r)
	}
}

func (a *authority) token(w http.ResponseWriter, form url.Values) {
	switch form.Get("grant_type") {
	case "authorization_code":
		if !a.codes[form.Get("code")] {
			fail(w, "invalid_grant")
			return
		}
		delete(a.codes, form.Get("code"))
		a.issue(w, &family{})
	case "refresh_token":
		f := a.families[form.Get("refresh_token")]
		if f == nil || f.dead || f.refresh != form.Get("refresh_token") {
			if f != nil {
				f.dead = true // replayed: somebody has stolen it
			}
			fail(w, "invalid_grant")
			return
		}
		f.refreshes++
		a.issue(w, f)
	case "client_credentials":
		a.serial++
		a.answer(w, map[string]any{"access_token": fmt.Sprintf("%s-machine-%d", canary, a.serial), "scope": form.Get("scope")})
	case "urn:ietf:params:oauth:grant-type:device_code":
		a.issue(w, &family{})
	default:
		fail(w, "unsupported_grant_type")
	}
}

func (a *authority) issue(w http.ResponseWriter, f *family) {
	a.serial++
	f.access, f.refresh = fmt.Sprintf("%s-access-%d", canary, a.serial), fmt.Sprintf("%s-refresh-%d", canary, a.serial)
	a.families[f.refresh] = f
	a.answer(w, map[string]any{"access_token": f.access, "refresh_token": f.refresh, "scope": "read"})
}

func (a *authority) answer(w http.ResponseWriter, object map[string]any) {
	object["token_type"] = "Bearer"
	if a.life > 0 {
		object["expires_in"] = int(a.life.Seconds())
	}
	json.NewEncoder(w).Encode(object)
}

func (a *authority) revoke(w http.ResponseWriter, r *http.Request, form url.Values) {
	id, password, ok := r.BasicAuth()
	if !ok {
		id, password = form.Get("client_id"), form.Get("client_secret")
	}
	a.authz = append(a.authz, id+":"+password)
	a.revoked = append(a.revoked, form.Get("token_type_hint"))
	for _, f := range a.families {
		if f.refresh == form.Get("token") {
			f.dead = true
		}
	}
}

func (a *authority) register(w http.ResponseWriter, body []byte) {
	var req map[string]any
	json.Unmarshal(body, &req)
	a.serial++
	req["client_id"] = fmt.Sprintf("registered-%d", a.serial)
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(req)
}

func fail(w http.ResponseWriter, code string) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"error":%q,"error_description":"said with %s in it"}`, code, "words")
}

// callback is what the user's browser is sent back to, once they have agreed.
func (a *authority) callback(authorize string) string {
	u, err := url.Parse(authorize)
	if err != nil {
		a.t.Error(err)
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	code := fmt.Sprintf("%s-code-%d", canary, a.serial)
	a.codes[code] = true
	return u.Query().Get("redirect_uri") + "?" + url.Values{"state": {u.Query().Get("state")}, "code": {code}}.Encode()
}

// agrees is a person who has a client and approves every login.
func (a *authority) agrees() *person {
	return &person{visit: func(v flows.Visit) error {
		if v.Device != nil {
			return nil
		}
		go func() {
			res, err := http.Get(a.callback(v.URL))
			if err != nil {
				a.t.Errorf("the browser cannot come back: %v", err)
				return
			}
			res.Body.Close()
		}()
		return nil
	}}
}

// took returns the calls since the last time that somebody asked.
func (a *authority) took() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.calls
	a.calls = nil
	return calls
}

// family is the only login's.
func (a *authority) family() family {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.families {
		return *f
	}
	return family{}
}

// login logs in by pkce, as the connection "default".
func (a *authority) login(r *rig) *flows.Connection {
	r.t.Helper()
	return a.loginAs(r, flows.Login{})
}

func (a *authority) loginAs(r *rig, l flows.Login) *flows.Connection {
	r.t.Helper()
	c, err := a.tryLogin(r, l, a.agrees())
	if err != nil {
		r.t.Fatalf("login: %v", err)
	}
	a.took()
	return c
}

func (a *authority) tryLogin(r *rig, l flows.Login, p *person) (*flows.Connection, error) {
	r.t.Helper()
	l.Provider = r.entry("acme")
	if l.CallbackPort == 0 && (l.Flow == "" || l.Flow == provider.FlowPKCE) {
		l.CallbackPort = freePort(r.t)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	c, err := r.LoginOAuth(ctx, l, p)
	safe(r.t, err)
	return c, err
}

func text(s secret.Text) string { return s.Reveal() }
