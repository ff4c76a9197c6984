package proxy

import (
	"errors"
	"net/http"
	"time"

	"authsome/vault/secret"
)

// SetToken replaces the token. The old one is not accepted from here on.
// Connections that it let in are closed: idle ones at once, the others, open
// tunnels included, after grace. A proxy that was made without a token, or
// whose new token would be none, keeps what it has and returns an error: that
// decides which listeners it may serve.
func (p *Proxy) SetToken(token secret.Text, grace time.Duration) error {
	if token.IsZero() != p.cfg.Token.IsZero() {
		return errors.New("set token: a proxy cannot change between having a token and having none")
	}
	next := newAuthenticator(token)
	if old := p.auth.Load(); old.any || old.want == next.want {
		return nil
	}
	p.auth.Store(next)
	busy := p.closeStale(next, func(c *conn) bool { return c.idle.Load() })
	if busy == 0 {
		return nil
	}
	time.AfterFunc(grace, func() { p.closeStale(next, func(*conn) bool { return true }) })
	return nil
}

// closeStale closes the connections that another token than the current one let
// in and that may be closed now, and counts the rest.
func (p *Proxy) closeStale(current *authenticator, closable func(*conn) bool) (left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		switch with := c.token.Load(); {
		case with == nil, with == current, with == p.auth.Load():
		case closable(c):
			c.cut()
		default:
			left++
		}
	}
	return left
}

// acceptsToken reports whether the request carries the token, and remembers
// with which one the connection came in.
func (p *Proxy) acceptsToken(c *conn, r *http.Request) bool {
	a := p.auth.Load()
	if !a.accepts(r) {
		return false
	}
	c.token.Store(a)
	// SetToken first replaces the token and then looks at the connections: it
	// has seen this one, or it is seen here.
	return p.auth.Load() == a
}

// SetEgress replaces the policy for hosts without a credential, for requests
// and connections to come. Open tunnels stay.
func (p *Proxy) SetEgress(e Egress) { p.egress.Store(&e) }
