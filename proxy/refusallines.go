package proxy

import (
	"strconv"
	"sync"
	"time"
)

// refusalLines bounds the audit lines that refusals get. Whoever is refused need
// ask nobody else, and can be refused thousands of times a second; the log is
// rotated, and so they could wash away what happened before. What is over the
// bound has no line, and the next line says how many there were.
type refusalLines struct {
	burst, perSec float64

	mu     sync.Mutex // guards all below
	spent  float64    // lines of the burst that are used up
	at     time.Time  // when spent was true
	untold int
}

// Those who have not shown that they may use the proxy get few. An agent that
// runs wild has to be seen to do so, and is what the log is for.
func newStrangersLines() *refusalLines { return &refusalLines{burst: 1000, perSec: 10} }
func newClientsLines() *refusalLines   { return &refusalLines{burst: 10_000, perSec: 100} }

// next reports whether a refusal is to be recorded, and what its line has to say
// of those before it that were not.
func (l *refusalLines) next(now time.Time) (detail string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = max(0, l.spent-now.Sub(l.at).Seconds()*l.perSec)
	l.at = now
	if l.spent+1 > l.burst {
		l.untold++
		return "", false
	}
	l.spent++
	if l.untold > 0 {
		detail = strconv.Itoa(l.untold) + " more were refused"
		l.untold = 0
	}
	return detail, true
}

// refusalLines are those that the connection's client draws on.
func (c *conn) refusalLines(p *Proxy) *refusalLines {
	if c.stranger() {
		return p.strangers
	}
	return p.clients
}

// stranger reports whether the connection's client has yet to show that it may
// use the proxy.
func (c *conn) stranger() bool { return !c.allowed && c.token.Load() == nil }
