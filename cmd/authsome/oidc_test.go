//go:build linux

package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authsome/ca"
	"authsome/flows/oauth/oauthtest"
	"authsome/vault/audit"
)

// realm is a world whose origin accepts the tokens of a real authorization
// server, which is on loopback and speaks TLS as well.
type realm struct {
	*world
	as         *oauthtest.Server
	introspect url.Values              // the client that asks about tokens
	vouch      func(token string) bool // nil: the server is asked

	mu     sync.Mutex
	tokens []string // guarded by mu; what the origin was sent, in order
}

func newRealm(t *testing.T, as *oauthtest.Server) *realm {
	t.Helper()
	r := &realm{world: newWorld(t), as: as, introspect: url.Values{"client_id": {"public"}}}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	r.roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(r.roots, append(authority.RootPEM(), certificate(t, as)...), 0o600); err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewUnstartedServer(r)
	origin.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), hello.ServerName)
	}}
	origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	origin.StartTLS()
	t.Cleanup(origin.Close)
	internet := httptest.NewServer(connectTo(origin.Listener.Addr().String()))
	t.Cleanup(internet.Close)
	r.internet = internet.URL
	t.Cleanup(r.noTokens)
	return r
}

// certificate is what a server on loopback presents, in PEM.
func certificate(t *testing.T, as *oauthtest.Server) []byte {
	t.Helper()
	u, err := url.Parse(as.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: as.Roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
}

// ServeHTTP is the origin: it says the number of the token that it was sent, if
// the authorization server vouches for it.
func (r *realm) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if !r.active(token) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, "who are you?")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.tokens, token) {
		r.tokens = append(r.tokens, token)
	}
	fmt.Fprintf(w, "welcome %d\n", slices.Index(r.tokens, token)+1)
}

// active asks the server whether it would accept a token (RFC 7662).
func (r *realm) active(token string) bool {
	r.mu.Lock()
	vouch := r.vouch
	r.mu.Unlock()
	if vouch != nil {
		return vouch(token)
	}
	form := url.Values{"token": {token}}
	for name, value := range r.introspect {
		form[name] = value
	}
	res, err := r.as.Client(r.t).PostForm(r.as.Issuer+"/token/introspection", form)
	if err != nil {
		r.t.Error(err)
		return false
	}
	defer res.Body.Close()
	var answer struct{ Active bool }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		r.t.Errorf("introspection: %s: %v", res.Status, err)
	}
	return answer.Active
}

// sent are the tokens that the origin has accepted so far.
func (r *realm) sent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

// noTokens searches what authsome keeps for tokens that were sent.
func (r *realm) noTokens() {
	for _, root := range []string{r.home, r.tmp} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				r.t.Error(err)
			}
			for _, token := range r.sent() {
				if strings.Contains(string(b), token) {
					r.t.Errorf("%s holds a token", path)
				}
			}
			return nil
		})
	}
}

// definition registers the provider "acme" at the realm's server.
func (r *realm) definition(change func(d map[string]any)) {
	r.t.Helper()
	d := map[string]any{
		"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "pkce",
		"host_url": []string{"api.example.test"},
		"oauth": map[string]any{"issuer": r.as.Issuer, "scopes": []string{"openid", "email", "offline_access"},
			"supports_device_flow": true, "supports_dcr": true},
		"client": map[string]any{"client_id_env": "ACME_CLIENT_ID", "client_secret_env": "ACME_CLIENT_SECRET"},
		"export": map[string]any{"env": map[string]any{"access_token": "ACME_TOKEN"}},
		"docs":   "https://docs.example.test/apps",
	}
	if change != nil {
		change(d)
	}
	b, err := json.Marshal(d)
	if err != nil {
		r.t.Fatal(err)
	}
	r.register(string(b))
}

// attempt is a login under way.
type attempt struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *strings.Builder
	lines  chan string // of stderr; closed at its end
	said   []string    // what was taken from lines
}

func (r *realm) begin(env []string, args ...string) *attempt {
	r.t.Helper()
	a := &attempt{t: r.t, cmd: r.command(env, args...), stdout: new(strings.Builder), lines: make(chan string, 100)}
	a.cmd.Stdout = a.stdout
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { a.cmd.Process.Kill(); a.cmd.Wait() })
	go func() {
		defer close(a.lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			a.lines <- s.Text()
		}
	}()
	return a
}

// until returns what a pattern finds on stderr: its group, or the whole.
func (a *attempt) until(pattern string) string {
	a.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(30 * time.Second)
	for {
		select {
		case line, more := <-a.lines:
			if !more {
				a.cmd.Wait()
				a.t.Fatalf("%v ended without %q:\n%s\n%s", a.cmd.Args[1:], pattern, strings.Join(a.said, "\n"), a.stdout)
			}
			a.said = append(a.said, line)
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		case <-late:
			a.t.Fatalf("%v does not say %q:\n%s", a.cmd.Args[1:], pattern, strings.Join(a.said, "\n"))
		}
	}
}

// wait returns how the command ended.
func (a *attempt) wait() result {
	a.t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { a.cmd.Process.Kill() })
	defer timer.Stop()
	for line := range a.lines {
		a.said = append(a.said, line)
	}
	a.cmd.Wait()
	return result{code: a.cmd.ProcessState.ExitCode(), stdout: a.stdout.String(), stderr: strings.Join(a.said, "\n")}
}

// ended fails unless the command ended with a code, and returns how.
func (a *attempt) ended(code int) result {
	a.t.Helper()
	got := a.wait()
	if got.code != code {
		a.t.Fatalf("%v: exit %d, want %d\n%s%s", a.cmd.Args[1:], got.code, code, got.stdout, got.stderr)
	}
	return got
}

// approve walks through the server's pages, from the URL that a login printed,
// and comes back. It returns the last page.
func (r *realm) approve(a *attempt, person map[string]string) string {
	r.t.Helper()
	start := a.until(`^\s+(https://\S+)$`)
	b := oauthtest.NewBrowser(r.t, r.as, person)
	back, text, err := b.Walk(start, "http://127.0.0.1:")
	if err != nil || back == "" {
		r.t.Fatalf("the server does not send the browser back: %v %s", err, text)
	}
	_, page, err := b.Walk(back, "")
	if err != nil {
		r.t.Fatal(err)
	}
	return page
}

var ada = map[string]string{"login": "ada", "password": "any"}

// login logs in by authorization code, with a browser that the user opens.
func (r *realm) login(env []string, args ...string) result {
	r.t.Helper()
	args = append([]string{"login", "acme", "--no-browser", "--callback-port", freePort(r.t)}, args...)
	a := r.begin(env, args...)
	if page := r.approve(a, ada); !strings.Contains(page, "You are logged in") {
		r.t.Errorf("the page says %q", page)
	}
	return a.ended(0)
}

var asPublic = []string{"ACME_CLIENT_ID=public"}

// curl is a child that asks the API once.
var curl = []string{"run", "--", "curl", "-sS", apiURL}

// expect runs authsome and compares its exit code.
func (r *realm) expect(code int, args ...string) result {
	r.t.Helper()
	got := r.authsome(args...)
	if got.code != code {
		r.t.Fatalf("authsome %v: exit %d, want %d\n%s%s", args, got.code, code, got.stdout, got.stderr)
	}
	return got
}

// field returns a value of JSON output.
func field(t *testing.T, r result, path ...any) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s%s", err, r.stdout, r.stderr)
	}
	for _, step := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[step.(string)]
		case []any:
			if step.(int) >= len(at) {
				t.Fatalf("%v: there are %d elements\n%s", path, len(at), r.stdout)
			}
			v = at[step.(int)]
		default:
			t.Fatalf("%v: nothing there\n%s", path, r.stdout)
		}
	}
	return v
}

// events are the names of the audit entries, with their outcomes.
func (r *realm) events() []string {
	r.t.Helper()
	f, err := os.Open(filepath.Join(r.home, "audit.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for e, err := range audit.Read(f, audit.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		names = append(names, e.Event+" "+e.Outcome)
	}
	return names
}

func TestOIDCProvider(t *testing.T) {
	as := oauthtest.StartOIDCProvider(t, oauthtest.Options{})

	t.Run("pkce", func(t *testing.T) { testAuthorizationCode(t, as) })
	t.Run("forms of login", func(t *testing.T) { testFormsOfLogin(t, as) })
	t.Run("revocation", func(t *testing.T) { testRevocation(t, as) })
	t.Run("device code", func(t *testing.T) { testDeviceCode(t, as) })
	t.Run("registration", func(t *testing.T) { testRegistration(t, as) })
	t.Run("client credentials", func(t *testing.T) { testClientCredentials(t, as) })
	t.Run("confidential clients", func(t *testing.T) { testConfidentialClients(t, as) })
	t.Run("two at once", func(t *testing.T) { testTwoAtOnce(t, as) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, as) })
	t.Run("chromium", func(t *testing.T) { testChromium(t, as) })
}

func testAuthorizationCode(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	got := r.login(asPublic)
	if !strings.Contains(got.stderr, "Logged in to acme as ada@example.test (connection default). Next: authsome run") {
		t.Errorf("said %q", got.stderr)
	}
	if got := r.must(curl...); got.stdout != "welcome 1\n" {
		t.Errorf("the API answered %q: %s", got.stdout, got.stderr)
	}
	// The child holds a placeholder.
	if got := r.must("run", "--", "sh", "-c", "echo $ACME_TOKEN"); got.stdout != "authsome-proxy-managed\n" {
		t.Errorf("the child holds %q", got.stdout)
	}
	list := r.must("list", "--connected", "--json")
	if s := field(t, list, "custom", 0, "connections", 0, "status"); s != "connected" {
		t.Errorf("status = %v", s)
	}
	if text := r.must("list", "--connected").stdout; !regexp.MustCompile(`Acme \[acme\] +custom +oauth2 +default +connected +expires in (1h|60m|59m)\n`).MatchString(text) {
		t.Errorf("list says\n%s", text)
	}
	record := r.must("get", "acme", "--json")
	for name, want := range map[string]string{"access_token": "***REDACTED***", "refresh_token": "***REDACTED***", "status": "connected", "token_url": as.Issuer + "/token"} {
		if got := field(t, record, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	token := strings.TrimSpace(strings.TrimPrefix(r.must("export", "acme").stdout, "ACME_TOKEN="))
	if !slices.Equal(r.sent(), []string{token}) {
		t.Error("export does not give the token that was injected")
	}
	if got, want := r.events(), []string{"register ok", "login ok", "run.start ok", "inject ok", "run.end ok", "run.start ok", "run.end ok", "export ok"}; !slices.Equal(got, want) {
		t.Errorf("audit = %q, want %q", got, want)
	}
	// logout: the server takes the tokens back; the client stays.
	if got := r.must("logout", "acme", "--json"); field(t, got, "remote_revoked") != true {
		t.Errorf("logout: %s", got.stdout)
	}
	if r.active(token) {
		t.Error("the token is still accepted after logout")
	}
	if got := field(t, r.must("list", "--search", "acme", "--json"), "custom", 0, "state"); got != "configured" {
		t.Errorf("state = %v, want configured", got)
	}
	r.login(nil)
}

func testFormsOfLogin(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	r.login(asPublic)
	if got := r.expect(1, "login", "acme", "--json"); field(t, got, "error") != "AlreadyConnected" || !strings.Contains(field(t, got, "hint").(string), "--force") {
		t.Errorf("got %s", got.stdout)
	}
	if got := r.must("login", "acme", "--if-needed", "--json"); field(t, got, "status") != "already_connected" || field(t, got, "record_status") != "connected" {
		t.Errorf("got %s", got.stdout)
	}
	r.must(curl...)
	r.login(nil, "--force")
	if got := r.must(curl...); got.stdout != "welcome 2\n" {
		t.Errorf("after --force the API answered %q", got.stdout)
	}
	r.login(nil, "--connection", "work", "--scopes", "openid,profile")
	if got := field(t, r.must("get", "acme", "--connection", "work", "--json"), "scopes"); fmt.Sprint(got) != "[openid profile]" {
		t.Errorf("scopes = %v", got)
	}
	if got := r.must("run", "--connection", "acme=work", "--", "curl", "-sS", apiURL); got.stdout != "welcome 3\n" {
		t.Errorf("the second connection: %q", got.stdout)
	}
	// --reset asks for the client anew, and forgets the rest when it has succeeded.
	if got := r.expect(5, "login", "acme", "--reset", "--no-browser"); !strings.Contains(got.stderr, "set ACME_CLIENT_ID and ACME_CLIENT_SECRET, or give --client-id") {
		t.Errorf("got %s", got.stderr)
	}
	if got := r.must(curl...); got.stdout != "welcome 2\n" {
		t.Errorf("a --reset that failed forgot the connection: %q", got.stdout)
	}
	r.login(nil, "--reset", "--client-id", "public")
	r.expect(5, "get", "acme", "--connection", "work")

	// A port that is taken.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if got := r.expect(4, "login", "acme", "--force", "--no-browser", "--callback-port", port); !strings.Contains(got.stderr, "port "+port) || !strings.Contains(got.stderr, "--callback-port") {
		t.Errorf("got %s", got.stderr)
	}
	// Neither a terminal nor a display: it says what works instead.
	if got := r.expect(5, "login", "acme", "--force"); !strings.Contains(got.stderr, "--flow device_code") {
		t.Errorf("got %s", got.stderr)
	}
	r.must("remove", "acme")
	r.definition(func(d map[string]any) { delete(d["oauth"].(map[string]any), "supports_device_flow") })
	if got := r.run(r.command(asPublic, "login", "acme"), ""); got.code != 5 || !strings.Contains(got.stderr, "--no-browser") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func testRevocation(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	r.login(asPublic)
	r.login(nil, "--connection", "work")
	r.must(curl...)
	r.must("run", "--connection", "acme=work", "--", "curl", "-sS", apiURL)
	got := r.must("revoke", "acme", "--json")
	if field(t, got, "connections", 0, "remote_revoked") != true || field(t, got, "connections", 1, "remote_revoked") != true {
		t.Errorf("revoke: %s", got.stdout)
	}
	for _, token := range r.sent() {
		if r.active(token) {
			t.Error("a token is still accepted after revoke")
		}
	}
	if got := field(t, r.must("list", "--search", "acme", "--json"), "custom", 0, "state"); got != "available" {
		t.Errorf("state = %v, want available: the client has to go", got)
	}
	// remove tells nobody.
	r.login(asPublic)
	r.must(curl...)
	token := r.sent()[len(r.sent())-1]
	r.must("remove", "acme")
	if !r.active(token) {
		t.Error("remove revoked the token")
	}
	r.expect(3, "get", "acme")
	// A provider that cannot be reached does not keep what is here.
	r.definition(func(d map[string]any) { d["oauth"].(map[string]any)["revocation_url"] = "https://127.0.0.1:1/revoke" })
	r.login(asPublic)
	if got := r.expect(4, "revoke", "acme"); !strings.Contains(got.stderr, "was removed here, but the provider did not take its tokens back") {
		t.Errorf("got %s", got.stderr)
	}
	r.expect(5, "get", "acme")
}

func testDeviceCode(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	a := r.begin(nil, "login", "acme", "--flow", "device_code", "--client-id", "device", "--json")
	where := a.until(`^Open (https://\S+) and enter the code`)
	code := regexp.MustCompile(`code (\S+)$`).FindStringSubmatch(a.said[len(a.said)-1])[1]
	b := oauthtest.NewBrowser(t, as, map[string]string{"login": "ada", "password": "any", "user_code": code})
	if _, text, err := b.Walk(where, ""); err != nil || !strings.Contains(text, "Sign-in Success") {
		t.Fatalf("the device page ended with %q, %v", text, err)
	}
	if got := a.ended(0); field(t, got, "status") != "success" {
		t.Errorf("got %s", got.stdout)
	}
	if got := r.must(curl...); got.stdout != "welcome 1\n" {
		t.Errorf("the API answered %q", got.stdout)
	}
}

// TestDeviceCodeInJSON is about the variant of the flow that some providers have
// of their own: {"device_code":…} is posted, and a status says "not yet".
func TestDeviceCodeInJSON(t *testing.T) {
	var mu sync.Mutex
	polls := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
			t.Errorf("%s: the body is not JSON: %v", req.URL, err)
		}
		mu.Lock()
		defer mu.Unlock()
		switch polls++; {
		case req.URL.Path == "/device":
			polls = 0
			fmt.Fprintf(w, `{"device_code":"device-%s","user_code":"WXYZ","verification_uri":"https://127.0.0.1/go","interval":1}`, canary)
		case body["device_code"] != "device-"+canary:
			w.WriteHeader(http.StatusBadRequest)
		case polls == 1:
			io.WriteString(w, `{"status":"pending"}`)
		default:
			fmt.Fprintf(w, `{"access_token":%q}`, canary)
		}
	}))
	t.Cleanup(server.Close)
	w := newWorld(t)
	w.trust(server)
	w.register(`{"schema_version": 1, "name": "tv", "display_name": "TV", "auth_type": "oauth2", "flow": "device_code", "host_url": "api.example.test",
		"oauth": {"device_authorization_url": "` + server.URL + `/device", "token_url": "` + server.URL + `/token", "device_token_request": "json"}}`)
	got := w.must("login", "tv")
	if !strings.Contains(got.stderr, "enter the code WXYZ") {
		t.Errorf("said %s", got.stderr)
	}
	if got := w.must("run", "--", "curl", "-sS", apiURL); !strings.Contains(got.stdout, "welcome") {
		t.Errorf("the API answered %q", got.stdout)
	}
	w.noSecret()
}

func testRegistration(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(func(d map[string]any) { d["flow"] = "dcr_pkce" })
	r.login(nil)
	if got := r.must(curl...); got.stdout != "welcome 1\n" {
		t.Errorf("the API answered %q", got.stdout)
	}
	id := field(t, r.must("get", "acme", "--json"), "client_id")
	r.login(nil, "--connection", "work") // another port: another client
	if got := field(t, r.must("get", "acme", "--connection", "work", "--json"), "client_id"); got == id || got == nil {
		t.Errorf("client_id = %v", got)
	}
	// A client may ask for what it was registered for: other scopes need another.
	port := freePort(t)
	for _, scopes := range []string{"openid", "openid,profile"} {
		a := r.begin(nil, "login", "acme", "--no-browser", "--connection", "same", "--force", "--callback-port", port, "--scopes", scopes)
		r.approve(a, ada)
		a.ended(0)
	}
	if got := r.must("logout", "acme", "--json"); field(t, got, "remote_revoked") != true {
		t.Errorf("the first connection's client is not known any more: %s", got.stdout)
	}
}

func testClientCredentials(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.introspect = url.Values{"client_id": {"machine"}, "client_secret": {"machine+secret"}}
	r.definition(func(d map[string]any) {
		d["flow"] = "client_credentials"
		o := d["oauth"].(map[string]any)
		o["scopes"], o["resource"], o["token_auth_method"] = []string{"api:read"}, "https://api.example.test/", "client_secret_basic"
	})
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("machine+secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.must("login", "acme", "--client-id", "machine", "--secret-file", file, "--json"); field(t, got, "status") != "success" {
		t.Errorf("got %s", got.stdout)
	}
	token := strings.TrimSpace(strings.TrimPrefix(r.must("export", "acme").stdout, "ACME_TOKEN="))
	if token == "" {
		t.Fatal("no token")
	}
	if got := field(t, r.must("get", "acme", "--json"), "scopes"); fmt.Sprint(got) != "[api:read]" {
		t.Errorf("scopes = %v", got)
	}
	// A secret that is wrong is said to be so, and is not kept.
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.expect(4, "login", "acme", "--reset", "--client-id", "machine", "--secret-file", file); !strings.Contains(got.stderr, "invalid_client") || !strings.Contains(got.stderr, "check the client id and secret") {
		t.Errorf("got %s", got.stderr)
	}
	r.must("login", "acme", "--force")
}

func testConfidentialClients(t *testing.T, as *oauthtest.Server) {
	for method, id := range map[string]string{"client_secret_post": "post:client", "client_secret_basic": "basic:client"} {
		t.Run(method, func(t *testing.T) {
			r := newRealm(t, as)
			r.definition(func(d map[string]any) { d["oauth"].(map[string]any)["token_auth_method"] = method })
			r.login([]string{"ACME_CLIENT_ID=" + id, "ACME_CLIENT_SECRET=" + strings.TrimSuffix(id, ":client") + "+secret/%41 &=:"})
			if got := r.must(curl...); got.stdout != "welcome 1\n" {
				t.Errorf("the API answered %q", got.stdout)
			}
			if got := r.must("revoke", "acme", "--json"); field(t, got, "connections", 0, "remote_revoked") != true {
				t.Errorf("revoke: %s", got.stdout)
			}
			if r.active(r.sent()[0]) {
				t.Error("the token is still accepted")
			}
		})
	}
}

// testTwoAtOnce has logins wait for the browser at the same time: each is approved by
// its own page and no other, whichever comes back first.
func testTwoAtOnce(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	port, other := freePort(t), freePort(t)
	first := r.begin(asPublic, "login", "acme", "--no-browser", "--callback-port", port)
	start := first.until(`^\s+(https://\S+)$`)
	// The same port: who comes second is told, and the first login goes on.
	if got := r.run(r.command(asPublic, "login", "acme", "--no-browser", "--callback-port", port), ""); got.code != 4 ||
		!strings.Contains(got.stderr, "port "+port) || !strings.Contains(got.stderr, "--callback-port") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
	second := r.begin(asPublic, "login", "acme", "--no-browser", "--connection", "work", "--callback-port", other)
	secondStart := second.until(`^\s+(https://\S+)$`)
	b := oauthtest.NewBrowser(t, as, ada)
	back, text, err := b.Walk(secondStart, "http://127.0.0.1:"+other)
	if err != nil || back == "" {
		t.Fatalf("the server does not send the browser back: %v %s", err, text)
	}
	// What belongs to the second login does nothing to the first.
	if _, page, err := b.Walk(strings.Replace(back, other, port, 1), ""); err != nil || !strings.Contains(page, "belongs to no login") {
		t.Errorf("the first login says %q, %v", page, err)
	}
	for _, at := range []string{back, start} {
		if _, page, err := b.Walk(at, ""); err != nil || !strings.Contains(page, "You are logged in") {
			t.Errorf("the page says %q, %v", page, err)
		}
	}
	first.ended(0)
	second.ended(0)
	for i, connection := range []string{"default", "work"} {
		if got := r.must("run", "--connection", "acme="+connection, "--", "curl", "-sS", apiURL); got.stdout != fmt.Sprintf("welcome %d\n", i+1) {
			t.Errorf("%s: the API answered %q", connection, got.stdout)
		}
	}
}

// testCancelled calls logins off with Ctrl-C, at each point where one waits.
func testCancelled(t *testing.T, as *oauthtest.Server) {
	r := newRealm(t, as)
	r.definition(nil)
	for name, args := range map[string][]string{
		"waiting for the browser": {"--no-browser", "--callback-port", freePort(t)},
		"waiting for a device":    {"--flow", "device_code", "--client-id", "device"},
	} {
		a := r.begin(asPublic, append([]string{"login", "acme"}, args...)...)
		a.until(`https://`)
		a.cmd.Process.Signal(syscall.SIGINT)
		if got := a.ended(8); !strings.Contains(got.stderr, "cancel") || got.stdout != "" {
			t.Errorf("%s: said %s%s", name, got.stdout, got.stderr)
		}
		a = r.begin(asPublic, append([]string{"login", "acme", "--json"}, args...)...)
		a.until(`https://`)
		a.cmd.Process.Signal(syscall.SIGTERM)
		if got := a.ended(8); field(t, got, "error") != "Cancelled" {
			t.Errorf("%s: said %s", name, got.stdout)
		}
	}
	r.expect(5, "get", "acme")
	if got := field(t, r.must("list", "--search", "acme", "--json"), "custom", 0, "state"); got != "available" {
		t.Errorf("state = %v: a login that was called off has stored something", got)
	}
}

// TestLoginOverSSH logs in over SSH: there is a terminal and no display.
func TestLoginOverSSH(t *testing.T) {
	r := newRealm(t, oauthtest.StartOIDCProvider(t, oauthtest.Options{}))
	r.definition(nil)
	port := freePort(t)
	term := onTerminal(t, r.command([]string{"SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22"}, "login", "acme", "--callback-port", port))
	term.expect("Register this redirect URI with it: http://127.0.0.1:" + port + "/callback")
	term.expect("Client id: ")
	term.typed("public\n")
	term.expect("client secret (empty for a public client): ")
	term.typed("\n")
	term.expect("ssh -L " + port + ":127.0.0.1:" + port + " HOST")
	start := regexp.MustCompile(`https://127\S+`).FindString(term.output())
	b := oauthtest.NewBrowser(t, r.as, ada)
	back, text, err := b.Walk(start, "http://127.0.0.1:")
	if err != nil || back == "" {
		t.Fatalf("the server does not send the browser back: %v %s", err, text)
	}
	if _, page, err := b.Walk(back, ""); err != nil || !strings.Contains(page, "You are logged in") {
		t.Errorf("the page says %q, %v", page, err)
	}
	if code := term.wait(); code != 0 || !strings.Contains(term.output(), "Logged in to acme") {
		t.Errorf("exit %d:\n%s", code, term.output())
	}
}

// TestExpiryDuringARun has tokens of a few seconds end while a child works.
func TestExpiryDuringARun(t *testing.T) {
	const life = 6
	r := newRealm(t, oauthtest.StartOIDCProvider(t, oauthtest.Options{AccessTokenSeconds: life}))
	r.definition(nil)
	r.login(asPublic)
	script := fmt.Sprintf(`curl -sS %s; sleep %d; curl -sS %s`, apiURL, life+1, apiURL)
	got := r.must("run", "--", "sh", "-c", script)
	if got.stdout != "welcome 1\nwelcome 2\n" || got.stderr != "" {
		t.Errorf("the API answered %q; said %q", got.stdout, got.stderr)
	}
	names := r.events()
	if !slices.Contains(names, "refresh ok") || slices.Contains(names, "refresh failed") {
		t.Errorf("audit = %q", names)
	}
	if got := field(t, r.must("list", "--connected", "--json"), "custom", 0, "connections", 0, "last_refresh"); got == nil {
		t.Error("list does not tell when it was refreshed")
	}
	// Ten exports at once find it expired.
	time.Sleep((life + 1) * time.Second)
	if text := r.must("list", "--connected").stdout; !regexp.MustCompile(`expired +expired \d+s ago, refreshed \d+s ago\n`).MatchString(text) {
		t.Errorf("list says\n%s", text)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	tokens := map[string]int{}
	for range 10 {
		all.Go(func() {
			got := r.authsome("export", "acme")
			mu.Lock()
			defer mu.Unlock()
			if got.code != 0 {
				t.Errorf("export: exit %d: %s", got.code, got.stderr)
			}
			tokens[got.stdout]++
		})
	}
	all.Wait()
	if len(tokens) != 1 {
		t.Errorf("ten exports gave %d tokens, want 1", len(tokens))
	}
	// --if-needed needs no browser when a refresh will do.
	time.Sleep((life + 1) * time.Second)
	if got := r.must("login", "acme", "--if-needed", "--json"); field(t, got, "status") != "already_connected" {
		t.Errorf("got %s", got.stdout)
	}
	// The login is revoked at the provider: what is shown, and what to do.
	form := url.Values{"client_id": {"public"}, "token": {strings.TrimSpace(r.must("get", "acme", "--field", "refresh_token", "--show-secret").stdout)}}
	res, err := r.as.Client(t).PostForm(r.as.Issuer+"/token/revocation", form)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("revoke: %v %v", res, err)
	}
	res.Body.Close()
	time.Sleep((life + 1) * time.Second)
	if got := r.expect(6, "export", "acme", "--json"); field(t, got, "error") != "RefreshFailed" || field(t, got, "hint") != "run: authsome login acme" {
		t.Errorf("got %s", got.stdout)
	}
	r.expect(5, "export", "acme")
	if text := r.must("list", "--connected").stdout; !regexp.MustCompile(`(?s)invalid +expired \d+s ago, refreshed \d+s ago\n\nacme/default: last refresh failed \d+s ago: refresh: invalid_grant.*\n  run: authsome login acme\n`).MatchString(text) {
		t.Errorf("list says\n%s", text)
	}
	if got := r.authsome("run", "--", "curl", "-sS", "-D", "-", apiURL); !strings.Contains(strings.ToLower(got.stdout), "authsome-error: credential_missing") || !strings.Contains(got.stdout, "authsome login acme") {
		t.Errorf("the child is told\n%s", got.stdout)
	}
}

// TestRunDoesNotTearOffARefresh ends a run, and its client, while the token
// endpoint thinks. What it then answers must not be lost.
func TestRunDoesNotTearOffARefresh(t *testing.T) {
	var mu sync.Mutex
	refreshes := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.ParseForm()
		if req.Form.Get("grant_type") == "refresh_token" {
			time.Sleep(3 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			if refreshes++; refreshes > 1 || req.Form.Get("refresh_token") != "first-"+canary {
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"error":"invalid_grant"}`)
				return
			}
			fmt.Fprintf(w, `{"access_token":%q,"refresh_token":"second-%s","expires_in":3600}`, canary, canary)
			return
		}
		if req.URL.Path == "/device" {
			fmt.Fprintf(w, `{"device_code":"d","user_code":"WXYZ","verification_uri":"https://127.0.0.1/go","interval":1}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":"old-%s","refresh_token":"first-%s","expires_in":1}`, canary, canary)
	}))
	t.Cleanup(server.Close)
	w := newWorld(t)
	w.trust(server)
	w.register(`{"schema_version": 1, "name": "tv", "display_name": "TV", "auth_type": "oauth2", "flow": "device_code", "host_url": "api.example.test",
		"oauth": {"device_authorization_url": "` + server.URL + `/device", "token_url": "` + server.URL + `/token"},
		"export": {"env": {"access_token": "TV_TOKEN"}}}`)
	w.must("login", "tv", "--client-id", "app")
	time.Sleep(1100 * time.Millisecond)
	w.authsome("run", "--", "curl", "-sS", "--max-time", "1", apiURL)
	if got := w.must("export", "tv", "--json"); got.stderr != "" {
		t.Errorf("export said %s", got.stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	if refreshes != 1 {
		t.Errorf("%d refreshes, want 1: the first answer was lost", refreshes)
	}
}
