package ca_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
)

const answer = "the origin's answer"

// command runs a real client that sees PATH and vars alone.
func command(t testing.TB, vars map[string]string, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: this test runs the real client; install it", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

// startProxy serves CONNECT: whatever the target, the client reaches an https
// server that uses config. It returns the proxy's URL.
func startProxy(t testing.TB, config *tls.Config) string {
	t.Helper()
	origin, ln := listen(t), listen(t)
	server := &http.Server{
		Handler:  http.HandlerFunc(serveAnswer),
		ErrorLog: log.New(io.Discard, "", 0), // clients that refuse are the point
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { server.Close(); ln.Close(); wg.Wait() })
	wg.Go(func() { server.Serve(tls.NewListener(origin, config)) })
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { tunnel(conn, origin.Addr().String()) })
		}
	})
	return "http://run:t0ken@" + ln.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func serveAnswer(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/info/refs") { // a repository with one branch
		fmt.Fprintf(w, "%040d\trefs/heads/%s\n", 1, strings.ReplaceAll(answer, " ", "-"))
		return
	}
	io.WriteString(w, answer)
}

func tunnel(client net.Conn, origin string) {
	defer client.Close()
	client.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(client)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	server, err := net.Dial("tcp", origin)
	if err != nil {
		return
	}
	defer server.Close()
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		io.Copy(server, r)
		server.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, server)
}

// realClients fetch https://<host>/ with the child's environment, which alone
// tells them of the proxy and of what to trust.
var realClients = []struct {
	name string
	run  func(t *testing.T, env map[string]string, host string) *exec.Cmd
}{
	{"curl", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "curl", "-sS", "https://"+host+"/")
	}},
	{"wget", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "wget", "-nv", "-t", "1", "-O", "-", "https://"+host+"/")
	}},
	{"git", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "git", "ls-remote", "https://"+host+"/repo")
	}},
	{"python-urllib", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "python3", "-c",
			"import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())", "https://"+host+"/")
	}},
	{"python-strict", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "python3", "-c", `
import ssl, sys, urllib.request as u
c = ssl.create_default_context()
c.verify_flags |= ssl.VERIFY_X509_STRICT # the default from Python 3.13 on
print(u.urlopen(sys.argv[1], context=c).read().decode())`, "https://"+host+"/")
	}},
	{"python-requests", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "python3", "-c",
			"import sys, requests; print(requests.get(sys.argv[1]).text)", "https://"+host+"/")
	}},
	{"node", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		// Not every node in use knows of the proxy variables; this one is told.
		return command(t, env, "node", "-e", `
const url = new URL(process.env.HTTPS_PROXY), host = process.argv[1];
require("http").request({host: url.hostname, port: url.port, method: "CONNECT", path: host + ":443"})
  .on("connect", (res, socket) => require("https").get({host, socket, agent: false, servername: require("net").isIP(host) ? "" : host},
    r => r.on("data", d => process.stdout.write(d))).on("error", e => { console.error(e.code, e.message); process.exit(1) }))
  .end();`, host)
	}},
	{"openssl", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		args := []string{"s_client", "-proxy", strings.TrimPrefix(env["HTTPS_PROXY"], "http://run:t0ken@"),
			"-connect", host + ":443", "-verify_return_error", "-x509_strict", "-quiet"}
		if net.ParseIP(host) != nil {
			args = append(args, "-noservername", "-verify_ip", host)
		} else {
			args = append(args, "-servername", host, "-verify_hostname", host)
		}
		cmd := command(t, env, "openssl", args...)
		cmd.Stdin = strings.NewReader("GET / HTTP/1.0\r\n\r\n")
		return cmd
	}},
	{"php-curl", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "php", "-r", `
$c = curl_init($argv[1]); curl_setopt($c, CURLOPT_RETURNTRANSFER, true);
$r = curl_exec($c); if ($r === false) { fwrite(STDERR, curl_error($c)); exit(1); } echo $r;`, "https://"+host+"/")
	}},
	{"php-streams", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "php", "-r", `
set_error_handler(function ($no, $message) { fwrite(STDERR, $message . "\n"); return true; });
$p = preg_replace("#^http://.*@#", "tcp://", getenv("HTTPS_PROXY"));
$r = file_get_contents($argv[1], false, stream_context_create(["http" => ["proxy" => $p]]));
if ($r === false) { exit(1); } echo $r;`, "https://"+host+"/")
	}},
	{"java", func(t *testing.T, env map[string]string, host string) *exec.Cmd {
		return command(t, env, "java", "-Xshare:auto", javaSource(t, "Fetch", `
			try (var in = new java.net.URL("https://" + a[0] + "/").openStream()) { in.transferTo(System.out); }`), host)
	}},
}

// javaSource writes a program that java compiles by itself.
func javaSource(t *testing.T, class, body string) string {
	t.Helper()
	return write(t, class+".java", "public class "+class+" { public static void main(String[] a) throws Exception {"+body+"} }")
}

// TestRealClients: each client accepts what the authority issues, given only
// the child's environment, and refuses the rest.
func TestRealClients(t *testing.T) {
	a := newAuthority(t, func(c *ca.Config) { c.PermittedIPs = ips("192.0.2.7") })
	stranger := newAuthority(t)
	issued := func(host string) *tls.Config {
		c, err := a.TLSConfig(t.Context(), host, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	forged := func(by *ca.Authority, host string) *tls.Config {
		leaf, err := by.ForgeLeaf(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{*leaf}}
	}
	for _, test := range []struct {
		name, host string
		server     *tls.Config
		want       bool
		beyond     bool // wrong only by the root's name constraints
	}{
		{"issued", "api.example.test", issued("api.example.test"), true, false},
		{"long", strings.Repeat("a", 60) + ".example.test", issued(strings.Repeat("a", 60) + ".example.test"), true, false},
		{"address", "192.0.2.7", issued("192.0.2.7"), true, false},
		{"another host", "www.example.test", forged(a, "api.example.test"), false, false},
		{"an unknown root", "api.example.test", forged(stranger, "api.example.test"), false, false},
		{"beyond the constraints", "evil.test", forged(a, "evil.test"), false, true},
		{"an address beyond them", "192.0.2.8", forged(a, "192.0.2.8"), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Each client's file has its own way to quote a path.
			dir := filepath.Join(t.TempDir(), "a b'c")
			trust, err := ca.WriteTrust(dir, a.RootPEM(), ca.TrustInput{Environ: environ(nil), ProxyURL: startProxy(t, test.server)})
			if err != nil {
				t.Fatal(err)
			}
			for _, client := range realClients {
				if client.name == "java" && test.beyond {
					continue // see TestJavaAndConstraints
				}
				out, err := client.run(t, trust.Env(), test.host).CombinedOutput()
				got := err == nil && strings.Contains(strings.ReplaceAll(string(out), "-", " "), answer)
				if got != test.want || !test.want && strings.Contains(string(out), answer) {
					t.Errorf("%s: accepted %v, want %v: %v\n%s", client.name, got, test.want, err, out)
				}
				// A failure must be the certificate's: anything else proves nothing.
				if lower := strings.ToLower(string(out)); !test.want &&
					!strings.Contains(lower, "certificat") && !strings.Contains(lower, "cert_") && !strings.Contains(lower, "verif") &&
					!strings.Contains(lower, "altname") && !strings.Contains(lower, "subtree") && !strings.Contains(lower, "ssl") {
					t.Errorf("%s: failed for another reason: %v\n%s", client.name, err, out)
				}
			}
		})
	}
}

// The JVM understands the constraints and holds a leaf against them, but only
// those of certificates on the path. A root in a trust store is a name and a key
// to it (RFC 5280 section 6.1.1 (d) leaves that open), so in a JVM the root's
// secrecy is all that protects. Here the root is on the path, below its own key.
func TestJavaAndConstraints(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	save := func(name string, pemBytes []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pemBytes, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := javaSource(t, "Check", `
		var factory = java.security.cert.CertificateFactory.getInstance("X.509");
		java.security.cert.X509Certificate[] c = new java.security.cert.X509Certificate[2];
		for (int i = 0; i < 2; i++)
			try (var in = new java.io.FileInputStream(a[i])) { c[i] = (java.security.cert.X509Certificate) factory.generateCertificate(in); }
		var anchor = new java.security.cert.TrustAnchor(c[0].getSubjectX500Principal(), c[0].getPublicKey(), null);
		var params = new java.security.cert.PKIXParameters(java.util.Set.of(anchor));
		params.setRevocationEnabled(false);
		java.security.cert.CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(java.util.List.of(c[1], c[0])), params);`)
	root := save("root.pem", a.RootPEM())
	for host, want := range map[string]bool{"api.example.test": true, "evil.test": false, "192.0.2.8": false} {
		leaf, err := a.ForgeLeaf(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		path := save(host+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}))
		out, err := command(t, nil, "java", program, root, path).CombinedOutput()
		if got := err == nil; got != want || !want && !strings.Contains(string(out), "name constraints") {
			t.Errorf("%s: accepted %v, want %v\n%s", host, got, want, out)
		}
	}
}

func TestKeytoolReadsTruststore(t *testing.T) {
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{})
	out := output(t, command(t, nil, "keytool", "-list", "-keystore", filepath.Join(trust.Dir, "truststore.p12"),
		"-storetype", "PKCS12", "-storepass", ca.TruststorePassword))
	if got, want := strings.Count(out, "trustedCertEntry"), len(rootsOf(t, []byte(read(t, trust.Bundle)))); got != want {
		t.Errorf("keytool lists %d certificates, want %d", got, want)
	}
}

// The user's own directory of settings stays in force, except for ours.
func TestPHPSettings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.ini"), []byte("curl.cainfo = /corporate.pem\nmemory_limit = 77M\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{Environ: environ(map[string]string{"PHP_INI_SCAN_DIR": ":" + dir})})
	got := output(t, command(t, trust.Env(), "php", "-r",
		`echo ini_get("curl.cainfo"), "|", ini_get("openssl.cafile"), "|", ini_get("memory_limit");`))
	if want := trust.Bundle + "|" + trust.Bundle + "|77M"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
