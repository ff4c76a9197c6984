package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// handler answers one request of an HTTP/1 connection. It returns false when
// the connection is no longer ours to read: tunnelled, upgraded or broken.
type handler func(w *h1Writer, r *http.Request) bool

// serveH1 reads requests from c until one side closes. first bounds the wait
// for the first head, later ones may take the idle limit to begin.
func (p *Proxy) serveH1(c *conn, handle handler) {
	for first := true; ; first = false {
		h, ok := p.nextRequest(c, first)
		if !ok {
			return
		}
		if !p.serveOne(c, h, handle) {
			return
		}
		if p.closing.Load() {
			return
		}
	}
}

// nextRequest waits for a request and answers a malformed one.
func (p *Proxy) nextRequest(c *conn, first bool) (*head, bool) {
	wait := p.limits.IdleClient
	if !c.secure && (first || c.stranger()) { // nobody has authenticated yet
		wait = p.limits.RequestHeader
	}
	if c.br.Buffered() == 0 {
		c.setIdle(true)
		c.readBy(wait)
		c.lendWriter()
		_, err := c.br.Peek(1)
		c.takeWriter()
		if err != nil {
			c.gone = !isTimeout(err)
			return nil, false
		}
		c.setIdle(false)
	}
	if (!first || c.secure) && !headBuffered(c.br) {
		c.readBy(p.limits.RequestHeader)
	}
	h, err := readRequest(c.br, p.limits.RequestHeaderBytes)
	if err == nil {
		return h, true
	}
	if ref := headRefusal(err); ref != nil {
		p.report(c, nil, ref)
		c.writeBy(p.limits.RequestHeader)
		if refuseDirectly(c.bw, ref, true) == nil {
			c.lingeringClose()
		}
	}
	return nil, false
}

// headBuffered reports whether a whole head has arrived already.
func headBuffered(br *bufio.Reader) bool {
	b, err := br.Peek(br.Buffered())
	return err == nil && bytes.Contains(b, headEnd)
}

// headRefusal says how to answer a head that could not be read, nil when there
// is nobody to answer.
func headRefusal(err error) *Refusal {
	var timeout net.Error
	switch {
	case errors.Is(err, errHead):
		return refuse(CodeBadRequest, err)
	case errors.Is(err, errHeadTooLarge):
		return refuse(CodeHeaderTooLarge, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return refuse(CodeRequestTimeout, err)
	}
	return nil
}

func (p *Proxy) serveOne(c *conn, h *head, handle handler) (again bool) {
	w, r := &c.w, &h.request
	w.reset(c.bw, h, p.closing.Load())
	var in *clientBody
	if src, ok := r.Body.(body); ok {
		in = &clientBody{c: c, src: src, idle: p.limits.IdleStream}
		if expectsContinue(r) {
			in.w, w.unasked = w, true
		}
		r.Body = in
	}
	again = handle(w, r)
	drained, readable := true, false
	if in != nil { // before the watch, which the end of the body starts
		drained, readable = in.stop()
	}
	switch {
	case !c.watch.stop():
		return false
	case drained:
	case again && readable && reclaim(c, in):
	case w.err == nil:
		c.lingeringClose()
		return false
	}
	if again {
		w.release()
	}
	return again
}

func expectsContinue(r *http.Request) bool {
	v := r.Header["Expect"]
	return r.ProtoMinor == 1 && len(v) == 1 && strings.EqualFold(v[0], "100-continue")
}

// reclaim makes the connection ready for the next request by reading what the
// origin did not want of the body, within reason.
func reclaim(c *conn, in *clientBody) bool {
	c.readBy(drainTime)
	_, err := io.CopyN(io.Discard, in.src, drainBytes)
	return err == io.EOF && in.src.drained()
}

// watch notices a client that goes away while it waits for its answer, so that
// the origin's work can be cancelled. Reading is the only way to notice; it is
// begun late, because most answers come before anybody has lost patience. A
// connection has one watch, which is started and stopped for each request.
type watch struct {
	c     *conn
	timer *time.Timer

	mu     sync.Mutex // guards all below
	state  watchState
	since  time.Time // when it was armed
	timed  bool      // timer will call read
	cancel *canceller
	done   chan struct{} // closed when the reader has ended
	err    error         // what the reader met, valid once done is closed
}

type watchState int

const (
	watchOff watchState = iota
	watchArmed
	watchReading
)

// watchAfter is how long an answer may take before the client is watched.
const watchAfter = 50 * time.Millisecond

// start must only be called when nobody else reads from the connection. The
// timer is left running from one request to the next, and looks when it fires
// how old the present one is: to set and stop it for each would cost more than
// everything else here.
func (w *watch) start(now time.Time, cancel *canceller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.since, w.cancel, w.err = watchArmed, now, cancel, nil
	if w.timed {
		return
	}
	w.timed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.read)
		return
	}
	w.timer.Reset(watchAfter)
}

func (w *watch) read() {
	w.mu.Lock()
	if rest := watchAfter - time.Since(w.since); w.state == watchArmed && rest > 0 {
		w.timer.Reset(rest)
		w.mu.Unlock()
		return
	}
	w.timed = false
	if w.state != watchArmed {
		w.mu.Unlock()
		return
	}
	w.state = watchReading
	done, cancel := make(chan struct{}), w.cancel
	w.done = done
	w.c.rwc.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	// Bytes that arrive belong to the next request and stay in the buffer.
	_, err := w.c.br.Peek(1)
	if err != nil && !isTimeout(err) {
		w.err = err
		cancel.cancel()
	}
	close(done)
}

// stop ends the watch and gives the reader back to the connection. It reports
// whether the client is still there. It must be called before anybody else
// reads, and may be called again.
func (w *watch) stop() bool {
	w.mu.Lock()
	state := w.state
	w.state = watchOff
	if state == watchReading {
		w.c.wakeReader()
	}
	w.mu.Unlock()
	if state == watchReading {
		<-w.done
		w.c.calm()
	}
	return w.err == nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// bufio sizes: a request head and a small answer fit.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
)
