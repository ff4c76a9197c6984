package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	pathpkg "path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"authsome"
	"authsome/ca"
	"authsome/flows"
	"authsome/provider"
	"authsome/proxy"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

// demoHost is where the demo's API is: a name that exists nowhere else
// (RFC 6761 section 6.2 keeps .test for this).
const demoHost = "api.demo.test"

const demoDefinition = `{
  "schema_version": 1, "name": "demo", "display_name": "Demo API",
  "auth_type": "api_key", "flow": "api_key",
  "host_url": "` + demoHost + `",
  "api_key": {"header_name": "Authorization", "header_prefix": "Bearer", "env_var": "DEMO_API_KEY"},
  "export": {"env": {"api_key": "DEMO_API_KEY"}}
}`

func newDemo(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine, without an account",
		Long: `Show the main job on this machine: an HTTPS API on the loopback, a temporary
home, a login, and a child behind the proxy that holds a placeholder only.
Nothing is sent anywhere, and nothing is kept.`,
		Example: "  authsome demo",
		Args:    exactArgs(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context()) },
	}
}

// demoResult is demo --json.
type demoResult struct {
	ChildCommand  []string        `json:"child_command"`
	ChildHeld     string          `json:"child_held"`
	APIReceived   string          `json:"api_received"`
	APIAnswered   json.RawMessage `json:"api_answered"`
	Audit         audit.Event     `json:"audit"`
	SecretInChild bool            `json:"secret_in_child"`
}

func (a *app) demo(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "authsome-demo-")
	if err != nil {
		return temporaryError(fmt.Errorf("make a temporary directory: %w", err))
	}
	defer os.RemoveAll(dir)
	s, api, key, err := a.demoWorld(ctx, filepath.Join(dir, "home"))
	if err != nil {
		return err
	}
	defer api.close()
	result, err := a.runDemo(ctx, api, key, s)
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(result)
	}
	return a.printDemo(result)
}

func (a *app) printDemo(r demoResult) error {
	line, err := json.Marshal(r.Audit)
	if err != nil {
		return err
	}
	var command []string
	for _, word := range r.ChildCommand {
		if strings.Contains(word, " ") { // it has a variable in it
			word = `"` + word + `"`
		}
		command = append(command, word)
	}
	return a.print(`$ authsome login demo            the key is in the vault now
$ authsome run -- %s

what the child held   DEMO_API_KEY=%s
what the API received Authorization: %s
what the API answered %s
audit                 %s

The child never held the key, and could not have printed it.`,
		strings.Join(command, " "), r.ChildHeld, r.APIReceived, r.APIAnswered, line)
}

func (a *app) runDemo(ctx context.Context, api *demoAPI, key secret.Text, s *session) (demoResult, error) {
	answer, argv, env, err := s.demoChild(ctx)
	if closeErr := s.close(ctx); err == nil {
		err = closeErr
	}
	if err != nil {
		return demoResult{}, err
	}
	return a.demoFindings(s.client, api, key, answer, argv, env)
}

// demoWorld makes a home with one connection, an API that knows its key, and a
// running proxy.
func (a *app) demoWorld(ctx context.Context, home string) (s *session, api *demoAPI, key secret.Text, err error) {
	made, _, err := authsome.OpenHome(home)
	if err != nil {
		return nil, nil, key, err
	}
	if _, err := provider.Register(made.ProvidersDir(), []byte(demoDefinition), false); err != nil {
		return nil, nil, key, err
	}
	client, err := authsome.Open(ctx, authsome.Options{Home: home, Getenv: func(string) string { return "" }, Run: newRunID(), Logger: a.logger()})
	if err != nil {
		return nil, nil, key, err
	}
	a.client = client
	key = secret.New("demo-" + randomHex(16))
	if err := demoLogin(ctx, client, key); err != nil {
		return nil, nil, key, err
	}
	if api, err = startDemoAPI(ctx); err != nil {
		return nil, nil, key, fmt.Errorf("start the demo's API: %w", err)
	}
	if s, err = a.startDemoSession(ctx, client, api); err != nil {
		api.close()
		return nil, nil, key, err
	}
	return s, api, key, nil
}

func demoLogin(ctx context.Context, client *authsome.Client, key secret.Text) error {
	entry, err := client.Registry.Lookup("demo")
	if err != nil {
		return err
	}
	_, err = client.Broker.LoginAPIKey(ctx, flows.Login{Provider: entry}, key)
	return err
}

// startDemoSession is startSession with an API that only exists here.
func (a *app) startDemoSession(ctx context.Context, client *authsome.Client, api *demoAPI) (*session, error) {
	s := &session{app: a, client: client, id: newRunID(), serving: make(chan error, 1)}
	var err error
	s.engine, err = a.startEngine(context.WithoutCancel(ctx), client, engineConfig{proxy: proxy.Config{
		TrustPeer: proxy.ProcessTree(os.Getpid()), RootCAs: api.roots, Dial: api.dial}})
	if err != nil {
		return nil, err
	}
	if err := s.open(""); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// demoChild calls the API with curl, or with ourselves when there is no curl.
func (s *session) demoChild(ctx context.Context) (answer []byte, argv, env []string, err error) {
	target := "https://" + demoHost + "/v1/me"
	env = s.environment(os.Environ())
	for i, pair := range env {
		if name, _, _ := strings.Cut(pair, "="); strings.EqualFold(name, "NO_PROXY") {
			env[i] = name + "=" // an inherited one may name the API
		}
	}
	// -q: what a .curlrc says is of no concern here.
	argv = []string{"curl", "-q", "-sS", "--max-time", "10", "-H", "Authorization: Bearer $DEMO_API_KEY", target}
	path, err := exec.LookPath("curl")
	if err != nil {
		if path, err = os.Executable(); err != nil {
			return nil, nil, nil, err
		}
		argv = []string{"authsome", demoFetch, target}
	}
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	for i, arg := range cmd.Args {
		cmd.Args[i] = strings.ReplaceAll(arg, "$DEMO_API_KEY", lookupEnv(env, "DEMO_API_KEY"))
	}
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if answer, err = cmd.Output(); err != nil {
		return nil, nil, nil, fmt.Errorf("the demo's child failed: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return answer, argv, env, nil
}

func (a *app) demoFindings(client *authsome.Client, api *demoAPI, key secret.Text, answer []byte, argv, env []string) (demoResult, error) {
	events, err := a.readAudit(client.Home.AuditPath(), audit.Filter{Event: "inject"}, 0)
	if err != nil {
		return demoResult{}, err
	}
	if len(events) != 1 {
		return demoResult{}, fmt.Errorf("the audit log has %d injections, not 1", len(events))
	}
	received := api.received("/v1/me")
	if received != "Bearer "+key.Reveal() {
		return demoResult{}, fmt.Errorf("the API did not receive the credential")
	}
	return demoResult{ChildCommand: argv, ChildHeld: lookupEnv(env, "DEMO_API_KEY"), APIReceived: received,
		APIAnswered: json.RawMessage(bytes.TrimSpace(answer)), Audit: events[0],
		SecretInChild: strings.Contains(strings.Join(append(env, argv...), "\n"), key.Reveal())}, nil
}

func lookupEnv(env []string, name string) string {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// demoAPI is an HTTPS API on the loopback that answers whoever has a key.
type demoAPI struct {
	server *http.Server
	addr   string
	roots  *x509.CertPool

	mu   sync.Mutex        // guards seen
	seen map[string]string // path → Authorization
}

func startDemoAPI(ctx context.Context) (*demoAPI, error) {
	authority, err := ca.New(ctx, ca.Config{PermittedDNS: []string{demoHost}})
	if err != nil {
		return nil, err
	}
	config, err := authority.TLSConfig(ctx, demoHost, "h2", "http/1.1")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	api := &demoAPI{addr: l.Addr().String(), roots: x509.NewCertPool(), seen: make(map[string]string)}
	api.roots.AppendCertsFromPEM(authority.RootPEM())
	api.server = &http.Server{Handler: api, ReadHeaderTimeout: 10 * time.Second, TLSConfig: config}
	go api.server.ServeTLS(l, "", "")
	return api, nil
}

// ServeHTTP implements http.Handler.
func (d *demoAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	// git asks for more below the URL that it was given.
	for path := r.URL.Path; path != "/" && path != "."; path = pathpkg.Dir(path) {
		d.seen[path] = r.Header.Get("Authorization")
	}
	d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer demo-") {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, `{"error":"who are you?"}`)
		return
	}
	fmt.Fprintln(w, `{"user":"you","message":"hello from the demo API"}`)
}

// received returns the Authorization of the last request at or below a path.
func (d *demoAPI) received(path string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[path]
}

// dial sends every connection to the API, wherever it was meant to go.
func (d *demoAPI) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, d.addr)
}

func (d *demoAPI) close() { d.server.Close() }

// demoFetch is the hidden command that stands in for curl.
const demoFetch = "demo-fetch"

func newDemoFetch(a *app) *cobra.Command {
	return &cobra.Command{Use: demoFetch + " URL", Hidden: true, Args: exactArgs("URL"), RunE: func(cmd *cobra.Command, args []string) error {
		pool := x509.NewCertPool()
		pem, err := os.ReadFile(a.getenv("SSL_CERT_FILE"))
		if err != nil {
			return err
		}
		pool.AppendCertsFromPEM(pem)
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool}}
		r, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, args[0], nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+a.getenv("DEMO_API_KEY"))
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(a.stdout, resp.Body)
		return err
	}}
}
