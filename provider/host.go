package provider

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxHostBytes is the length of the longest domain name in text, without the
// trailing dot (RFC 1035 section 2.3.4).
const maxHostBytes = 253

// maxHostInput bounds what is normalised at all: the cost of Punycode grows with
// the square of a label. UTF-8 takes up to four bytes for what ends as one.
const maxHostInput = 4 * (maxHostBytes + 1)

// maxLabelBytes is the length of the longest label (RFC 1035 section 2.3.4).
const maxLabelBytes = 63

// CanonicalHost returns the one spelling of a host by which hosts are compared:
// lower case, no trailing dot, internationalised names as xn-- labels (UTS 46,
// lookup), IP addresses as RFC 5952 writes them, without brackets, and an IPv6
// address that maps an IPv4 one as the latter.
//
// It rejects what is not a host alone (a port, userinfo, a zone), and the
// spellings of an IPv4 address that only some programs understand (127.1,
// 0x7f.0.0.1, 2130706433): one program's name is another's loopback. It
// accepts underscores and hyphens anywhere in an ASCII name, because such hosts
// exist and are reachable.
func CanonicalHost(h string) (string, error) {
	if h == "" {
		return "", errors.New("host is empty")
	}
	if len(h) > maxHostInput {
		return "", fmt.Errorf("host has more than %d bytes", maxHostInput)
	}
	if addr, ok, err := literal(h); ok || err != nil {
		return addr, err
	}
	name := h
	if !utf8.ValidString(h) {
		return "", fmt.Errorf("host %q is not UTF-8", h)
	}
	if !plainASCII(h) {
		mapped, err := idna.Lookup.ToASCII(h)
		if err == nil {
			// Once more: of some names, the result breaks rules (RFC 5893) that
			// are only applied to what comes in.
			name, err = idna.Lookup.ToASCII(mapped)
		}
		if err != nil || name != mapped {
			return "", fmt.Errorf("host %q is not a domain name (%v)", h, err)
		}
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("host %q: %w", h, err)
	}
	// Mapping turns full-width digits into digits, so addresses can show up
	// only now.
	if endsInNumber(name) {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", fmt.Errorf("host %q is an unusual spelling of an IPv4 address", h)
		}
		return addr.String(), nil
	}
	return name, nil
}

// literal reads an IPv6 address, with or without brackets.
func literal(h string) (addr string, ok bool, err error) {
	bracketed := strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]")
	if bracketed {
		h = h[1 : len(h)-1]
	}
	if !bracketed && !strings.Contains(h, ":") {
		return "", false, nil
	}
	ip, err := netip.ParseAddr(h)
	if err != nil || !ip.Is6() {
		return "", false, fmt.Errorf("host %q is neither a name nor an IPv6 address", h)
	}
	if ip.Zone() != "" {
		return "", false, fmt.Errorf("host %q has a zone", h)
	}
	return ip.Unmap().String(), true, nil
}

// plainASCII reports whether h needs no internationalised processing.
func plainASCII(h string) bool {
	for i := range len(h) {
		if h[i] >= 0x80 {
			return false
		}
		starts := i == 0 || h[i-1] == '.'
		if starts && len(h) >= i+4 && strings.EqualFold(h[i:i+4], "xn--") {
			return false
		}
	}
	return true
}

func checkName(name string) error {
	if name == "" || len(name) > maxHostBytes {
		return fmt.Errorf("a domain name has 1 to %d bytes (RFC 1035)", maxHostBytes)
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return errors.New("a label is empty")
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("%q does not occur in a domain name", c)
		}
		if label++; label > maxLabelBytes {
			return fmt.Errorf("a label has more than %d bytes (RFC 1035)", maxLabelBytes)
		}
	}
	if label == 0 {
		return errors.New("a label is empty")
	}
	return nil
}

// endsInNumber reports whether resolvers of the inet_aton family could take a
// name for an IPv4 address: its last label is a decimal or hexadecimal number
// (WHATWG URL, "ends in a number"). No top-level domain looks like that.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// isAddress reports whether a canonical host is an IP address.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isLoopback reports whether a canonical host is this machine.
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 section 6.3
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
