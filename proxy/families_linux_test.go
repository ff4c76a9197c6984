package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// insideVariable marks the test binary that runs in namespaces of its own.
	insideVariable = "PROXY_TEST_INSIDE"

	nameServer = "127.0.0.53"
	four       = "127.0.0.1"
	// sixFirst is preferred to four, and sixLast is not: it is a unique local
	// address (RFC 6724 section 2.1).
	sixFirst = "::1"
	sixLast  = "fd00:db8::1"
)

// inside reports whether the test runs in network and mount namespaces of its
// own. When it does not, it is run there now, and what it found is reported
// here.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in its namespaces (root makes them, or whoever may make user namespaces): %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// ip changes the network that the test runs in.
func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s (it comes with iproute2)", args, err, out)
	}
}

// prepareNetwork makes the addresses, and a name server that the system's
// resolver asks.
func prepareNetwork(t *testing.T) {
	t.Helper()
	ip(t, "link set lo up")
	ip(t, "addr add "+sixLast+"/128 dev lo")
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	mine := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(mine, []byte("nameserver "+nameServer+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(mine, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mount over /etc/resolv.conf: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount("/etc/resolv.conf", syscall.MNT_DETACH) })
	c, err := net.ListenPacket("udp", net.JoinHostPort(nameServer, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go serveNames(c)
}

// serveNames answers questions: a name's labels say which addresses it has.
func serveNames(c net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
		addrs := addressesOf(strings.TrimSuffix(q.Name.String(), "."))
		if addrs == nil {
			m.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addrs {
			switch a := netip.MustParseAddr(a); {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
		if p, err := m.Pack(); err == nil {
			c.WriteTo(p, from)
		}
	}
}

// addressesOf returns nil for a name that does not exist.
func addressesOf(host string) []string {
	label, rest, _ := strings.Cut(host, ".")
	if !strings.HasSuffix(rest, "example.test") {
		return nil
	}
	return map[string][]string{"six-first": {sixFirst, four}, "four-first": {four, sixLast}, "empty": {}}[label]
}

// listenAt listens for HTTPS at an address.
func listenAt(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// blackHole makes an address that neither takes connections nor refuses them:
// its queue is full, and the kernel drops what asks to get into it.
func blackHole(t *testing.T, address string) {
	t.Helper()
	raw, err := listenAt(t, address).(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(address, "443"), 500*time.Millisecond)
		if isTimeout(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatalf("%s still takes connections", address)
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// A name with addresses of both families is reached at whichever works, soon
// (RFC 8305): by the time that one attempt may take, one after the other would
// not get to the second. When none works, the refusal says why.
func TestEitherFamily(t *testing.T) {
	if !inside(t) {
		return
	}
	prepareNetwork(t)
	const works, refuses, swallows = "works", "refuses", "swallows"
	for _, tt := range []struct {
		name, host string
		addresses  map[string]string // address → what it does
		want       string            // the address that answers, or part of the refusal
		status     int               // of the refusal
		code, hint string
	}{
		{name: "both, IPv6 first", host: "six-first", addresses: map[string]string{sixFirst: works, four: works}, want: sixFirst},
		{name: "both, IPv4 first", host: "four-first", addresses: map[string]string{four: works, sixLast: works}, want: four},
		{name: "IPv6 swallows", host: "six-first", addresses: map[string]string{sixFirst: swallows, four: works}, want: four},
		{name: "IPv4 swallows", host: "four-first", addresses: map[string]string{four: swallows, sixLast: works}, want: sixLast},
		{name: "IPv6 refuses", host: "six-first", addresses: map[string]string{sixFirst: refuses, four: works}, want: four},
		{name: "IPv4 refuses", host: "four-first", addresses: map[string]string{four: refuses, sixLast: works}, want: sixLast},
		{name: "both refuse", host: "six-first", addresses: map[string]string{sixFirst: refuses, four: refuses}, want: "refused the connection",
			status: 502, code: "upstream_unreachable", hint: "listens on this port"},
		{name: "both swallow", host: "four-first", addresses: map[string]string{four: swallows, sixLast: swallows}, want: "in time",
			status: 504, code: "upstream_timeout", hint: "try again"},
		{name: "no address", host: "empty", want: "cannot be resolved", status: 502, code: "upstream_unreachable", hint: "check the host name"},
		{name: "no such name", host: "unknown", want: "cannot be resolved", status: 502, code: "upstream_unreachable", hint: "check the host name"},
	} {
		for _, kind := range []string{"intercepted", "tunnel"} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
					local := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
					w.Header().Set("X-Address", netip.MustParseAddrPort(local.String()).Addr().String())
				}, func(_ *rig, c *proxy.Config) { c.Dial, c.Limits.Dial = nil, 2*time.Second })
				for address, does := range tt.addresses {
					switch does {
					case works:
						go r.origin.Config.Serve(tls.NewListener(listenAt(t, address), r.origin.TLS))
					case swallows:
						blackHole(t, address)
					}
				}
				host := tt.host + ".example.test"
				if kind == "intercepted" {
					r.route(host)
				}
				if tt.code == "" {
					r.reachedAt(host, kind == "tunnel", tt.want)
					return
				}
				resp, err := r.raw("CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + "\r\n" + r.authHeader() + "\r\n")
				if kind == "intercepted" {
					resp, err = r.client(false).Get("https://" + host)
				}
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(body), tt.want) || !strings.Contains(string(body), tt.hint) {
					t.Errorf("got %s, %v, want words about %q and %q", body, err, tt.want, tt.hint)
				}
				resp.Body = io.NopCloser(bytes.NewReader(body))
				checkRefusal(t, r, resp, tt.code, tt.status)
				if e := r.event("refuse"); e.Host != host {
					t.Errorf("the audit log names %q, want %q", e.Host, host)
				}
			})
		}
	}
}

// reachedAt checks the address at which a host answers. A tunnelled host shows
// its own certificate.
func (r *rig) reachedAt(host string, tunnelled bool, want string) {
	r.t.Helper()
	addrs, err := net.DefaultResolver.LookupIPAddr(r.t.Context(), host)
	if first := addressesOf(host)[0]; err != nil || len(addrs) != 2 || addrs[0].String() != first {
		r.t.Fatalf("the resolver gives %v, %v: want %s first", addrs, err, first)
	}
	client := r.client(false)
	if tunnelled {
		client.Transport.(*http.Transport).TLSClientConfig.RootCAs = r.roots
	}
	resp, err := client.Get("https://" + host)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Address"); resp.StatusCode != http.StatusOK || got != want {
		r.t.Errorf("got %d from %q, want %q", resp.StatusCode, got, want)
	}
}
