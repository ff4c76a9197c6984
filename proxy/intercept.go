package proxy

import (
	"context"
	"crypto/tls"
	"net/http"
	"time"
)

// intercept ends the client's TLS and serves the requests inside it.
func (p *Proxy) intercept(c *conn, config *tls.Config) {
	defer p.metrics.open("intercept")()
	carrier := &carrier{bulkConn: bulkConn{Conn: takeAhead(c.rwc, c.br)}, c: c, closed: make(chan struct{}),
		patience: max(p.limits.IdleStream, p.limits.IdleUpgrade)}
	inner := tls.Server(carrier, config)
	ctx, cancel := context.WithTimeout(c.ctx, p.limits.RequestHeader)
	c.raw.SetDeadline(time.Now().Add(p.limits.RequestHeader))
	err := inner.HandshakeContext(ctx)
	cancel()
	if err != nil {
		if c.ctx.Err() == nil { // else it was cut by Shutdown
			p.handshakeFailed(c, err)
		}
		return
	}
	c.over(inner)
	c.wire = &carrier.bulkConn
	c.calm()
	c.secure = true
	if inner.ConnectionState().NegotiatedProtocol == "h2" {
		carrier.patience = p.limits.IdleStream // its streams, upgraded or not, have windows to wait for
		p.h2.serve(c, inner)
		return
	}
	p.serveH1(c, func(w *h1Writer, r *http.Request) bool { return p.serveInside(c, w, r) })
	if !c.gone {
		c.rwc.SetWriteDeadline(time.Now().Add(drainTime))
		inner.Close() // sends close_notify
	}
}

// handshakeFailed counts a client that would not talk to us, and says why in
// words that name the usual cause: a client that does not trust our root.
func (p *Proxy) handshakeFailed(c *conn, err error) {
	reason := handshakeReason(err)
	p.metrics.handshakeErrors.WithLabelValues("client", reason).Inc()
	if reason == "server_name" {
		p.report(c, nil, refuse(CodeTargetMismatch, err))
		return
	}
	p.log.Info("client TLS handshake failed", "host", c.target.Host, "reason", reason, "error", err)
}

// serveInside serves a request whose connection is bound to c.target.
func (p *Proxy) serveInside(c *conn, w *h1Writer, r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return p.answer(c, w, r, refuse(CodeBadRequest, nil))
	}
	// A client that takes us for the origin may still send what is meant for a
	// proxy; the origin must not see our token.
	delete(r.Header, "Proxy-Authorization")
	return p.forwardH1(c, w, r)
}
