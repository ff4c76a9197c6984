package provider

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"
)

// Kind says how a [HostPattern] matches hosts.
type Kind int

// The kinds, most specific first.
const (
	Exact    Kind = iota // one host
	Wildcard             // every subdomain of a host, at any depth, but not the host
	Regex                // what a regular expression matches whole
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Exact:
		return "exact"
	case Wildcard:
		return "wildcard"
	case Regex:
		return "regex"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// defaultPort is the only port that an entry without one matches.
const defaultPort = 443

// HostPattern is a parsed host_url entry: which hosts, port and paths may get a
// credential.
type HostPattern struct {
	Kind Kind
	// Host is canonical. Wildcard: what follows "*.". Regex: "".
	Host string
	Port uint16
	// PathPrefix is decoded and clean, and does not end in a slash. It matches
	// on segment boundaries; "" matches every path.
	PathPrefix string
	// Regexp matches whole canonical hosts. Only for Regex.
	Regexp *regexp.Regexp
	// Suffix is a domain, at least a registrable one: every host that Regexp
	// matches is Suffix or ends in "." + Suffix. Only for Regex.
	Suffix string
	// Raw is the entry as written.
	Raw string
}

// MatchHost reports whether a canonical host is the pattern's. Addresses are
// matched by exact patterns only.
func (p HostPattern) MatchHost(host string) bool {
	switch p.Kind {
	case Exact:
		return host == p.Host
	case Wildcard:
		return strings.HasSuffix(host, "."+p.Host) && len(host) > len(p.Host)+1
	case Regex:
		return p.Regexp.MatchString(host)
	}
	return false
}

const regexPrefix = "regex:"

// ParseHostURL reads one host_url entry without templates. See the package's
// documentation of definitions (docs/providers.md) for the forms. The error
// says what to write instead.
func ParseHostURL(s string) (HostPattern, error) {
	p, err := parseHostURL(s)
	if err != nil || p.Kind != Regex {
		return p, err
	}
	p.Regexp, err = regexp.Compile(anchored(strings.TrimPrefix(s, regexPrefix)))
	if err != nil {
		return HostPattern{}, fmt.Errorf("%q: %w", s, err) // not reached: the analysis parsed it
	}
	return p, nil
}

// parseHostURL is ParseHostURL without the cost of compiling: validation needs
// the analysis only, and most patterns are never used in a process's life.
func parseHostURL(s string) (HostPattern, error) {
	p := HostPattern{Raw: s, Port: defaultPort}
	var err error
	switch {
	case s == "":
		err = errors.New("is empty; write a host such as api.example.com")
	case strings.HasPrefix(s, regexPrefix):
		p.Kind = Regex
		p.Suffix, err = regexSuffix(strings.TrimPrefix(s, regexPrefix))
	case strings.Contains(s, "://"):
		err = p.fromURL(s)
	case strings.ContainsAny(s, "/?#@") || hasPort(s):
		err = fmt.Errorf("%q has more than a host; write https://%s", s, s)
	default:
		err = p.setHost(s)
	}
	if err != nil {
		return HostPattern{}, err
	}
	return p, nil
}

func hasPort(s string) bool {
	_, _, err := net.SplitHostPort(s)
	return err == nil
}

// fromURL reads https://host[:port][/prefix]; the host may be a wildcard.
func (p *HostPattern) fromURL(s string) error {
	scheme, rest, _ := strings.Cut(s, "://")
	switch strings.ToLower(scheme) {
	case "https":
	case "http":
		return fmt.Errorf("%q: a credential is never sent over http; write https://%s", s, rest)
	default:
		return fmt.Errorf("%q: scheme %q; write https://", s, scheme)
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a URL: %w", s, errors.Unwrap(err))
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#") {
		return fmt.Errorf("%q: userinfo, query and fragment match nothing; write https://host:port/path", s)
	}
	if p.Port, err = port(u); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	if err := p.setHost(u.Hostname()); err != nil {
		return err
	}
	if p.PathPrefix, err = pathPrefix(u); err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	return nil
}

// setHost reads a host or a wildcard.
func (p *HostPattern) setHost(s string) error {
	suffix, wildcard := strings.CutPrefix(s, "*.")
	host, err := CanonicalHost(suffix)
	switch {
	case strings.Contains(suffix, "*"):
		return fmt.Errorf("%q: a * stands for whole labels at the start only; write *.example.com or %s…", s, regexPrefix)
	case err != nil:
		return err
	case strings.Contains(host, "_"):
		return fmt.Errorf("host %q has an underscore, which no certificate can name", s)
	}
	p.Host = host
	if !wildcard {
		return nil
	}
	p.Kind = Wildcard
	if isAddress(host) || isLoopback(host) {
		return fmt.Errorf("%q: addresses and localhost have no wildcards; write the host itself", s)
	}
	if !registrable(host) {
		return fmt.Errorf("%q: anybody can register a name under %s; write *.example.%s", s, host, host)
	}
	return nil
}

// singleOwner are public suffixes (of the list's private section) whose names
// all belong to one vendor, so that a wildcard on them is safe.
var singleOwner = map[string]bool{"googleapis.com": true}

// registrable reports whether a canonical domain belongs to one party: it is
// below a public suffix, not one itself.
func registrable(domain string) bool {
	if singleOwner[domain] {
		return true
	}
	_, err := publicsuffix.EffectiveTLDPlusOne(domain)
	return err == nil
}

func port(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0, errors.New("the port is empty; leave out the colon")
		}
		return defaultPort, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %s is not between 1 and 65535", text)
	}
	return uint16(n), nil
}

// pathPrefix is the URL's path in the form that requests are matched in. A path
// that has several readings is refused rather than cleaned: it would not mean
// what its author sees.
func pathPrefix(u *url.URL) (string, error) {
	prefix := strings.TrimSuffix(u.Path, "/")
	if prefix == "" {
		return "", nil
	}
	escaped := strings.ToLower(u.EscapedPath())
	switch {
	case strings.Contains(prefix, "*"):
		return "", errors.New("a path is a prefix already; remove the *")
	case strings.Contains(escaped, "%2f") || strings.Contains(escaped, "%5c") || strings.Contains(prefix, `\`):
		return "", errors.New("the path has an escaped slash or a backslash; write plain slashes")
	case strings.ContainsAny(prefix, "%?#") || strings.ContainsFunc(prefix, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
		return "", errors.New("the path has an escaped character that does not belong into one; write a plain path")
	case path.Clean(prefix) != prefix:
		return "", fmt.Errorf("the path is not clean; write %s", path.Clean(prefix))
	}
	return prefix, nil
}
