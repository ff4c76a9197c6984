package proxy

import (
	"net"
	"sync"
	"syscall"
)

// bulkConn is what TLS runs over. TLS moves one record of at most 16 KiB with
// each call; where a body is large, this lets several share a system call, and
// one wake-up of whoever waits at the other end.
type bulkConn struct {
	net.Conn

	// hurry makes a Read that would have to wait fail with errWouldWait, and dry
	// every Read, so that TLS gives what it has read already and no more. They
	// belong to whoever reads.
	hurry bool
	dry   bool
	raw   syscall.RawConn       // for a Read in a hurry
	try   func(fd uintptr) bool // reads into p
	p     []byte
	n     int
	err   error

	mu   sync.Mutex // guards held: TLS may answer a key update while a body is written
	held *[]byte    // records that wait for send, nil when they go out at once
}

// socketOf finds the socket below what the proxy puts around connections, nil if
// there is none. ahead says that some of what came has been taken off it.
func socketOf(c net.Conn) (s syscall.Conn, ahead bool) {
	for {
		switch inner := c.(type) {
		case *bulkConn:
			c = inner.Conn
		case *buffered:
			ahead = ahead || len(inner.ahead) > 0
			c = inner.Conn
		default:
			s, _ = c.(syscall.Conn)
			return s, ahead
		}
	}
}

// errWouldWait is a passing error, which TLS does not take for the end.
var errWouldWait net.Error = wouldWait{}

type wouldWait struct{}

func (wouldWait) Error() string   { return "nothing to read yet" }
func (wouldWait) Timeout() bool   { return true }
func (wouldWait) Temporary() bool { return true }

// Read implements net.Conn.
func (c *bulkConn) Read(p []byte) (int, error) {
	if c.dry {
		return 0, errWouldWait
	}
	if !c.hurry {
		return c.Conn.Read(p)
	}
	if c.raw == nil && !c.prepare() {
		return 0, errWouldWait
	}
	c.p = p
	if err := c.raw.Read(c.try); err != nil {
		return 0, err
	}
	c.p = nil
	switch {
	case c.err == syscall.EAGAIN || c.err == syscall.EINTR:
		return 0, errWouldWait
	case c.err != nil, c.n == 0:
		return 0, errWouldWait // a patient Read says what it is
	}
	return c.n, nil
}

// prepare readies a connection for hurried reads, if it is a socket.
func (c *bulkConn) prepare() bool {
	s, ahead := socketOf(c)
	if s == nil || ahead {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	c.raw = raw
	c.try = func(fd uintptr) bool {
		c.n, c.err = readNow(fd, c.p)
		return true
	}
	return true
}

// recordBytes is the most that a TLS record carries (RFC 8446 section 5.1), and
// heldBytes what the records of a full copy buffer come to.
const (
	recordBytes = 16 << 10
	heldBytes   = copyBytes + 8*64
)

var heldBuffers = sync.Pool{New: func() any { b := make([]byte, 0, heldBytes); return &b }}

// Write implements net.Conn.
func (c *bulkConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if len(*c.held)+len(p) > heldBytes {
		if err := c.sendHeld(); err != nil {
			return 0, err
		}
	}
	*c.held = append(*c.held, p...)
	return len(p), nil
}

// hold keeps what is written until send.
func (c *bulkConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = heldBuffers.Get().(*[]byte)
}

func (c *bulkConn) send() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.sendHeld()
	heldBuffers.Put(c.held)
	c.held = nil
	return err
}

func (c *bulkConn) sendHeld() error {
	_, err := c.Conn.Write(*c.held)
	*c.held = (*c.held)[:0]
	return err
}

// CloseWrite implements the half close of the connection below.
func (c *bulkConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}
