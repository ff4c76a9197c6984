package proxy

import (
	"context"
	"errors"
	"net/http"

	"authsome/injector"
)

var established = []byte("HTTP/1.1 200 Connection established\r\n\r\n")

// connect answers a CONNECT request. It reports whether the connection can
// carry another request to the proxy, which is so after a refusal only.
func (p *Proxy) connect(c *conn, w *h1Writer, r *http.Request) bool {
	target, err := injector.ParseTarget(r.RequestURI, 0)
	if err != nil {
		return p.answer(c, w, r, &Refusal{Code: CodeBadRequest, Hint: "name the target of CONNECT as host:port", cause: err})
	}
	if r.Body != http.NoBody {
		return p.answer(c, w, r, refuse(CodeBadRequest, errors.New("CONNECT with a body")))
	}
	c.target = target
	if p.cfg.Injector.Table().Covers(target) {
		return p.connectCovered(c, w, r)
	}
	if !p.egress.Load().allows(target) {
		return p.answer(c, w, r, refuse(CodeEgressDenied, nil))
	}
	return p.connectTunnel(c, w, r)
}

// connectTunnel joins the client to the target and looks no further.
func (p *Proxy) connectTunnel(c *conn, w *h1Writer, r *http.Request) bool {
	ctx, cancel := context.WithTimeout(c.ctx, p.limits.Dial)
	origin, err := p.dialTarget(ctx, c.target)
	cancel()
	if err != nil {
		p.metrics.tunnels.WithLabelValues("failed").Inc()
		return p.answer(c, w, r, upstreamRefusal(err))
	}
	defer origin.Close()
	c.writeBy(p.limits.RequestHeader)
	if _, err := c.rwc.Write(established); err != nil {
		return false
	}
	p.metrics.tunnels.WithLabelValues("ok").Inc()
	p.tunnel(c, takeAhead(c.rwc, c.br), origin, p.limits.IdleStream)
	return false
}

// connectCovered serves a host that credentials are routed to.
func (p *Proxy) connectCovered(c *conn, w *h1Writer, r *http.Request) bool {
	config, err := p.cfg.Authority.TLSConfig(c.ctx, c.target.Host, "h2", "http/1.1")
	if err != nil {
		ref := refuse(CodeInjectionFailed, err)
		ref.Detail = "This proxy's certificate authority was made before the host became known."
		ref.Hint = "start the run again, so that its authority covers the host"
		return p.answer(c, w, r, ref)
	}
	c.writeBy(p.limits.RequestHeader)
	if _, err := c.rwc.Write(established); err != nil {
		return false
	}
	c.readBy(p.limits.RequestHeader)
	first, err := c.br.Peek(1)
	if err != nil {
		return false // nothing came in time, or the client has gone
	}
	switch sniff(first[0], func(n int) []byte { b, _ := c.br.Peek(n); return b }) {
	case protocolTLS:
		p.intercept(c, config)
	case protocolHTTP:
		c.bound = true
		p.serveH1(c, func(w *h1Writer, r *http.Request) bool { return p.serveInside(c, w, r) })
	default:
		p.tunnelUnknown(c, r)
	}
	return false
}

// tunnelUnknown joins a client that speaks neither TLS nor HTTP to its target:
// it cannot get a credential that way, and it may have good reason.
func (p *Proxy) tunnelUnknown(c *conn, r *http.Request) {
	if !p.egress.Load().allows(c.target) {
		p.report(c, r, refuse(CodeEgressDenied, nil))
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, p.limits.Dial)
	defer cancel()
	origin, err := p.dialTarget(ctx, c.target)
	if err != nil {
		p.metrics.tunnels.WithLabelValues("failed").Inc()
		p.report(c, r, upstreamRefusal(err))
		return
	}
	defer origin.Close()
	p.metrics.tunnels.WithLabelValues("ok").Inc()
	p.tunnel(c, takeAhead(c.rwc, c.br), origin, p.limits.IdleStream)
}

// answer refuses a request on an HTTP/1 connection, which stays usable.
func (p *Proxy) answer(c *conn, w *h1Writer, r *http.Request, ref *Refusal) bool {
	p.report(c, r, ref)
	ref.write(w)
	return w.finish(nil)
}

type protocol int

const (
	protocolTLS protocol = iota
	protocolHTTP
	protocolOther
)

// methods begin a plaintext request; the HTTP/2 preface begins with PRI.
var methods = []string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "TRACE ", "CONNECT "}

// sniff tells what a client speaks from its first bytes. peek waits for n bytes
// and returns fewer when no more come in time.
func sniff(first byte, peek func(n int) []byte) protocol {
	if first == 0x16 { // TLS handshake record (RFC 8446 section 5.1)
		return protocolTLS
	}
	for _, m := range methods {
		if first == m[0] && string(peek(len(m))) == m {
			return protocolHTTP
		}
	}
	return protocolOther
}
