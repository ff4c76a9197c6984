package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/proxy"
)

// addresses of the documentation range stand for origins.
var (
	apiAddr   = netip.MustParseAddrPort("192.0.2.10:443")
	otherAddr = netip.MustParseAddrPort("192.0.2.20:443")
	plainAddr = netip.MustParseAddrPort("192.0.2.30:80")
)

// dialled records where the proxy connects to, and where that leads.
type dialled struct {
	mu sync.Mutex // guards to
	to []string
}

func (d *dialled) note(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = append(d.to, address)
}

func (d *dialled) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.to, " ")
}

// redirectedRig is a rig whose dials are recorded, and all lead to the origin
// unless elsewhere names another place.
func redirectedRig(t *testing.T, elsewhere map[string]string, options ...option) (*rig, *dialled) {
	t.Helper()
	d := &dialled{}
	options = append(options, func(r *rig, cfg *proxy.Config) {
		if cfg.Resolve == nil {
			cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host == apiHost {
					return []netip.Addr{apiAddr.Addr()}, nil
				}
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		}
		r.redirect(func(address string) string {
			d.note(address)
			if to := elsewhere[address]; to != "" {
				return to
			}
			return r.origin.Listener.Addr().String()
		})
	})
	r := newRig(t, true, func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%s %s", req.Host, strings.ReplaceAll(req.Header.Get("Authorization"), canary, "the-credential"))
	}, options...)
	return r, d
}

// redirected is a client's connection to dst that the kernel redirects.
func (r *rig) redirected(dst netip.AddrPort) net.Conn {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	ours, err := l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	r.proxy.ServeAsRedirected(ours, dst)
	return c
}

// fetch gets https://host/ over a connection that was redirected on its way to
// dst. It trusts the proxy's authority and the origin's.
func (r *rig) fetch(dst netip.AddrPort, host string, h2 bool) (string, *http.Response, error) {
	r.t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.trust}, ForceAttemptHTTP2: h2,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return r.redirected(dst), nil }}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("https://" + host + "/")
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), resp, err
}

func TestRedirectedIsInjected(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r, d := redirectedRig(t, nil)
		// The address is the client's choice, and is not used.
		got, resp, err := r.fetch(netip.MustParseAddrPort("203.0.113.66:443"), apiHost, h2)
		if err != nil {
			t.Fatal(err)
		}
		if want := apiHost + " Bearer the-credential"; got != want || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("h2=%v: got %q over %s, want %q", h2, got, resp.Proto, want)
		}
		if got, want := d.String(), apiHost+":443"; got != want {
			t.Errorf("dialled %s, want %s", got, want)
		}
		if e := r.event("inject"); e.Host != apiHost || e.Port != 443 || e.Outcome != "ok" {
			t.Errorf("audit: got %+v", e)
		}
	}
}

func TestRedirectedElsewhereIsTunnelled(t *testing.T) {
	r, d := redirectedRig(t, nil)
	c := tls.Client(r.redirected(otherAddr), &tls.Config{RootCAs: r.roots, ServerName: "www.elsewhere.test"})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.elsewhere.test\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "www.elsewhere.test " {
		t.Errorf("got %q, want the origin's answer to a request without a credential", body)
	}
	if got, want := d.String(), otherAddr.String(); got != want {
		t.Errorf("dialled %s, want the address that the client had chosen, %s", got, want)
	}
}

// alertOf handshakes and returns the alert that ends it.
func alertOf(c net.Conn, name string) error {
	err := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	var alert tls.AlertError
	if errors.As(err, &alert) {
		return alert
	}
	if op := new(net.OpError); errors.As(err, &op) { // how crypto/tls words a remote alert
		return op.Err
	}
	return err
}

func TestRedirectedWithoutServerName(t *testing.T) {
	r, d := redirectedRig(t, nil)
	if got := alertOf(r.redirected(apiAddr), ""); got == nil || !strings.Contains(got.Error(), "unrecognized name") {
		t.Errorf("to an address of a covered host: got %v, want the alert unrecognized_name", got)
	}
	if e := r.event("refuse"); e.Code != string(proxy.CodeTargetMismatch) || e.Host != apiAddr.Addr().String() || e.Port != 443 {
		t.Errorf("audit: got %+v", e)
	}
	if got := d.String(); got != "" {
		t.Errorf("dialled %s, want nothing", got)
	}
	if n := r.metric("authsome_refusals_total", "code="+string(proxy.CodeTargetMismatch)); n != 1 {
		t.Errorf("refusals: got %v, want 1", n)
	}
	c := tls.Client(r.redirected(otherAddr), &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil || d.String() != otherAddr.String() {
		t.Errorf("to another address: got %v and dials to %q, want a tunnel to %s", err, d, otherAddr)
	}
}

// What cannot be found out is not let pass.
func TestRedirectedWithoutServerNameOrResolver(t *testing.T) {
	failing := func(_ *rig, cfg *proxy.Config) {
		cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
		}
	}
	r, d := redirectedRig(t, nil, failing)
	if got := alertOf(r.redirected(otherAddr), ""); got == nil || d.String() != "" {
		t.Errorf("got %v and dials to %q, want a refusal", got, d)
	}
}

func TestRedirectedEgressDenied(t *testing.T) {
	deny, err := proxy.NewEgress(true, []string{"www.elsewhere.test"})
	if err != nil {
		t.Fatal(err)
	}
	r, d := redirectedRig(t, nil, func(_ *rig, cfg *proxy.Config) { cfg.Egress = deny })
	if got := alertOf(r.redirected(otherAddr), "evil.test"); got == nil || !strings.Contains(got.Error(), "access denied") {
		t.Errorf("a host that is not allowed: got %v, want the alert access_denied", got)
	}
	if e := r.event("refuse"); e.Code != string(proxy.CodeEgressDenied) || e.Host != "evil.test" {
		t.Errorf("audit: got %+v", e)
	}
	for what, send := range map[string]string{"no server name": "", "not TLS": "SSH-2.0-x\r\n", "plaintext": "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n"} {
		c := r.redirected(otherAddr)
		if send == "" {
			alertOf(c, "")
		} else {
			io.WriteString(c, send)
			b, _ := io.ReadAll(c)
			if s := string(b); s != "" && !strings.Contains(s, "egress_denied") {
				t.Errorf("%s: got %q, want a refusal", what, s)
			}
		}
		if got := d.String(); got != "" {
			t.Fatalf("%s: dialled %s, want nothing", what, got)
		}
	}
	// The name is what is allowed, and not whatever address the client puts
	// behind it.
	c := tls.Client(r.redirected(netip.MustParseAddrPort("203.0.113.66:443")), &tls.Config{RootCAs: r.roots, ServerName: "www.elsewhere.test"})
	if err := c.Handshake(); err != nil {
		t.Errorf("a host that is allowed: %v", err)
	}
	if got, want := d.String(), "www.elsewhere.test:443"; got != want {
		t.Errorf("dialled %s, want %s", got, want)
	}
	if got, _, err := r.fetch(apiAddr, apiHost, true); err != nil || got != apiHost+" Bearer the-credential" {
		t.Errorf("a covered host: got %q, %v, want it injected", got, err)
	}
}

// plainOrigin answers with its name, the Host that it was asked for, and what
// the proxy must not send.
func plainOrigin(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s%s%s", name, r.Host, r.Header.Get("Authorization"), r.Header.Get("Authsome-Connection"), r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestRedirectedPlaintext(t *testing.T) {
	r, d := redirectedRig(t, map[string]string{plainAddr.String(): plainOrigin(t, "one"), "192.0.2.31:80": plainOrigin(t, "two")})
	ask := func(c net.Conn, br *bufio.Reader, head string) (int, string) {
		t.Helper()
		io.WriteString(c, head+"\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	c := r.redirected(plainAddr)
	br := bufio.NewReader(c)
	for _, q := range []struct {
		head   string
		status int
		body   string
	}{
		{"GET / HTTP/1.1\r\nHost: " + apiHost + "\r\nAuthsome-Connection: work\r\nProxy-Authorization: Basic eA==", 200, "one " + apiHost + " "},
		{"GET http://" + apiHost + "/ HTTP/1.1\r\nHost: ignored.test", 200, "one " + apiHost + " "},
		{"GET / HTTP/1.1\r\nHost: " + strings.ToUpper(apiHost) + ":80", 200, "one "},
		{"GET / HTTP/1.1\r\nHost: other.test", 421, "target_mismatch"},
	} {
		if status, body := ask(c, br, q.head); status != q.status || !strings.Contains(body, q.body) {
			t.Errorf("%q: got %d %q, want %d %q", q.head, status, body, q.status, q.body)
		}
	}
	if got, want := d.String(), plainAddr.String(); got != want {
		t.Errorf("dialled %s, want only %s, once", got, want)
	}
	// Another client's connection to another address under the same name is not
	// given the first one's.
	c = r.redirected(netip.MustParseAddrPort("192.0.2.31:80"))
	if _, body := ask(c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+apiHost); !strings.HasPrefix(body, "two ") {
		t.Errorf("another address: got %q, want the origin there", body)
	}
	c = r.redirected(plainAddr)
	if status, _ := ask(c, bufio.NewReader(c), "CONNECT "+apiHost+":443 HTTP/1.1\r\nHost: "+apiHost+":443"); status != 400 {
		t.Errorf("CONNECT to an origin: got %d, want 400", status)
	}
	c = r.redirected(plainAddr)
	if status, body := ask(c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: 192.0.2.30"); status != 200 || !strings.HasPrefix(body, "one 192.0.2.30") {
		t.Errorf("an address for a Host: got %d %q", status, body)
	}
}

func TestRedirectedOtherProtocols(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	r, _ := redirectedRig(t, map[string]string{otherAddr.String(): echo.Addr().String()})
	c := r.redirected(otherAddr)
	io.WriteString(c, "SSH-2.0-test\r\n")
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "SSH-2.0-test\r\n" {
		t.Errorf("got %q, %v, want what was sent", got, err)
	}
	c = r.redirected(otherAddr)
	c.Write([]byte{22, 3, 1, 0, 4, 2, 0, 0, 0}) // TLS, and no ClientHello
	if got, _ := io.ReadAll(c); len(got) != 7 || got[0] != 21 || got[6] != 50 {
		t.Errorf("a malformed ClientHello: got % x, want the alert decode_error", got)
	}
}

// A connection that was made to the listener itself is not served.
func TestNotRedirectedIsClosed(t *testing.T) {
	r, d := redirectedRig(t, nil)
	l, err := proxy.ListenRedirected(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go r.proxy.ServeRedirected(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := tls.Client(c, &tls.Config{ServerName: apiHost, InsecureSkipVerify: true}).Handshake(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the connection closed", err)
	}
	if got := d.String(); got != "" {
		t.Errorf("dialled %s, want nothing", got)
	}
	if !strings.Contains(r.log.String(), "not redirected") {
		t.Error("the log does not say why")
	}
}
