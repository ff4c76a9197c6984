package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
	"authsome/proxy"
)

// Every way in which an origin cannot be reached has its own code, or at least
// its own words, on an intercepted connection and for a tunnel alike.
func TestUpstreamFailures(t *testing.T) {
	reset := func(c *rawConn) { c.Conn.(*net.TCPConn).SetLinger(0) }
	for _, tt := range []struct {
		name   string
		dial   func(t *testing.T, r *rig, c *proxy.Config)
		code   string
		detail string // part of it
		tls    bool   // fails after the connection was made: a tunnel succeeds
		plain  bool   // try it with http:// too
	}{
		{name: "no such name", code: "upstream_unreachable", detail: "resolved", dial: func(_ *testing.T, _ *rig, c *proxy.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: apiHost, IsNotFound: true}}
			}
		}},
		{name: "resolver times out", code: "upstream_timeout", dial: func(_ *testing.T, _ *rig, c *proxy.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: apiHost, IsTimeout: true}}
			}
		}},
		{name: "refused", code: "upstream_unreachable", detail: "refused", dial: func(_ *testing.T, _ *rig, c *proxy.Config) {
			c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, "127.0.0.1:1")
			}
		}},
		{name: "connecting takes too long", code: "upstream_timeout", dial: func(_ *testing.T, _ *rig, c *proxy.Config) {
			c.Limits.Dial = 100 * time.Millisecond
			c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}},
		{name: "another certificate's host", tls: true, code: "upstream_tls", detail: "certificate", dial: func(t *testing.T, _ *rig, c *proxy.Config) {
			serveTLS(t, c, func(*tls.ClientHelloInfo) string { return "other.example.test" }, &tls.Config{})
		}},
		{name: "a certificate of nobody's", tls: true, code: "upstream_tls", detail: "certificate", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			serveTLS(t, c, sameName, &tls.Config{})
			c.RootCAs = r.trust
		}},
		{name: "an old TLS", tls: true, code: "upstream_tls", detail: "handshake", dial: func(t *testing.T, _ *rig, c *proxy.Config) {
			serveTLS(t, c, sameName, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		}},
		{name: "an alert", tls: true, code: "upstream_tls", detail: "handshake", dial: func(t *testing.T, _ *rig, c *proxy.Config) {
			serveTLS(t, c, sameName, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12})
		}},
		{name: "no TLS at all", tls: true, code: "upstream_tls", detail: "handshake", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			newRawOrigin(t, func(c *rawConn) { io.WriteString(c, "220 ready\r\n"); io.Copy(io.Discard, c) }).use(r, c)
		}},
		{name: "an end within the handshake", tls: true, code: "upstream_tls", detail: "handshake", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			newRawOrigin(t, func(c *rawConn) { c.br.Peek(100) }).use(r, c)
		}},
		{name: "a reset within the handshake", tls: true, code: "upstream_tls", detail: "handshake", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			newRawOrigin(t, func(c *rawConn) { c.br.Peek(100); reset(c) }).use(r, c)
		}},
		{name: "silence within the handshake", tls: true, code: "upstream_timeout", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			c.Limits.Dial = 200 * time.Millisecond
			newRawOrigin(t, func(c *rawConn) { io.Copy(io.Discard, c) }).use(r, c)
		}},
		{name: "the upstream proxy is not there", plain: true, code: "upstream_unreachable", detail: "upstream proxy", dial: func(_ *testing.T, r *rig, c *proxy.Config) {
			via(c, &url.URL{Scheme: "http", Host: "127.0.0.1:1"})
		}},
		{name: "the SOCKS proxy is not there", plain: true, code: "upstream_unreachable", detail: "upstream proxy", dial: func(_ *testing.T, r *rig, c *proxy.Config) {
			via(c, &url.URL{Scheme: "socks5", Host: "127.0.0.1:1"})
		}},
		{name: "the upstream proxy wants other credentials", code: "upstream_unreachable", detail: "upstream proxy", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			p := newForwarder(t, "user:pass", nil)
			via(c, &url.URL{Scheme: "http", Host: p.addr(), User: url.UserPassword("user", "wrong")})
		}},
		{name: "the SOCKS proxy wants other credentials", plain: true, code: "upstream_unreachable", detail: "upstream proxy", dial: func(t *testing.T, r *rig, c *proxy.Config) {
			p := newForwarder(t, "user:pass", nil)
			via(c, &url.URL{Scheme: "socks5", Host: p.addr(), User: url.UserPassword("user", "wrong")})
		}},
		{name: "an upstream proxy of an unknown kind", code: "upstream_unreachable", detail: "upstream proxy", dial: func(_ *testing.T, _ *rig, c *proxy.Config) {
			via(c, &url.URL{Scheme: "gopher", Host: "127.0.0.1:1"})
		}},
	} {
		for _, kind := range []string{"h1", "h2", "tunnel", "plain"} {
			if kind == "tunnel" && tt.tls || kind == "plain" && !tt.plain {
				continue
			}
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				r := newRig(t, false, func(http.ResponseWriter, *http.Request) { t.Error("the origin was reached") },
					func(r *rig, c *proxy.Config) { tt.dial(t, r, c) })
				var resp *http.Response
				var err error
				switch kind {
				case "plain":
					resp, err = r.client(false).Get("http://plain.test/")
				case "tunnel":
					resp, err = r.raw("CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n" + r.authHeader() + "\r\n")
				default:
					resp, err = r.client(kind == "h2").Get("https://" + apiHost)
				}
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body = io.NopCloser(bytes.NewReader(body))
				if !strings.Contains(string(body), tt.detail) {
					t.Errorf("got %s, want a word about %q", body, tt.detail)
				}
				checkRefusal(t, r, resp, tt.code, map[string]int{"upstream_timeout": 504}[tt.code]+map[bool]int{true: 502}[tt.code != "upstream_timeout"])
			})
		}
	}
}

func sameName(h *tls.ClientHelloInfo) string { return h.ServerName }

// serveTLS makes c reach a TLS server that shows the certificate of name.
func serveTLS(t *testing.T, c *proxy.Config, name func(*tls.ClientHelloInfo) string, config *tls.Config) {
	t.Helper()
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), name(h))
	}
	c.RootCAs = c.RootCAs.Clone()
	c.RootCAs.AppendCertsFromPEM(authority.RootPEM())
	o := newRawOrigin(t, func(c *rawConn) { tls.Server(c, config).Handshake(); io.Copy(io.Discard, c) })
	c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, o.listen.Addr().String())
	}
}

func via(c *proxy.Config, u *url.URL) {
	c.UpstreamProxy = func(*url.URL) (*url.URL, error) { return u, nil }
}

// forwarder is an upstream proxy: HTTP CONNECT, absolute-form and SOCKS5 on one
// port, with credentials, over TLS when it has a configuration.
type forwarder struct {
	listen net.Listener
	userpw string
	to     func(target string) string // where a target really is

	mu   sync.Mutex // guards seen
	seen []string   // "CONNECT host:port", "GET http://…" or "SOCKS host:port"
}

func newForwarder(t *testing.T, userpw string, config *tls.Config) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{listen: l, userpw: userpw, to: func(s string) string { return s }}
	if config != nil {
		f.listen = tls.NewListener(l, config)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := f.listen.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *forwarder) addr() string { return f.listen.Addr().String() }

func (f *forwarder) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, s)
}

func (f *forwarder) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.seen, "; ")
}

func (f *forwarder) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	first, err := br.Peek(1)
	if err != nil {
		return
	}
	if first[0] == 5 {
		f.serveSOCKS(c, br)
		return
	}
	r, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	f.note(r.Method + " " + r.RequestURI)
	if got := r.Header.Get("Proxy-Authorization"); got != "Basic "+base64.StdEncoding.EncodeToString([]byte(f.userpw)) {
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if r.Method != http.MethodConnect {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Line: %s %s\r\nContent-Length: 0\r\n\r\n", r.Method, r.RequestURI)
		return
	}
	f.join(c, br, r.RequestURI, "HTTP/1.1 200 OK\r\n\r\n")
}

// serveSOCKS speaks RFC 1928 and RFC 1929.
func (f *forwarder) serveSOCKS(c net.Conn, br *bufio.Reader) {
	read := func(n int) []byte { b := make([]byte, n); io.ReadFull(br, b); return b }
	read(int(read(2)[1]))
	c.Write([]byte{5, 2})
	user := string(read(int(read(2)[1])))
	password := string(read(int(read(1)[0])))
	if user+":"+password != f.userpw {
		c.Write([]byte{1, 1})
		return
	}
	c.Write([]byte{1, 0})
	host := ""
	switch kind := read(4)[3]; kind {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	target := net.JoinHostPort(host, fmt.Sprint(binary.BigEndian.Uint16(read(2))))
	f.note("SOCKS " + target)
	f.join(c, br, target, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
}

func (f *forwarder) join(c net.Conn, br *bufio.Reader, target, ok string) {
	up, err := net.Dial("tcp", f.to(target))
	if err != nil {
		return
	}
	defer up.Close()
	io.WriteString(c, ok)
	go func() { io.Copy(up, br); up.(*net.TCPConn).CloseWrite() }()
	io.Copy(c, up)
}

// TestChains goes through every kind of upstream proxy, with its credentials,
// intercepted, tunnelled and plain; and past it where NO_PROXY says so.
func TestChains(t *testing.T) {
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"proxy.test"}})
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), "proxy.test")
	}}
	const userpw = "chain:p%40ss:wörd"
	for _, tt := range []struct {
		scheme string
		config *tls.Config
		verb   string
	}{{"http", nil, "CONNECT"}, {"https", secure, "CONNECT"}, {"socks5", nil, "SOCKS"}, {"socks5h", nil, "SOCKS"}} {
		t.Run(tt.scheme, func(t *testing.T) {
			f := newForwarder(t, userpw, tt.config)
			r := newRig(t, true, whoami, func(r *rig, c *proxy.Config) {
				c.RootCAs.AppendCertsFromPEM(authority.RootPEM())
				user, password, _ := strings.Cut(userpw, ":")
				host := f.addr()
				if tt.config != nil {
					_, port, _ := net.SplitHostPort(f.addr())
					host = "proxy.test:" + port
				}
				c.UpstreamProxy = func(origin *url.URL) (*url.URL, error) {
					if strings.HasPrefix(origin.Host, "direct.") { // as NO_PROXY would say
						return nil, nil
					}
					return &url.URL{Scheme: tt.scheme, Host: host, User: url.UserPassword(user, password)}, nil
				}
				r.redirect(func(address string) string {
					if strings.HasPrefix(address, "proxy.test:") {
						return f.addr()
					}
					if strings.HasSuffix(address, ".test:443") {
						return r.origin.Listener.Addr().String()
					}
					return address
				})
			})
			f.to = r.to
			r.route(apiHost, "direct.example.test")
			for _, h2 := range []bool{false, true} {
				resp, err := r.client(h2).Get("https://" + apiHost)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if got := resp.Header.Get("X-Authorization"); got != injected {
					t.Errorf("client h2=%v: got %d %v", h2, resp.StatusCode, resp.Header)
				}
			}
			if got := f.requests(); got == "" || strings.Count(got, tt.verb+" "+apiHost+":443") != 1 {
				t.Errorf("the upstream proxy saw %q, want one %s of the origin by name", got, tt.verb)
			}
			if resp, err := r.client(false).Get("https://direct.example.test"); err != nil || resp.Header.Get("X-Authorization") != injected {
				t.Errorf("past the proxy: got %v, %v", resp, err)
			}
			if got := f.requests(); strings.Contains(got, "direct") {
				t.Errorf("the upstream proxy saw %q", got)
			}
			client := r.client(false)
			client.Transport.(*http.Transport).TLSClientConfig.RootCAs = r.originRoots()
			if resp, err := client.Get("https://elsewhere.test"); err != nil || resp.StatusCode != 200 {
				t.Errorf("tunnel: got %v, %v", resp, err)
			}
			if got := f.requests(); !strings.Contains(got, tt.verb+" elsewhere.test:443") {
				t.Errorf("the upstream proxy saw %q, want a tunnel too", got)
			}
			if tt.verb == "CONNECT" { // plain requests go in absolute form
				resp, err := r.client(false).Get("http://plain.test/x?y")
				if err != nil || resp.Header.Get("X-Line") != "GET http://plain.test/x?y" {
					t.Errorf("plain: got %v, %v", resp, err)
				}
			}
		})
	}
}

// An IPv6 origin is one like another.
func TestIPv6(t *testing.T) {
	r := newRig(t, false, whoami)
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatalf("this machine has no IPv6 loopback: %v", err)
	}
	defer six.Close()
	go func() {
		for {
			c, err := six.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	c, br := r.connect(six.Addr().String())
	io.WriteString(c, "six")
	b := make([]byte, 3)
	if _, err := io.ReadFull(br, b); err != nil || string(b) != "six" {
		t.Errorf("got %q, %v", b, err)
	}
	// An IPv6 host in a route, with its brackets in Host.
	r.route("https://[2001:db8::7]/")
	if resp, err := r.raw("CONNECT [2001:db8::7]:443 HTTP/1.1\r\nHost: [2001:db8::7]:443\r\n" + r.authHeader() + "\r\n"); err != nil || resp.StatusCode != 502 {
		t.Errorf("an address that our authority may not name: got %v, %v, want 502", resp, err)
	}
}
