package proxy

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// inlineBytes is the largest request body that is sent before the answer is
// looked at. A larger one is sent by a goroutine of its own, because an origin
// may answer before it has read everything.
const inlineBytes = 64 << 10

// sending is a request body on its way. A nil one is that of a request without.
type sending struct {
	done chan struct{} // nil: it was sent inline
	err  error         // valid once done is closed
	turn atomic.Int32  // whose the client's body is: nobody's yet, ours, or another attempt's
	free chan struct{} // closed when the origin has asked for the body
	once sync.Once
}

// sentInline is the sending of every body that was sent before the answer was
// looked at.
var sentInline = func() *sending {
	s := new(sending)
	s.turn.Store(bodyTaken)
	return s
}()

const (
	bodyUntouched = iota
	bodyTaken     // bytes of it have been used up, or will be
	bodyLeft
)

// take claims the client's body. It is false when the request was given up.
func (s *sending) take() bool { return s.turn.CompareAndSwap(bodyUntouched, bodyTaken) }

// leave reports whether the body is whole for another attempt, and sees to it
// that it remains so: whoever waits to send it here finds it taken away.
func (s *sending) leave() bool { return s == nil || s.turn.CompareAndSwap(bodyUntouched, bodyLeft) }

// parallel reports whether the body is sent by a goroutine of its own.
func (s *sending) parallel() bool { return s != nil && s.done != nil }

// proceed lets a body that waits for "100 Continue" go.
func (s *sending) proceed() {
	if s != nil && s.free != nil {
		s.once.Do(func() { close(s.free) })
	}
}

// failed returns what was wrong with the client's body, nil when nothing was
// or when it is still being sent.
func (s *sending) failed() error {
	if !s.parallel() {
		return nil
	}
	select {
	case <-s.done:
		if isBodyError(s.err) {
			return s.err
		}
	default:
	}
	return nil
}

// complete reports whether the whole body has been sent, without waiting.
func (s *sending) complete() bool {
	if !s.parallel() {
		return true
	}
	select {
	case <-s.done:
		return s.err == nil
	default:
		return false
	}
}

// send writes the request.
func (c *originConn) send(out *http.Request) (*sending, error) {
	writeHead(c.bw, out)
	if out.Body == nil {
		return nil, c.bw.Flush()
	}
	waits := len(out.Header["Expect"]) > 0
	if !waits && out.ContentLength > 0 && out.ContentLength <= inlineBytes {
		if err := c.copyBody(out); err != nil {
			return sentInline, err
		}
		return sentInline, c.bw.Flush()
	}
	if err := c.bw.Flush(); err != nil {
		return nil, err
	}
	s := &sending{done: make(chan struct{})}
	if waits {
		s.free = make(chan struct{})
	}
	go func() {
		if s.free != nil {
			wait := time.NewTimer(continueTimeout)
			select {
			case <-s.free:
			case <-wait.C: // an origin that does not know Expect waits for the body
			}
			wait.Stop()
		}
		s.err = errBodyClosed
		if s.take() {
			if s.err = c.copyBody(out); s.err == nil {
				s.err = c.bw.Flush()
			}
		}
		close(s.done)
		if s.failed() != nil {
			c.abort() // the origin waits for the rest, and we for its answer
		}
	}()
	return s, nil
}

// continueTimeout is how long a body waits for "100 Continue".
const continueTimeout = time.Second

// copyBody writes a request body, passing on each piece when it comes.
func (c *originConn) copyBody(r *http.Request) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	chunked, left := r.ContentLength < 0, r.ContentLength
	for {
		n, err := r.Body.Read(*buf)
		if n > 0 {
			left -= int64(n)
			if err := c.writePiece((*buf)[:n], chunked, left != 0); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !chunked {
		if left != 0 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	c.bw.WriteString("0\r\n")
	for name, values := range r.Trailer {
		for _, v := range values {
			c.bw.WriteString(name + ": " + v + "\r\n")
		}
	}
	_, err := c.bw.WriteString("\r\n")
	return err
}

// writePiece writes a piece of a body. What makes several TLS records, with the
// head if that has not gone yet, shares a system call.
func (c *originConn) writePiece(p []byte, chunked, flush bool) error {
	var wire *bulkConn
	if len(p) > c.bw.Available() {
		wire, flush = c.nc.NetConn().(*bulkConn), true
		wire.hold()
	}
	if chunked {
		var size [20]byte
		c.bw.Write(append(strconv.AppendInt(size[:0], int64(len(p)), 16), '\r', '\n'))
	}
	_, err := c.bw.Write(p)
	if chunked {
		_, err = c.bw.WriteString("\r\n")
	}
	if flush {
		err = c.bw.Flush()
	}
	if wire != nil {
		err = errors.Join(err, wire.send())
	}
	return err
}
