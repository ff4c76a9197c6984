package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

var headBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// handler answers one request of an HTTP/1 connection. It returns false when
// the connection is no longer ours to read: tunnelled, upgraded or broken.
type handler func(w *h1Writer, r *http.Request) bool

// serveH1 reads requests from c until one side closes. first bounds the wait
// for the first head, later ones may take the idle limit to begin.
func (p *Proxy) serveH1(ctx context.Context, c *conn, handle handler) {
	for first := true; ; first = false {
		r, ok := p.nextRequest(c, first)
		if !ok {
			return
		}
		if !p.serveOne(ctx, c, r, handle) {
			return
		}
		if p.closing.Load() {
			return
		}
	}
}

// nextRequest waits for a request and answers a malformed one.
func (p *Proxy) nextRequest(c *conn, first bool) (*http.Request, bool) {
	wait := p.limits.IdleClient
	if first {
		wait = p.limits.RequestHeader
	}
	c.setIdle(true)
	c.rwc.SetReadDeadline(time.Now().Add(wait))
	if _, err := c.br.Peek(1); err != nil {
		return nil, false
	}
	c.setIdle(false)
	if !first {
		c.rwc.SetReadDeadline(time.Now().Add(p.limits.RequestHeader))
	}
	buf := headBuffers.Get().(*[]byte)
	r, raw, err := readRequest(c.br, *buf, p.limits.RequestHeaderBytes)
	*buf = raw[:0]
	if cap(raw) <= 64<<10 {
		headBuffers.Put(buf)
	}
	if err == nil {
		c.rwc.SetReadDeadline(time.Time{})
		return r, true
	}
	if ref := headRefusal(err); ref != nil {
		p.report(c, nil, ref)
		c.rwc.SetWriteDeadline(time.Now().Add(drainTime))
		if refuseDirectly(c.bw, ref, true) == nil {
			c.lingeringClose()
		}
	}
	return nil, false
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

func (p *Proxy) serveOne(ctx context.Context, c *conn, r *http.Request, handle handler) (again bool) {
	w := newH1Writer(c.bw, r, p.closing.Load())
	var in *clientBody
	if src, ok := r.Body.(body); ok {
		in = &clientBody{c: c, src: src, idle: p.limits.IdleStream}
		if expectsContinue(r) {
			in.w = w
		}
		r.Body = in
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.watch = watchClient(c, cancel, in == nil && r.Method != http.MethodConnect)
	again = handle(w, r.WithContext(ctx))
	if !c.watch.stop() || !again {
		return false
	}
	return in == nil || reclaim(c, in)
}

func expectsContinue(r *http.Request) bool {
	v := r.Header["Expect"]
	return r.ProtoMinor == 1 && len(v) == 1 && strings.EqualFold(v[0], "100-continue")
}

// reclaim makes the connection ready for the next request by reading what the
// origin did not want of the body, within reason.
func reclaim(c *conn, in *clientBody) bool {
	drained, readable := in.stop()
	if drained {
		return true
	}
	if readable {
		c.rwc.SetReadDeadline(time.Now().Add(drainTime))
		if _, err := io.CopyN(io.Discard, in.src, drainBytes); err == io.EOF && in.src.drained() {
			return true
		}
	}
	c.lingeringClose()
	return false
}

// watch notices a client that goes away while it waits for its answer, so that
// the origin's work can be cancelled. Reading is the only way to notice; it is
// begun late, because most answers come before anybody has lost patience.
type watch struct {
	c       *conn
	timer   *time.Timer   // nil: there is nothing to stop, or no more
	done    chan struct{} // closed when the reader has ended
	mu      sync.Mutex    // guards begun and stopped
	begun   bool
	stopped bool
	err     error // what the reader met, valid once done is closed
}

// watchAfter is how long an answer may take before the client is watched.
const watchAfter = 50 * time.Millisecond

// watchClient starts a watch if wanted: a request with a body is watched by
// whoever reads the body, and CONNECT hands the connection on.
func watchClient(c *conn, cancel context.CancelFunc, wanted bool) *watch {
	w := &watch{c: c}
	if !wanted {
		return w
	}
	w.done = make(chan struct{})
	w.timer = time.AfterFunc(watchAfter, func() {
		defer close(w.done)
		w.mu.Lock()
		w.begun = !w.stopped
		begun := w.begun
		w.mu.Unlock()
		if !begun {
			return
		}
		// Bytes that arrive belong to the next request and stay in the buffer.
		if _, w.err = c.br.Peek(1); w.err != nil && !isTimeout(w.err) {
			cancel()
		}
	})
	return w
}

// stop ends the watch and gives the reader back to the connection. It reports
// whether the client is still there. It must be called before anybody else
// reads, and may be called again.
func (w *watch) stop() bool {
	if w.timer == nil {
		return w.err == nil || isTimeout(w.err)
	}
	stopped := w.timer.Stop()
	w.timer = nil
	if stopped {
		return true
	}
	w.mu.Lock()
	w.stopped = true
	begun := w.begun
	w.mu.Unlock()
	if begun {
		w.c.rwc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
	<-w.done
	w.c.rwc.SetReadDeadline(time.Time{})
	return w.err == nil || isTimeout(w.err)
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
