// Package proxy is the listening side of authsome and the path of a request.
//
// # What is accepted
//
// A connection may carry CONNECT requests, absolute-form http:// requests, or
// both in turn. After CONNECT the first bytes decide: a TLS ClientHello to a
// host that a credential is routed to is intercepted; plaintext HTTP is
// forwarded and never gets a credential; anything else is tunnelled.
//
// # What is guaranteed
//
// A credential only leaves towards the host that the client named in CONNECT,
// in SNI and in Host or :authority alike, over TLS that verified that host's
// certificate. A request that should carry a credential and cannot is refused,
// never forwarded without; so is one whose audit line cannot be written. A host
// that no credential is routed to is tunnelled byte for byte, unseen.
//
// # What is refused
//
// Every refusal has a [Code]; the table in refuse.go gives its status, title
// and hint, and feeds the answer, the audit line and the metric alike.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"authsome/injector"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/prometheus/client_golang/prometheus"
)

// Authority gives intercepted connections their certificates.
type Authority interface {
	// TLSConfig returns the server side for one canonical host. It refuses a
	// ClientHello whose server name is another host. An error means that the
	// authority may not speak for the host.
	TLSConfig(ctx context.Context, host string, protos ...string) (*tls.Config, error)
}

// Recorder keeps the audit log. A request that is to be recorded reserves its
// line before it is forwarded, so that the line cannot fail afterwards.
type Recorder interface {
	Reserve() (audit.Ticket, error)
}

// Limits bound what one client or origin can hold. A zero field takes the
// default that its comment names.
type Limits struct {
	Connections        int           // open client connections; 10000
	RequestHeaderBytes int           // 64 KiB
	RequestHeader      time.Duration // for a head to arrive, and for the client's TLS handshake; 10 s
	Dial               time.Duration // connection and TLS handshake with the origin, each; 10 s
	ResponseHeader     time.Duration // from the origin; 0 is no limit, because models think for minutes
	IdleClient         time.Duration // between two requests; 2 min
	IdleUpstream       time.Duration // pooled origin connections; 90 s
	IdleStream         time.Duration // no byte of a body or tunnel in either direction; 10 min
	IdleUpgrade        time.Duration // the same for WebSocket and other upgrades; 30 min
	Ping               time.Duration // silence on an HTTP/2 connection to an origin before it is asked whether it is there, and how long it or an idle HTTP/1 connection may take nothing; 30 s
	PingGRPC           time.Duration // that silence on one that was made for gRPC; 6 min
}

// Config is what a Proxy needs. Injector, Authority and Audit must be set, and
// so must Token unless the listener is on the loopback and OpenLoopback is set.
type Config struct {
	Injector  *injector.Injector
	Authority Authority
	Audit     Recorder

	// Token is what a client sends as the password of Proxy-Authorization:
	// Basic (RFC 7617). The user name is not looked at.
	Token secret.Text

	// TrustPeer, when set, admits a connection without a token: it says
	// whether the socket at the other end belongs to a process that may use
	// this proxy. It is asked once per connection.
	TrustPeer func(client, proxy net.Addr) bool

	// OpenLoopback admits every client of a loopback listener. Whoever can
	// connect can spend the credentials: only for a network namespace that
	// holds nobody else, such as a pod.
	OpenLoopback bool

	Egress Egress // what happens to hosts without a credential

	// Forbid, when set, names addresses that clients are not connected to,
	// unless a credential is routed to the host or Egress names it. It is
	// [ThisMachine] for clients that have a network of their own: the proxy
	// would lend them its loopback.
	Forbid func(netip.Addr) bool

	// UpstreamProxy returns the proxy for a request to an origin, nil for
	// none. The URL's scheme is http, https or socks5. Nil means no proxy.
	UpstreamProxy func(origin *url.URL) (*url.URL, error)

	// Dial replaces the dialer, for tests and for the demo. It gets the
	// origin's or the upstream proxy's host:port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Resolve replaces the resolver that finds the addresses of hosts that
	// credentials are routed to; nil is the system's. For redirected
	// connections alone.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// RootCAs verify origins; nil is the system's roots.
	RootCAs *x509.CertPool

	Limits     Limits
	Registerer prometheus.Registerer // nil: metrics are kept but not exposed
	Logger     *slog.Logger          // nil: discarded
}

// Proxy serves listeners. It is safe for concurrent use.
type Proxy struct {
	cfg       Config
	limits    Limits
	log       *slog.Logger
	metrics   *metrics
	transport *http.Transport // to http:// origins
	origins   *origins        // to https:// origins
	auth      atomic.Pointer[authenticator]
	egress    atomic.Pointer[Egress]
	h2        *h2Server

	closing atomic.Bool
	slots   chan struct{} // one per open client connection
	ctx     context.Context
	cancel  context.CancelFunc
	active  sync.WaitGroup

	mu        sync.Mutex // guards listeners and conns
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}

	ties   onceLog // hosts whose ties were reported
	warned onceLog // refusals that were reported

	strangers, clients *refusalLines // of those without and with leave to use the proxy

	unrecorded atomic.Bool // the last refusal's audit line could not be written

	kept atomic.Int64 // bytes of bodies that are kept to be signed

	addresses addressBook // for redirected connections
}

// ErrOpenListener is returned by Serve for a listener that strangers could use.
var ErrOpenListener = errors.New("a listener without a token must be on the loopback")

// New returns a Proxy that serves nothing yet.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Injector == nil, cfg.Authority == nil, cfg.Audit == nil:
		return nil, errors.New("proxy: Injector, Authority and Audit are required")
	case cfg.Token.IsZero() && cfg.TrustPeer == nil && !cfg.OpenLoopback:
		return nil, errors.New("proxy: a Token is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Logger,
		listeners: make(map[net.Listener]struct{}), conns: make(map[*conn]struct{}),
		strangers: newStrangersLines(), clients: newClientsLines()}
	p.auth.Store(newAuthenticator(cfg.Token))
	p.egress.Store(&cfg.Egress)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.slots = make(chan struct{}, p.limits.Connections)
	p.transport = p.newTransport()
	p.origins = newOrigins(p)
	p.h2 = newH2Server(p)
	var err error
	if p.metrics, err = newMetrics(cfg.Registerer, p); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	cfg.Injector.Notify(p.follow)
	return p, nil
}

func (l Limits) withDefaults() Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if l.Connections == 0 {
		l.Connections = 10000
	}
	if l.RequestHeaderBytes == 0 {
		l.RequestHeaderBytes = 64 << 10
	}
	def(&l.RequestHeader, 10*time.Second)
	def(&l.Dial, 10*time.Second)
	def(&l.IdleClient, 2*time.Minute)
	def(&l.IdleUpstream, 90*time.Second)
	def(&l.IdleStream, 10*time.Minute)
	def(&l.IdleUpgrade, 30*time.Minute)
	def(&l.Ping, 30*time.Second)
	// gRPC's servers end a connection on which pings come more often than
	// every five minutes (gRPC proposal A8).
	def(&l.PingGRPC, 6*time.Minute)
	return l
}

// Shutdown stops accepting, lets requests in flight end until ctx does, and
// then closes what is left. It returns ctx's error when something was cut.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.closing.Store(true)
	p.mu.Lock()
	for l := range p.listeners {
		l.Close()
	}
	for c := range p.conns {
		if c.idle.Load() {
			c.raw.Close()
		}
	}
	p.mu.Unlock()
	go p.h2.shutdown(ctx)

	done := make(chan struct{})
	go func() { p.active.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.cancel()
	p.mu.Lock()
	for c := range p.conns {
		c.cut()
	}
	p.mu.Unlock()
	p.h2.close()
	<-done
	p.transport.CloseIdleConnections()
	return err
}
