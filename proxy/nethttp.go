package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// plainTrip sends a request over plaintext HTTP.
func (x *exchange) plainTrip(ctx context.Context, out *http.Request) (*http.Response, error) {
	if x.c.transport != nil {
		return x.overTransport(ctx, x.c.transport, out)
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
	return x.overTransport(ctx, x.p.transport, out)
}

// overTransport sends a request by net/http: plain ones, and those to origins
// that chose HTTP/2.
func (x *exchange) overTransport(ctx context.Context, t *http.Transport, out *http.Request) (*http.Response, error) {
	x.lend()
	ctx, cancel := context.WithCancel(ctx)
	end := func() bool { defer cancel(); return x.cancel.off() }
	if !x.cancel.on(&trip{x, cancel}) {
		cancel()
	}
	news := &news{x: x}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		return news.add(status, http.Header(h))
	}})
	resp, err := t.RoundTrip(absolute(ctx, out, x.scheme, x.target))
	news.end(err == nil)
	if err != nil {
		end()
		return nil, err
	}
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &endingConn{rw, end}
	} else {
		resp.Body = &endingBody{resp.Body, end}
	}
	return resp, nil
}

// trip is a request in net/http's hands.
type trip struct {
	x      *exchange
	cancel context.CancelFunc
}

// abort implements aborter. Once there is an answer, the transport only looks at
// the context when the request's body has ended, so that has to end as well.
func (t *trip) abort() {
	t.cancel()
	t.x.stopBody()
}

// endingBody ends its request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	end func() bool
}

// Close implements io.Closer.
func (b *endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// endingConn does the same for an upgraded connection.
type endingConn struct {
	io.ReadWriteCloser
	end func() bool
}

// Close implements io.Closer.
func (b *endingConn) Close() error {
	defer b.end()
	return b.ReadWriteCloser.Close()
}
