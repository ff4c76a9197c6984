package ca

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what an authority may vouch for.
type Config struct {
	// PermittedDNS are the hosts that leaves may name, lower-case ASCII. A name
	// permits its subdomains too: that is how the constraint is defined.
	PermittedDNS []string
	// PermittedIPs are single addresses that leaves may name. None excludes all.
	PermittedIPs []net.IP
	// Clock is the time source; nil means time.Now.
	Clock func() time.Time
	// Lifetime of the root; 0 means 30 days. For Enroll, what is asked for; 0
	// leaves it to the provisioner.
	Lifetime time.Duration
	// CacheEntries bounds the leaves kept in memory; 0 means 4096.
	CacheEntries int
	// Logger gets what happens in the background; nil discards it.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.CacheEntries <= 0 {
		cfg.CacheEntries = defaultCacheEntries
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Authority issues leaves. It is safe for concurrent use.
//
// All leaves of a root share one P-256 key. A key per leaf would protect
// nothing: they live in the same process, beside the root's own key.
type Authority struct {
	cfg     Config
	names   atomic.Pointer[constraints] // what Config permits: at most what the root does
	current atomic.Pointer[generation]  // what signs
	minted  atomic.Uint64

	// generate makes a new signer, for the names that are permitted now.
	generate func(context.Context) (*generation, error)
	enrolled bool // generate asks a fleet's authority, under whose root we are

	dir string     // where the roots are kept; "" means nowhere
	mu  sync.Mutex // guards roots, and current's replacement
	// roots are published besides the current one.
	roots roots
}

// New makes an authority whose key lives in memory only. It fails when a
// permitted name is not canonical.
func New(ctx context.Context, cfg Config) (*Authority, error) {
	a, err := newAuthority(cfg)
	if err != nil {
		return nil, err
	}
	g, err := a.generate(ctx)
	if err != nil {
		return nil, err
	}
	a.current.Store(g)
	return a, nil
}

// newAuthority returns an authority of the machine's own, still without a root.
func newAuthority(cfg Config) (*Authority, error) {
	a := &Authority{cfg: cfg.withDefaults()}
	names, err := newConstraints(cfg.PermittedDNS, cfg.PermittedIPs)
	if err != nil {
		return nil, err
	}
	a.names.Store(&names)
	a.generate = a.generateRoot
	return a, nil
}

func (a *Authority) generateRoot(ctx context.Context) (*generation, error) {
	lifetime := a.cfg.Lifetime
	if lifetime <= 0 {
		lifetime = defaultLifetime
	}
	root, key, err := newRoot(ctx, *a.names.Load(), a.cfg.Clock(), lifetime)
	if err != nil {
		return nil, err
	}
	return newGeneration(ctx, root, key, a.cfg.CacheEntries)
}

// Leaf returns the certificate for host, which must be canonical.
//
// It is minted on first use, kept for 24 h at most, and replaced in the
// background once two thirds of its life are over, so that no handshake waits
// for the replacement of a leaf that is still good. Callers that ask for one
// host at once share a mint; one that gives up (ctx) does not fail the others.
//
// It fails with ErrNotPermitted, ErrExpired or the context's error. The result
// is shared: do not modify it.
func (a *Authority) Leaf(ctx context.Context, host string) (*tls.Certificate, error) {
	e, err := a.entry(ctx, host)
	if err != nil {
		return nil, err
	}
	return e.leaf.Load().cert, nil
}

// entry returns host's cache entry, with a leaf that is valid now.
func (a *Authority) entry(ctx context.Context, host string) (*entry, error) {
	g := a.current.Load()
	if e := g.cache.get(host); e != nil {
		now, l := a.cfg.Clock().Unix(), e.leaf.Load()
		if now >= l.notBefore && now < l.deadline {
			if now >= l.renewAt && e.renewing.CompareAndSwap(false, true) {
				go a.renewLeaf(g, e)
			}
			return e, nil
		}
	}
	if !a.Permits(host) {
		return nil, fmt.Errorf("issue leaf for %q: %w", host, ErrNotPermitted)
	}
	return a.mint(ctx, g, host)
}

// mint waits for a new leaf, or for ctx.
func (a *Authority) mint(ctx context.Context, g *generation, host string) (*entry, error) {
	done := g.flight.DoChan(host, func() (any, error) {
		now := a.cfg.Clock()
		if e := g.cache.get(host); e != nil { // another flight landed meanwhile
			if l := e.leaf.Load(); now.Unix() >= l.notBefore && now.Unix() < l.deadline {
				return e, nil
			}
		}
		return a.issue(g, host, now)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("issue leaf for %q: %w", host, ctx.Err())
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*entry), nil
	}
}

func (a *Authority) issue(g *generation, host string, now time.Time) (*entry, error) {
	l, err := g.issue(host, now)
	if err != nil {
		return nil, err
	}
	a.minted.Add(1)
	return g.cache.put(host, l), nil
}

// renewLeaf replaces e's leaf. When that fails the old leaf serves on until its
// end, and the next lookup tries again.
func (a *Authority) renewLeaf(g *generation, e *entry) {
	defer e.renewing.Store(false)
	l, err := g.issue(e.host, a.cfg.Clock())
	if err != nil {
		a.cfg.Logger.Warn("renew leaf", "host", e.host, "error", err)
		return
	}
	a.minted.Add(1)
	e.leaf.Store(l)
}

// Permits reports whether Leaf would issue for host: whether it is canonical
// and inside the name constraints.
func (a *Authority) Permits(host string) bool {
	return a.names.Load().permits(host) && a.current.Load().limit.permits(host)
}

// RootPEM returns the roots that clients must trust, PEM encoded: the one that
// signs first, then those before and after it while a rotation is under way.
func (a *Authority) RootPEM() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := certPEM(a.current.Load().anchor)
	for _, cert := range a.roots.others() {
		out = append(out, certPEM(cert)...)
	}
	return out
}

// NotAfter returns when the certificate that signs now ends.
func (a *Authority) NotAfter() time.Time { return a.current.Load().signer.NotAfter }

// Stats returns how many leaves were minted since the start and how many are
// cached now.
func (a *Authority) Stats() (minted uint64, cached int) {
	return a.minted.Load(), a.current.Load().cache.len()
}
