package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// What does not begin like HTTP/2 on a connection for which it was chosen is
// closed, without a word of HTTP/1.1, and nothing of it is a request.
func TestBeginningsOfHTTP2(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, whoami, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeader = 300 * time.Millisecond })
	for name, said := range map[string]string{
		"nothing":           "",
		"half a preface":    http2.ClientPreface[:16],
		"no settings":       http2.ClientPreface,
		"HTTP/1.1":          "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n",
		"PRI in HTTP/1.1":   "PRI * HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n",
		"another end":       strings.Replace(http2.ClientPreface, "SM", "XX", 1) + "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"upgrade to h2c":    "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
		"frames alone":      "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"many zeros":        strings.Repeat("\x00", 1<<16),
		"TLS once more":     "\x16\x03\x01\x00\x05hello",
		"a preface, no end": http2.ClientPreface + "\xff\xff\xff\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, _ := r.connect(apiHost + ":443")
			c := tls.Client(raw, &tls.Config{RootCAs: r.trust, ServerName: apiHost, NextProtos: []string{"h2"}})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, said)
			if got := closes(t, c); strings.Contains(got, "HTTP/1") {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Cleanup(func() {
		if n := r.metric("authsome_requests_total"); n != 0 {
			t.Errorf("%v requests were counted", n)
		}
	})
}

// HTTP/2 without TLS is not spoken: not to the proxy, and not where TLS is to end.
func TestNoHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, whoami)
	inside, _ := r.connect(apiHost + ":443")
	for name, c := range map[string]net.Conn{"to the proxy": r.dial(), "in a tunnel": inside} {
		h := newH2Client(t, c)
		io.WriteString(c, http2.ClientPreface)
		h.fr.WriteSettings()
		h.open(true, get("/", "proxy-authorization", strings.TrimPrefix(strings.TrimSpace(r.authHeader()), "Proxy-Authorization: ")))
		got := closes(t, c)
		if got != "" && !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if n := r.metric("authsome_requests_total", "outcome=injected") + r.metric("authsome_requests_total", "outcome=passed"); n != 0 {
		t.Errorf("%v requests were forwarded", n)
	}
}
