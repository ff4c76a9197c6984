package proxy

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// age is how long ago something was. Some clocks stand still while the machine
// sleeps, and others can be set: it is what the one says that says more.
func age(now, at time.Time) time.Duration {
	return max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
}

// trustedFor is how recently a connection must have been in use for its path to
// the origin to be taken for granted. A laptop changes networks, and routers
// forget: no end of it is told, and the kernel sends a request again and again for
// a quarter of an hour before it gives up.
const trustedFor = time.Second

// doubt is for a connection that was idle: until it has answered again, the
// origin must acknowledge what it is sent, or have the kernel's questions
// acknowledged, within the time that an HTTP/2 connection has. Afterwards it may
// again leave its window full for as long as it likes.
func (c *originConn) doubt(idle time.Duration) {
	if idle >= trustedFor {
		c.doubted = giveUpAfter(c.nc.NetConn(), c.p.limits.Ping)
	}
}

func (c *originConn) trust() {
	if c.doubted {
		giveUpAfter(c.nc.NetConn(), 0)
		c.doubted = false
	}
}

// lost reports whether a connection has failed because nothing was acknowledged,
// with the error that says so: the kernel tells it to the reader or to the writer,
// and the other finds an end.
func (c *originConn) lost(err error, s *sending) (error, bool) {
	if c.doubted && s.parallel() && !errors.Is(err, syscall.ETIMEDOUT) {
		select {
		case <-s.done:
			if errors.Is(s.err, syscall.ETIMEDOUT) {
				err = s.err
			}
		case <-time.After(toldTime): // it may be the client's bytes that it waits for
		}
	}
	return err, errors.Is(err, syscall.ETIMEDOUT)
}

// toldTime is how long a writer has to say that a connection is lost.
const toldTime = time.Second

// distrust closes the connections that have been idle since before a request was
// sent: what it has found out is true of all.
func (h *originHost) distrust(sent time.Time) {
	h.mu.Lock()
	n := 0
	for n < len(h.idle) && h.idle[n].since.Before(sent) {
		n++
	}
	lost := slices.Clone(h.idle[:n])
	h.idle = slices.Delete(h.idle, 0, n)
	h.mu.Unlock()
	for _, c := range lost {
		c.close()
	}
}
