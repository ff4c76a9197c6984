//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

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

// service is a running authsome proxy.
type service struct {
	t             *testing.T
	w             *world
	cmd           *exec.Cmd
	stderr        lockedBuffer
	stdout        lockedBuffer
	done          chan struct{} // closed when it has ended
	addr, metrics string        // host:port
	bundle, env   string        // files for the agent
}

// serve starts authsome proxy on free ports and waits until it is ready.
func (w *world) serve(args ...string) *service {
	w.t.Helper()
	s := w.startProxy(nil, args...)
	s.waitReady()
	return s
}

// startProxy starts authsome proxy without waiting.
func (w *world) startProxy(env []string, args ...string) *service {
	w.t.Helper()
	share := filepath.Join(w.t.TempDir(), "share")
	s := &service{t: w.t, w: w, done: make(chan struct{}),
		bundle: filepath.Join(share, "ca.pem"), env: filepath.Join(share, "agent.env")}
	all := append([]string{"proxy", "--listen", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0",
		"--bundle-out", s.bundle, "--env-out", s.env}, args...)
	s.begin(w.command(env, all...))
	return s
}

func (s *service) begin(cmd *exec.Cmd) {
	s.t.Helper()
	s.cmd = cmd
	cmd.Stdout, cmd.Stderr = &s.stdout, &s.stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { cmd.Wait(); close(s.done) }()
	s.t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		for name, text := range map[string]string{"stdout": s.stdout.String(), "stderr": s.stderr.String()} {
			if strings.Contains(text, canary) {
				s.t.Errorf("the secret is on %s", name)
			}
			if strings.Contains(text, "goroutine ") || strings.Contains(text, "DATA RACE") {
				s.t.Errorf("a stack trace on %s:\n%s", name, text)
			}
		}
		if s.t.Failed() {
			s.t.Logf("authsome proxy said:\n%s", s.stderr.String())
		}
	})
}

var (
	proxyLine   = regexp.MustCompile(`(?m)^proxy: http://(.*)$`)
	metricsLine = regexp.MustCompile(`(?m)^metrics: http://(.*)/metrics$`)
)

func (s *service) waitReady() {
	s.t.Helper()
	s.eventually("the proxy is ready", func() bool {
		if m := metricsLine.FindStringSubmatch(s.stderr.String()); m != nil {
			s.metrics = m[1]
		}
		if m := proxyLine.FindStringSubmatch(s.stderr.String()); m != nil {
			s.addr = m[1]
		}
		if s.hasEnded() {
			s.t.Fatalf("the proxy ended:\n%s", s.stderr.String())
		}
		if s.metrics == "" {
			return false
		}
		status, _ := s.probe("/readyz")
		return status == http.StatusOK
	})
}

func (s *service) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// eventually waits for a condition.
func (s *service) eventually(what string, holds func() bool) {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	s.t.Fatalf("it never came that %s; stderr:\n%s", what, s.stderr.String())
}

// probe asks the metrics address.
func (s *service) probe(path string) (status int, body string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + s.metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func (s *service) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// reload sends a hangup and waits until it was dealt with.
func (s *service) reload() {
	s.t.Helper()
	before := strings.Count(s.stderr.String(), "reload")
	s.signal(syscall.SIGHUP)
	s.eventually("the hangup was dealt with", func() bool { return strings.Count(s.stderr.String(), "reload") > before })
}

// terminate asks the proxy to end, and returns its exit code.
func (s *service) terminate() int {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(15 * time.Second):
		s.t.Fatal("the proxy did not end within 15 s of SIGTERM")
	}
	return s.cmd.ProcessState.ExitCode()
}

// variables reads the file for the agent.
func (s *service) variables() map[string]string {
	s.t.Helper()
	// A shell is what reads it; a dotenv reader agrees (package environ's tests).
	cmd := exec.Command("sh", "-c", `set -a; . "$0"; env -0`, s.env)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatal(err)
	}
	vars := map[string]string{}
	for _, pair := range strings.Split(string(out), "\x00") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// client is an agent that was given the variables and the bundle as they are
// now.
func (s *service) client() *http.Client {
	s.t.Helper()
	via, err := url.Parse(s.variables()["HTTPS_PROXY"])
	if err != nil || via.Host == "" {
		s.t.Fatalf("HTTPS_PROXY: %v, %v", via, err)
	}
	roots := x509.NewCertPool()
	bundle, err := os.ReadFile(s.bundle)
	if err != nil || !roots.AppendCertsFromPEM(bundle) {
		s.t.Fatalf("read bundle: %v", err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// get returns the answer's status and body, or status 0 and the error.
func get(client *http.Client, target string) (int, string) {
	resp, err := client.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (s *service) wantWelcome(client *http.Client) {
	s.t.Helper()
	if status, body := get(client, apiURL); status != http.StatusOK || !strings.HasPrefix(body, "welcome") {
		s.t.Errorf("GET %s: got %d %q, want the origin's welcome", apiURL, status, body)
	}
}

func TestSidecar(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	token := filepath.Join(t.TempDir(), "token")
	s := w.serve("--token-file", token)

	s.wantWelcome(s.client())
	vars := s.variables()
	if got, want := vars["EXAMPLE_API_KEY"], "authsome-proxy-managed"; got != want {
		t.Errorf("EXAMPLE_API_KEY: got %q, want %q", got, want)
	}
	if got := vars["SSL_CERT_FILE"]; got != s.bundle {
		t.Errorf("SSL_CERT_FILE: got %q, want %q", got, s.bundle)
	}
	for path, want := range map[string]os.FileMode{token: 0o600, s.env: 0o640, s.bundle: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want mode %o", path, info.Mode().Perm(), err, want)
		}
	}

	stranger := s.client()
	stranger.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: s.addr})
	if _, body := get(stranger, apiURL); !strings.Contains(body, "Proxy Authentication Required") {
		t.Errorf("without the token: got %q, want a 407", body)
	}
	if status, body := s.probe("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: got %d %q", status, body)
	}
	_, metrics := s.probe("/metrics")
	for _, want := range []string{`authsome_requests_total{code_class="2xx",outcome="injected",protocol="h2",provider="example"} 1`,
		`authsome_refusals_total{code="proxy_auth_required"} 1`, "authsome_build_info{", "authsome_authority_expiry_timestamp_seconds ",
		"process_open_fds ", "go_goroutines "} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(metrics, canary) || strings.Contains(metrics, strings.TrimSpace(readFile(t, token))) {
		t.Error("/metrics holds a secret")
	}
	if code := s.terminate(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	kinds := w.events()
	for _, want := range []string{"run.start", "inject", "refuse", "run.end"} {
		if !strings.Contains(kinds, " "+want+" ") {
			t.Errorf("the audit log lacks %s:%s", want, kinds)
		}
	}
	w.noSecret()
}

// events lists the kinds of audit entries, each with a space on either side.
func (w *world) events() string {
	w.t.Helper()
	all := " "
	for line := range strings.Lines(readFile(w.t, filepath.Join(w.home, "audit.log"))) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		all += e.Event + " "
	}
	return all
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSidecarWithoutToken(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve()
	s.wantWelcome(s.client())
	if !strings.Contains(s.stderr.String(), "no token") {
		t.Error("it is not said that every process here can use the credentials")
	}
	if info, err := os.Stat(s.env); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("variables without a token: got %v, %v, want mode 0644", info.Mode().Perm(), err)
	}
}

// A mounted secret that is replaced is used, though nobody says so.
func TestSidecarFollowsSecretFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	mounted := t.TempDir() // laid out as the kubelet does: a link is moved to a new directory
	mountSecret := func(generation, key string) {
		t.Helper()
		dir := filepath.Join(mounted, generation)
		for _, err := range []error{os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o400),
			os.Symlink(generation, filepath.Join(mounted, "new")), os.Rename(filepath.Join(mounted, "new"), filepath.Join(mounted, "data"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	mountSecret("1", "not the key")
	config := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(config, []byte("store: memory\ncredentials: {example: {secret_file: "+filepath.Join(mounted, "data", "key")+"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := w.serve("--config", config)
	client := s.client()
	if status, body := get(client, apiURL); status != http.StatusUnauthorized {
		t.Errorf("with a wrong key: got %d %q, want the origin's 401", status, body)
	}
	mountSecret("2", canary)
	s.eventually("the new key is used", func() bool { status, _ := get(client, apiURL); return status == http.StatusOK })
	w.noSecret()
}

// PITFALL 41: whatever is missing, there is no half of a proxy.
func TestSidecarRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used := taken.Addr().String()
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := unused.Addr().String()
	unused.Close()
	dir := t.TempDir()
	put := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged")
	if err := os.Mkdir(damaged, 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	put("damaged/authority.pem", "nonsense", 0o600)
	cases := []struct {
		name  string
		args  []string
		code  int
		error string
		want  string
	}{
		{"listener taken", []string{"--listen", used}, 1, "Listen", used},
		{"metrics taken", []string{"--metrics-addr", used}, 1, "Listen", used},
		{"open listener", []string{"--listen", "0.0.0.0:0"}, 2, "OpenListener", "loopback"},
		{"no listener", []string{"--listen", ""}, 2, "Usage", "no listener"},
		{"bad egress", []string{"--egress", "maybe"}, 2, "Usage", "maybe"},
		{"an allowed URL", []string{"--egress", "deny", "--allow-host", "https://api.example.test/v1"}, 2, "Usage", "--allow-host https://api.example.test/v1: want host, host:port or *.domain"},
		{"advertised without a port", []string{"--advertise", "proxy.internal"}, 2, "Usage", "--advertise proxy.internal: want the host and the port"},
		{"advertised without a host", []string{"--advertise", ":8080"}, 2, "Usage", "--advertise :8080: want the host and the port"},
		{"bad upstream", []string{"--upstream-proxy", "ftp://x"}, 2, "Usage", "upstream-proxy"},
		{"unknown provider", []string{"--provider", "nosuch"}, 3, "ProviderNotFound", "nosuch"},
		{"not connected", []string{"--provider", "github"}, 5, "CredentialMissing", "github"},
		{"authority open to others", []string{"--ca-dir", open}, 1, "Error", "lets other users in"},
		{"authority damaged", []string{"--ca-dir", damaged}, 1, "Error", "authority.pem"},
		{"token too short", []string{"--token-file", put("short", "abc\n", 0o600)}, 1, "TokenFile", "3 characters"},
		{"token of two words", []string{"--token-file", put("words", "abcdefghijklmnop qrstuvwxyz\n", 0o600)}, 1, "TokenFile", "one word"},
		{"token in no directory", []string{"--token-file", filepath.Join(dir, "no", "where")}, 1, "TokenFile", "no such file"},
		{"bundle nowhere", []string{"--bundle-out", put("file", "", 0o600) + "/ca.pem"}, 1, "Error", "trust files"},
		{"variables without an address", []string{"--listen", "0.0.0.0:0", "--token-file", put("good", strings.Repeat("x", 20), 0o600), "--env-out", filepath.Join(dir, "env")}, 2, "Usage", "under which address"},
		{"metrics on the proxy's port", []string{"--listen", free, "--metrics-addr", free}, 1, "Listen", "--metrics-addr " + free},
		{"no port", []string{"--listen", "127.0.0.1"}, 1, "Listen", "missing port"},
		{"authority in a file", []string{"--ca-dir", filepath.Join(put("plain", "", 0o600), "ca")}, 1, "Error", "not a directory"},
		{"one file for two things", []string{"--bundle-out", filepath.Join(dir, "o", "x"), "--env-out", filepath.Join(dir, "o", "y", "..", "x")}, 2, "Usage", "--bundle-out and --env-out are the same file"},
		{"variables over the token", []string{"--token-file", filepath.Join(dir, "t"), "--env-out", filepath.Join(dir, "t")}, 2, "Usage", "--env-out and --token-file are the same file"},
		{"variables over a trust file", []string{"--env-out", filepath.Join(dir, "o", "wgetrc")}, 2, "Usage", "the trust file wgetrc"},
		{"authority among the agents' files", []string{"--env-out", filepath.Join(dir, "o", "env"), "--ca-dir", filepath.Join(dir, "o")}, 2, "Usage", "--ca-dir is the directory of the agents' files"},
		{"no such config", []string{"--config", filepath.Join(dir, "absent.yaml")}, 1, "ConfigInvalid", "absent.yaml"},
		{"a pipe for a config", []string{"--config", pipe}, 1, "ConfigInvalid", "not a regular file"},
		{"a pipe for a token", []string{"--token-file", pipe}, 1, "TokenFile", "not a regular file"},
		{"a pipe for a bundle", []string{"--bundle-out", pipe}, 1, "Error", "not a regular file but a pipe"},
		{"a directory for variables", []string{"--env-out", open}, 1, "Error", "not a regular file but a directory"},
		{"an address without a port", []string{"--env-out", filepath.Join(dir, "env"), "--advertise", "agents.test"}, 2, "Usage", "--advertise"},
		{"no secret file", []string{"--config", put("c1.yaml", "credentials: {openai: {secret_file: /nowhere/key}}", 0o600)}, 5, "CredentialMissing", "credentials.openai: secret file /nowhere/key"},
		{"secret of the wrong shape", []string{"--config", put("c2.yaml", "credentials: {openai: {secret_file: "+put("bad", "wrong", 0o600)+"}}", 0o600)}, 4, "InvalidSecret", "credentials.openai"},
		{"credential that needs a person", []string{"--config", put("c3.yaml", "credentials: {github: [{connection: a}]}", 0o600)}, 5, "CredentialMissing", "credentials.github[0]: an OAuth client"},
	}
	w := newWorld(t)
	w.must("init")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"--json", "proxy"}, c.args...)
			for _, flag := range []string{"--listen", "--metrics-addr"} {
				if !strings.Contains(strings.Join(c.args, " "), flag) {
					args = append(args, flag, "127.0.0.1:0")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary, args...)
			cmd.Env = w.env()
			got := w.run(cmd, "")
			var failure struct{ Error, Message, Hint string }
			if err := json.Unmarshal([]byte(got.stdout), &failure); err != nil {
				t.Fatalf("exit %d, stdout %q: %v\n%s", got.code, got.stdout, err, got.stderr)
			}
			if got.code != c.code || failure.Error != c.error {
				t.Errorf("got exit %d %s, want %d %s: %s", got.code, failure.Error, c.code, c.error, failure.Message)
			}
			if !strings.Contains(failure.Message, c.want) {
				t.Errorf("message %q: want %q in it", failure.Message, c.want)
			}
			if failure.Hint == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestSidecarRefusesWithoutAudit(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	log := filepath.Join(w.home, "audit.log")
	if err := os.Rename(log, log+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	s := w.startProxy(nil)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the proxy runs without an audit log")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("exit code: got %d, want 7: %s", got, s.stderr.String())
	}
}

func TestSidecarReloadsToken(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	token := filepath.Join(t.TempDir(), "token")
	s := w.serve("--token-file", token)
	old := s.client()
	s.wantWelcome(old)
	if err := os.WriteFile(token, []byte("another-token-0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload()
	old.CloseIdleConnections()
	if status, body := get(old, apiURL); status != 0 || !strings.Contains(body, "Proxy Authentication Required") {
		t.Errorf("the old token: got %d %q, want a 407", status, body)
	}
	s.wantWelcome(s.client()) // the variables hold the new one
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	s.reload() // makes one
	s.wantWelcome(s.client())
	if got := readFile(t, token); strings.Contains(got, "another-token") || len(got) < 40 {
		t.Error("no new token was made for the file that was removed")
	}
}

func TestSidecarReloadsConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	config := filepath.Join(t.TempDir(), "proxy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("egress: allow\n")
	s := w.serve("--config", config)
	elsewhere := func() string {
		client := s.client()
		client.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // the origin's own certificate
		_, body := get(client, "https://elsewhere.example.test/")
		return body
	}
	if got := elsewhere(); !strings.Contains(got, "who are you?") {
		t.Errorf("egress allowed: got %q, want the origin's answer", got)
	}
	write("egress: deny\n")
	s.reload()
	if got := elsewhere(); !strings.Contains(got, "Forbidden") {
		t.Errorf("egress denied: got %q, want a 403", got)
	}
	s.wantWelcome(s.client())

	write("egress: dney\nlisten: [1]\n")
	s.reload()
	for _, want := range []string{config + ":1: ", `egress: "dney" is not allow or deny`, config + ":2: ", "listen[0]: want an address", "goes on as it was"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("a bad configuration: stderr lacks %q", want)
		}
	}
	s.wantWelcome(s.client())
	if got := elsewhere(); !strings.Contains(got, "Forbidden") {
		t.Errorf("after a bad configuration: got %q, want what held before", got)
	}
	_, metrics := s.probe("/metrics")
	for _, want := range []string{`authsome_config_reload_total{outcome="ok"} 1`, `authsome_config_reload_total{outcome="failed"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	write("egress: deny\nlisten: 127.0.0.1:1\n")
	s.reload()
	if strings.Contains(s.stderr.String(), "listen: the new value takes effect at the next start") {
		t.Error("--listen was given: the file's listen does not count")
	}
	write("ca_lifetime: 48h\n")
	s.reload()
	if !strings.Contains(s.stderr.String(), "ca_lifetime: the new value takes effect at the next start") {
		t.Error("it is not said that ca_lifetime has to wait")
	}
}

// A reload that cannot be done changes nothing; one that fails at the agents'
// files says that the rest holds.
func TestSidecarReloadsAllOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	config := file(t, dir, "proxy.yaml", "token_file: "+token+"\n")
	s := w.serve("--config", config)
	client := s.client()
	s.wantWelcome(client)
	file(t, dir, "proxy.yaml", "egress: deny\nupstream_proxy: http://127.0.0.1:1\n")
	s.reload()
	if want := "token_file cannot be set or unset while the proxy runs; the proxy goes on as it was"; !strings.Contains(s.stderr.String(), want) {
		t.Errorf("stderr lacks %q", want)
	}
	w.must("logout", "example") // so that a new connection to the origin is a tunnel
	s.eventually("the logout took effect", func() bool { return !strings.Contains(readFile(t, s.env), "EXAMPLE_API_KEY") })
	bare := s.client()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, w.roots)))
	bare.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	if status, body := get(bare, apiURL); status != http.StatusUnauthorized {
		t.Errorf("by the upstream proxy and the policy as they were: got %d %q, want the origin's 401", status, body)
	}

	if err := os.RemoveAll(filepath.Dir(s.env)); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Dir(filepath.Dir(s.env)), "share", "in the way")
	file(t, dir, "proxy.yaml", "token_file: "+token+"\negress: deny\n")
	s.reload()
	if got := s.stderr.String(); !strings.Contains(got, "; all else is in force") {
		t.Errorf("the agents' files cannot be written: %s", got)
	}
	bare.CloseIdleConnections()
	if status, body := get(bare, apiURL); !strings.Contains(body, "Forbidden") {
		t.Errorf("with egress denied: got %d %q, want a 403", status, body)
	}
}

// Whoever reads the agents' files while they are written anew finds each whole.
func TestSidecarFilesAreNeverHalf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	token := filepath.Join(t.TempDir(), "token")
	s := w.serve("--token-file", token)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for path, whole := range map[string]func(text string) bool{
		s.env: func(text string) bool {
			return strings.Contains(text, "HTTPS_PROXY=") && strings.Contains(text, "EXAMPLE_API_KEY=") && strings.HasSuffix(text, "\n")
		},
		s.bundle: func(text string) bool {
			return strings.Count(text, "BEGIN CERT") > 0 && strings.Count(text, "BEGIN CERT") == strings.Count(text, "END CERT") && strings.HasSuffix(text, "\n")
		},
	} {
		readers.Go(func() {
			for reads := 0; ; reads++ {
				select {
				case <-stop:
					if reads < 10 {
						t.Errorf("%s was read %d times only", path, reads)
					}
					return
				default:
				}
				if text, err := os.ReadFile(path); err != nil || !whole(string(text)) {
					t.Errorf("%s: %d bytes, %v", path, len(text), err)
					return
				}
			}
		})
	}
	for i := range 10 {
		// Another token makes other variables, another host another root.
		file(t, filepath.Dir(token), "token", fmt.Sprintf("token-number-%d-0123456789\n", i))
		file(t, filepath.Join(w.home, "providers"), "more.json", strings.NewReplacer("example\"", "more\"", "api.example.test", fmt.Sprintf("host%d.test", i)).Replace(exampleDefinition))
		s.reload()
	}
	close(stop)
	readers.Wait()
	if strings.Contains(s.stderr.String(), "error:") || strings.Contains(s.stderr.String(), "more.json") {
		t.Errorf("a reload failed: %s", s.stderr.String())
	}
	entries, err := os.ReadDir(filepath.Dir(s.env))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s was left", e.Name())
		}
	}
	s.wantWelcome(s.client())
}

// A login or logout elsewhere takes effect within 2 s, and so does a provider
// that is registered while the proxy runs.
func TestSidecarFollowsTheVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("init")
	s := w.serve("--ca-dir", filepath.Join(t.TempDir(), "ca"))
	w.login(exampleDefinition, "example")
	changed := time.Now()
	s.eventually("the variables name the provider", func() bool { return strings.Contains(readFile(t, s.env), "EXAMPLE_API_KEY") })
	if took := time.Since(changed); took > 2*time.Second {
		t.Errorf("a login took %v to be seen, want 2 s at most", took)
	}
	s.reload() // the authority learns the new provider's host
	client := s.client()
	s.wantWelcome(client)
	w.must("logout", "example")
	changed = time.Now()
	s.eventually("the credential is no longer attached", func() bool {
		status, _ := get(client, apiURL) // on a connection that is open already
		return status == http.StatusUnauthorized
	})
	if took := time.Since(changed); took > 2*time.Second {
		t.Errorf("a logout took %v to be seen, want 2 s at most", took)
	}
}

func TestSidecarKeepsItsAuthority(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	dir := filepath.Join(t.TempDir(), "ca")
	first := w.serve("--ca-dir", dir)
	client := first.client()
	first.wantWelcome(client)
	first.terminate()
	second := w.serve("--ca-dir", dir)
	client.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: second.addr})
	second.wantWelcome(client) // it still has the first one's bundle
	second.terminate()

	third := w.serve()
	client.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: third.addr})
	client.CloseIdleConnections()
	if status, body := get(client, apiURL); status != 0 || !strings.Contains(body, "unknown authority") {
		t.Errorf("an authority in memory: got %d %q, want another root", status, body)
	}
}

// The authority is replaced under a running proxy: the bundle is written anew,
// and no connection is dropped.
func TestSidecarRenewsItsAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	config := file(t, t.TempDir(), "proxy.yaml", "ca_lifetime: 12s\n")
	s := w.serve("--config", config, "--ca-dir", filepath.Join(t.TempDir(), "ca"))
	before := readFile(t, s.bundle)
	client := s.client()
	dials := 0
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	s.wantWelcome(client)
	s.eventually("the bundle was written anew", func() bool { return readFile(t, s.bundle) != before })
	s.eventually("a new root signs", func() bool {
		_, metrics := s.probe("/metrics")
		return strings.Contains(metrics, "authsome_leaf_cache_entries 0")
	})
	s.wantWelcome(client)
	if dials != 1 {
		t.Errorf("the client connected %d times, want once", dials)
	}
	s.wantWelcome(s.client()) // with the new bundle
	if !strings.Contains(w.events(), " ca.renew ") {
		t.Error("the audit log does not tell of the renewal")
	}
}

// An authority that was kept is renewed in time, whatever lifetime new ones are
// made with: its end may be nearer than the next of the usual looks at it.
func TestSidecarRenewsAnAuthorityThatWasKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	dir := filepath.Join(t.TempDir(), "ca")
	config := file(t, t.TempDir(), "proxy.yaml", "ca_lifetime: 12s\n")
	w.serve("--config", config, "--ca-dir", dir).terminate()
	s := w.serve("--ca-dir", dir)
	s.eventually("an authority of the usual lifetime signs", func() bool {
		if ready, _ := s.metric("authsome_ready"); ready != 1 {
			t.Error("the proxy was not ready: its authority had ended")
		}
		ends, _ := s.metric("authsome_authority_expiry_timestamp_seconds")
		return time.Until(time.Unix(int64(ends), 0)) > 24*time.Hour
	})
	s.wantWelcome(s.client())
}

func TestSidecarDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve()
	client := s.client()
	body, feed := io.Pipe()
	answered := make(chan string, 1)
	go func() {
		resp, err := client.Post(apiURL, "text/plain", body)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answered <- string(b)
	}()
	io.WriteString(feed, "half")
	s.eventually("the request is under way", func() bool { return len(w.requests()) > 0 })
	s.signal(syscall.SIGTERM)
	s.eventually("the proxy is not ready", func() bool {
		status, answer := s.probe("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(answer, `"state":"stopping"`)
	})
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("a connection was accepted while the proxy drains")
	}
	io.WriteString(feed, "half")
	feed.Close()
	if got, want := <-answered, "welcome POST 8\n"; got != want {
		t.Errorf("the request in flight: got %q, want %q", got, want)
	}
	<-s.done
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}

// A client that never ends is cut after 10 s.
func TestSidecarDrainEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve()
	body, feed := io.Pipe()
	defer feed.Close()
	go s.client().Post(apiURL, "text/plain", body)
	io.WriteString(feed, "for ever")
	s.eventually("the request is under way", func() bool { return len(w.requests()) > 0 })
	began := time.Now()
	code := s.terminate()
	if took := time.Since(began); took < 9*time.Second || took > 12*time.Second || code != 0 {
		t.Errorf("ended after %v with %d, want about 10 s and 0", took, code)
	}
}

func TestHealthcheck(t *testing.T) {
	w := newWorld(t)
	w.must("init")
	s := w.serve()
	if r := w.authsome("proxy", "--healthcheck", "--metrics-addr", s.metrics); r.code != 0 {
		t.Errorf("running: got %d, want 0: %s", r.code, r.stderr)
	}
	config := file(t, t.TempDir(), "proxy.json", "{\n\t\"metrics_addr\": \""+s.metrics+"\"\n}")
	if r := w.authsome("--json", "proxy", "--healthcheck", "--config", config); r.code != 0 || !strings.Contains(r.stdout, `"ready": true`) {
		t.Errorf("running, by its configuration: got %d %s", r.code, r.stdout)
	}
	s.terminate()
	if r := w.authsome("proxy", "--healthcheck", "--metrics-addr", s.metrics); r.code != 1 || !strings.Contains(r.stderr, "no answer") {
		t.Errorf("ended: got %d %q, want 1", r.code, r.stderr)
	}
	if r := w.authsome("proxy", "--healthcheck", "--metrics-addr", ""); r.code != 1 {
		t.Errorf("no address: got %d, want 1", r.code)
	}
}

// tokenEndpoint answers client credentials with the canary.
func tokenEndpoint(t *testing.T, valid func(id, secret string) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, ok := r.BasicAuth()
		if !ok {
			id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
		}
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("grant_type") != "client_credentials" || !valid(id, secret) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, canary)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String() + "/token"
}

// Credentials come from mounted files, into a vault that is memory only.
func TestSidecarBootstrap(t *testing.T) {
	t.Parallel()
	secret := "client-secret-of-the-robot"
	valid := func(id, s string) bool { return id == "robot" && s == secret }
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.home, "providers"), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := func(name, content string) string { return file(t, dir, name, content) }
	for name, definition := range map[string]string{"example.json": exampleDefinition, "robot.json": fmt.Sprintf(`{
		"schema_version": 1, "name": "robot", "display_name": "Robot", "auth_type": "oauth2", "flow": "client_credentials",
		"host_url": ["robot.example.test"], "oauth": {"token_url": %q}}`, tokenEndpoint(t, valid))} {
		if err := os.WriteFile(filepath.Join(w.home, "providers", name), []byte(definition), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := put("key", "not-the-key")
	config := put("proxy.yaml", fmt.Sprintf(`
store: memory
credentials:
  example:
    secret_file: %s
  robot:
    - client_id_file: %s
      secret_file: %s
`, key, put("id", "robot\n"), put("secret", secret+"\n")))
	s := w.serve("--config", config)
	client := s.client()
	if status, body := get(client, apiURL); status != http.StatusUnauthorized {
		t.Errorf("with a wrong key: got %d %q, want the origin's 401", status, body)
	}
	if status, body := get(client, "https://robot.example.test/"); status != http.StatusOK {
		t.Errorf("client credentials: got %d %q, want the origin's welcome", status, body)
	}
	put("key", canary+"\n")
	s.reload()
	s.wantWelcome(client)
	if _, err := os.Stat(filepath.Join(w.home, "profiles", "default", "store.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store was made: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.home, "master.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
	w.noSecret()
	put("proxy.yaml", "store: memory\n")
	s.reload()
	if status, body := get(client, apiURL); status != http.StatusUnauthorized {
		t.Errorf("a credential that is no longer configured: got %d %q, want it not attached", status, body)
	}
}
