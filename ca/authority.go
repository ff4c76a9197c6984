package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
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
	// Lifetime of the root; 0 means 30 days.
	Lifetime time.Duration
	// CacheEntries bounds the leaves kept in memory; 0 means 4096.
	CacheEntries int
	// Logger gets what happens in the background; nil discards it.
	Logger *slog.Logger
}

// Authority issues leaves. It is safe for concurrent use.
type Authority struct{}

// New makes an authority whose key lives in memory only.
func New(ctx context.Context, cfg Config) (*Authority, error) { return nil, errors.ErrUnsupported }

// Leaf returns the certificate for host.
func (a *Authority) Leaf(ctx context.Context, host string) (*tls.Certificate, error) {
	return nil, ErrNotPermitted
}

// TLSConfig returns the server side of an intercepted connection to host.
func (a *Authority) TLSConfig(ctx context.Context, host string, protos ...string) (*tls.Config, error) {
	return nil, ErrNotPermitted
}

// RootPEM returns the root, PEM encoded.
func (a *Authority) RootPEM() []byte { return nil }

// Permits reports whether Leaf would issue for host.
func (a *Authority) Permits(host string) bool { return false }

// Stats returns how many leaves were minted and how many are cached.
func (a *Authority) Stats() (minted uint64, cached int) { return 0, 0 }
