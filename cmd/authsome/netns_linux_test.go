package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authsome/ca"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The users of a pod: they have no rights over one another.
const (
	sidecarUser = 65532
	agentUser   = 1000
)

// What is where in the tests' internet.
const (
	apiAddr4, apiAddr6     = "10.77.1.10", "fd77:1::10"
	otherAddr4, otherAddr6 = "10.77.1.20", "fd77:1::20"
)

// netns is a network namespace with its own hosts and resolver.
type netns struct {
	t    *testing.T
	name string
}

var namespaces atomic.Int32

// newNetns makes a network namespace with its loopback up.
func newNetns(t *testing.T, what string) *netns {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and changes users: run it as root")
	}
	n := &netns{t, fmt.Sprintf("as%d-%d-%s", os.Getpid(), namespaces.Add(1), what)}
	ip(t, "netns", "add", n.name)
	t.Cleanup(func() { ip(t, "netns", "del", n.name) })
	ip(t, "-n", n.name, "link", "set", "lo", "up")
	etc := "/etc/netns/" + n.name // ip netns exec puts what is there in place of /etc/…
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(etc) })
	hosts := "127.0.0.1 localhost\n::1 localhost\n" +
		apiAddr4 + " api.example.test api.openai.com\n" + apiAddr6 + " api.example.test api.openai.com\n" +
		otherAddr4 + " www.elsewhere.example.test\n" + otherAddr6 + " www.elsewhere.example.test\n"
	for name, text := range map[string]string{"hosts": hosts, "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// ip runs iproute2.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool(t, "ip"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s (network namespaces need root, and a kernel that has them)", strings.Join(args, " "), err, out)
	}
}

// join puts a cable between two namespaces, with addresses on either side.
func join(a *netns, nameA string, addrsA []string, b *netns, nameB string, addrsB []string) {
	ip(a.t, "-n", a.name, "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", b.name)
	for _, side := range []struct {
		n     *netns
		dev   string
		addrs []string
	}{{a, nameA, addrsA}, {b, nameB, addrsB}} {
		for _, addr := range side.addrs {
			args := []string{"-n", side.n.name, "addr", "add", addr, "dev", side.dev}
			if strings.Contains(addr, ":") {
				args = append(args, "nodad") // usable at once
			}
			ip(a.t, args...)
		}
		ip(a.t, "-n", side.n.name, "link", "set", side.dev, "up")
	}
}

// do runs f on a thread that is in the namespace. Sockets made there stay there.
func (n *netns) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := os.Open("/run/netns/" + n.name)
		if err == nil {
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
			fd.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (n *netns) listen(address string) (l net.Listener) {
	n.t.Helper()
	if err := n.do(func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	return l
}

// command prepares a program in the namespace, as a user without privileges.
func (n *netns) command(user int, env []string, args ...string) *exec.Cmd {
	id := fmt.Sprint(user)
	argv := append([]string{"netns", "exec", n.name, tool(n.t, "setpriv"), "--reuid", id, "--regid", id, "--clear-groups",
		"--inh-caps=-all", "--bounding-set=-all", "--"}, args...)
	if user == 0 {
		argv = append([]string{"netns", "exec", n.name}, args...)
	}
	cmd := exec.CommandContext(n.t.Context(), tool(n.t, "ip"), argv...)
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", "HOME=/nonexistent"}, env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// internet is a namespace with origins in it, which note who comes.
type internet struct {
	*netns
	roots string // PEM file that verifies the origins
	tls   *tls.Config

	mu      sync.Mutex // guards arrived
	arrived []string
}

func (i *internet) note(format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arrived = append(i.arrived, fmt.Sprintf(format, args...))
}

func (i *internet) seen() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return strings.Join(i.arrived, "\n")
}

func (i *internet) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arrived = nil
}

// newInternet starts origins on ports 80, 443 and 8443, and whatever takes
// datagrams on 443 and 4433.
func newInternet(t *testing.T) *internet {
	t.Helper()
	i := &internet{netns: newNetns(t, "net")}
	for _, addr := range []string{apiAddr4 + "/32", otherAddr4 + "/32", apiAddr6 + "/128", otherAddr6 + "/128"} {
		args := []string{"-n", i.name, "addr", "add", addr, "dev", "lo"}
		if strings.Contains(addr, ":") {
			args = append(args, "nodad")
		}
		ip(t, args...)
	}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test", "openai.com"}})
	if err != nil {
		t.Fatal(err)
	}
	i.roots = openFile(t, "origin-ca.pem", string(authority.RootPEM()))
	config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := hello.ServerName
		if name == "" {
			name = "no-name.example.test"
		}
		return authority.Leaf(context.Background(), name)
	}}
	i.tls = config
	for port, secure := range map[string]bool{":80": false, ":443": true, ":8443": true} {
		server := &http.Server{Handler: i, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				i.note("connection %s to %s", c.RemoteAddr(), c.LocalAddr())
			}
		}}
		l := net.Listener(i.listen(port))
		if secure {
			server.TLSConfig = config.Clone() // a server adds to it
			go server.ServeTLS(l, "", "")
		} else {
			go server.Serve(l)
		}
		t.Cleanup(func() { server.Close() })
	}
	for _, address := range []string{apiAddr4 + ":443", "[" + apiAddr6 + "]:443", apiAddr4 + ":4433", ":53"} {
		i.takeDatagrams(address)
	}
	return i
}

func (i *internet) takeDatagrams(address string) {
	var c net.PacketConn
	if err := i.do(func() (err error) { c, err = net.ListenPacket("udp", address); return err }); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			i.note("datagram %s to %s", from, address)
			c.WriteTo([]byte("here"), from)
		}
	}()
}

// ServeHTTP is every origin: it says whether the credential came.
func (i *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.note("request %s %s %s", r.Proto, r.Host, r.URL.Path)
	io.Copy(io.Discard, r.Body)
	if !authorized(r) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, "who are you? %s\n", r.Host)
		return
	}
	fmt.Fprintf(w, "welcome %s\n", r.Host)
}

// openFile makes a file that every user of the machine can read; the tests' own
// directories are closed.
func openFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(openDir(t), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "authsome-open-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// copyProgram copies a program to where other users can run it. Another process
// writes the copy: a child that this one forks meanwhile would hold the file
// open for writing, and nobody could execute it ("text file busy").
func copyProgram(t *testing.T, from string) string {
	t.Helper()
	path := filepath.Join(openDir(t), filepath.Base(from))
	if out, err := exec.Command("install", "-m", "755", from, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// pod is a namespace in which an agent runs next to authsome proxy.
type pod struct {
	*netns
	world   *internet
	program string // authsome, for every user
	share   string // what the sidecar writes for the agent
	sidecar *service
	env     []string // the agent's
}

// newPod joins a new namespace to the internet.
func newPod(t *testing.T, world *internet) *pod {
	t.Helper()
	p := &pod{netns: newNetns(t, "pod"), world: world, program: copyProgram(t, binary)}
	join(p.netns, "eth0", []string{"10.77.0.2/24", "fd77::2/64"}, world.netns, "pod0", []string{"10.77.0.1/24", "fd77::1/64"})
	ip(t, "-n", p.name, "route", "add", "default", "via", "10.77.0.1")
	ip(t, "-n", p.name, "-6", "route", "add", "default", "via", "fd77::1")
	return p
}

// startSidecar runs authsome proxy as its own user, with the canary for
// api.example.test, taking redirected connections on port 15001.
func (p *pod) startSidecar(user int, args ...string) {
	t := p.t
	t.Helper()
	p.share = openDir(t)
	home := filepath.Join(openDir(t), "home")
	providers := filepath.Join(home, "providers")
	if err := os.MkdirAll(providers, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(home, "secret")
	for path, text := range map[string]string{filepath.Join(providers, "example.json"): exampleDefinition, secret: canary + "\n",
		filepath.Join(home, "proxy.yaml"): "store: memory\ncredentials: {example: {secret_file: " + secret + "}}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{home, p.share} {
		if out, err := exec.Command("chown", "-R", fmt.Sprint(user), dir).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	argv := append([]string{p.program, "proxy", "--config", filepath.Join(home, "proxy.yaml"), "--listen", "", "--transparent-listen", ":15001",
		"--metrics-addr", "127.0.0.1:9090", "--bundle-out", filepath.Join(p.share, "ca.pem"), "--env-out", filepath.Join(p.share, "agent.env")}, args...)
	s := &service{t: t, w: &world{t: t, home: home}, done: make(chan struct{}), metrics: "127.0.0.1:9090", env: filepath.Join(p.share, "agent.env")}
	p.sidecar = s
	s.begin(p.command(user, []string{"AUTHSOME_HOME=" + home, "SSL_CERT_FILE=" + p.world.roots}, argv...))
	s.eventually("the proxy is ready", func() bool {
		if s.hasEnded() {
			t.Fatalf("the proxy ended:\n%s", s.stderr.String())
		}
		return p.command(agentUser, nil, p.program, "proxy", "--healthcheck").Run() == nil
	})
	for name, value := range s.variables() {
		if name != "PWD" && name != "PATH" && name != "_" && name != "SHLVL" {
			p.env = append(p.env, name+"="+value)
		}
	}
}

// redirect runs authsome redirect, as the init container would.
func (p *pod) redirect(args ...string) string {
	p.t.Helper()
	out, err := p.command(0, nil, append([]string{p.program, "redirect"}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("authsome redirect %v: %v: %s", args, err, out)
	}
	return string(out)
}

// agent runs a program as the agent would, and returns what it prints.
func (p *pod) agent(args ...string) (string, error) {
	p.t.Helper()
	cmd := p.command(agentUser, p.env, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ctx := time.AfterFunc(60*time.Second, func() { cmd.Process.Signal(syscall.SIGKILL) })
	defer ctx.Stop()
	err := cmd.Run()
	if strings.Contains(out.String(), canary) {
		p.t.Errorf("%v: the agent holds the secret", args)
	}
	return out.String(), err
}

// Clients that know no proxy get their credential, over IPv4 and IPv6.
func TestRedirectedClients(t *testing.T) {
	t.Parallel()
	p := newPod(t, newInternet(t))
	p.startSidecar(sidecarUser)
	p.redirect("up", "--uid", fmt.Sprint(sidecarUser), "--port", "15001")
	java := openFile(t, "Get.java", `
import java.net.*; import java.net.http.*;
public class Get {
  public static void main(String[] a) throws Exception {
    System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body());
  }
}`)
	self := copyProgram(t, os.Args[0])
	clients := []struct {
		name string
		argv []string
	}{
		{"python urllib3, bare", []string{"/usr/bin/python3", "-c",
			"import urllib3, os; print(urllib3.PoolManager(ca_certs=os.environ['SSL_CERT_FILE']).request('GET', '" + apiURL + "').data.decode())"}},
		{"python urllib", []string{"/usr/bin/python3", "-c", "import urllib.request as u; print(u.urlopen('" + apiURL + "').read().decode())"}},
		{"node 20 fetch", []string{tool(t, "node"), "-e", "fetch('" + apiURL + "').then(r => r.text()).then(console.log)"}},
		{"go without a proxy", []string{"/usr/bin/env", fetchVariable + "=" + apiURL, self}},
		{"go over IPv6", []string{"/usr/bin/env", fetchVariable + "=" + apiURL, fetchNetwork + "=tcp6", self}},
		{"java", []string{tool(t, "java"), java, apiURL}},
		{"curl", []string{tool(t, "curl"), "-sS", apiURL}},
		{"curl over IPv6", []string{tool(t, "curl"), "-sS6", apiURL}},
		{"curl asked for HTTP/1.1", []string{tool(t, "curl"), "-sS", "--http1.1", "-4", apiURL}},
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			out, err := p.agent(c.argv...)
			if err != nil || !strings.Contains(out, "welcome api.example.test") {
				t.Errorf("got %v: %s\nwant the origin's welcome", err, out)
			}
		})
	}
	t.Run("elsewhere, unseen", func(t *testing.T) {
		out, err := p.agent(tool(t, "curl"), "-sS", "--cacert", p.world.roots, "https://www.elsewhere.example.test/")
		if err != nil || !strings.Contains(out, "who are you? www.elsewhere.example.test") {
			t.Errorf("got %v: %s\nwant the origin's answer, with its own certificate", err, out)
		}
	})
	t.Run("plaintext, without a credential", func(t *testing.T) {
		out, err := p.agent(tool(t, "curl"), "-sS", "http://api.example.test/")
		if err != nil || !strings.Contains(out, "who are you? api.example.test") {
			t.Errorf("got %v: %s\nwant the origin's question", err, out)
		}
	})
	injected := 0
	for _, kind := range strings.Fields(p.sidecar.w.events()) {
		if kind == "inject" {
			injected++
		}
	}
	if injected != len(clients) {
		t.Errorf("audit: %d injections for %d clients", injected, len(clients))
	}
}

const (
	fetchVariable = "AUTHSOME_TEST_FETCH"
	fetchNetwork  = "AUTHSOME_TEST_NETWORK"
)

// init makes the test binary a client when it is asked to be one.
func init() {
	if target := os.Getenv(fetchVariable); target != "" {
		if err := fetch(target, os.Getenv(fetchNetwork)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if way := os.Getenv(attackVariable); way != "" {
		fmt.Println(attack(way))
		os.Exit(0)
	}
}

func fetch(target, network string) error {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Proxy: nil, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, n, address string) (net.Conn, error) {
			if network != "" {
				n = network
			}
			return (&net.Dialer{}).DialContext(ctx, n, address)
		}}}
	resp, err := client.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

const attackVariable = "AUTHSOME_TEST_ATTACK"

// ways are what an agent may try to reach an origin past the proxy.
var ways = map[string]func() error{
	"no server name":            func() error { return tlsTo(apiAddr4+":443", "", "api.example.test") },
	"no server name, IPv6":      func() error { return tlsTo("["+apiAddr6+"]:443", "", "api.example.test") },
	"another server name":       func() error { return tlsTo(apiAddr4+":443", "www.elsewhere.example.test", "api.example.test") },
	"another server name, IPv6": func() error { return tlsTo("["+apiAddr6+"]:443", "www.elsewhere.example.test", "api.example.test") },
	"a name that is no host":    func() error { return tlsTo(apiAddr4+":443", "not_a-host.", "api.example.test") },
	"another address": func() error {
		return tlsTo(otherAddr4+":443", "www.elsewhere.example.test", "www.elsewhere.example.test")
	},
	"another port":                func() error { return tlsTo(apiAddr4+":8443", "api.example.test", "api.example.test") },
	"another port, IPv6":          func() error { return tlsTo("["+apiAddr6+"]:8443", "api.example.test", "api.example.test") },
	"TLS on port 80":              func() error { return tlsTo(apiAddr4+":80", "", "api.example.test") },
	"plaintext":                   func() error { return plainTo(apiAddr4 + ":80") },
	"plaintext, IPv6":             func() error { return plainTo("[" + apiAddr6 + "]:80") },
	"plaintext on port 443":       func() error { return plainTo(otherAddr4 + ":443") },
	"QUIC":                        func() error { return datagramTo(apiAddr4 + ":443") },
	"QUIC, IPv6":                  func() error { return datagramTo("[" + apiAddr6 + "]:443") },
	"another datagram":            func() error { return datagramTo(apiAddr4 + ":4433") },
	"the proxy's own listener":    func() error { return tlsTo("127.0.0.1:15001", "api.example.test", "api.example.test") },
	"the proxy's listener, IPv6":  func() error { return tlsTo("[::1]:15001", "api.example.test", "api.example.test") },
	"the proxy by the pod's name": func() error { return tlsTo("10.77.0.2:15001", "api.example.test", "api.example.test") },
	"the gateway's listener":      func() error { return tlsTo("10.78.0.1:15001", "api.example.test", "api.example.test") },
	"changing the rules":          func() error { return exec.Command(os.Getenv("AUTHSOME_PROGRAM"), "redirect", "down").Run() },
	"a raw socket":                func() error { return rawSocket() },
	"the proxy's user":            func() error { return unix.Setresuid(sidecarUser, sidecarUser, sidecarUser) },
}

// attack goes a way, and says how far it came.
func attack(way string) string {
	if err := ways[way](); err != nil {
		return "stopped: " + err.Error()
	}
	return "REACHED"
}

func tlsTo(address, name, host string) error {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	tc := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}) // whether anybody answers is all that is asked
	if err := tc.Handshake(); err != nil {
		return err
	}
	return ask(tc, host)
}

func plainTo(address string) error {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	return ask(c, "api.example.test")
}

// ask sends a request; an answer from an origin means that it was reached.
func ask(c net.Conn, host string) error {
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	b, err := io.ReadAll(c)
	if bytes.Contains(b, []byte("who are you?")) || bytes.Contains(b, []byte("welcome")) {
		return nil
	}
	return fmt.Errorf("answered %.60q, %v", b, err)
}

func datagramTo(address string) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 10))
	return err
}

func rawSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// With egress denied and strict rules an agent reaches what credentials and the
// policy name, through the proxy, and nothing else by any way.
func TestNoWayRound(t *testing.T) {
	t.Parallel()
	p := newPod(t, newInternet(t))
	p.startSidecar(sidecarUser, "--egress", "deny")
	self := copyProgram(t, os.Args[0])
	try := func(way string) string {
		t.Helper()
		out, err := p.agent("/usr/bin/env", attackVariable+"="+way, "AUTHSOME_PROGRAM="+p.program, "AUTHSOME_HOME=/nonexistent", self)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	for _, way := range []string{"no server name", "no server name, IPv6", "another server name", "another address", "another port",
		"another port, IPv6", "plaintext", "plaintext, IPv6", "QUIC", "QUIC, IPv6", "another datagram"} {
		if out := try(way); !strings.HasPrefix(out, "REACHED") {
			t.Errorf("without rules %s is %s: the test shows nothing", way, out)
		}
	}
	p.world.forget()
	p.redirect("up", "--strict")
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			out := try(way)
			if !strings.HasPrefix(out, "stopped: ") {
				t.Errorf("the agent came through: %s", out)
			}
			if seen := p.world.seen(); seen != "" {
				t.Errorf("an origin saw: %s", seen)
			}
			p.world.forget()
		})
	}
	if out, err := p.agent(tool(t, "curl"), "-sS", apiURL); err != nil || !strings.Contains(out, "welcome") {
		t.Errorf("the way through: %v: %s", err, out)
	}
	// DNS is left alone: it is not answered here, but it goes out.
	p.world.forget()
	p.agent("/usr/bin/python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.sendto(b'x', ('10.77.0.1', 53)); s.recv(10)")
	if !strings.Contains(p.world.seen(), "datagram") {
		t.Error("DNS does not go out")
	}
}

// Without strictness and with egress allowed, what is stopped is what hides from
// the proxy on its way to a covered host.
func TestHidingFromTheProxy(t *testing.T) {
	t.Parallel()
	p := newPod(t, newInternet(t))
	p.startSidecar(sidecarUser)
	p.redirect("up")
	self := copyProgram(t, os.Args[0])
	for way, reaches := range map[string]bool{"no server name": false, "no server name, IPv6": false, "QUIC": false, "QUIC, IPv6": false,
		"TLS on port 80": false, "the proxy's own listener": false, "another address": true, "plaintext": true, "another port": true} {
		out, err := p.agent("/usr/bin/env", attackVariable+"="+way, self)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.HasPrefix(out, "REACHED"); got != reaches {
			t.Errorf("%s: got %s, want an origin reached: %v", way, out, reaches)
		}
	}
}

// newGateway is a pod that forwards for an agent in a namespace behind it.
func newGateway(t *testing.T) (gateway, agent *pod) {
	t.Helper()
	world := newInternet(t)
	gateway = newPod(t, world)
	inner := newNetns(t, "agent")
	join(inner, "eth0", []string{"10.78.0.2/24", "fd78::2/64"}, gateway.netns, "in0", []string{"10.78.0.1/24", "fd78::1/64"})
	ip(t, "-n", inner.name, "route", "add", "default", "via", "10.78.0.1")
	ip(t, "-n", inner.name, "-6", "route", "add", "default", "via", "fd78::1")
	ip(t, "-n", world.name, "route", "add", "10.78.0.0/24", "via", "10.77.0.2")
	ip(t, "-n", world.name, "-6", "route", "add", "fd78::/64", "via", "fd77::2")
	err := gateway.do(func() error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return gateway, &pod{netns: inner, world: world, program: gateway.program}
}

// checkGateway has the agent behind a gateway try its ways.
func checkGateway(t *testing.T, gateway, agent *pod) {
	t.Helper()
	agent.env = gateway.env
	self := copyProgram(t, os.Args[0])
	for _, network := range []string{"tcp4", "tcp6"} {
		out, err := agent.agent("/usr/bin/env", fetchVariable+"="+apiURL, fetchNetwork+"="+network, self)
		if err != nil || !strings.Contains(out, "welcome api.example.test") {
			t.Errorf("%s: got %v: %s, want the origin's welcome", network, err, out)
		}
	}
	for way, reaches := range map[string]bool{"no server name": false, "no server name, IPv6": false, "plaintext": true, "another address": true} {
		out, err := agent.agent("/usr/bin/env", attackVariable+"="+way, self)
		if got := strings.HasPrefix(out, "REACHED"); err != nil || got != reaches {
			t.Errorf("%s: got %v %s, want an origin reached: %v", way, err, out, reaches)
		}
	}
	agent.world.forget()
	out, err := agent.agent("/usr/bin/env", attackVariable+"=the gateway's listener", self)
	if err != nil || !strings.HasPrefix(out, "stopped: ") || agent.world.seen() != "" {
		t.Errorf("the listener itself: got %v %s, want the connection closed", err, out)
	}
}

// A gateway redirects what it forwards.
func TestGateway(t *testing.T) {
	t.Parallel()
	gateway, agent := newGateway(t)
	gateway.startSidecar(sidecarUser)
	gateway.redirect("up", "--interface", "in0", "--strict")
	checkGateway(t, gateway, agent)
	self := copyProgram(t, os.Args[0])
	for _, way := range []string{"QUIC", "QUIC, IPv6", "another port", "another datagram"} {
		if out, err := agent.agent("/usr/bin/env", attackVariable+"="+way, self); err != nil || !strings.HasPrefix(out, "stopped: ") {
			t.Errorf("%s: got %v %s, want it stopped", way, err, out)
		}
	}
}

// TPROXY keeps the addresses as they are; the proxy's socket is bound to them.
func TestTPROXY(t *testing.T) {
	t.Parallel()
	gateway, agent := newGateway(t)
	gateway.startSidecar(0) // a transparent socket takes CAP_NET_ADMIN
	fd, err := os.Open("/run/netns/" + gateway.name)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(fd.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "tproxy"})
	chain := c.AddChain(&nftables.Chain{Table: table, Name: "in", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle})
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		for _, port := range []uint16{80, 443} {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(family)}},
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
				&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte("in0"), make([]byte, 13)...)},
				&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(15001)},
				&expr.TProxy{Family: byte(family), TableFamily: byte(nftables.TableFamilyINet), RegPort: 1},
				&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(1)},
				&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
				&expr.Verdict{Kind: expr.VerdictAccept}}})
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"-4", "-6"} {
		ip(t, "-n", gateway.name, family, "rule", "add", "fwmark", "1", "lookup", "100")
		ip(t, "-n", gateway.name, family, "route", "add", "local", "default", "dev", "lo", "table", "100")
	}
	checkGateway(t, gateway, agent)
}

func TestRedirectIsIdempotent(t *testing.T) {
	t.Parallel()
	n := newNetns(t, "rules")
	p := &pod{netns: n, program: copyProgram(t, binary)}
	if got := p.redirect("show", "--json"); !strings.Contains(got, `"installed": false`) {
		t.Errorf("before: got %s", got)
	}
	p.redirect("down") // nothing to do
	first := p.redirect("up", "--json", "--uid", "4711", "--port", "1234", "--interface", "eth1", "--strict")
	if second := p.redirect("up", "--json", "--uid", "4711", "--port", "1234", "--interface", "eth1", "--strict"); second != first {
		t.Errorf("a second time: got %s, want %s", second, first)
	}
	for _, want := range []string{"meta skuid 4711 return", "redirect to :1234", "udp dport 443 reject", `iifname \"eth1\"`, "admin-prohibited"} {
		if !strings.Contains(first, want) {
			t.Errorf("the rules lack %s: %s", want, first)
		}
	}
	third := p.redirect("up", "--json")
	if strings.Contains(third, "4711") || strings.Contains(third, "eth1") || !strings.Contains(third, "meta skuid 65532 return") {
		t.Errorf("other settings: got %s, want the old rules gone", third)
	}
	if got := p.redirect("down", "--json"); !strings.Contains(got, `"installed": false`) {
		t.Errorf("down: got %s", got)
	}
	cmd := n.command(agentUser, nil, p.program, "redirect", "up", "--json")
	out, err := cmd.Output()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 1 || !strings.Contains(string(out), "NotPermitted") || !strings.Contains(string(out), "NET_ADMIN") {
		t.Errorf("without the capability: got %v %s, want what is missing", err, out)
	}
}
