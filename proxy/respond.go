package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// copyBytes is the unit of streaming: four TLS records, and as much of an HTTP/2
// window as is worth an update.
const copyBytes = 64 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBytes); return &b }}

// respond streams the origin's answer to the client.
func (x *exchange) respond(resp *http.Response) (http.Header, ending) {
	defer resp.Body.Close()
	x.status = resp.StatusCode
	if w, ok := x.w.(*h1Writer); (!ok || w.answered == nil || w.answered.hopByHop) && hasHopByHop(resp.Header) {
		if err := hopByHop.ModifyResponse(resp); err != nil {
			return nil, x.refuse(refuse(CodeUpstreamUnreachable, err))
		}
	}
	if err := checkFraming(resp); err != nil {
		return nil, x.refuse(upstreamRefusal(err))
	}
	h := resp.Header
	if x.scheme == "https" {
		// Another way to the origin (RFC 7838), such as HTTP/3, would lead past
		// the credential.
		delete(h, "Alt-Svc")
	}
	if w, ok := x.w.(*h1Writer); ok {
		w.header = h
	} else {
		h = copyHeader(x.w.Header(), h)
	}
	if announce(h, resp.Trailer); x.r.ProtoMajor == 1 && len(resp.Trailer) > 0 {
		delete(h, "Content-Length") // only a chunked body has trailers in HTTP/1.1
	}
	x.w.WriteHeader(resp.StatusCode)
	err := x.stream(resp)
	x.finish()
	if err != nil {
		return nil, broken
	}
	dropFraming(resp.Trailer) // there may be more than was announced
	return resp.Trailer, complete
}

// checkFraming makes sure that an answer ends in one place whoever reads it. In
// HTTP/2 its length is a field like any other, which may be there twice.
func checkFraming(resp *http.Response) error {
	dropFraming(resp.Trailer)
	cl, ok := resp.Header["Content-Length"]
	if !ok {
		return nil
	}
	if resp.StatusCode == http.StatusNoContent { // RFC 9110 section 8.6
		delete(resp.Header, "Content-Length")
		return nil
	}
	for _, v := range cl {
		if _, err := parseLength(v); err != nil || v != cl[0] {
			return fmt.Errorf("%w: Content-Length", errHead)
		}
	}
	resp.Header["Content-Length"] = cl[:1]
	return nil
}

// dropFraming removes what must not be in a trailer (RFC 9110 section 6.5.1).
func dropFraming(trailer http.Header) {
	for name := range trailer {
		if !httpguts.ValidTrailerHeader(name) {
			delete(trailer, name)
		}
	}
}

// copyHeader fills in an HTTP/2 answer's header, and keeps net/http from adding
// to it.
func copyHeader(to, from http.Header) http.Header {
	for name, v := range from {
		to[name] = v
	}
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := to[name]; !ok {
			to[name] = nil
		}
	}
	return to
}

// announce names the trailer fields that will follow (RFC 9110 section 6.6.2).
func announce(h http.Header, trailer http.Header) {
	for name := range trailer {
		h["Trailer"] = append(h["Trailer"], name)
	}
}

// stream copies the body, passing on every piece when it comes: an event
// stream that is held back is a broken one.
func (x *exchange) stream(resp *http.Response) error {
	flusher := x.w.(http.Flusher)
	if x.r.Method == http.MethodHead || resp.ContentLength == 0 || resp.Body == http.NoBody {
		return nil
	}
	var head *headFlush
	if b, ok := resp.Body.(*originBody); ok && resp.ContentLength > 0 && int64(b.Buffered()) >= resp.ContentLength {
		return x.whole(b, int(resp.ContentLength))
	} else if !ok || b.Buffered() == 0 {
		head = flushSoon(flusher) // the body may be long in coming
	}
	x.beginDown()
	defer x.endDown()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, readErr := resp.Body.Read(*buf)
		head.settle()
		head = nil
		if readErr == nil && n >= recordBytes/2 {
			n += moreOf(resp.Body, (*buf)[n:])
		}
		if n > 0 {
			x.moved()
			x.extend()
			if err := x.write((*buf)[:n], readErr == nil); err != nil {
				return err
			}
			x.sentDown(n)
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// write passes on a piece of the body, and flushes it unless it is the last.
func (x *exchange) write(p []byte, flush bool) error {
	if x.c.wire == nil || x.r.ProtoMajor != 1 || len(p) <= recordBytes {
		_, err := x.w.Write(p)
		if err == nil && flush {
			x.w.(http.Flusher).Flush()
		}
		return err
	}
	x.c.wire.hold()
	_, err := x.w.Write(p)
	x.w.(http.Flusher).Flush()
	return errors.Join(err, x.c.wire.send())
}

// moreOf reads what a body has to give without waiting.
func moreOf(body io.Reader, p []byte) int {
	if b, ok := body.(*originBody); ok && b.hurries {
		return b.more(p)
	}
	return 0
}

// whole passes on a body that came together with its head.
func (x *exchange) whole(b *originBody, n int) error {
	p, err := b.c.br.Peek(n)
	if err != nil {
		return err
	}
	x.extend()
	if _, err := x.w.Write(p); err != nil {
		return err
	}
	b.c.br.Discard(n)
	b.Reader.(*lengthBody).n = 0
	b.finish()
	x.sentDown(n)
	return nil
}

// sentDown counts what was written to the client, at once: an answer may last
// for hours.
func (x *exchange) sentDown(n int) {
	x.down += int64(n)
	x.p.metrics.down.Add(float64(n))
}

// extend gives the client time to take the next piece. HTTP/2 connections have
// their own flow control and are bounded by idle alone.
func (x *exchange) extend() {
	if x.r.ProtoMajor == 1 {
		x.c.writeBy(x.p.limits.IdleStream)
	}
}

// countedBody counts what is sent to the origin, and sees to it that it moves.
// The count is read when the transport may still be sending.
type countedBody struct {
	io.ReadCloser
	x     *exchange
	begun bool // idle is told
}

func (b *countedBody) Read(p []byte) (int, error) {
	if !b.begun && b.x.r.ProtoMajor == 2 { // an HTTP/1 client has a read deadline
		b.begin()
	}
	if b.begun {
		b.x.awaits(true)
	}
	n, err := b.ReadCloser.Read(p)
	b.x.up.Add(int64(n))
	b.x.p.metrics.up.Add(float64(n))
	if err != nil {
		if b.begun {
			b.x.endUp()
		}
		if err != io.EOF && !isBodyError(err) && !errors.Is(err, errBodyClosed) {
			err = &bodyError{err}
		}
		return n, err
	}
	if !b.begun { // there is more than came in one piece
		b.begin()
	}
	b.x.awaits(false)
	b.x.moved()
	return n, nil
}

func (b *countedBody) begin() {
	b.begun = true
	b.x.beginUp()
}

// replayBytes is the largest request body that is kept for a second attempt.
const replayBytes = 64 << 10

// replayBody keeps what was read, up to replayBytes, so that a request can be
// sent once more.
type replayBody struct {
	io.ReadCloser
	mu     sync.Mutex // guards all below: the transport reads in its own goroutine
	kept   []byte
	again  []byte // what of kept the second attempt has yet to read
	whole  bool   // the end was reached within the bound
	over   bool   // the bound was exceeded
	second bool
}

func (b *replayBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.second {
		if len(b.again) == 0 {
			return 0, io.EOF
		}
		n := copy(p, b.again)
		b.again = b.again[n:]
		return n, nil
	}
	n, err := b.ReadCloser.Read(p)
	if !b.over {
		b.kept = append(b.kept, p[:n]...)
		if len(b.kept) > replayBytes {
			b.over, b.kept = true, nil
		}
	}
	if err == io.EOF && !b.over {
		b.whole = true
	}
	return n, err
}

// Close implements io.Closer. The transport closes after each attempt.
func (b *replayBody) Close() error { return nil }

// rewind makes the body readable once more, if all of it was kept.
func (b *replayBody) rewind() bool {
	if !b.mu.TryLock() { // still being read: the origin did not wait for it
		return false
	}
	defer b.mu.Unlock()
	if !b.whole || b.second {
		return false
	}
	b.second, b.again = true, b.kept
	return true
}

// abort resets a connection, so that its end is not taken for a regular one.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}
