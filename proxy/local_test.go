package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"authsome/proxy"
)

func TestThisMachine(t *testing.T) {
	local := []string{"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "fe80::1%lo",
		"0.1.2.3", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::169.254.169.254", "::ffff:0:127.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
		"fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		local = append(local, netip.MustParsePrefix(a.String()).Addr().String())
	}
	for _, a := range local {
		if !proxy.ThisMachine(netip.MustParseAddr(a)) {
			t.Errorf("%s is not this machine", a)
		}
	}
	for _, a := range []string{"192.0.2.1", "10.255.255.254", "2001:db8::1", "8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "fd00:ec2::253", "1.0.0.1"} {
		if proxy.ThisMachine(netip.MustParseAddr(a)) {
			t.Errorf("%s is this machine", a)
		}
	}
}

// PITFALLS 13: where addresses are forbidden no way of writing them leads there, and what the
// policy names is reached all the same.
func TestForbiddenAddresses(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a service of the machine") }))
	defer service.Close()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "by the upstream proxy") }))
	defer upstream.Close()
	_, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	for _, test := range []struct {
		host     string
		allow    []string
		upstream bool
		want     string
	}{
		{"127.0.0.1", nil, false, "egress_denied"},
		{"localhost", nil, false, "egress_denied"},
		{"LOCALHOST.", nil, false, "egress_denied"},
		{"x.localhost", nil, false, "egress_denied"},
		{"[::1]", nil, false, "egress_denied"},
		{"[::ffff:127.0.0.1]", nil, false, "egress_denied"},
		{"0.0.0.0", nil, false, "egress_denied"},
		{"[::]", nil, false, "egress_denied"},
		{"[64:ff9b::7f00:1]", nil, false, "egress_denied"},
		{"[64:ff9b::7f00:1]", nil, true, "egress_denied"},
		{"127.0.0.1", nil, true, "egress_denied"},
		{"localhost", nil, true, "egress_denied"},
		{"127.0.0.1", []string{"127.0.0.1:1"}, false, "egress_denied"},
		{"127.0.0.1", []string{"127.0.0.1"}, false, "a service of the machine"},
		{"127.0.0.1", []string{"127.0.0.1:" + port}, false, "a service of the machine"},
		{"localhost", []string{"localhost:" + port}, false, "a service of the machine"},
		{"elsewhere.test", nil, true, "by the upstream proxy"},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			egress, err := proxy.NewEgress(false, test.allow)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, false, whoami, func(_ *rig, cfg *proxy.Config) {
				cfg.Forbid, cfg.Egress, cfg.Dial = proxy.ThisMachine, egress, nil
				if test.upstream {
					u, err := url.Parse(upstream.URL)
					if err != nil {
						t.Fatal(err)
					}
					cfg.UpstreamProxy = func(*url.URL) (*url.URL, error) { return u, nil }
				}
			})
			c := r.dial()
			fmt.Fprintf(c, "GET http://%s:%s/ HTTP/1.1\r\nHost: %[1]s:%[2]s\r\n%s\r\n", test.host, port, r.authHeader())
			if got := answered(t, c); !strings.Contains(got, test.want) {
				t.Errorf("http://: got %s, want %s", got, test.want)
			}
			if test.upstream && test.want != "egress_denied" {
				return // it is no proxy for tunnels
			}
			tunnel := r.dial()
			fmt.Fprintf(tunnel, "CONNECT %s:%s HTTP/1.1\r\nHost: %[1]s:%[2]s\r\n%s\r\n", test.host, port, r.authHeader())
			br := bufio.NewReader(tunnel)
			resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
			if err != nil {
				t.Fatal(err)
			}
			got := resp.Header.Get("Authsome-Error")
			if resp.StatusCode == http.StatusOK {
				fmt.Fprintf(tunnel, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				got = answered(t, tunnel)
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("CONNECT: got %s, want %s", got, test.want)
			}
		})
	}
}

// answered reads an answer with its body.
func answered(t *testing.T, c net.Conn) string {
	t.Helper()
	resp, err := readResponse(c)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Get("Authsome-Error") + " " + string(b)
}

// Where every address is local the address of a connection is where its client
// was going. What no credential is for goes nowhere near the machine itself.
func TestServeAnyIP(t *testing.T) {
	r := newRig(t, true, whoami, func(r *rig, cfg *proxy.Config) {
		cfg.Forbid = proxy.ThisMachine
		r.redirect(func(string) string { return r.origin.Listener.Addr().String() })
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r.route("https://" + apiHost + ":" + port)
	go r.proxy.ServeAnyIP(l) // until the rig shuts the proxy down
	handshake := func(name string) (*tls.Conn, error) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		tc := tls.Client(c, &tls.Config{RootCAs: r.trust, ServerName: name})
		return tc, tc.Handshake()
	}
	c, err := handshake(apiHost)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s:%s\r\n\r\n", apiHost, port)
	resp, err := readResponse(c)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v, want the origin's answer", resp, err)
	}
	if _, err := handshake("www.elsewhere.test"); err == nil {
		t.Error("a connection to the machine's own address is served")
	}
	if got := r.event("refuse"); got.Code != "egress_denied" {
		t.Errorf("audit: got %+v, want egress_denied", got)
	}
}

// Names are looked up for clients only if they could connect to them.
func TestAdmits(t *testing.T) {
	for _, test := range []struct {
		deny             bool
		host             string
		admitted, byName bool
	}{
		{false, apiHost, true, true},
		{false, "www.elsewhere.test", true, false},
		{false, "not a host", false, false},
		{true, apiHost, true, true},
		{true, "any.api.example.test", false, false},
		{true, "www.elsewhere.test", false, false},
		{true, "www.allowed.test", true, true},
		{true, "one.port.test", true, true},
		{true, "other.port.test", false, false},
	} {
		egress, err := proxy.NewEgress(test.deny, []string{"*.allowed.test", "one.port.test:443", "other.port.test:22"})
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, false, whoami, func(_ *rig, cfg *proxy.Config) { cfg.Egress = egress })
		if admitted, byName := r.proxy.Admits(test.host, []uint16{80, 443}); admitted != test.admitted || byName != test.byName {
			t.Errorf("deny %t, %s: got %t, %t, want %t, %t", test.deny, test.host, admitted, byName, test.admitted, test.byName)
		}
	}
}
