package proxy

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// attempts is what was tried for one request to an origin.
type attempts struct {
	h1Only bool
	over   int     // HTTP/2 connections that it went over, but for those that were ending
	not    *h2Conn // would not have it
	body   *h2Body // nil: there is none, or it did not go over HTTP/2 yet
}

// maxAttempts bounds the HTTP/2 connections that one request is sent over. An
// origin that refuses that many times in a row means it.
const maxAttempts = 4

// h2Body is a request body that remembers whether anybody has read of it:
// net/http closes it after each attempt.
type h2Body struct {
	io.ReadCloser
	turn atomic.Int32 // bodyUntouched and what follows
}

// Read implements io.Reader.
func (b *h2Body) Read(p []byte) (int, error) {
	if !b.turn.CompareAndSwap(bodyUntouched, bodyTaken) && b.turn.Load() == bodyLeft {
		return 0, errBodyClosed
	}
	return b.ReadCloser.Read(p)
}

// Close implements io.Closer. What is untouched stays so.
func (b *h2Body) Close() error {
	if b.turn.CompareAndSwap(bodyUntouched, bodyLeft) {
		return nil
	}
	return b.ReadCloser.Close()
}

// whole makes the body readable for another attempt, if nothing of it is gone.
func (b *h2Body) whole() bool {
	if b == nil {
		return true
	}
	b.turn.CompareAndSwap(bodyLeft, bodyUntouched)
	return b.turn.Load() == bodyUntouched
}

// exchange sends a request and gives the stream back with the answer's body.
// again says that the request can be sent anew: at once, since net/http's
// pauses would be silence to a client.
func (c *h2Conn) exchange(ctx context.Context, x *exchange, out *http.Request, a *attempts) (resp *http.Response, again bool, err error) {
	reused := c.answered.Load()
	if a.body == nil && out.Body != nil {
		a.body = &h2Body{ReadCloser: out.Body}
		out.Body = a.body
	}
	a.over++
	if resp, err = x.overTransport(ctx, c.cc, out, c); err == nil {
		if !reused {
			c.answered.Store(true)
		}
		return resp, false, nil
	}
	reset, wasReset := originReset(err)
	if neverSent(err) {
		c.turnedDown()
	} else {
		c.release()
	}
	died := c.broken.Load() || c.cc.Err() != nil && !isTimeout(err)
	switch {
	case x.cancel.cancelled() || ctx.Err() != nil:
	case wasReset && reset.Code == http2.ErrCodeHTTP11Required: // RFC 9113 section 7
		a.h1Only, again = true, true
	case wasReset && reset.Code == http2.ErrCodeRefusedStream: // RFC 9113 section 8.7
		again = true
	case neverSent(err):
		again = true
		if c.answered.Load() { // it worked, and has ended: no request is to blame
			a.over--
		}
	case wasReset:
		// What net/http does not like about one connection may be in order
		// on another: it lets no more requests on this one.
		again = reused && reset.Code == http2.ErrCodeProtocol && retriable(out)
	case died:
		again = reused && retriable(out)
	}
	a.not = c
	return nil, again && a.over < maxAttempts && a.body.whole(), err
}

// neverSent reports whether net/http says that an HTTP/2 request was not sent or,
// by the origin's GOAWAY, that it was not looked at (RFC 9113 section 6.8). Its
// errors have no names; TestErrorsOfNetHTTP fails when they change.
func neverSent(err error) bool {
	switch err.Error() {
	case "http2: client conn not usable", "http2: client conn could not be established",
		"http2: Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}
