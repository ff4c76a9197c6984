//go:build linux

package main_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authsome/flows/oauth/oauthtest"

	"github.com/chromedp/chromedp"
)

// TestZitadel has the flows meet a server of another family, which tolerates and
// demands other things than oidc-provider: it ends a device login for openid with
// an error, has client credentials without a registration, answers a revocation
// of anything with success, and offers neither RFC 7591 nor iss in the callback.
func TestZitadel(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	as := oauthtest.StartZitadel(t, oauthtest.Options{Redirects: []string{"http://127.0.0.1:" + port + "/callback"}})
	for name, test := range map[string]func(r *zitadel){
		"pkce": testZitadelPKCE, "confidential": testZitadelConfidential, "device code": testZitadelDevice,
		"client credentials": testZitadelMachine, "sites": testZitadelSites,
		"chromium": testZitadelChromium,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &zitadel{newRealm(t, as), port}
			r.vouch = r.knows
			test(r)
		})
	}
}

// zitadel is a realm whose server says at its userinfo endpoint whether a token is
// good: who is no registered application cannot introspect there.
type zitadel struct {
	*realm
	port string // the only one that the confidential client may be called back at
}

func (r *zitadel) knows(token string) bool {
	req, err := http.NewRequest(http.MethodGet, r.as.Issuer+"/userinfo", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.as.Client(r.t).Do(req)
	if err != nil {
		r.t.Error(err)
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

var testUser = map[string]string{"username": "test-user2", "password": "verysecure"}

// welcome sends one request as a child would, and expects the API's answer.
func (r *zitadel) welcome(want string) {
	r.t.Helper()
	if got := r.must(curl...); got.stdout != want+"\n" {
		r.t.Errorf("the API answered %q, want %q: %s", got.stdout, want, got.stderr)
	}
}

func testZitadelPKCE(r *zitadel) {
	t := r.t
	r.definition(nil)
	a := r.begin(asPublic, "login", "acme", "--no-browser", "--callback-port", freePort(t))
	if page := r.approve(a, testUser); !strings.Contains(page, "You are logged in") {
		t.Errorf("the page says %q", page)
	}
	a.ended(0)
	first := r.must("export", "acme").stdout
	// The API does not accept the token any more, though its time has not come.
	r.mu.Lock()
	r.vouch = func(token string) bool { return token != "" && !strings.Contains(first, token) && r.knows(token) }
	r.mu.Unlock()
	r.welcome("welcome 1")
	second := r.must("export", "acme").stdout
	if first == second || second == "" {
		t.Error("the token was not refreshed")
	}
	if names := r.events(); !slices.Contains(names, "refresh ok") || slices.Contains(names, "refresh failed") {
		t.Errorf("audit = %q", names)
	}
	if got := r.must("logout", "acme", "--json"); field(t, got, "remote_revoked") != true {
		t.Errorf("logout: %s", got.stdout)
	}
	if token := r.sent()[0]; r.knows(token) {
		t.Error("the token is good after logout")
	}
	// It announces no endpoint for registrations: the error says what to do.
	got := r.expect(4, "login", "acme", "--flow", "dcr_pkce", "--no-browser", "--callback-port", freePort(t))
	if !strings.Contains(got.stderr, "registration") || !strings.Contains(got.stderr, "authsome inspect acme") {
		t.Errorf("said %s", got.stderr)
	}
}

// A client whose secret has characters that basic authentication must encode.
func testZitadelConfidential(r *zitadel) {
	t := r.t
	r.definition(func(d map[string]any) {
		d["oauth"].(map[string]any)["token_auth_method"] = "client_secret_basic"
	})
	with := func(password string, args ...string) *attempt {
		args = append([]string{"login", "acme", "--no-browser", "--callback-port", r.port}, args...)
		return r.begin([]string{"ACME_CLIENT_ID=basic", "ACME_CLIENT_SECRET=" + password}, args...)
	}
	a := with("wrong+" + canary)
	if page := r.approve(a, testUser); !strings.Contains(page, "The login failed") || !strings.Contains(page, "invalid_client") {
		t.Errorf("the page says %q", page)
	}
	if got := a.ended(4); !strings.Contains(got.stderr, "invalid_client") || !strings.Contains(got.stderr, "check the client id and secret") || strings.Contains(got.stderr, canary) {
		t.Errorf("said %s", got.stderr)
	}
	if got := field(t, r.must("list", "--search", "acme", "--json"), "custom", 0, "state"); got != "available" {
		t.Errorf("state = %v: a client that was not accepted is kept", got)
	}
	a = with("basic+secret/%41 &=:")
	r.approve(a, testUser)
	a.ended(0)
	r.welcome("welcome 1")
	if got := r.must("revoke", "acme", "--json"); field(t, got, "connections", 0, "remote_revoked") != true {
		t.Errorf("revoke: %s", got.stdout)
	}
	if r.knows(r.sent()[0]) {
		t.Error("the token is good after revoke")
	}
}

func testZitadelDevice(r *zitadel) {
	t := r.t
	r.vouch = func(token string) bool { return token != "" } // it takes the login for the user's id, and then knows no such user
	r.definition(func(d map[string]any) {
		o := d["oauth"].(map[string]any)
		o["token_auth_method"], o["scopes"] = "client_secret_basic", []string{"profile"}
	})
	env := []string{"ACME_CLIENT_ID=device", "ACME_CLIENT_SECRET=device+secret"}
	a := r.begin(env, "login", "acme", "--flow", "device_code")
	where := a.until(`^Open (https://\S+) and enter the code`)
	code := regexp.MustCompile(`code (\S+)$`).FindStringSubmatch(a.said[len(a.said)-1])[1]
	b := oauthtest.NewBrowser(t, r.as, map[string]string{"username": "test-user2", "password": "verysecure", "user_code": code})
	if _, text, err := b.Walk(where, ""); err != nil || !strings.Contains(text, "Confirm device authorization") {
		t.Fatalf("the device page ended with %q, %v", text, err)
	}
	answer := r.as.Issuer + "/device/confirm?action=allowed" // the page's buttons need scripts
	if _, text, err := b.Walk(answer, ""); err != nil || !strings.Contains(text, "Device authorization allowed") {
		t.Fatalf("the device page ended with %q, %v", text, err)
	}
	a.ended(0)
	r.welcome("welcome 1")
	// It forgets whose device tokens are, and so takes none back. That is told.
	if got := r.must("logout", "acme", "--json"); field(t, got, "remote_revoked") != false ||
		!strings.Contains(got.stderr, "the provider did not take its tokens back: ") || !strings.Contains(got.stderr, "not issued for this client") {
		t.Errorf("logout: %s%s", got.stdout, got.stderr)
	}
	// A wrong secret is found before a code is shown.
	got := r.run(r.command([]string{"ACME_CLIENT_ID=device", "ACME_CLIENT_SECRET=wrong"}, "login", "acme", "--reset", "--flow", "device_code"), "")
	if got.code != 4 || !strings.Contains(got.stderr, "invalid_client") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

// A person with a browser logs in, and declines the login of a device: the server's
// buttons for that need scripts.
func testZitadelChromium(r *zitadel) {
	t := r.t
	r.definition(nil)
	tab := chromium(t)
	env, opened := display(t)
	signIn := []chromedp.Action[chromedp.Void]{enter("username", "test-user2"), enter("password", "verysecure"), press("Login")}
	a := r.begin(append(env, asPublic...), "login", "acme", "--callback-port", freePort(t))
	do(t, tab, append(append([]chromedp.Action[chromedp.Void]{chromedp.Navigate(opened())}, signIn...), heading("You are logged in"))...)
	a.ended(0)
	r.welcome("welcome 1")

	r.must("remove", "acme")
	r.definition(func(d map[string]any) {
		o := d["oauth"].(map[string]any)
		o["token_auth_method"], o["scopes"] = "client_secret_basic", []string{"profile"}
	})
	a = r.begin(append(env, "ACME_CLIENT_ID=device", "ACME_CLIENT_SECRET=device+secret"), "login", "acme", "--flow", "device_code")
	where := a.until(`^Open (https://\S+) and enter the code`)
	code := regexp.MustCompile(`code (\S+)$`).FindStringSubmatch(a.said[len(a.said)-1])[1]
	do(t, tab, chromedp.Navigate(opened()), heading("Enter this code at Acme"), chromedp.Navigate(where), enter("user_code", code), press("Login"))
	do(t, tab, append(signIn, heading("Welcome back"), press("Deny"))...)
	if got := a.ended(4); !strings.Contains(got.stderr, "access_denied") || !strings.Contains(got.stderr, "approve the request") {
		t.Errorf("said %s", got.stderr)
	}

	// A provider with instances: the form offers the last one.
	r.must("remove", "acme")
	r.definition(sites)
	if got := r.run(r.command(nil, "login", "acme", "--base-url", r.as.Issuer, "--client-id", "sid1", "--secret-file", "-"), "verysecret"); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	a = r.begin(env, "login", "acme", "--connection", "work")
	do(t, tab, chromedp.Navigate(opened()), heading("Which Acme?"), press("Cancel"), heading("Login cancelled"))
	a.ended(8)
	a = r.begin(env, "login", "acme", "--connection", "work")
	do(t, tab, chromedp.Navigate(opened()), heading("Which Acme?"), press("Continue"), heading("is connected"))
	a.ended(0)
	if got := field(t, r.must("get", "acme", "--connection", "work", "--json"), "base_url"); got != r.as.Issuer {
		t.Errorf("it is at %v, want %s", got, r.as.Issuer)
	}
}

// sites makes a definition one of a provider with instances.
func sites(d map[string]any) {
	d["flow"], d["host_url"] = "client_credentials", []string{"{base_url}/api"}
	o := d["oauth"].(map[string]any)
	o["token_auth_method"], o["scopes"], o["base_url"], o["issuer"] = "client_secret_basic", []string{"openid"}, "https://vendor.example.test", "{base_url}"
}

func testZitadelMachine(r *zitadel) {
	t := r.t
	r.vouch = func(token string) bool { return token != "" } // its userinfo knows people only
	r.definition(func(d map[string]any) {
		d["flow"] = "client_credentials"
		o := d["oauth"].(map[string]any)
		o["token_auth_method"], o["scopes"] = "client_secret_basic", []string{"openid"}
	})
	login := func(code int, password string) result {
		got := r.run(r.command(nil, "login", "acme", "--force", "--client-id", "sid1", "--secret-file", "-"), password)
		if got.code != code {
			t.Fatalf("exit %d, want %d: %s", got.code, code, got.stderr)
		}
		return got
	}
	// It takes a wrong secret for an error of its own: what it says is passed on.
	if got := login(4, "wrong"); !strings.Contains(got.stderr, "wrong service user or password") {
		t.Errorf("said %s", got.stderr)
	}
	login(0, "verysecret")
	r.welcome("welcome 1")
	if text := r.must("list", "--connected").stdout; !regexp.MustCompile(`connected +expires in \d+m\n`).MatchString(text) {
		t.Errorf("list says\n%s", text)
	}
	if got := r.must("login", "acme", "--if-needed", "--json"); field(t, got, "status") != "already_connected" {
		t.Errorf("got %s", got.stdout)
	}
}

// Two instances of one provider: the second connection's login asks where it is,
// and does not offer one instance the other's secret.
func testZitadelSites(r *zitadel) {
	t := r.t
	r.definition(sites)
	ask := func(connection string, lines ...string) {
		t.Helper()
		term := onTerminal(t, r.command(nil, "login", "acme", "--connection", connection))
		for i := 0; i < len(lines); i += 2 {
			term.expect(lines[i])
			term.typed(lines[i+1] + "\r")
		}
		if code := term.wait(); code != 0 {
			t.Fatalf("%s: exit %d\n%s", connection, code, term.output())
		}
	}
	ask("one", "Base URL [https://vendor.example.test]: ", r.as.Issuer, "Client id: ", "sid1", "client secret: ", "verysecret")
	ask("two", "Base URL ["+r.as.Issuer+"]: ", "")
	other := oauthtest.StartZitadel(t, oauthtest.Options{})
	ask("three", "Base URL ["+r.as.Issuer+"]: ", other.Issuer, "Client id: ", "sid1", "client secret: ", "verysecret")
	for connection, site := range map[string]string{"one": r.as.Issuer, "two": r.as.Issuer, "three": other.Issuer} {
		if got := field(t, r.must("get", "acme", "--connection", connection, "--json"), "base_url"); got != site {
			t.Errorf("%s is at %v, want %s", connection, got, site)
		}
	}
	// Logging in again stays there, asks nothing, and finds its own client.
	for _, connection := range []string{"one", "three", "two"} {
		r.must("login", "acme", "--connection", connection, "--force")
	}
	// Nobody can be asked: the definition's own site is meant, whose client is not known.
	if got := r.expect(5, "login", "acme", "--connection", "four"); !strings.Contains(got.stderr, "no OAuth client for acme at https://vendor.example.test: ") || !strings.Contains(got.stderr, "set ACME_CLIENT_ID and ACME_CLIENT_SECRET") {
		t.Errorf("said %s", got.stderr)
	}
	r.must("login", "acme", "--connection", "four", "--base-url", other.Issuer)
}
