package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

var errBodyClosed = errors.New("read after close")

// body is a request body that knows whether it was read to its end.
type body interface {
	io.ReadCloser
	drained() bool // everything, the end included, has been read
}

// clientBody is the body of an HTTP/1 request as a transport sees it. A
// transport may still be reading it in a goroutine of its own when the answer
// has ended, so the connection takes it back with stop.
type clientBody struct {
	c     *conn
	idle  time.Duration // the longest wait for the next bytes
	w     *h1Writer     // asked to send "100 Continue" on the first read, or nil
	bytes int64         // read so far, guarded by mu

	// cancel is told when the client goes away after it has sent everything.
	// Until then a read fails.
	cancel *canceller

	mu      sync.Mutex // held while src is read
	src     body
	stopped atomic.Bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped.Load() {
		return 0, errBodyClosed
	}
	if b.src.drained() { // what comes next is not the body's
		return 0, io.EOF
	}
	if b.w != nil {
		b.w.sendContinue()
		b.w = nil
	}
	if b.c.br.Buffered() == 0 {
		b.c.readBy(b.idle)
		if b.stopped.Load() { // stop came before the deadline was moved
			return 0, errBodyClosed
		}
	}
	n, err := b.src.Read(p)
	if err == nil && n >= recordBytes/2 {
		n += b.more(p[n:])
	}
	b.bytes += int64(n)
	if b.src.drained() && b.cancel != nil {
		b.c.watch.start(time.Now(), b.cancel) // nobody else reads from here on
	}
	return n, err
}

// more reads what has come already. If there is something wrong with it, the next
// read says so.
func (b *clientBody) more(p []byte) int {
	body, ok := b.src.(*lengthBody)
	if !ok || b.c.wire == nil {
		return 0
	}
	b.c.wire.hurry = true
	defer func() { b.c.wire.hurry = false }()
	return readMore(body, p)
}

// readMore reads pieces of the size of TLS records while there are any.
func readMore(body io.Reader, p []byte) (total int) {
	for len(p) >= recordBytes {
		n, err := body.Read(p)
		total += n
		p = p[n:]
		if err != nil {
			break
		}
	}
	return total
}

// bodyError is returned when the client's body ends early or is malformed: the
// request must not look whole to its origin, nor wait for what will not come.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

func isBodyError(err error) bool {
	var b *bodyError
	return errors.As(err, &b)
}

// Close implements io.Closer.
func (b *clientBody) Close() error { return nil }

// interrupt makes a read that is under way fail, and every later one.
func (b *clientBody) interrupt() {
	b.stopped.Store(true)
	if b.mu.TryLock() {
		b.mu.Unlock()
		return
	}
	b.c.wakeReader()
}

// stop ends reading by anybody else and returns when it has ended. It reports
// whether the rest, if any, can be read without the client being asked for it.
func (b *clientBody) stop() (drained, readable bool) {
	b.stopped.Store(true)
	if !b.mu.TryLock() {
		b.c.wakeReader()
		b.mu.Lock()
		b.c.calm()
	}
	defer b.mu.Unlock()
	return b.src.drained(), b.w == nil
}

// lengthBody reads exactly n bytes.
type lengthBody struct {
	br     *bufio.Reader
	n      int64
	closed bool
}

func (b *lengthBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, errBodyClosed
	}
	if b.n == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.n {
		p = p[:b.n]
	}
	n, err := b.br.Read(p)
	b.n -= int64(n)
	if err == io.EOF && b.n > 0 {
		err = io.ErrUnexpectedEOF
	}
	if b.n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (b *lengthBody) Close() error  { b.closed = true; return nil }
func (b *lengthBody) drained() bool { return b.n == 0 }

// chunkedBody reads a chunked body and then its trailer fields into the fields
// that were announced.
type chunkedBody struct {
	br      *bufio.Reader
	data    io.Reader
	trailer http.Header
	max     int // trailer bytes
	end     bool
	closed  bool
}

func newChunkedBody(br *bufio.Reader, trailer http.Header, max int) *chunkedBody {
	return &chunkedBody{br: br, data: httputil.NewChunkedReader(br), trailer: trailer, max: max}
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, errBodyClosed
	}
	if b.end {
		return 0, io.EOF
	}
	n, err := b.data.Read(p)
	if err != io.EOF {
		return n, err
	}
	if err := b.readTrailer(); err != nil {
		return n, err
	}
	b.end = true
	return n, io.EOF
}

func (b *chunkedBody) readTrailer() error {
	if end, err := b.br.Peek(2); err == nil && string(end) == "\r\n" {
		b.br.Discard(2)
		return nil
	}
	// The fields end like a head, which they become with a first line.
	buf, err := readLines(b.br, []byte("trailer\r\n"), b.max)
	if err != nil {
		return err
	}
	h, err := parseHead(string(buf))
	if err != nil {
		return err
	}
	if h.header["Content-Length"] != nil || h.header["Transfer-Encoding"] != nil {
		return fmt.Errorf("%w: framing in a trailer", errHead)
	}
	// Only what was announced is carried on: a field that nobody expects in a
	// trailer must not be mistaken for a header (RFC 9110 section 6.5.1).
	for name, v := range h.header {
		if _, ok := b.trailer[name]; ok {
			b.trailer[name] = v
		}
	}
	return nil
}

func (b *chunkedBody) Close() error  { b.closed = true; return nil }
func (b *chunkedBody) drained() bool { return b.end }
