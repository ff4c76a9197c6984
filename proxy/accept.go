package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"authsome/vault/secret"
)

// Serve accepts connections from l until Shutdown, after which it returns nil.
func (p *Proxy) Serve(l net.Listener) error {
	defer l.Close()
	if p.cfg.Token.IsZero() && !isLoopback(l.Addr()) {
		return ErrOpenListener
	}
	return p.accept(l, p.serveFront)
}

// accept gives each connection of l to serve.
func (p *Proxy) accept(l net.Listener, serve func(*conn)) error {
	p.mu.Lock()
	if p.closing.Load() { // Shutdown has closed the listeners that it knew
		p.mu.Unlock()
		return nil
	}
	p.listeners[l] = struct{}{}
	p.mu.Unlock()
	for {
		nc, err := l.Accept()
		if p.closing.Load() {
			if err == nil {
				nc.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors, most likely: others will be closed soon.
			p.log.Warn("accept connection", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		p.admit(nc, serve)
	}
}

// admit gives a connection its slot and goroutine, or turns it away.
func (p *Proxy) admit(nc net.Conn, serve func(*conn)) {
	c := newConn(nc)
	select {
	case p.slots <- struct{}{}:
	default:
		ref := refuse(CodeTooManyConnections, nil)
		p.report(c, nil, ref)
		nc.SetDeadline(time.Now().Add(drainTime))
		refuseDirectly(c.bw, ref, true)
		nc.Close()
		return
	}
	p.mu.Lock()
	if p.closing.Load() { // Shutdown has gone through conns already
		p.mu.Unlock()
		nc.Close()
		<-p.slots
		return
	}
	p.conns[c] = struct{}{}
	p.active.Add(1)
	p.mu.Unlock()
	closed := p.metrics.open("client")
	go func() {
		var cancel context.CancelFunc
		c.ctx, cancel = context.WithCancel(p.ctx)
		serve(c)
		cancel()
		nc.Close()
		c.release()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		<-p.slots
		closed() // the gauge says what still holds a slot
		p.active.Done()
	}()
}

// serveFront serves what comes before any TLS of ours.
func (p *Proxy) serveFront(c *conn) {
	p.serveH1(c, func(w *h1Writer, r *http.Request) bool {
		if !p.authenticated(c, r) {
			ref := refuse(CodeProxyAuthRequired, nil)
			p.report(c, r, ref)
			ref.write(w)
			return w.finish(nil)
		}
		r.Header.Del("Proxy-Authorization")
		switch {
		case r.Method == http.MethodConnect:
			return p.connect(c, w, r)
		case r.URL.IsAbs():
			return p.servePlain(c, w, r)
		}
		ref := refuse(CodeBadRequest, errors.New("origin-form at the proxy"))
		ref.Hint = "this is a proxy: send CONNECT, or a whole http:// URL"
		p.report(c, r, ref)
		ref.write(w)
		return w.finish(nil)
	})
}

// authenticator checks Proxy-Authorization in constant time.
type authenticator struct {
	want [sha256.Size]byte
	any  bool // no token is configured
}

func newAuthenticator(token secret.Text) *authenticator {
	return &authenticator{want: sha256.Sum256([]byte(token.Reveal())), any: token.IsZero()}
}

func (a *authenticator) accepts(r *http.Request) bool {
	v := r.Header["Proxy-Authorization"]
	if a.any || len(v) != 1 {
		return false
	}
	scheme, credentials, _ := strings.Cut(v[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return false
	}
	// net/http parses Basic credentials; it only looks at Authorization.
	basic := http.Request{Header: http.Header{"Authorization": {"Basic " + strings.TrimSpace(credentials)}}}
	_, password, ok := basic.BasicAuth()
	got := sha256.Sum256([]byte(password))
	return ok && subtle.ConstantTimeCompare(got[:], a.want[:]) == 1
}

// authenticated reports whether the client may use the proxy: by its token on
// this request, or by who it is.
func (p *Proxy) authenticated(c *conn, r *http.Request) bool {
	if p.acceptsToken(c, r) {
		return true
	}
	if !c.checked {
		c.checked = true
		c.allowed = p.cfg.OpenLoopback && isLoopback(c.raw.LocalAddr()) ||
			p.cfg.TrustPeer != nil && p.cfg.TrustPeer(c.raw.RemoteAddr(), c.raw.LocalAddr())
	}
	return c.allowed
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
