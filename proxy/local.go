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

// services are the addresses beyond the link at which clouds' hosts answer their
// machines, with credentials among other things.
var services = map[netip.Addr]bool{
	netip.MustParseAddr("fd00:ec2::254"):   true, // Amazon
	netip.MustParseAddr("fd20:ce::254"):    true, // Google
	netip.MustParseAddr("168.63.129.16"):   true, // Microsoft
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba
}

// wrappings are IPv6 prefixes behind which an IPv4 address stands, and where in
// the address it begins: a gateway takes it out again.
var wrappings = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible (RFC 4291 section 2.5.5.1)
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},  // NAT64 of a network's own (RFC 8215)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT (RFC 2765)
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4 (RFC 3056)
}

// ThisMachine reports whether an address is this machine: its loopback, one of
// its interfaces, or where the services of a cloud's hosts are, link-local and
// else. An IPv4 address counts in whatever wrapping it comes.
func ThisMachine(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsInterfaceLocalMulticast() || a.IsLinkLocalMulticast() || services[a] {
		return true
	}
	if a.Is4() && a.As4()[0] == 0 { // "this host on this network" (RFC 1122 section 3.2.1.3)
		return true
	}
	for _, w := range wrappings {
		if b := a.As16(); a.Is6() && w.prefix.Contains(a) && ThisMachine(netip.AddrFrom4([4]byte(b[w.at:w.at+4]))) {
			return true
		}
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
