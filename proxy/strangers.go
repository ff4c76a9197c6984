package proxy

import (
	"strconv"
	"sync"
	"time"
)

// Whoever has not shown that they may use the proxy can be refused as often as
// they like, and the audit log is rotated: recording each time would let them
// wash away what others did. So only so many of their refusals get a line, and
// the next line says how many did not.
const (
	strangersBurst  = 1000
	strangersPerSec = 10
)

type strangers struct {
	mu     sync.Mutex // guards all below
	spent  float64    // lines of the burst that are used up
	at     time.Time  // when spent was true
	untold int
}

// line reports whether a refusal is to be recorded, and what its line has to say
// of those before it that were not.
func (s *strangers) line(now time.Time) (detail string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent = max(0, s.spent-now.Sub(s.at).Seconds()*strangersPerSec)
	s.at = now
	if s.spent+1 > strangersBurst {
		s.untold++
		return "", false
	}
	s.spent++
	if s.untold > 0 {
		detail = strconv.Itoa(s.untold) + " more were refused"
		s.untold = 0
	}
	return detail, true
}

// stranger reports whether the connection's client has yet to show that it may
// use the proxy.
func (c *conn) stranger() bool { return !c.allowed && c.token.Load() == nil }
