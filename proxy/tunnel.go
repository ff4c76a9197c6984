package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"authsome/injector"
)

// tunnel is a client and a target that are joined without a look at what they say.
type tunnel struct {
	p              *Proxy
	target         injector.Target
	client, origin net.Conn
	last           activity

	// A tunnel is left when a credential is routed to its target from now on.
	// See leave.
	leaving  atomic.Bool
	tls      atomic.Bool  // the client began with a TLS record
	stays    atomic.Bool  // it began with something else, or one side has ended
	up, down atomic.Int32 // how often in a row a pump found nothing to move
}

// tunnel copies both ways until both sides have ended, or until no byte has
// moved either way for idle. Between TCP connections the kernel does the
// copying (splice). An end is passed on as a half close, so that a client that
// has said all it has to say still gets its answer.
func (p *Proxy) tunnel(c *conn, client, origin net.Conn, idle time.Duration) {
	defer p.metrics.open("tunnel")()
	client.SetDeadline(time.Time{})
	origin.SetDeadline(time.Time{})
	t := &tunnel{p: p, target: c.target, client: client, origin: origin}
	b, begun := client.(*buffered)
	if begun {
		t.began(b.ahead)
		n, err := origin.Write(b.ahead)
		p.metrics.bytes("up", "tunnel", int64(n))
		if err != nil {
			return
		}
		t.client = b.Conn // nothing is ahead any more: splice from the socket
	}
	var ends canceller // lets whoever cuts the client cut both
	ends.on(t)
	c.serving.Store(&ends)
	defer c.serving.Store(nil)
	if c.ctx.Err() != nil {
		ends.cancel()
	}
	c.tunnel.Store(t)
	defer c.tunnel.Store(nil)
	if p.cfg.Injector.Table().Covers(t.target) { // since the client was answered
		t.leave()
	}
	t.last.mark()
	defer watchTunnel(t.client, origin, &t.last, idle)()
	up := make(chan struct{})
	go func() {
		defer close(up)
		if begun || t.begin(idle) {
			t.pump(origin, t.client, idle, &t.up, "up")
		}
	}()
	t.pump(t.client, origin, idle, &t.down, "down")
	<-up
}

// abort implements aborter.
func (t *tunnel) abort() {
	t.client.Close()
	t.origin.Close()
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

// begin passes on what the client says first, and looks whether it is TLS. It
// reports whether there may be more.
func (t *tunnel) begin(idle time.Duration) bool {
	first := make([]byte, 2<<10)
	for {
		t.wait(t.client, idle)
		n, err := t.client.Read(first)
		if n > 0 {
			t.began(first)
			_, err = t.origin.Write(first[:n])
			t.moved(int64(n), "up")
		}
		if n == 0 || err != nil {
			if t.ended(t.origin, t.client, err, &t.up) {
				return false
			}
			continue
		}
		return true
	}
}

func (t *tunnel) began(first []byte) {
	isTLS := first[0] == recordHandshake
	t.tls.Store(isTLS)
	t.stays.Store(!isTLS)
}

// pump copies one direction. Reading is interrupted some times within the idle
// limit, to see whether anything has moved.
func (t *tunnel) pump(dst, src net.Conn, idle time.Duration, lulls *atomic.Int32, direction string) {
	for {
		t.wait(src, idle)
		n, err := io.Copy(dst, &io.LimitedReader{R: src, N: chunk})
		if n > 0 {
			t.moved(n, direction)
		}
		if err == nil && n < chunk {
			err = io.EOF
		}
		if err == nil || n > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if t.ended(dst, src, err, lulls) {
			return
		}
	}
}

// wait sets how long the next read may take.
func (t *tunnel) wait(src net.Conn, idle time.Duration) {
	src.SetReadDeadline(time.Now().Add(idle / 8))
	// Asked afterwards: leave wakes who has a deadline already.
	if t.leaving.Load() && !t.stays.Load() {
		src.SetReadDeadline(time.Now().Add(quietTime / quietLooks))
	}
}

func (t *tunnel) moved(n int64, direction string) {
	t.last.mark()
	t.up.Store(0)
	t.down.Store(0)
	t.p.metrics.bytes(direction, "tunnel", n)
}

// ended looks at why nothing came from src, and reports whether it was the last
// of it. On an error both connections are broken off, on an end only this
// direction is.
func (t *tunnel) ended(dst, src net.Conn, err error, lulls *atomic.Int32) bool {
	switch {
	case err == io.EOF:
		t.stays.Store(true)
		closeWrite(dst)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if t.leaving.Load() {
			lulls.Add(1)
			t.closeIfQuiet()
		}
		return false
	default: // with a reset: what was cut must not look whole
		abort(src)
		abort(dst)
	}
	return true
}

// A tunnel is quiet when nothing has come from either side for quietTime, in
// which either was looked at quietLooks times.
const (
	quietTime  = time.Second
	quietLooks = 8
)

// leave ends the tunnel as soon as it is quiet, so that its client comes back,
// is intercepted and gets its credential. A tunnel that does not carry TLS
// stays: the next one would be none other.
func (t *tunnel) leave() {
	if !t.leaving.Swap(true) {
		t.client.SetReadDeadline(time.Unix(1, 0)) // from here on it is looked at more often
		t.origin.SetReadDeadline(time.Unix(1, 0))
	}
}

// closeIfQuiet closes a tunnel that is left. One that has ended on one side ends
// by itself, and with an answer, perhaps.
func (t *tunnel) closeIfQuiet() {
	if t.tls.Load() && !t.stays.Load() && t.up.Load() >= quietLooks && t.down.Load() >= quietLooks {
		t.abort()
	}
}
