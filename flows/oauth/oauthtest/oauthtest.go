// Package oauthtest starts real authorization servers on loopback for tests, and drives their pages
// like a browser without scripts.
//
// Nothing is skipped: a server that cannot be had fails the test and says what is missing.
package oauthtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const startTimeout = 60 * time.Second // of a server process; node needs one second, a loaded machine more

// Server is a running authorization server.
type Server struct {
	Issuer string         // https URL without a trailing slash
	Roots  *x509.CertPool // what its certificate is verified with
}

// Client gives an HTTP client that trusts the server and nothing else. Its idle connections are closed
// when the test ends.
func (s *Server) Client(t testing.TB) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Options differ between servers of one kind.
type Options struct {
	// AccessTokenSeconds is how long access tokens live; zero means an hour.
	AccessTokenSeconds int `json:"accessTokenSeconds,omitempty"`

	// Redirects are redirect URIs of zitadel's confidential client, which compares them to the letter.
	Redirects []string `json:"redirects,omitempty"`
}

// launch is what a server process is told.
type launch struct {
	Options
	Cert string `json:"cert"` // PEM
	Key  string `json:"key"`  // PEM
}

// certificate gives a pair for 127.0.0.1 and the pool that verifies it. It is the one that net/http's
// own test server uses.
var certificate = sync.OnceValue(func() (c struct {
	cert, key string
	roots     *x509.CertPool
}) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	pair := server.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		panic(err) // the key is constant
	}
	c.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	c.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	c.roots = x509.NewCertPool()
	c.roots.AddCert(server.Certificate())
	return c
})

// start runs a server process until the test ends. The process prints {"issuer":…} when it serves and
// ends with its standard input, so that it does not outlive a test that was killed.
func start(t testing.TB, options Options, name string, args ...string) *Server {
	t.Helper()
	pair := certificate()
	config, err := json.Marshal(launch{options, pair.cert, pair.key})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, append(args, string(config))...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the test authorization server: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer late.Stop()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(name), stderr.String())
		}
	})
	late := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	var ready struct{ Issuer string }
	if err != nil || json.Unmarshal([]byte(line), &ready) != nil || ready.Issuer == "" {
		t.Fatalf("the test authorization server did not start: %v", err)
	}
	go io.Copy(io.Discard, lines) // ends with the process
	return &Server{Issuer: ready.Issuer, Roots: pair.roots}
}

// testdata finds a folder of flows/oauth/testdata from any package of the module.
func testdata(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		candidate := filepath.Join(dir, "flows", "oauth", "testdata", name)
		if _, err := os.Stat(candidate); err == nil {
			return candidate
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatalf("flows/oauth/testdata/%s is not in the tree above the test", name)
		}
		dir = parent
	}
}

// prepared gives a folder in the user's cache that holds copies of the files and what prepare made of
// them. It is made once per content of the files; processes that want it at once wait for each other.
func prepared(t testing.TB, source string, files []string, prepare func(dir string) ([]byte, error)) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(append([]byte(name+"\x00"), data...))
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "authsome-test", filepath.Base(source)+"-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, dir+".lock")
	defer unlock()
	done := filepath.Join(dir, ".done")
	if _, err := os.Stat(done); err == nil {
		return dir
	}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if output, err := prepare(dir); err != nil {
		t.Fatalf("prepare the test authorization server in %s: %v\n%s", dir, err, strings.TrimSpace(string(output)))
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tool finds a program, or fails with what is missing.
func tool(t testing.TB, name, why string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not on PATH; %s", name, why)
	}
	return path
}
