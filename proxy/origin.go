package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
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

	mu      sync.Mutex // guards all below
	idle    []*originConn
	handoff []net.Conn // HTTP/2 connections on their way to net/http
}

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
		h = &originHost{target: t, config: o.p.tlsConfig(t.Host)}
		h.config.NextProtos = []string{"h2", "http/1.1"}
		o.hosts[t] = h
	}
	return h
}

// roundTrip sends out to its target. The answer's body must be closed.
func (o *origins) roundTrip(ctx context.Context, x *exchange, out *http.Request) (*http.Response, error) {
	h := o.host(x.target)
	// An upgrade needs HTTP/1.1 (RFC 9113 section 8.6).
	upgrade := x.protocol == "websocket" || x.protocol == "upgrade"
	for {
		if h.h2.Load() && !upgrade {
			return x.overTransport(ctx, o.h2, out)
		}
		c := h.take()
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

// dialForH2 gives net/http the connection that chose HTTP/2, or a new one.
func (o *origins) dialForH2(ctx context.Context, _, address string) (net.Conn, error) {
	t, err := injector.ParseTarget(address, 443)
	if err != nil {
		return nil, err
	}
	h := o.host(t)
	h.mu.Lock()
	if n := len(h.handoff); n > 0 {
		c := h.handoff[n-1]
		h.handoff = h.handoff[:n-1]
		h.mu.Unlock()
		return c, nil
	}
	h.mu.Unlock()
	return h.dial(ctx, o.p, h.config)
}

// take returns an idle connection that is still open, or nil.
func (h *originHost) take() *originConn {
	for {
		h.mu.Lock()
		n := len(h.idle)
		if n == 0 {
			h.mu.Unlock()
			return nil
		}
		c := h.idle[n-1]
		h.idle[n-1] = nil
		h.idle = h.idle[:n-1]
		h.mu.Unlock()
		if c.quiet() {
			c.reused = true
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
		h.handoff = append(h.handoff, tc)
		h.mu.Unlock()
		h.h2.Store(true)
		return nil, nil
	}
	c := &originConn{host: h, p: x.p, nc: tc}
	c.br, c.bw = bufio.NewReaderSize(tc, 4<<10), bufio.NewWriterSize(tc, 4<<10)
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
	tc := tls.Client(nc, config)
	shakeCtx, cancel := context.WithTimeout(ctx, p.limits.Dial)
	defer cancel()
	if err := tc.HandshakeContext(shakeCtx); err != nil {
		nc.Close()
		p.metrics.handshakeErrors.WithLabelValues("origin", originReason(err)).Inc()
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

func (h *originHost) put(c *originConn) {
	c.since = time.Now()
	h.mu.Lock()
	if len(h.idle) < idlePerHost {
		h.idle = append(h.idle, c)
		c = nil
	}
	h.mu.Unlock()
	if c != nil {
		c.close()
	}
}

// sweep closes connections that have been idle for too long, and forgets hosts
// that have none: plain clients can name any number of hosts.
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
	o.mu.Lock()
	for t, h := range o.hosts {
		h.mu.Lock()
		n := 0 // idle is a stack: the oldest are at the bottom
		for n < len(h.idle) && !h.idle[n].since.After(limit) {
			n++
		}
		old = append(old, h.idle[:n]...)
		h.idle = append([]*originConn(nil), h.idle[n:]...)
		if len(h.idle) == 0 && !h.h2.Load() {
			delete(o.hosts, t)
		}
		h.mu.Unlock()
	}
	o.mu.Unlock()
	for _, c := range old {
		c.close()
	}
	if age == 0 {
		o.h2.CloseIdleConnections()
	}
}

// originConn is one HTTP/1.1 connection to an origin, used by one request at a
// time.
type originConn struct {
	host   *originHost
	p      *Proxy
	nc     *tls.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	reused bool
	since  time.Time // when it became idle
}

func (c *originConn) close() { c.nc.Close() }

// abort implements aborter: it makes whoever uses the connection fail.
func (c *originConn) abort() { c.nc.NetConn().Close() }

// justUsed is how recently a connection must have carried an answer to be
// trusted unlooked: an origin that ends with an answer says so in it.
const justUsed = 5 * time.Millisecond

// quiet reports whether an idle connection is still open with nothing to read:
// an origin that has closed it, or that speaks unasked, is not written to.
func (c *originConn) quiet() bool {
	return c.br.Buffered() == 0 && (time.Since(c.since) < justUsed || nothingToRead(c.nc.NetConn()))
}

// exchange sends a request and reads the head of its answer. again says that
// the connection had been closed under us and the request can be sent anew.
func (c *originConn) exchange(x *exchange, out *http.Request) (resp *http.Response, again bool, err error) {
	if !x.cancel.on(c) {
		c.host.put(c)
		return nil, false, context.Canceled
	}
	sent, err := c.send(out)
	var reusable bool
	if err == nil {
		resp, reusable, err = c.answer(x, out, sent)
	}
	if err != nil {
		alive := x.cancel.off()
		c.close()
		sent.proceed() // to find the connection closed
		if bad := sent.failed(); bad != nil {
			err = bad
		}
		if !alive {
			return nil, false, context.Canceled
		}
		again = c.reused && !sent.bodyRead() && retriable(out) && !isTimeout(err)
		return nil, again, err
	}
	body := &originBody{Reader: resp.Body, c: c, x: x, sent: sent, reusable: reusable}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		resp.Body = &upgradedBody{originBody: body}
	case resp.Body == http.NoBody:
		body.finish()
	default:
		resp.Body = body
	}
	return resp, false, nil
}

// retriable reports whether sending a request twice does no harm (RFC 9110
// section 9.2.2).
func retriable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return r.Header["Idempotency-Key"] != nil
}

// inlineBytes is the largest request body that is sent before the answer is
// looked at. A larger one is sent by a goroutine of its own, because an origin
// may answer before it has read everything.
const inlineBytes = 64 << 10

// sending is a request body on its way.
type sending struct {
	done chan struct{} // nil: it was sent inline
	err  error         // valid once done is closed
	read atomic.Bool   // bytes of the client's body have been used up
	free chan struct{} // closed when the origin has asked for the body
	once sync.Once
}

func (s *sending) bodyRead() bool { return s != nil && s.read.Load() }

// proceed lets a body that waits for "100 Continue" go.
func (s *sending) proceed() {
	if s.free != nil {
		s.once.Do(func() { close(s.free) })
	}
}

// failed returns what was wrong with the client's body, nil when nothing was
// or when it is still being sent.
func (s *sending) failed() error {
	if s == nil || s.done == nil {
		return nil
	}
	select {
	case <-s.done:
		if isBodyError(s.err) {
			return s.err
		}
	default:
	}
	return nil
}

// complete reports whether the whole body has been sent, without waiting.
func (s *sending) complete() bool {
	if s == nil || s.done == nil {
		return true
	}
	select {
	case <-s.done:
		return s.err == nil
	default:
		return false
	}
}

// send writes the request.
func (c *originConn) send(out *http.Request) (*sending, error) {
	writeHead(c.bw, out)
	s := &sending{}
	if out.Body == nil {
		return s, c.bw.Flush()
	}
	waits := len(out.Header["Expect"]) > 0
	if !waits && out.ContentLength > 0 && out.ContentLength <= inlineBytes {
		s.read.Store(true)
		if err := copyBody(c.bw, out); err != nil {
			return s, err
		}
		return s, c.bw.Flush()
	}
	if err := c.bw.Flush(); err != nil {
		return s, err
	}
	s.done = make(chan struct{})
	if waits {
		s.free = make(chan struct{})
	}
	go func() {
		if s.free != nil {
			wait := time.NewTimer(continueTimeout)
			select {
			case <-s.free:
			case <-wait.C: // an origin that does not know Expect waits for the body
			}
			wait.Stop()
		}
		s.read.Store(true)
		if s.err = copyBody(c.bw, out); s.err == nil {
			s.err = c.bw.Flush()
		}
		close(s.done)
		if s.failed() != nil {
			c.abort() // the origin waits for the rest, and we for its answer
		}
	}()
	return s, nil
}

// continueTimeout is how long a body waits for "100 Continue".
const continueTimeout = time.Second

// answer reads the head of the final response.
func (c *originConn) answer(x *exchange, out *http.Request, s *sending) (*http.Response, bool, error) {
	if limit := c.p.limits.ResponseHeader; limit > 0 {
		c.nc.SetReadDeadline(time.Now().Add(limit))
		defer c.nc.SetReadDeadline(time.Time{})
	}
	buf := headBuffers.Get().(*[]byte)
	defer headBuffers.Put(buf)
	for {
		resp, reusable, raw, err := readResponse(c.br, *buf, out)
		if cap(raw) <= 64<<10 {
			*buf = raw[:0]
		}
		if err != nil {
			return nil, false, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, reusable, nil
		}
		if resp.StatusCode == http.StatusContinue {
			s.proceed()
			continue
		}
		x.inform(resp.StatusCode, resp.Header)
	}
}

// originBody reads an answer's body and gives the connection back at its end.
type originBody struct {
	io.Reader
	c        *originConn
	x        *exchange
	sent     *sending
	reusable bool
	over     bool
}

// Buffered returns how much can be read without waiting.
func (b *originBody) Buffered() int { return b.c.br.Buffered() }

// Read implements io.Reader.
func (b *originBody) Read(p []byte) (int, error) {
	if b.over {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.finish()
	}
	return n, err
}

// finish returns the connection to its pool, or closes it.
func (b *originBody) finish() {
	if b.over {
		return
	}
	b.over = true
	if b.x.cancel.off() && b.reusable && b.sent.complete() {
		b.c.host.put(b.c)
		return
	}
	b.c.close()
}

// Close implements io.Closer. A body that was not read to its end takes its
// connection with it.
func (b *originBody) Close() error {
	if !b.over {
		b.reusable = false
		b.finish()
	}
	return nil
}

// upgradedBody is the origin's side of an upgraded connection.
type upgradedBody struct{ *originBody }

// Read implements io.Reader.
func (b *upgradedBody) Read(p []byte) (int, error) { return b.c.br.Read(p) }

// Write implements io.Writer.
func (b *upgradedBody) Write(p []byte) (int, error) { return b.c.nc.Write(p) }
