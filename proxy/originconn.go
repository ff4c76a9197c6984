package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// originConn is one HTTP/1.1 connection to an origin, used by one request at a
// time.
type originConn struct {
	host    *originHost
	p       *Proxy
	nc      *tls.Conn
	br      *bufio.Reader // nil while the connection is idle
	bw      *bufio.Writer // likewise
	reused  bool
	since   time.Time // when it became idle
	doubted bool      // see doubt
	bare    bool      // its last answer had no body, and its origin may send one all the same
}

func (c *originConn) close() { c.nc.Close() }

// takeBuffers makes the connection ready for use, lendBuffers for waiting: an
// idle connection costs what it cannot do without. Nothing is lent by close,
// when somebody may still be reading or writing.
func (c *originConn) takeBuffers() {
	c.br, c.bw = readers.Get().(*bufio.Reader), writers.Get().(*bufio.Writer)
	c.br.Reset(c.nc)
	c.bw.Reset(c.nc)
}

func (c *originConn) lendBuffers() {
	c.br.Reset(nil)
	readers.Put(c.br)
	c.bw.Reset(nil)
	writers.Put(c.bw)
	c.br, c.bw = nil, nil
}

// abort implements aborter: it makes whoever uses the connection fail.
func (c *originConn) abort() { c.nc.NetConn().Close() }

// justUsed is how recently a connection must have carried an answer with a body
// to be trusted unlooked: an origin that ends with an answer says so in it.
const justUsed = 5 * time.Millisecond

// quiet reports whether an idle connection is still open with nothing to read:
// an origin that has closed it, or that speaks unasked, is not written to.
func (c *originConn) quiet(now time.Time) bool {
	return !c.bare && age(now, c.since) < justUsed || nothingToRead(c.nc.NetConn())
}

// surplus reports whether the origin has sent more than the answer, or its end.
// What TLS has taken off the socket shows in nothing but a read.
func (c *originConn) surplus() bool {
	wire := c.nc.NetConn().(*bulkConn)
	wire.dry = true
	defer func() { wire.dry = false }()
	_, err := c.br.Peek(1)
	return err != errWouldWait
}

// exchange sends a request and reads the head of its answer. again says that
// the connection had been closed under us and the request can be sent anew.
func (c *originConn) exchange(x *exchange, out *http.Request) (resp *http.Response, again bool, err error) {
	if !x.cancel.on(c) {
		c.host.put(c)
		return nil, false, context.Canceled
	}
	x.exposed = true
	sent, err := c.send(out)
	if sent.parallel() {
		x.lend()
	}
	var reusable bool
	if err == nil {
		resp, reusable, err = c.answer(x, out, sent)
	}
	if err != nil {
		alive := x.cancel.off()
		c.close()
		untouched := sent.leave()
		sent.proceed()
		if bad := sent.failed(); bad != nil {
			err = bad
		}
		if !alive {
			return nil, false, context.Canceled
		}
		err, lost := c.lost(err, sent)
		if lost {
			c.host.distrust(x.sent)
		}
		again = c.reused && untouched && retriable(out) && (lost || !isTimeout(err))
		return nil, again, err
	}
	c.trust()
	body := &x.answer
	*body = originBody{Reader: resp.Body, c: c, x: x, sent: sent, reusable: reusable}
	_, body.hurries = resp.Body.(*lengthBody)
	c.bare = resp.Body == http.NoBody
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		resp.Body = &upgradedBody{originBody: body}
	case c.bare:
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

// answer reads the head of the final response.
func (c *originConn) answer(x *exchange, out *http.Request, s *sending) (*http.Response, bool, error) {
	if limit := c.p.limits.ResponseHeader; limit > 0 {
		c.nc.SetReadDeadline(time.Now().Add(limit))
		defer c.nc.SetReadDeadline(time.Time{})
	}
	for total := 0; ; {
		h, reusable, err := readResponse(c.br, out)
		if err != nil {
			return nil, false, err
		}
		if total += h.bytes; total > responseHeadBytes {
			return nil, false, errHeadTooLarge
		}
		resp := &h.response
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			x.answered(h)
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
	over     atomic.Bool // an upgraded connection is closed by whoever sees its end
	hurries  bool        // reading may fail for now, and go on
}

// more reads what has come already. If there is something wrong with it, the next
// Read says so.
func (b *originBody) more(p []byte) int {
	wire := b.c.nc.NetConn().(*bulkConn)
	wire.hurry = true
	defer func() { wire.hurry = false }()
	return readMore(b, p)
}

// Buffered returns how much can be read without waiting.
func (b *originBody) Buffered() int { return b.c.br.Buffered() }

// Read implements io.Reader.
func (b *originBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.finish()
	}
	return n, err
}

// finish returns the connection to its pool, or closes it.
func (b *originBody) finish() { b.end(b.reusable) }

// Close implements io.Closer. A body that was not read to its end takes its
// connection with it.
func (b *originBody) Close() error {
	b.end(false)
	return nil
}

func (b *originBody) end(reusable bool) {
	if b.over.Swap(true) {
		return
	}
	if b.x.cancel.off() && reusable && b.sent.complete() {
		b.c.host.put(b.c)
		return
	}
	b.c.close()
	b.sent.leave() // a body that still waits to be asked for is not wanted
	b.sent.proceed()
}

// upgradedBody is the origin's side of an upgraded connection.
type upgradedBody struct{ *originBody }

// Read implements io.Reader.
func (b *upgradedBody) Read(p []byte) (int, error) { return b.c.br.Read(p) }

// CloseWrite ends our half of the connection.
func (b *upgradedBody) CloseWrite() error { return b.c.nc.CloseWrite() }

// Write implements io.Writer.
func (b *upgradedBody) Write(p []byte) (int, error) { return b.c.nc.Write(p) }
