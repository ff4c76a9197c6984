package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/net/http2"
)

// ParseServerName reads the server name off the beginning of a TLS stream. short
// says that more bytes are needed.
func ParseServerName(stream []byte) (name string, short bool, err error) {
	hello, err := parseHello(stream)
	var more shortError
	return hello.serverName, errors.As(err, &more), err
}

// ReadServerName reads a ClientHello from a connection, with what was read.
func ReadServerName(c net.Conn) (read []byte, name string, err error) {
	read, hello, err := readHello(c)
	return read, hello.serverName, err
}

// ServeAsRedirected serves one connection as if the kernel had redirected it on
// its way to dst.
func (p *Proxy) ServeAsRedirected(nc net.Conn, dst netip.AddrPort) {
	p.admit(nc, func(c *conn) { p.serveDestined(c, dst) })
}

// Sniff says what a stream's first bytes are taken for, and how many of them
// were looked at.
func Sniff(stream []byte) (spoken string, looked int) {
	got := sniff(stream[0], func(n int) []byte {
		looked = max(looked, n)
		return stream[:min(n, len(stream))]
	})
	return map[protocol]string{protocolTLS: "tls", protocolHTTP: "http", protocolOther: "other"}[got], looked
}

// PlainTarget and RequestTarget parse a request's target, the short way, which
// does not take all of them, and the long one.
func PlainTarget(target string) (u url.URL, ok bool) {
	ok = plainTarget(target, &u)
	return u, ok
}

func RequestTarget(target string) (*url.URL, error) { return requestTarget("GET", target) }

// WriteWithResets writes p in pieces, with the codes of noted streams put in.
func WriteWithResets(w io.Writer, p []byte, size int, noted map[uint32]http2.ErrCode) error {
	r := &resetConn{Conn: writeOnly{w: w}}
	for id, code := range noted {
		r.note(id, code)
	}
	for len(p) > 0 {
		n := min(size, len(p))
		if _, err := r.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

type writeOnly struct {
	net.Conn
	w io.Writer
}

func (c writeOnly) Write(p []byte) (int, error) { return c.w.Write(p) }

// StreamsAllowed is how many streams a connection to an origin takes, once it has
// said all this, which is read in pieces.
func StreamsAllowed(said []byte, size int) int {
	c := &h2Conn{host: &originHost{}, limit: 1}
	s := &settingsConn{Conn: readOnly{r: bytes.NewReader(said)}, of: c}
	for p := make([]byte, size); ; {
		if _, err := s.Read(p); err != nil {
			return c.limit
		}
	}
}

type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(p []byte) (int, error) { return c.r.Read(p) }

// NeverSent is what an error of net/http's HTTP/2 client is taken for.
func NeverSent(err error) bool { return neverSent(err) }

// PoolCounts are what the HTTP/2 pools of all hosts count: streams in use, those
// who wait, and whether somebody connects.
func (p *Proxy) PoolCounts() (streams, waiting int, dialing bool) {
	p.origins.mu.RLock()
	defer p.origins.mu.RUnlock()
	for _, h := range p.origins.hosts {
		h.mu.Lock()
		for _, c := range h.h2.conns {
			streams += c.streams
		}
		waiting += len(h.h2.waiting)
		dialing = dialing || h.h2.dialing
		h.mu.Unlock()
	}
	return streams, waiting, dialing
}

// SpendRefusalLines uses up the audit lines of refusals, for longer than a test
// takes.
func (p *Proxy) SpendRefusalLines() {
	p.clients.mu.Lock()
	defer p.clients.mu.Unlock()
	p.clients.spent, p.clients.at = p.clients.burst+1e6, time.Now()
}

// KeptBytes is what bodies take that are kept to be signed, and MaxKeptBytes what
// all may.
func (p *Proxy) KeptBytes() int64 { return p.kept.Load() }

// KeepBytes takes as much as n bytes of bodies.
func (p *Proxy) KeepBytes(n int64) { p.kept.Add(n) }

const MaxKeptBytes = allKeptBytes
