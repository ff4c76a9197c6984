//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
)

// binary is the built command, made once by TestMain.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "authsome-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "authsome")
	build := exec.Command("go", "build", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build authsome: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// canary is the secret that may appear nowhere but at the origin.
const canary = "canary-7be1a9d4-not-for-anybody"

const exampleDefinition = `{
  "schema_version": 1, "name": "example", "display_name": "Example",
  "auth_type": "api_key", "flow": "api_key",
  "host_url": ["api.example.test"],
  "api_key": {"env_var": "EXAMPLE_API_KEY"},
  "export": {"env": {"api_key": "EXAMPLE_API_KEY"}}
}`

// world is an authsome home, an origin that knows the secret, and the only way
// to it: a proxy that stands for the internet.
type world struct {
	t        *testing.T
	home     string
	tmp      string
	internet string // URL of the proxy
	roots    string // PEM file that verifies the origin
	repo     string // directory that holds repo.git
	auth     authServer

	mu       sync.Mutex             // guards the rest
	seen     []string               // method, host and path of what the origin was asked
	received map[string]http.Header // path → the header of the last request
}

// lookAtSources is for go test, which keeps a result while nothing has changed
// that its tests looked at. The binary is made by another process.
var lookAtSources = sync.OnceFunc(func() {
	filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache") {
			return filepath.SkipDir
		}
		return nil
	})
})

func newWorld(t *testing.T) *world {
	t.Helper()
	lookAtSources()
	w := &world{t: t, home: filepath.Join(t.TempDir(), "home"), tmp: t.TempDir()}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	w.roots = filepath.Join(t.TempDir(), "origin-ca.pem")
	if err := os.WriteFile(w.roots, authority.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewUnstartedServer(w)
	origin.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), hello.ServerName)
	}}
	origin.EnableHTTP2 = true
	origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	origin.StartTLS()
	t.Cleanup(origin.Close)
	internet := httptest.NewServer(connectTo(origin.Listener.Addr().String()))
	t.Cleanup(internet.Close)
	w.internet = internet.URL
	return w
}

// trust has the binary trust a server's own certificate as well.
func (w *world) trust(server *httptest.Server) {
	w.t.Helper()
	b, err := os.ReadFile(w.roots)
	if err != nil {
		w.t.Fatal(err)
	}
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})...)
	if err := os.WriteFile(w.roots, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// connectTo is a CONNECT proxy for which every *.example.test is at address.
func connectTo(address string) http.Handler { return connectAll("example.test", address) }

// connectAll is connectTo for another domain.
func connectAll(domain, address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, "."+domain+":443") {
			http.Error(w, "there is no such host", http.StatusBadGateway)
			return
		}
		origin, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, "unreachable", http.StatusBadGateway)
			return
		}
		defer origin.Close()
		client, ahead, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		// The answer comes after the hijack: before it, net/http's own reader
		// could take the first byte of what the client sends next.
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(origin, ahead); origin.(*net.TCPConn).CloseWrite() }()
		io.Copy(client, origin)
	})
}

// ServeHTTP is the origin: it answers whoever has the secret.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen = append(w.seen, r.Method+" "+r.Host+r.URL.Path)
	if w.received == nil {
		w.received = make(map[string]http.Header)
	}
	w.received[r.URL.Path] = r.Header
	w.mu.Unlock()
	if r.Host == authHost {
		w.auth.ServeHTTP(rw, r)
		return
	}
	if !authorized(r) {
		rw.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(rw, "who are you?")
		return
	}
	if strings.HasPrefix(r.URL.Path, "/repo.git/") && w.repo != "" {
		(&cgi.Handler{Path: "/usr/lib/git-core/git-http-backend", Dir: w.repo,
			Env: []string{"GIT_PROJECT_ROOT=" + w.repo, "GIT_HTTP_EXPORT_ALL=1"}}).ServeHTTP(rw, r)
		return
	}
	if r.URL.Path == "/broken" {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	n, _ := io.Copy(io.Discard, r.Body)
	if size := r.URL.Query().Get("size"); size != "" {
		rw.Header().Set("Content-Length", size)
		left, _ := strconv.ParseInt(size, 10, 64)
		io.CopyN(rw, zeros{}, left)
		return
	}
	fmt.Fprintf(rw, "welcome %s %d\n", r.Method, n)
}

func authorized(r *http.Request) bool {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("x-token:"+canary))
	return r.Header.Get("Authorization") == "Bearer "+canary || r.Header.Get("Authorization") == "Bearer "+openaiKey || r.Header.Get("Authorization") == basic ||
		r.Header.Get("X-Api-Key") == canary || r.URL.Query().Get("key") == canary
}

func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

// header returns that of the last request for a path, nil when there was none.
func (w *world) header(path string) http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.received[path]
}

// result is one run of the binary.
type result struct {
	code           int
	stdout, stderr string
}

// env is what the binary is started with; extra comes last and wins.
func (w *world) env(extra ...string) []string {
	env := []string{"AUTHSOME_HOME=" + w.home, "HTTPS_PROXY=" + w.internet, "SSL_CERT_FILE=" + w.roots,
		"HOME=" + filepath.Dir(w.home), "TMPDIR=" + w.tmp, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	return append(env, extra...)
}

// command prepares a run of the binary.
func (w *world) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), binary, args...)
	cmd.Env = w.env(env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (w *world) authsome(args ...string) result { return w.run(w.command(nil, args...), "") }

func (w *world) run(cmd *exec.Cmd, stdin string) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		w.t.Fatalf("%v: %v", cmd.Args, err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	for name, text := range map[string]string{"stdout": r.stdout, "stderr": r.stderr} {
		if strings.Contains(text, canary) && !strings.Contains(strings.Join(cmd.Args, " "), "--show-secret") && cmd.Args[1] != "export" {
			w.t.Errorf("%v: the secret is on %s", cmd.Args[1:], name)
		}
		if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic:") {
			w.t.Errorf("%v: a stack trace on %s:\n%s", cmd.Args[1:], name, text)
		}
	}
	return r
}

// must runs the binary and expects success.
func (w *world) must(args ...string) result {
	w.t.Helper()
	r := w.authsome(args...)
	if r.code != 0 {
		w.t.Fatalf("authsome %v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r
}

// login registers a definition and logs in with the canary.
func (w *world) login(definition, name string) {
	w.t.Helper()
	if definition != "" {
		w.register(definition)
	}
	if r := w.run(w.command(nil, "login", name, "--secret-file", "-"), canary+"\n"); r.code != 0 {
		w.t.Fatalf("login: exit %d: %s", r.code, r.stderr)
	}
}

// register adds a definition.
func (w *world) register(definition string) {
	w.t.Helper()
	if r := w.run(w.command(nil, "register", "-", "--yes"), definition); r.code != 0 {
		w.t.Fatalf("register: exit %d: %s", r.code, r.stderr)
	}
}

// leavesNothing checks that the directory for temporary files is empty.
func (w *world) leavesNothing() {
	w.t.Helper()
	entries, err := os.ReadDir(w.tmp)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		w.t.Errorf("%s was left in the directory for temporary files", e.Name())
	}
}

// noSecret searches everything that authsome keeps or leaves on disk.
func (w *world) noSecret() {
	w.t.Helper()
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	for _, root := range []string{w.home, w.tmp} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if bytes.Contains(b, []byte(canary)) || bytes.Contains(b, []byte(encoded)) {
				w.t.Errorf("%s holds the secret", path)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Error(err)
		}
	}
}

// private checks the permissions of everything in the home.
func (w *world) private() {
	w.t.Helper()
	err := filepath.WalkDir(w.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			w.t.Errorf("%s: mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}
