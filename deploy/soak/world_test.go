//go:build linux

package soak_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authsome/vault/audit"
)

// world is an authsome home, the internet, and a proxy that runs.
type world struct {
	t     *testing.T
	net   *internet
	dir   string // holds everything below
	home  string
	roots string // PEM file that verifies the internet's hosts

	cmd           *exec.Cmd
	stderr        lockedBuffer
	done          chan struct{} // closed when the proxy has ended
	addr, metrics string        // host:port
	bundle        string
	trust         *x509.CertPool // of the bundle
	token         string
}

// lockedBuffer collects a running program's output.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, issuers map[string]*issuer) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, net: newInternet(t, issuers), dir: dir, home: filepath.Join(dir, "home"), roots: filepath.Join(dir, "roots.pem"),
		bundle: filepath.Join(dir, "share", "ca.pem"), done: make(chan struct{})}
	for path, text := range map[string][]byte{w.roots: w.net.authority.RootPEM(), w.secret("api"): []byte(apiKey),
		w.secret("client"): []byte(canary + "client")} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(w.home, 0o700); err != nil { // chaos mounts over it
		t.Fatal(err)
	}
	return w
}

func (w *world) secret(name string) string { return filepath.Join(w.dir, "secret-"+name) }

// The definitions of what is logged in to.
func keyDefinition(name string, hosts ...string) string {
	list, _ := json.Marshal(hosts)
	return fmt.Sprintf(`{"schema_version": 1, "name": %q, "display_name": %q, "auth_type": "api_key", "flow": "api_key", "host_url": %s, "api_key": {}}`,
		name, name, list)
}

func oauthDefinition(name, flow, host, auth string) string {
	return fmt.Sprintf(`{"schema_version": 1, "name": %q, "display_name": %q, "auth_type": "oauth2", "flow": %q, "host_url": %q,
 "oauth": {"authorization_url": "https://%s/authorize", "token_url": "https://%s/token"}}`, name, name, flow, host, auth, auth)
}

func (w *world) register(definitions ...string) {
	w.t.Helper()
	for _, d := range definitions {
		if out, code := w.run(strings.NewReader(d), "register", "-", "--yes"); code != 0 {
			w.t.Fatalf("register: exit %d: %s", code, out)
		}
	}
}

// command prepares a run of the program, as a person or an init container would
// run it.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), binary, args...)
	cmd.Env = []string{"AUTHSOME_HOME=" + w.home, "SSL_CERT_FILE=" + w.roots, "HOME=" + w.dir, "TMPDIR=" + w.dir,
		"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs the program to its end.
func (w *world) run(stdin io.Reader, args ...string) (output string, code int) {
	cmd := w.command(args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return err.Error(), -1
	}
	if bytes.Contains(out, []byte(canary)) {
		w.t.Errorf("authsome %v prints a secret", args)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	out, code := w.run(nil, args...)
	if code != 0 {
		w.t.Fatalf("authsome %v: exit %d: %s", args, code, out)
	}
	return out
}

// login logs in to turn with its nth key, in a process of its own.
func (w *world) login(n int) (output string, code int) {
	path := w.secret("turn")
	if err := os.WriteFile(path, []byte(turnKey(n)), 0o600); err != nil {
		return err.Error(), -1
	}
	return w.run(nil, "login", "turn", "--force", "--secret-file", path)
}

var authorizeURL = regexp.MustCompile(`^\s+(https://\S+)$`)

// approve logs in by authorization code, with a browser that agrees to all.
func (w *world) approve(name string, args ...string) {
	w.t.Helper()
	cmd := w.command(append([]string{"login", name, "--no-browser", "--client-id", "public"}, args...)...)
	cmd.Stdin = strings.NewReader("\n") // a public client has no secret
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	browser := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.pool(w.roots)}, DisableKeepAlives: true}}
	said := ""
	for s := bufio.NewScanner(stderr); s.Scan(); {
		said += s.Text() + "\n"
		if m := authorizeURL.FindStringSubmatch(s.Text()); m != nil {
			resp, err := browser.Get(m[1])
			if err != nil {
				w.t.Errorf("approve the login: %v", err)
				cmd.Process.Kill()
				continue
			}
			resp.Body.Close()
		}
	}
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("login %s: %v: %s", name, err, said)
	}
}

func (w *world) pool(path string) *x509.CertPool {
	pool := x509.NewCertPool()
	b, err := os.ReadFile(path)
	if err != nil || !pool.AppendCertsFromPEM(b) {
		w.t.Fatalf("read roots: %v", err)
	}
	return pool
}

var (
	proxyLine   = regexp.MustCompile(`(?m)^proxy: http://(.*)$`)
	metricsLine = regexp.MustCompile(`(?m)^metrics: http://(.*)/metrics$`)
)

// start runs authsome proxy with every limit at its default, and waits until it
// is ready.
func (w *world) start() {
	t := w.t
	t.Helper()
	tokenFile := filepath.Join(w.dir, "token")
	w.cmd = w.command("proxy", "--listen", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--token-file", tokenFile, "--bundle-out", w.bundle)
	w.cmd.Stderr, w.cmd.Stdout = &w.stderr, &w.stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.cmd.Wait(); close(w.done) }()
	t.Cleanup(func() {
		w.cmd.Process.Kill()
		<-w.done
		if t.Failed() {
			t.Logf("authsome proxy said:\n%s", tail(w.stderr.String(), 20000))
		}
	})
	eventually(t, "the proxy is ready", time.Minute, func() bool {
		w.running()
		if m := metricsLine.FindStringSubmatch(w.stderr.String()); m != nil {
			w.metrics = m[1]
		}
		if m := proxyLine.FindStringSubmatch(w.stderr.String()); m != nil {
			w.addr = m[1]
		}
		return w.metrics != "" && w.probe("/readyz") != ""
	})
	b, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	w.token = strings.TrimSpace(string(b))
	w.trust = w.pool(w.bundle)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// running fails the test when the proxy has ended.
func (w *world) running() {
	w.t.Helper()
	select {
	case <-w.done:
		w.t.Fatalf("the proxy has ended: %v", w.cmd.ProcessState)
	default:
	}
}

// probe asks the metrics address; the answer is empty unless it is a 200.
func (w *world) probe(path string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + w.metrics + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// metric adds up the samples of a metric whose labels hold all the pairs, such
// as `code="egress_denied"`.
func (w *world) metric(name string, pairs ...string) float64 {
	return sumOf(w.probe("/metrics"), name, pairs...)
}

func sumOf(exposition, name string, pairs ...string) (sum float64) {
lines:
	for line := range strings.Lines(exposition) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if rest, ok := strings.CutPrefix(sample, name); !ok || rest != "" && rest[0] != '{' {
			continue
		}
		for _, pair := range pairs {
			if !strings.Contains(sample, pair) {
				continue lines
			}
		}
		v, _ := strconv.ParseFloat(value, 64)
		sum += v
	}
	return sum
}

// hangUp has the proxy read its configuration anew.
func (w *world) hangUp() { w.cmd.Process.Signal(syscall.SIGHUP) }

// finish tells the proxy to end, and searches what it and its home hold.
func (w *world) finish() {
	t := w.t
	t.Helper()
	w.running()
	exposition := w.probe("/metrics")
	w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.done:
	case <-time.After(time.Minute):
		t.Fatal("the proxy did not end within a minute of SIGTERM")
	}
	if code := w.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if out, code := w.run(nil, "log", "verify"); code != 0 {
		t.Errorf("log verify: exit %d: %s", code, out)
	}
	if out, code := w.run(nil, "vault", "check"); code != 0 {
		t.Errorf("vault check: exit %d: %s", code, out)
	}
	for what, text := range map[string]string{"metrics": exposition, "stderr": w.stderr.String()} {
		if strings.Contains(text, canary) || strings.Contains(text, w.token) {
			t.Errorf("a secret is in its %s", what)
		}
		if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") {
			t.Errorf("a stack trace is in its %s", what)
		}
	}
	err := filepath.WalkDir(w.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(canary)) || bytes.Contains(b, []byte(w.token)) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// entries counts the audit log's entries that a filter lets through.
func (w *world) entries(of func(audit.Event) bool) (n int) {
	logs, _ := filepath.Glob(filepath.Join(w.home, "audit.log*"))
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			w.t.Error(err)
			continue
		}
		for e, err := range audit.Read(f, audit.Filter{}) {
			if err == nil && of(e) {
				n++
			}
		}
		f.Close()
	}
	return n
}

// proxyURL is where clients find the proxy, with the token.
func (w *world) proxyURL() *url.URL {
	return &url.URL{Scheme: "http", User: url.UserPassword("agent", w.token), Host: w.addr}
}
