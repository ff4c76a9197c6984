package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"

	"authsome/injector"
)

// A redirected connection is one that its client opened to an origin and that
// the kernel handed to us (nftables redirect, or TPROXY). The client knows no
// proxy, so it sends no token: that the kernel redirected the connection is what
// admits it.
//
// What the client says decides what is done, and where it was going bounds it:
//
//   - TLS whose server name is a host that credentials are routed to is
//     intercepted, and its requests go to that host, found by name, over verified
//     TLS. The address is not used: a client cannot have a credential sent to an
//     address of its choice.
//   - TLS without a server name to an address of such a host is refused: it could
//     only be meant to pass by unseen.
//   - Plaintext HTTP is forwarded to the address that the client had chosen, and
//     never gets a credential.
//   - All else is joined to the address that the client had chosen, unseen.
//
// A name that the policy allows is found by name too, since a server name proves
// nothing about an address.
//
// So the proxy connects on a client's behalf to nothing but what the client was
// connecting to itself, and to hosts that credentials or the policy name: it
// lends nobody its place in the network.

// ErrNotRedirected is why a connection that was made to the listener itself is
// closed.
var ErrNotRedirected = errors.New("the connection was not redirected")

// ServeRedirected accepts redirected connections from l, made by
// [ListenRedirected], until Shutdown, after which it returns nil.
func (p *Proxy) ServeRedirected(l net.Listener) error {
	self, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		l.Close()
		return errors.New("serve redirected connections: not a TCP listener")
	}
	return p.accept(l, func(c *conn) {
		dst, err := originalDestination(c.raw, self)
		if err != nil {
			if p.warned.first("not redirected") {
				p.log.Warn("closed a connection that was not redirected: the transparent listener is for the kernel's redirects alone",
					"client", c.raw.RemoteAddr().String(), "error", err)
			}
			p.metrics.tunnels.WithLabelValues("not_redirected").Inc()
			return
		}
		p.serveDestined(c, dst)
	})
}

// serveDestined finds out what a client on its way to dst wants from its first
// bytes.
func (p *Proxy) serveDestined(c *conn, dst netip.AddrPort) {
	defer p.metrics.open("redirected")()
	c.checked, c.allowed = true, true
	c.target = injector.Target{Host: dst.Addr().String(), Port: dst.Port()}
	c.raw.SetReadDeadline(time.Now().Add(p.limits.RequestHeader))
	c.setIdle(true)
	first, err := c.br.Peek(1)
	c.setIdle(false)
	if err != nil {
		return // nothing came in time, or the client has gone
	}
	switch sniff(first[0], func(n int) []byte { b, _ := c.br.Peek(n); return b }) {
	case protocolTLS:
		p.redirectedTLS(c, dst)
	case protocolHTTP:
		c.raw.SetReadDeadline(time.Time{})
		p.redirectedHTTP(c, dst)
	default:
		p.passOn(c, dst, refuse(CodeEgressDenied, nil))
	}
}

// redirectedTLS routes by the server name.
func (p *Proxy) redirectedTLS(c *conn, dst netip.AddrPort) {
	ahead, hello, err := readHello(takeAhead(c.raw, c.br))
	c.over(&buffered{Conn: c.raw, ahead: ahead})
	if err != nil {
		p.metrics.handshakeErrors.WithLabelValues("client", handshakeReason(err)).Inc()
		p.refuseTLS(c, refuse(CodeBadRequest, err), alertDecodeError)
		return
	}
	target, err := injector.ParseTarget(hello.serverName, dst.Port())
	if err != nil { // none, or one that cannot be a host
		p.redirectedNameless(c, dst)
		return
	}
	c.target = target
	if !p.cfg.Injector.Table().Covers(target) {
		p.passOn(c, dst, refuse(CodeEgressDenied, nil))
		return
	}
	config, err := p.cfg.Authority.TLSConfig(p.ctx, target.Host, "h2", "http/1.1")
	if err != nil {
		p.refuseTLS(c, refuse(CodeInjectionFailed, err), alertInternalError)
		return
	}
	p.intercept(c, config)
}

// redirectedNameless decides about TLS that names no host.
func (p *Proxy) redirectedNameless(c *conn, dst netip.AddrPort) {
	ctx, cancel := context.WithTimeout(p.ctx, p.limits.RequestHeader)
	defer cancel()
	if host, covered := p.addresses.covers(ctx, p, dst); covered {
		ref := refuse(CodeTargetMismatch, errors.New("no server name, at the address of "+host))
		p.refuseTLS(c, ref, alertUnrecognizedName)
		return
	}
	p.passOn(c, dst, refuse(CodeEgressDenied, nil))
}

// passOn joins the client to where it was going, if the policy lets it.
func (p *Proxy) passOn(c *conn, dst netip.AddrPort, denied *Refusal) {
	egress := p.egress.Load()
	if !egress.allows(c.target) {
		p.refuseTLS(c, denied, alertAccessDenied)
		return
	}
	to := injector.Target{Host: dst.Addr().String(), Port: dst.Port()}
	if egress.deny || egress.names(c.target) {
		to = c.target
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.limits.Dial)
	origin, err := p.dialTarget(ctx, to)
	cancel()
	if err != nil {
		p.metrics.tunnels.WithLabelValues("failed").Inc()
		p.report(c, nil, upstreamRefusal(err))
		return
	}
	defer origin.Close()
	p.metrics.tunnels.WithLabelValues("ok").Inc()
	p.tunnel(c, takeAhead(c.rwc, c.br), origin, p.limits.IdleStream)
}

// TLS alerts (RFC 8446 section 6, RFC 6066 section 3).
const (
	alertAccessDenied     = 49
	alertDecodeError      = 50
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// refuseTLS records a refusal, and tells a client that began with TLS in the
// only words that it understands yet. Others just see the end.
func (p *Proxy) refuseTLS(c *conn, ref *Refusal, alert byte) {
	p.report(c, nil, ref)
	if b, ok := c.rwc.(*buffered); ok && len(b.ahead) > 0 && b.ahead[0] == recordHandshake {
		c.raw.SetWriteDeadline(time.Now().Add(drainTime))
		c.raw.Write([]byte{recordAlert, 3, 3, 0, 2, 2, alert}) // level fatal
		c.lingeringClose()
	}
}

// redirectedHTTP forwards plaintext requests. The first one's Host is what the
// connection is for.
func (p *Proxy) redirectedHTTP(c *conn, dst netip.AddrPort) {
	var transport *http.Transport
	defer func() {
		if transport != nil {
			transport.CloseIdleConnections()
		}
	}()
	bound := false
	p.serveH1(c, func(w *h1Writer, r *http.Request) bool {
		if r.Method == http.MethodConnect {
			return p.answer(c, w, r, refuse(CodeBadRequest, errors.New("CONNECT to an origin")))
		}
		delete(r.Header, "Proxy-Authorization")
		if r.URL.IsAbs() { // RFC 9112 section 3.2.2: it wins over Host
			r.Host, r.URL.Scheme, r.URL.Host, r.URL.User = r.URL.Host, "", "", nil
		}
		if !bound {
			bound = true
			if t, err := injector.ParseTarget(r.Host, dst.Port()); err == nil && t.Port == dst.Port() {
				c.target = t
			}
			if egress := p.egress.Load(); !egress.deny && !egress.names(c.target) {
				transport = p.transportTo(dst)
				c.transport = transport
			}
		}
		return p.forwardH1(c, w, r)
	})
}

// transportTo returns a transport that goes to one address, whatever a request's
// Host says. It is for one client connection: pooled, it would hand a connection
// to an address that one client chose to requests of another.
func (p *Proxy) transportTo(dst netip.AddrPort) *http.Transport {
	t := p.newTransport()
	t.Proxy, t.MaxIdleConnsPerHost, t.TLSClientConfig = nil, 1, &tls.Config{}
	t.ForceAttemptHTTP2 = false
	to := injector.Target{Host: dst.Addr().String(), Port: dst.Port()}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dialTarget(ctx, to) }
	return t
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
