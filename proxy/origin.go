package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"authsome/injector"
)

// origins are the pooled connections to TLS origins. HTTP/1.1 is spoken here,
// in the goroutine of the request: net/http's transport would hand every
// request and every answer between three goroutines. Connections to origins that
// choose HTTP/2 are spoken on by net/http, and pooled in originh2.go.
type origins struct {
	p     *Proxy
	h2    [2]*http.Transport // makes HTTP/2 connections, wide and narrow ones, and keeps none
	grpc  [2]*http.Transport // makes those that a gRPC call comes first on
	mu    sync.RWMutex       // guards hosts
	hosts map[injector.Target]*originHost
}

// originHost is one host and port.
type originHost struct {
	target injector.Target
	config *tls.Config
	spoken atomic.Int32 // what the origin was last seen to choose, as below
	plain  atomic.Bool  // the origin takes no extended CONNECT

	mu      sync.Mutex // guards all below
	idle    []*originConn
	h2      h2Pool
	used    time.Time // when a connection was last asked for or given back
	dropped bool      // no longer in origins: nobody would find what is put here
}

const (
	spokenUnknown = iota
	spokenH1
	spokenH2
)

// idlePerHost bounds the idle connections to one host.
const idlePerHost = 512

func newOrigins(p *Proxy) *origins {
	o := &origins{p: p, hosts: make(map[injector.Target]*originHost)}
	for i, less := range [2]int{1, narrowing} {
		o.h2[i], o.grpc[i] = speakH2(p.newTransport()), speakH2(p.newTransport())
		o.grpc[i].HTTP2.SendPingTimeout = p.limits.PingGRPC
		for _, t := range [2]*http.Transport{o.h2[i], o.grpc[i]} {
			t.HTTP2.MaxReceiveBufferPerStream /= less
			t.HTTP2.MaxReceiveBufferPerConnection /= less
		}
	}
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
	a := attempts{h1Only: x.protocol == "websocket" || x.protocol == "upgrade"}
	for {
		h1, h2, err := h.find(ctx, x, &a)
		var resp *http.Response
		var again bool
		switch {
		case err != nil:
			return nil, err
		case h2 != nil:
			resp, again, err = h2.exchange(ctx, x, out, &a)
		case h1 != nil:
			resp, again, err = h1.exchange(x, out)
		default:
			continue
		}
		if !again {
			return resp, err
		}
	}
}

// find returns a connection for one exchange, or neither when it is worth
// looking again.
func (h *originHost) find(ctx context.Context, x *exchange, a *attempts) (*originConn, *h2Conn, error) {
	if a.h1Only || h.spoken.Load() == spokenH1 {
		if c := h.take(x.sent); c != nil {
			return c, nil, nil
		}
		return h.connect(ctx, x, a.h1Only)
	}
	if c := h.pick(x.sent, a.not); c != nil {
		return nil, c, nil
	}
	return h.join(ctx, x, a)
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
		if idle := age(now, c.since); idle < c.p.limits.IdleUpstream && c.quiet(now) {
			c.reused = true
			c.doubt(idle)
			c.takeBuffers()
			return c
		}
		c.close()
	}
}

// connect returns a new connection, of the kind that the origin chose.
func (h *originHost) connect(ctx context.Context, x *exchange, h1Only bool) (*originConn, *h2Conn, error) {
	config := h.config
	if h1Only {
		config = config.Clone()
		config.NextProtos = []string{"http/1.1"}
	}
	ctx, end := x.cancel.context(ctx)
	tc, err := h.dial(ctx, x.p, config)
	if gone := ctx.Err() != nil; !end() || gone {
		if err == nil {
			tc.Close()
		}
		err = context.Canceled
	}
	if err != nil {
		return nil, nil, err
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		c, err := x.p.origins.newH2Conn(h, tc, isGRPC(x.r.Header))
		return nil, c, err
	}
	if !h1Only {
		h.spoken.Store(spokenH1)
	}
	c := &originConn{host: h, p: x.p, nc: tc}
	c.takeBuffers()
	return c, nil, nil
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

func (o *origins) closeIdle(limit time.Duration) {
	now := time.Now()
	var old []interface{ close() }
	o.mu.Lock()
	for t, h := range o.hosts {
		h.mu.Lock()
		n := 0 // idle is a stack: the oldest are at the bottom
		for n < len(h.idle) && age(now, h.idle[n].since) >= limit {
			old = append(old, h.idle[n])
			n++
		}
		h.idle = append([]*originConn(nil), h.idle[n:]...)
		if limit == 0 {
			for _, c := range h.h2.conns {
				old = append(old, c)
			}
			h.h2.conns = nil
		}
		if h.h2.deserted() && age(now, h.used) >= limit {
			h.dropped = true
			delete(o.hosts, t)
		}
		h.mu.Unlock()
	}
	o.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}
