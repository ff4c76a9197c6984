package proxy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
	"authsome/proxy"
)

// tool builds a program of the module in interop, whose dependencies the
// proxy's own module need not have, and returns its path. The build is cached.
func tool(t *testing.T, pkg string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "-C", "interop", "tool", "-n", pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build %s: %v %s", pkg, err, err.(*exec.ExitError).Stderr)
	}
	return strings.TrimSpace(string(out))
}

// certificate writes a leaf and its key as PEM files.
func certificate(t *testing.T, authority *ca.Authority, host string) (cert, key string) {
	t.Helper()
	leaf, err := authority.Leaf(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range leaf.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalECPrivateKey(leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, data := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// freePort returns a port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// start runs a program until the test ends.
func start(t *testing.T, program string, args ...string) {
	t.Helper()
	var out lockedBuffer
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %.4000s", program, out.String())
		}
	})
}

// awaitPort waits for a server.
func awaitPort(t *testing.T, addr string) {
	t.Helper()
	eventually(t, addr+" listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// grpcCases are the cases of grpc-go's client. It has no others than these and
// seven in which the client proves to Google's cloud who it is:
// compute_engine_creds, service_account_creds, jwt_token_creds, per_rpc_creds,
// oauth2_auth_token, google_default_credentials and
// compute_engine_channel_credentials. They need an account there, and what they
// send is what the proxy replaces. Compression and cacheable requests are cases
// of other languages' clients alone.
var grpcCases = []string{"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
	"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "pick_first_unary",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob"}

// namedHost is served by grpc-go's server with a name added, which the case
// pick_first_unary asks for.
const namedHost = "named.example.test"

// grpcFlags are what some cases need besides.
var grpcFlags = map[string][]string{
	"orca_per_rpc": {orcaConfig}, "orca_oob": {orcaConfig},
	"rpc_soak":     {"--soak_per_iteration_max_acceptable_latency_ms=20000", "--soak_overall_timeout_seconds=25"},
	"channel_soak": {"--soak_per_iteration_max_acceptable_latency_ms=20000", "--soak_overall_timeout_seconds=25"},
}

const orcaConfig = `--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`

// PITFALLS 15, 26: grpc-go's interoperability client and server, each in its own
// process, with the proxy between them.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	client := tool(t, "google.golang.org/grpc/interop/client")
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	addrs := map[string]string{}
	serve := func(host, program string, args ...string) {
		cert, key := certificate(t, authority, host)
		port := freePort(t)
		addrs[host+":443"] = "127.0.0.1:" + port
		start(t, program, append(args, "--port="+port, "--tls_cert_file="+cert, "--tls_key_file="+key)...)
		awaitPort(t, "127.0.0.1:"+port)
	}
	serve(apiHost, tool(t, "google.golang.org/grpc/interop/server"), "--use_tls=true")
	serve(namedHost, tool(t, "authsome/proxy/interop/named"))

	var roots string
	r := newRig(t, true, whoami, func(r *rig, c *proxy.Config) {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM(authority.RootPEM())
		roots = filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(roots, c.Authority.(*ca.Authority).RootPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	r.route(apiHost, namedHost)
	r.redirect(func(address string) string { return addrs[address] })
	for _, name := range grpcCases {
		t.Run(name, func(t *testing.T) {
			host := apiHost
			if name == "pick_first_unary" {
				host = namedHost
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, client, "--server_host="+host, "--server_port=443", "--use_tls=true", "--use_test_ca=true",
				"--ca_file="+roots, "--test_case="+name)
			cmd.Args = append(cmd.Args, grpcFlags[name]...)
			cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://run:"+proxyToken+"@"+r.addr, "NO_PROXY=", "https_proxy=", "no_proxy=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	injections := 0
	for _, e := range r.events() {
		if e.Event == "inject" && e.Protocol == "h2" {
			injections++
		}
	}
	if injections < len(grpcCases) {
		t.Errorf("%d of %d calls were intercepted", injections, len(grpcCases))
	}
}

// TestH2Spec runs h2spec against the intercepted side and against net/http on
// its own. What net/http does right must be right through the proxy too.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	program := tool(t, "github.com/summerwind/h2spec/cmd/h2spec")
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, strings.Repeat("h2spec wants a body with some bytes in it\n", 4))
	})
	bare := httptest.NewUnstartedServer(serve)
	bare.EnableHTTP2 = true
	bare.Config.ErrorLog = discardLog()
	bare.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), "localhost")
	}}
	bare.StartTLS()
	t.Cleanup(bare.Close)

	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close() })
	_, port, _ := net.SplitHostPort(front.Addr().String())
	r := newRig(t, true, serve, func(r *rig, c *proxy.Config) {
		c.Authority = authority
		c.RootCAs.AppendCertsFromPEM(authority.RootPEM())
		c.Logger = nil
	})
	r.redirect(func(string) string { return bare.Listener.Addr().String() })
	r.route("https://localhost:" + port)
	go forwardThrough(front, r, "localhost:"+port)

	_, barePort, _ := net.SplitHostPort(bare.Listener.Addr().String())
	var want, got map[string]string
	var wg sync.WaitGroup
	all := []string{"generic", "http2", "hpack"}
	wg.Go(func() { want = h2spec(t, program, barePort, time.Second, all...) })
	wg.Go(func() { got = h2spec(t, program, port, time.Second, all...) })
	wg.Wait()
	passed := 0
	for name, problem := range want {
		if problem != "" {
			t.Logf("net/http itself fails: %s: %s", name, problem)
			continue
		}
		passed++
		p, ran := got[name]
		// Some cases race with the frames that a server may send at any time, and
		// a busy machine takes its time.
		for patience := range 4 {
			if ran && p == "" {
				break
			}
			section, _, _ := strings.Cut(name, ": ")
			p, ran = h2spec(t, program, port, time.Duration(2+patience)*time.Second, section)[name], true
		}
		if p != "" {
			t.Errorf("%s: passes on net/http, and here: %s", name, p)
		}
	}
	t.Logf("net/http passes %d of %d cases", passed, len(want))
	if passed < 100 {
		t.Errorf("only %d cases passed on net/http: the comparison shows nothing", passed)
	}
}

// h2spec returns the cases of one run, with what was wrong or "". An answer that
// takes longer than timeout is a missing one.
func h2spec(t *testing.T, program, port string, timeout time.Duration, sections ...string) map[string]string {
	report := filepath.Join(t.TempDir(), "report.xml")
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-h", "localhost", "-p", port, "-t", "-k", "-o", fmt.Sprint(timeout.Seconds()), "-j", report}, sections...)...)
	out, err := cmd.CombinedOutput()
	data, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Errorf("h2spec: %v, %v\n%s", err, readErr, out)
		return nil
	}
	var parsed struct {
		Suites []struct {
			Cases []struct {
				Package string `xml:"package,attr"`
				Class   string `xml:"classname,attr"`
				Failure *struct {
					Text string `xml:",chardata"`
				} `xml:"failure"`
				Error *struct {
					Text string `xml:",chardata"`
				} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &parsed); err != nil {
		t.Error(err)
	}
	results := map[string]string{}
	for _, s := range parsed.Suites {
		for _, c := range s.Cases {
			name := c.Package + ": " + c.Class
			switch {
			case c.Failure != nil:
				results[name] = "fails: " + strings.Join(strings.Fields(c.Failure.Text), " ")
			case c.Error != nil:
				results[name] = "errs: " + strings.Join(strings.Fields(c.Error.Text), " ")
			case c.Skipped != nil:
				results[name] = "is skipped"
			default:
				results[name] = ""
			}
		}
	}
	return results
}

// forwardThrough gives every connection of l a tunnel to target.
func forwardThrough(l net.Listener, r *rig, target string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", r.addr)
			if err != nil {
				return
			}
			defer up.Close()
			fmt.Fprintf(up, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, r.authHeader())
			br := bufioReader(up)
			if resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}); err != nil || resp.StatusCode != http.StatusOK {
				return
			}
			done := make(chan struct{}, 2)
			go func() { io.Copy(c, br); c.(*net.TCPConn).CloseWrite(); done <- struct{}{} }()
			go func() { io.Copy(up, c); up.(*net.TCPConn).CloseWrite(); done <- struct{}{} }()
			<-done
			<-done
		}()
	}
}
