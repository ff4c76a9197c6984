package injector

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"authsome/provider"
)

// Target is where a client wants to go: a canonical host and a port. Two
// spellings of one place are one Target.
type Target struct {
	Host string // lower case, no trailing dot, IDNA A-labels; an IP without brackets
	Port uint16
}

// ErrBadTarget is returned when a target is no host, no port, or neither.
var ErrBadTarget = errors.New("bad target")

// ParseTarget reads "host", "host:port", "[v6]" or "[v6]:port". defaultPort is
// used when there is none; with defaultPort 0 a port is required.
func ParseTarget(s string, defaultPort uint16) (Target, error) {
	host, port, err := splitHostPort(s)
	if err != nil {
		return Target{}, err
	}
	t := Target{Port: defaultPort}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '+' || len(port) > 5 {
			return Target{}, fmt.Errorf("%w: port %.16q", ErrBadTarget, port)
		}
		t.Port = uint16(n)
	}
	if t.Port == 0 {
		return Target{}, fmt.Errorf("%w: no port", ErrBadTarget)
	}
	if t.Host, err = provider.CanonicalHost(host); err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrBadTarget, err)
	}
	return t, nil
}

// splitHostPort separates an optional port. Unlike net.SplitHostPort it takes a
// host without one, and it refuses an IPv6 address without brackets rather than
// guess where the address ends.
func splitHostPort(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", fmt.Errorf("%w: missing ']'", ErrBadTarget)
		}
		host, rest := s[1:end], s[end+1:]
		if !strings.Contains(host, ":") {
			return "", "", fmt.Errorf("%w: brackets without an IPv6 address", ErrBadTarget)
		}
		if rest == "" {
			return host, "", nil
		}
		if rest[0] != ':' || len(rest) == 1 {
			return "", "", fmt.Errorf("%w: text after ']'", ErrBadTarget)
		}
		return host, rest[1:], nil
	}
	host, port, found := strings.Cut(s, ":")
	if found && (port == "" || strings.Contains(port, ":")) {
		return "", "", fmt.Errorf("%w: port", ErrBadTarget)
	}
	return host, port, nil
}

// String returns host:port, with brackets round an IPv6 address.
func (t Target) String() string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// IsLiteral reports whether the host is an IP address or a loopback name: such
// a target is only matched by a definition that names it exactly.
func (t Target) IsLiteral() bool {
	if t.Host == "localhost" || strings.HasSuffix(t.Host, ".localhost") {
		return true
	}
	// An IPv4 literal ends in a digit and an IPv6 literal has a colon; most
	// hosts are neither, and need not be parsed to know it.
	if last := t.Host[len(t.Host)-1]; (last < '0' || last > '9') && !strings.Contains(t.Host, ":") {
		return false
	}
	_, err := netip.ParseAddr(t.Host)
	return err == nil
}
