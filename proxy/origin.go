package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"authsome/injector"
)

// origins are the pooled connections to TLS origins. HTTP/1.1 is spoken here,
// in the goroutine of the request: net/http's transport would hand every
// request and every answer between three goroutines. Origins that choose
// HTTP/2 are left to net/http.
type origins struct {
	p     *Proxy
	h2    *http.Transport
	mu    sync.RWMutex // guards hosts
	hosts map[injector.Target]*originHost
}

// originHost is one host and port.
type originHost struct {
	target injector.Target
	config *tls.Config
	h2     atomic.Bool // the origin was last seen to choose HTTP/2
	plain  atomic.Bool // the origin takes no extended CONNECT

	mu      sync.Mutex // guards all below
	idle    []*originConn
	handoff []handed  // HTTP/2 connections on their way to net/http
	used    time.Time // when a connection was last asked for or given back
	dropped bool      // no longer in origins: nobody would find what is put here
}

// handed is a connection that net/http is to have. Of many that are made at once
// it wants a few.
type handed struct {
	net.Conn
	since time.Time
}

// handoffFor is how long such a connection is taken for open: nobody watches it.
const handoffFor = 5 * time.Second

// idlePerHost bounds the idle connections to one host.
const idlePerHost = 512

func newOrigins(p *Proxy) *origins {
	o := &origins{p: p, hosts: make(map[injector.Target]*originHost)}
	o.h2 = p.newTransport()
	o.h2.Proxy = nil // dialTarget goes through the upstream proxy
	o.h2.DialTLSContext = o.dialForH2
	go o.sweep(p.ctx)
	return o
}

func (o *origins) host(t injector.Target) *originHost {
	o.mu.RLock()
	h := o.hosts[t]
	o.mu.RUnlock()
	if h != nil {
		return h
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if h = o.hosts[t]; h == nil {
		h = &originHost{target: t, config: o.p.tlsConfig(t.Host), used: time.Now()}
		h.config.NextProtos = []string{"h2", "http/1.1"}
		o.hosts[t] = h
	}
	return h
}

// roundTrip sends out to its target. The answer's body must be closed.
func (o *origins) roundTrip(ctx context.Context, x *exchange, out *http.Request) (*http.Response, error) {
	h := o.host(x.target)
	if x.extended != nil && !h.plain.Load() {
		resp, err := h.extended(ctx, x, out)
		if !errors.Is(err, errNoExtended) {
			return resp, err
		}
		h.plain.Store(true)
	}
	if x.extended != nil {
		out = asUpgrade(out)
	}
	// An upgrade needs HTTP/1.1 (RFC 9113 section 8.6).
	upgrade := x.protocol == "websocket" || x.protocol == "upgrade"
	for {
		if h.h2.Load() && !upgrade {
			h.touch()
			return x.overTransport(ctx, o.h2, out)
		}
		c := h.take(x.sent)
		if c == nil {
			var err error
			if c, err = h.connect(ctx, x, upgrade); err != nil {
				return nil, err
			}
			if c == nil { // the origin chose HTTP/2
				continue
			}
		}
		resp, again, err := c.exchange(x, out)
		if again {
			continue
		}
		return resp, err
	}
}

// touch keeps the host from being forgotten.
func (h *originHost) touch() {
	h.mu.Lock()
	h.used = time.Now()
	h.mu.Unlock()
}

// dialForH2 gives net/http the connection that chose HTTP/2, or a new one.
func (o *origins) dialForH2(ctx context.Context, _, address string) (net.Conn, error) {
	t, err := injector.ParseTarget(address, 443)
	if err != nil {
		return nil, err
	}
	h := o.host(t)
	h.mu.Lock()
	if n := len(h.handoff); n > 0 && time.Since(h.handoff[n-1].since) < handoffFor { // the newest is last
		c := h.handoff[n-1].Conn
		h.handoff = h.handoff[:n-1]
		h.mu.Unlock()
		return c, nil
	}
	h.mu.Unlock()
	return h.dial(ctx, o.p, h.config)
}

// take returns an idle connection that is still open, or nil.
func (h *originHost) take(now time.Time) *originConn {
	for {
		h.mu.Lock()
		h.used = now
		n := len(h.idle)
		if n == 0 {
			h.mu.Unlock()
			return nil
		}
		c := h.idle[n-1]
		h.idle[n-1] = nil
		h.idle = h.idle[:n-1]
		h.mu.Unlock()
		if c.quiet(now) {
			c.reused = true
			c.takeBuffers()
			return c
		}
		c.close()
	}
}

// connect returns a new connection, nil when the origin chose HTTP/2.
func (h *originHost) connect(ctx context.Context, x *exchange, h1Only bool) (*originConn, error) {
	config := h.config
	if h1Only {
		config = config.Clone()
		config.NextProtos = []string{"http/1.1"}
	}
	ctx, end := x.cancel.context(ctx)
	tc, err := h.dial(ctx, x.p, config)
	if !end() && err == nil {
		tc.Close()
		err = context.Canceled
	}
	if err != nil {
		return nil, err
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		h.mu.Lock()
		if h.dropped {
			tc.Close()
		} else {
			h.handoff = append(h.handoff, handed{tc, time.Now()})
		}
		h.mu.Unlock()
		h.h2.Store(true)
		return nil, nil
	}
	c := &originConn{host: h, p: x.p, nc: tc}
	c.takeBuffers()
	return c, nil
}

// dial connects and verifies the origin.
func (h *originHost) dial(ctx context.Context, p *Proxy, config *tls.Config) (*tls.Conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, p.limits.Dial)
	defer cancel()
	nc, err := p.dialTarget(dialCtx, h.target)
	if err != nil {
		return nil, err
	}
	tc := tls.Client(&bulkConn{Conn: nc}, config)
	shakeCtx, cancel := context.WithTimeout(ctx, p.limits.Dial)
	defer cancel()
	if err := tc.HandshakeContext(shakeCtx); err != nil {
		nc.Close()
		if ctx.Err() == nil { // else the client has gone: no fault of the origin's
			p.metrics.handshakeErrors.WithLabelValues("origin", originReason(err)).Inc()
		}
		return nil, &originTLSError{err}
	}
	return tc, nil
}

// originTLSError marks a failure after the connection was made.
type originTLSError struct{ err error }

func (e *originTLSError) Error() string { return "TLS with origin: " + e.err.Error() }
func (e *originTLSError) Unwrap() error { return e.err }

func originReason(err error) string {
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		return "untrusted"
	}
	return handshakeReason(err)
}

// put keeps a connection for the next request, unless its origin has sent more
// than it was asked for.
func (h *originHost) put(c *originConn) {
	if c.surplus() {
		c.close()
		return
	}
	c.lendBuffers()
	h.keep(c)
}

// keep is the rest of put. A host that was forgotten while its request took long
// is one anew.
func (h *originHost) keep(c *originConn) {
	c.since = time.Now()
	h.mu.Lock()
	h.used = c.since
	if len(h.idle) < idlePerHost && !h.dropped {
		h.idle = append(h.idle, c)
		c = nil
	}
	dropped := h.dropped
	h.mu.Unlock()
	switch {
	case c == nil:
	case dropped && c.p.ctx.Err() == nil:
		c.host = c.p.origins.host(h.target)
		c.host.keep(c)
	default:
		c.close()
	}
}

// sweep closes connections that have been idle for too long, and forgets hosts
// that nobody has used for as long: clients can name any number of hosts.
func (o *origins) sweep(ctx context.Context) {
	tick := time.NewTicker(o.p.limits.IdleUpstream / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			o.closeIdle(0)
			return
		case <-tick.C:
			o.closeIdle(o.p.limits.IdleUpstream)
		}
	}
}

func (o *origins) closeIdle(age time.Duration) {
	limit := time.Now().Add(-age)
	var old []*originConn
	var unclaimed []handed
	o.mu.Lock()
	for t, h := range o.hosts {
		h.mu.Lock()
		n := 0 // idle is a stack: the oldest are at the bottom
		for n < len(h.idle) && !h.idle[n].since.After(limit) {
			n++
		}
		old = append(old, h.idle[:n]...)
		h.idle = append([]*originConn(nil), h.idle[n:]...)
		n = 0
		for n < len(h.handoff) && !h.handoff[n].since.After(limit) {
			n++
		}
		if !h.used.After(limit) {
			h.dropped, n = true, len(h.handoff)
			delete(o.hosts, t)
		}
		unclaimed = append(unclaimed, h.handoff[:n]...)
		h.handoff = append([]handed(nil), h.handoff[n:]...)
		h.mu.Unlock()
	}
	o.mu.Unlock()
	for _, c := range old {
		c.close()
	}
	for _, c := range unclaimed {
		c.Close()
	}
	if age == 0 {
		o.h2.CloseIdleConnections()
	}
}
