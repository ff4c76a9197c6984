package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// streamsPerConn bounds the requests that share a connection. Each may leave a
// whole stream's window unread, and still the others must find some of the
// connection's: a client that does not read keeps nobody waiting.
const streamsPerConn = connWindowBytes/streamWindowBytes - 4

// h2ConnsPerHost bounds the connections to one origin that can take requests, and
// twice as many those that there are. What is beyond waits for a stream to end.
const h2ConnsPerHost = 128

// h2Pool are the HTTP/2 connections to one origin. It is guarded by its host.
type h2Pool struct {
	conns   []*h2Conn
	streams int          // that the origin last allowed on a connection; zero: unknown
	dialing bool         // somebody connects, maybe for all
	waiting []chan error // of those who wait for a stream, the longest first
}

// h2Conn is one HTTP/2 connection to an origin, shared by the requests of all
// clients. net/http speaks on it; which request takes which connection, and
// which is sent again, is decided here: net/http's own pool would put any number
// of streams on one connection, and send again after pauses in which a client
// hears nothing.
type h2Conn struct {
	host     *originHost
	cc       *http.ClientConn
	answered atomic.Bool // a request has been
	broken   atomic.Bool // it could not be written to

	// guarded by the host
	streams int  // requests that have it
	limit   int  // how many may
	settled bool // the origin has said how many, or will not
	leads   bool // others wait for that
	full    bool // it would not take a request: cleared when its state changes
	pooled  bool // others find it: without, the last to leave closes it
	narrow  bool // its streams have less of a window: they are taken last
	hooked  bool // it says when that is
}

func (c *h2Conn) close() { c.cc.Close() }

// ended reports whether nothing more can be had of the connection.
func (c *h2Conn) ended() bool { return c.broken.Load() || c.cc.Err() != nil }

// newH2Conn begins to speak HTTP/2 and adds the connection to its host's. A
// stream of it is taken for the caller, who may be about to call by gRPC.
func (o *origins) newH2Conn(h *originHost, tc *tls.Conn, grpc bool) (*h2Conn, error) {
	c := &h2Conn{host: h, streams: 1, limit: 1}
	h.mu.Lock()
	if h.h2.streams > 0 { // what it said before, it will say again
		c.settled, c.limit = true, h.h2.streams
	}
	c.narrow = slices.ContainsFunc(h.h2.conns, func(k *h2Conn) bool { return !k.narrow })
	h.mu.Unlock()
	width := 0
	if c.narrow {
		width = 1
	}
	transport := o.h2[width]
	if grpc {
		transport = o.grpc[width]
	}
	var err error
	ctx := context.WithValue(o.p.ctx, handedKey{}, &settingsConn{Conn: tc, of: c})
	if c.cc, err = transport.NewClientConn(ctx, "http", h.target.String()); err != nil {
		tc.Close()
		return nil, err
	}
	h.spoken.Store(spokenH2)
	h.mu.Lock()
	h.h2.conns = append(h.h2.conns, c)
	c.pooled = true
	c.drop()
	h.h2.wake(c.limit-c.streams, nil)
	h.mu.Unlock()
	if o.p.ctx.Err() != nil { // nobody may be left to close it
		c.close()
	}
	return c, nil
}

// speakH2 makes a transport take connections for HTTP/2 that are handed to it:
// they have been dialled, and HTTP/2 chosen, already.
func speakH2(t *http.Transport) *http.Transport {
	t.Proxy, t.Protocols = nil, &http.Protocols{}
	t.Protocols.SetUnencryptedHTTP2(true) // it gets the inside of TLS
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(handedKey{}).(net.Conn), nil
	}
	return t
}

type handedKey struct{}

// settingsWait is how long others wait for what an origin says first. Those that
// speak HTTP/2 say it at once.
const settingsWait = time.Second

// lead is for a connection that somebody made for all who wait: until it is known
// how many can have it, nobody makes another.
func (c *h2Conn) lead() {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	c.leads = true
	if c.settled {
		c.follow()
		return
	}
	time.AfterFunc(settingsWait, func() { c.settle(0, false) })
}

// settle says how many streams the origin allows, if it did. It is called for
// each of its settings, and when it will not say.
func (c *h2Conn) settle(streams uint32, said bool) {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if said {
		c.limit = int(min(streams, streamsPerConn))
		h.h2.streams = c.limit
	}
	c.settled = true
	c.drop()
	c.follow()
}

// drop closes a connection on which nothing may be sent and nothing is under way:
// whatever waits on it would wait for ever, since net/http wakes nobody when more
// is allowed.
func (c *h2Conn) drop() {
	if c.pooled && c.limit == 0 && c.cc.InFlight() == 0 {
		c.host.h2.remove(c)
		go c.close() // which may wait for a dead socket
	}
}

// follow lets those who waited for the connection have it, or make another. When
// it takes no requests, all of them have tried it.
func (c *h2Conn) follow() {
	p := &c.host.h2
	if !c.leads {
		p.wake(max(1, c.limit-c.streams), nil)
		return
	}
	c.leads, p.dialing = false, false
	if c.limit == 0 {
		p.wake(len(p.waiting), errNoStreams)
		return
	}
	p.wake(max(1, c.limit-c.streams), nil)
}

// errNoStreams is for those who waited for a connection that takes no requests.
var errNoStreams = errors.New("the origin allows no requests on its connections")

// pick takes a stream of the connection that has the fewest, nil when all that
// there are have as many as they may. It takes none of not's.
func (h *originHost) pick(now time.Time, not *h2Conn) *h2Conn {
	for {
		h.mu.Lock()
		h.used = now
		c := h.h2.free(not)
		if c != nil {
			c.streams++
			h.h2.next()
		}
		h.mu.Unlock()
		// What ended before its first request, net/http lets take one, to
		// fail it.
		if c == nil || !c.ended() && c.cc.Available() > 0 {
			return c
		}
		c.turnedDown()
	}
}

// next is called when a stream was taken: whoever is woken for it without need
// wakes the next, until one finds that there has to be another connection.
func (p *h2Pool) next() {
	if len(p.waiting) > 0 && !p.dialing && (p.free(nil) != nil || p.wants()) {
		p.wake(1, nil)
	}
}

// wants reports whether there may be another connection: there are few that take
// requests, now or when one ends.
func (p *h2Pool) wants() bool {
	able := 0
	for _, c := range p.conns {
		if !c.full && c.limit > 0 {
			able++
		}
	}
	return able < h2ConnsPerHost && len(p.conns) < 2*h2ConnsPerHost
}

func (p *h2Pool) free(not *h2Conn) (best *h2Conn) {
	for _, c := range p.conns {
		if c == not || c.full || c.streams >= c.limit {
			continue
		}
		if best == nil || best.narrow && !c.narrow || best.narrow == c.narrow && c.streams < best.streams {
			best = c
		}
	}
	return best
}

// turnedDown is for a connection that does not take another request: it has
// ended, is about to, or streams that were given up count until the origin has
// shown that it is there.
func (c *h2Conn) turnedDown() {
	ended := c.ended() || c.cc.InFlight() == 0 && c.cc.Available() == 0
	h := c.host
	h.mu.Lock()
	c.full = true
	hook := !ended && !c.hooked
	c.hooked = c.hooked || hook
	if ended {
		h.h2.remove(c)
	}
	c.left()
	h.mu.Unlock()
	if hook {
		c.cc.SetStateHook(func(*http.ClientConn) { c.changed() })
	}
	if !ended && c.cc.Available() > 0 { // since before it was hooked
		c.changed()
	}
}

// changed is called when the connection may take requests again, or has ended.
func (c *h2Conn) changed() {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	c.full = false
	h.h2.wake(max(1, c.limit-c.streams), nil)
}

// release gives a stream back.
func (c *h2Conn) release() {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = time.Now()
	c.drop()
	c.left()
}

// left is for whoever had a stream. The next one is woken also when there is
// none to have: there may have to be another connection.
func (c *h2Conn) left() {
	c.streams--
	if c.streams == 0 && !c.pooled {
		go c.close()
	}
	c.host.h2.wake(1, nil)
}

func (p *h2Pool) remove(c *h2Conn) {
	c.pooled = false
	p.conns = slices.DeleteFunc(p.conns, func(k *h2Conn) bool { return k == c })
}

// deserted reports whether nothing would be lost with the pool.
func (p *h2Pool) deserted() bool {
	p.conns = slices.DeleteFunc(p.conns, func(c *h2Conn) bool { return c.streams == 0 && c.ended() })
	return len(p.conns) == 0 && !p.dialing && len(p.waiting) == 0
}

// wake lets up to n of those who wait look again, or tells them why not to.
func (p *h2Pool) wake(n int, err error) {
	n = max(0, min(n, len(p.waiting)))
	for _, w := range p.waiting[:n] {
		w <- err
	}
	p.waiting = slices.Delete(p.waiting, 0, n)
}

// join connects to an origin, for all who want to, or waits for whoever does. It
// returns no connection when it is worth looking again.
func (h *originHost) join(ctx context.Context, x *exchange, a *attempts) (*originConn, *h2Conn, error) {
	turn, first := h.queue(a.not)
	if first {
		h1, h2, err := h.connect(ctx, x, false)
		if h2 != nil {
			h2.lead()
		} else {
			h.connected(err)
		}
		return h1, h2, err
	}
	if turn == nil {
		return nil, nil, nil
	}
	a.not = nil // when all connections are in use, it has to be one of them
	ctx, end := x.cancel.context(ctx)
	var err error
	select {
	case err = <-turn:
	case <-ctx.Done():
	}
	if gone := ctx.Err() != nil; !end() || gone {
		h.leave(turn)
		return nil, nil, context.Canceled
	}
	if err == nil && h.spoken.Load() == spokenH1 {
		h.leave(turn) // it will not look for a stream
	}
	if err == errNoStreams {
		if a.over++; a.over < maxAttempts {
			err = nil
		}
	}
	return nil, nil, err
}

// queue is true for whoever is to connect. Others get a channel that says when to
// look again, with why there will be nothing to find, or nil for now.
func (h *originHost) queue(not *h2Conn) (turn chan error, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.h2
	switch {
	case p.free(not) != nil: // since it was looked for
		return nil, false
	case !p.dialing && p.wants():
		p.dialing = true
		return nil, true
	}
	turn = make(chan error, 1)
	p.waiting = append(p.waiting, turn)
	return turn, false
}

// leave takes who has been waiting out of the queue. If it was their turn, it is
// the next one's.
func (h *originHost) leave(turn chan error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.h2.waiting)
	h.h2.waiting = slices.DeleteFunc(h.h2.waiting, func(w chan error) bool { return w == turn })
	if len(h.h2.waiting) == n {
		h.h2.wake(1, nil)
	}
}

// connected says what became of a connecting that others wait for, when that is
// no HTTP/2 connection.
func (h *originHost) connected(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &h.h2
	p.dialing = false
	switch {
	case err == nil:
		p.wake(len(p.waiting), nil) // to connect each for itself
	case err == context.Canceled || len(p.conns) > 0:
		p.wake(1, nil)
	default:
		p.wake(len(p.waiting), err)
	}
}
