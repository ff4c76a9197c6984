package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"authsome/injector"
)

// errForbidden is why an origin is not connected to, see Config.Forbid.
var errForbidden = errors.New("the address may not be connected to")

// ThisMachine reports whether an address is this machine: its loopback, one of
// its interfaces, or link-local, where the services of a cloud's hosts are.
func ThisMachine(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsInterfaceLocalMulticast() || a.IsLinkLocalMulticast() {
		return true
	}
	own, err := net.InterfaceAddrs()
	for _, o := range own {
		if prefix, err := netip.ParsePrefix(o.String()); err == nil && prefix.Addr().Unmap() == a {
			return true
		}
	}
	return err != nil
}

// guarded reports whether the address of a target is to be looked at before it
// is connected to.
func (p *Proxy) guarded(t injector.Target) bool {
	return p.cfg.Forbid != nil && !p.egress.Load().names(t) && !p.cfg.Injector.Table().Covers(t)
}

// forbidden reports whether a target is, by what it is called, an address that
// may not be connected to. It is for an upstream proxy too, which resolves the
// other names itself.
func (p *Proxy) forbidden(t injector.Target) bool {
	if !p.guarded(t) {
		return false
	}
	if t.Host == "localhost" || strings.HasSuffix(t.Host, ".localhost") {
		return p.cfg.Forbid(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	a, err := netip.ParseAddr(t.Host)
	return err == nil && p.cfg.Forbid(a)
}

// guardKey marks a context in which dial looks at the address.
type guardKey struct{}

func guard(ctx context.Context) context.Context { return context.WithValue(ctx, guardKey{}, true) }

// control is a net.Dialer's, called with the address that a name was resolved
// to, so that no second look at the name can differ.
func (p *Proxy) control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if ctx.Value(guardKey{}) == nil {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil || p.cfg.Forbid(to.Addr()) {
		return errForbidden
	}
	return nil
}
