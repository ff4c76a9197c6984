package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// noHost is the only name permitted when the configuration names none. A root
// without a DNS constraint would vouch for every host, and "" as an excluded
// name is read differently from one client to the next. The name can never be
// looked up (RFC 6761 section 6.4).
const noHost = "authsome.invalid"

// constraints are the names that a root may vouch for. They are immutable.
type constraints struct {
	dns map[string]struct{} // a name here permits itself and its subdomains
	ips map[netip.Addr]struct{}
}

func newConstraints(dns []string, ips []net.IP) (constraints, error) {
	c := constraints{dns: map[string]struct{}{}, ips: map[netip.Addr]struct{}{}}
	for _, name := range dns {
		if !validDNS(name) {
			return constraints{}, fmt.Errorf("permit host %q: not a lower-case ASCII host name", name)
		}
		c.dns[name] = struct{}{}
	}
	for _, ip := range ips {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return constraints{}, fmt.Errorf("permit address %q: not an IP address", ip.String())
		}
		c.ips[addr.Unmap()] = struct{}{}
	}
	for name := range c.dns { // a subdomain of a permitted name adds nothing
		if _, parent, ok := strings.Cut(name, "."); ok && c.permitsDNS(parent) {
			delete(c.dns, name)
		}
	}
	return c, nil
}

// constraintsOf reads back what a root's certificate permits.
func constraintsOf(root *x509.Certificate) (constraints, error) {
	if !root.PermittedDNSDomainsCritical || len(root.PermittedDNSDomains) == 0 {
		return constraints{}, fmt.Errorf("read root %q: it has no critical name constraints", root.Subject.CommonName)
	}
	var ips []net.IP
	for _, n := range root.PermittedIPRanges {
		ips = append(ips, n.IP)
	}
	names := slices.DeleteFunc(slices.Clone(root.PermittedDNSDomains), func(s string) bool { return s == noHost })
	return newConstraints(names, ips)
}

// apply writes the constraints into the template of a root.
//
// An address family without a permitted address is excluded as a whole, also
// when the other family permits some: clients differ on whether a permitted
// IPv4 address says anything about IPv6.
func (c constraints) apply(root *x509.Certificate) {
	root.PermittedDNSDomainsCritical = true
	root.PermittedDNSDomains = c.names()
	if len(root.PermittedDNSDomains) == 0 {
		root.PermittedDNSDomains = []string{noHost}
	}
	root.PermittedIPRanges, root.ExcludedIPRanges = nil, nil
	families := map[int]bool{}
	for _, addr := range c.addrs() {
		bits := addr.BitLen()
		families[bits] = true
		root.PermittedIPRanges = append(root.PermittedIPRanges,
			&net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, bits)})
	}
	for _, size := range []int{net.IPv4len, net.IPv6len} {
		if !families[8*size] {
			root.ExcludedIPRanges = append(root.ExcludedIPRanges,
				&net.IPNet{IP: make(net.IP, size), Mask: make(net.IPMask, size)})
		}
	}
}

func (c constraints) names() []string {
	names := make([]string, 0, len(c.dns))
	for name := range c.dns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c constraints) addrs() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(c.ips))
	for addr := range c.ips {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// permits reports whether a leaf for host satisfies the constraints. It costs
// one map lookup per label, whatever the number of permitted names.
func (c constraints) permits(host string) bool {
	if addr, ok := canonicalIP(host); ok {
		_, ok := c.ips[addr]
		return ok
	}
	return validDNS(host) && c.permitsDNS(host)
}

func (c constraints) permitsDNS(name string) bool {
	for {
		if _, ok := c.dns[name]; ok {
			return true
		}
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return false
		}
		name = parent
	}
}

// covers reports whether everything that o permits is permitted here too.
func (c constraints) covers(o constraints) bool {
	for name := range o.dns {
		if !c.permitsDNS(name) {
			return false
		}
	}
	for addr := range o.ips {
		if _, ok := c.ips[addr]; !ok {
			return false
		}
	}
	return true
}

// canonicalIP parses an IP literal, and only its one canonical spelling: a
// mapped, zoned, bracketed or padded address is not the address it resembles.
func canonicalIP(host string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" || addr.Is4In6() || addr.String() != host {
		return netip.Addr{}, false
	}
	return addr, true
}

// validDNS accepts a lower-case ASCII host name of RFC 1123 shape; underscores
// are let through because names with them are in use. A last label that is
// numeric is refused: clients read such names as IPv4 addresses.
func validDNS(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	label := ""
	for rest, more := host, true; more; {
		label, rest, more = strings.Cut(rest, ".")
		if !validLabel(label) {
			return false
		}
	}
	return !numericLabel(label)
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, b := range []byte(label) {
		if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '_') {
			return false
		}
	}
	return true
}

// numericLabel reports a label that inet_aton takes for a number, such as
// "127" or "0x7f".
func numericLabel(label string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(label, digits) == ""
}

// sameHost compares a ClientHello's server name with a canonical host. Server
// names are case-insensitive ASCII (RFC 6066 section 3).
func sameHost(serverName, host string) bool {
	return len(serverName) == len(host) && bytes.EqualFold([]byte(serverName), []byte(host))
}
