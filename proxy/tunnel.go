package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tunnel copies both ways until both sides have ended, or until no byte has
// moved either way for idle. Between TCP connections the kernel does the
// copying (splice). An end is passed on as a half close, so that a client that
// has said all it has to say still gets its answer.
func (p *Proxy) tunnel(c *conn, client, origin net.Conn, idle time.Duration) {
	defer p.metrics.open("tunnel")()
	client.SetDeadline(time.Time{})
	origin.SetDeadline(time.Time{})
	if b, ok := client.(*buffered); ok {
		n, err := origin.Write(b.ahead)
		p.metrics.bytes("up", "tunnel", int64(n))
		if err != nil {
			return
		}
		client = b.Conn // nothing is ahead any more: splice from the socket
	}
	var ends canceller // lets whoever cuts the client cut both
	ends.on(&tunnelEnds{client, origin})
	c.serving.Store(&ends)
	defer c.serving.Store(nil)
	if c.ctx.Err() != nil {
		ends.cancel()
	}
	last := &activity{}
	last.mark()
	defer watchTunnel(client, origin, last, idle)()
	up := make(chan struct{})
	go func() {
		defer close(up)
		p.pump(origin, client, last, idle, "up")
	}()
	p.pump(client, origin, last, idle, "down")
	<-up
}

// tunnelEnds are the two connections of a tunnel.
type tunnelEnds struct{ client, origin net.Conn }

// abort implements aborter.
func (e *tunnelEnds) abort() {
	e.client.Close()
	e.origin.Close()
}

// activity is when a byte last moved in a tunnel, shared by its directions.
type activity struct{ at atomic.Int64 }

func (a *activity) mark()                { a.at.Store(time.Now().UnixNano()) }
func (a *activity) since() time.Duration { return time.Duration(time.Now().UnixNano() - a.at.Load()) }

// watchTunnel breaks both connections off when nothing has moved either way for
// idle. It is a timer and not a deadline for writing: what a write that timed
// out had taken from the other side would be lost.
func watchTunnel(client, origin net.Conn, last *activity, idle time.Duration) (stop func()) {
	var timer *time.Timer
	var mu sync.Mutex // guards stopped, and timer against its own start
	stopped := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(idle, func() {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		if rest := idle - last.since(); rest > 0 {
			timer.Reset(rest)
			return
		}
		client.Close()
		origin.Close()
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// chunk is how much is copied before it is counted.
const chunk = 1 << 20

// pump copies one direction. On an error both connections are broken off, on
// an end only this direction is. Reading is interrupted some times within the
// idle limit, to see whether anything has moved.
func (p *Proxy) pump(dst, src net.Conn, last *activity, idle time.Duration, direction string) {
	for {
		src.SetReadDeadline(time.Now().Add(idle / 8))
		n, err := io.Copy(dst, &io.LimitedReader{R: src, N: chunk})
		if n > 0 {
			last.mark()
			p.metrics.bytes(direction, "tunnel", n)
		}
		switch {
		case err == nil && n < chunk: // src has ended
			closeWrite(dst)
			return
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		default: // with a reset: what was cut must not look whole
			abort(src)
			abort(dst)
			return
		}
	}
}
