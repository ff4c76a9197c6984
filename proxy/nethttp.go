package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
)

// plainTrip sends a request over plaintext HTTP.
func (x *exchange) plainTrip(ctx context.Context, out *http.Request) (*http.Response, error) {
	if x.c.transport != nil {
		return x.overTransport(ctx, x.c.transport, out, nil)
	}
	if x.p.forbidden(x.target) {
		return nil, errForbidden
	}
	if x.p.guarded(x.target) {
		via, err := x.p.upstreamFor("http", x.target)
		if err != nil {
			return nil, err
		}
		if via == nil {
			ctx = guard(ctx)
		}
	}
	return x.overTransport(ctx, x.p.transport, out, nil)
}

// overTransport sends a request by net/http: plain ones, and those to origins
// that chose HTTP/2, with a stream of conn. That is released with the answer's
// body; without an answer it is the caller's still.
func (x *exchange) overTransport(ctx context.Context, by http.RoundTripper, out *http.Request, conn *h2Conn) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &trip{x: x, cancel: cancel, news: news{x: x}}
	if !x.cancel.on(t) {
		cancel()
		return nil, context.Canceled
	}
	x.exposed = true
	x.lend()
	t.trace.Got1xxResponse = func(status int, h textproto.MIMEHeader) error { return t.news.add(status, http.Header(h)) }
	resp, err := by.RoundTrip(absolute(httptrace.WithClientTrace(ctx, &t.trace), out, x.scheme, x.target))
	t.news.end(err == nil)
	if err != nil {
		t.end()
		return nil, err
	}
	t.ReadCloser, t.conn = resp.Body, conn
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &tripConn{rw, t}
	} else {
		resp.Body = t
	}
	return resp, nil
}

// trip is a request in net/http's hands, and then its answer's body.
type trip struct {
	io.ReadCloser
	x      *exchange
	conn   *h2Conn // that it has a stream of, or nil
	cancel context.CancelFunc
	news   news
	trace  httptrace.ClientTrace
	over   atomic.Bool
}

// abort implements aborter. Once there is an answer, the transport only looks at
// the context when the request's body has ended, so that has to end as well.
func (t *trip) abort() {
	t.cancel()
	t.x.stopBody()
}

// Read implements io.Reader.
func (t *trip) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		t.x.noteReset(err)
	}
	return n, err
}

// Close implements io.Closer.
func (t *trip) Close() error {
	defer t.end()
	return t.ReadCloser.Close()
}

// end gives up what the request had.
func (t *trip) end() {
	if t.over.Swap(true) {
		return
	}
	t.x.cancel.off()
	t.cancel()
	if t.conn != nil {
		t.conn.release()
	}
}

// tripConn is an upgraded connection.
type tripConn struct {
	io.ReadWriteCloser
	trip *trip
}

// Close implements io.Closer.
func (c *tripConn) Close() error {
	defer c.trip.end()
	return c.ReadWriteCloser.Close()
}
