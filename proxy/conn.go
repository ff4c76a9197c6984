package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"authsome/injector"
)

// conn is one client connection, from its acceptance to its end. The
// connection that carries a tunnel's inside is the same conn with another rwc.
type conn struct {
	raw net.Conn // as accepted
	rwc net.Conn // what requests are read from: raw, or TLS over it
	br  *bufio.Reader
	bw  *bufio.Writer

	target  injector.Target               // of an intercepted connection; zero at the front
	secure  bool                          // the inside is TLS: the only place for a credential
	bound   bool                          // plaintext inside a tunnel: the target is CONNECT's
	allowed bool                          // the peer is trusted without a token
	checked bool                          // allowed has been decided
	gone    bool                          // the client has ended the connection
	host    atomic.Pointer[string]        // the Host spelling last found to be target
	ctx     context.Context               // ends with the connection
	watch   watch                         // of the request being served
	serving atomic.Pointer[canceller]     // of the HTTP/1 request being served, or nil
	w       h1Writer                      // of the request being served
	reads   time.Time                     // read deadline in force, zero for none
	writes  time.Time                     // write deadline in force, zero for none
	idle    atomic.Bool                   // waiting for a request: may be closed at once
	token   atomic.Pointer[authenticator] // accepted its last token; nil: came in without
	tunnel  atomic.Pointer[tunnel]        // that it carries, or nil
	streams streams                       // the HTTP/2 requests being served
	resets  *resetConn                    // of an HTTP/2 connection, or nil

	wire      *bulkConn       // below the inside's TLS, or nil
	transport *http.Transport // for its plaintext requests; nil: the proxy's
}

func newConn(nc net.Conn) *conn {
	c := &conn{raw: nc, rwc: nc, ctx: context.Background()}
	c.watch.c = c
	c.br = readers.Get().(*bufio.Reader)
	c.br.Reset(nc)
	c.bw = writers.Get().(*bufio.Writer)
	c.bw.Reset(nc)
	return c
}

// release returns the buffers; the connection must not be used afterwards.
func (c *conn) release() {
	c.br.Reset(nil)
	readers.Put(c.br)
	c.bw.Reset(nil)
	writers.Put(c.bw)
	c.br, c.bw = nil, nil
}

// lendWriter gives the write buffer to others while the connection waits: an
// idle connection costs what it cannot do without.
func (c *conn) lendWriter() {
	c.bw.Reset(nil)
	writers.Put(c.bw)
	c.bw = nil
}

// takeWriter gets a write buffer again.
func (c *conn) takeWriter() {
	c.bw = writers.Get().(*bufio.Writer)
	c.bw.Reset(c.rwc)
}

// lendBuffers and takeBuffers do the same with both buffers, for a connection
// that somebody else reads and writes.
func (c *conn) lendBuffers() {
	c.lendWriter()
	c.br.Reset(nil)
	readers.Put(c.br)
	c.br = nil
}

func (c *conn) takeBuffers() {
	c.takeWriter()
	c.br = readers.Get().(*bufio.Reader)
	c.br.Reset(c.rwc)
}

// over starts reading and writing through rwc, which wraps what was used so
// far. Bytes that are already buffered have to be in rwc's hands by now.
func (c *conn) over(rwc net.Conn) {
	c.rwc = rwc
	c.br.Reset(rwc)
	c.bw.Reset(rwc)
}

// isHost reports whether a Host was found to be the target before. The streams
// of an HTTP/2 connection share what was found.
func (c *conn) isHost(host string) bool {
	known := c.host.Load()
	return known != nil && *known == host
}

func (c *conn) setIdle(v bool) { c.idle.Store(v) }

// cut ends the connection from another goroutine, and what its request waits
// for: an origin that thinks would not notice that the client is closed.
func (c *conn) cut() {
	c.raw.Close()
	if k := c.serving.Load(); k != nil {
		k.cancel()
	}
}

// Deadlines are moved in steps of slack: arming a timer costs more than most of
// what it guards.
const slack = time.Second

// readBy sets the read deadline to about d from now. The time is not exact, but
// never earlier.
func (c *conn) readBy(d time.Duration) {
	at := time.Now().Add(d)
	if early := c.reads.Sub(at); early >= 0 && early < 2*slack {
		return
	}
	c.reads = at.Add(slack)
	if d < 10*slack {
		c.reads = at
	}
	c.rwc.SetReadDeadline(c.reads)
}

// writeBy does the same for writing.
func (c *conn) writeBy(d time.Duration) {
	at := time.Now().Add(d)
	if early := c.writes.Sub(at); early >= 0 && early < 2*slack {
		return
	}
	c.writes = at.Add(slack)
	c.rwc.SetWriteDeadline(c.writes)
}

// wakeReader makes a read that is under way fail. calm takes it back.
func (c *conn) wakeReader() { c.rwc.SetReadDeadline(time.Unix(1, 0)) }

// calm removes the deadlines.
func (c *conn) calm() {
	c.reads, c.writes = time.Time{}, time.Time{}
	c.rwc.SetDeadline(time.Time{})
}

// lingeringClose lets the client read an answer that was sent before all of
// its request was read: closing at once would reset the connection and could
// destroy the answer on its way. Many clients look for an answer only when they
// have sent everything.
func (c *conn) lingeringClose() {
	closeWrite(c.rwc)
	for end := time.Now().Add(lingerTime); time.Now().Before(end); {
		c.raw.SetReadDeadline(time.Now().Add(drainTime))
		if _, err := io.CopyN(io.Discard, c.raw, drainBytes); err != nil {
			return
		}
	}
}

// lingerTime is how long a client may go on to send what nobody wants, if it does
// so without a pause.
const lingerTime = 5 * time.Second

// closeWrite ends our half of a connection, if it has halves. A TLS connection
// sends close_notify, without which strict clients take the end for an attack.
func closeWrite(c net.Conn) { closeWriteOf(c) }

// closeWriteOf is closeWrite for what is no connection of its own.
func closeWriteOf(c any) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
	}
}

// buffered is a connection whose first bytes were read ahead.
type buffered struct {
	net.Conn
	ahead []byte
}

// takeAhead moves what br holds into a connection that yields it first.
func takeAhead(c net.Conn, br *bufio.Reader) net.Conn {
	n := br.Buffered()
	if n == 0 {
		return c
	}
	ahead := make([]byte, n)
	io.ReadFull(br, ahead) // cannot fail: the bytes are in the buffer
	return &buffered{c, ahead}
}

func (b *buffered) Read(p []byte) (int, error) {
	if len(b.ahead) > 0 {
		n := copy(p, b.ahead)
		if b.ahead = b.ahead[n:]; len(b.ahead) == 0 {
			b.ahead = nil
		}
		return n, nil
	}
	return b.Conn.Read(p)
}

// CloseWrite implements the half close of the connection below.
func (b *buffered) CloseWrite() error {
	closeWrite(b.Conn)
	return nil
}
