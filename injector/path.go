package injector

import (
	"slices"
	"strings"
)

// readings returns every form that an origin might match instead of a path as
// it is written: decoded once or twice, with backslashes for slashes, with path
// parameters dropped (RFC 3986 section 3.3; servlet containers read "/a/..;x/b"
// as "/b"), without what lenient decoders do not see (fold), with repeated slashes
// merged, with dot segments removed, and all of these together. Which of them an origin does cannot be known, and the order
// matters: RFC 3986 section 5.2.4 by the letter keeps the empty segments that
// most servers merge first. A credential is only attached when all forms route
// alike.
func readings(escaped string) []string {
	list := []string{escaped}
	add := func(p string) {
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	for _, step := range []func(string) string{
		dropParameters, removeDots, unescape, unescape, fold, slashes, dropParameters, mergeSlashes, removeDots,
	} {
		for _, p := range list[:len(list):len(list)] {
			add(step(p))
		}
	}
	return list
}

// plain reports whether a path reads the same to everybody.
func plain(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '%', ';', '\\':
			return false
		case '/':
			if i+1 < len(p) && (p[i+1] == '/' || p[i+1] == '.') {
				return false
			}
		}
	}
	return true
}

// unescape decodes the escapes that are well formed and leaves the others, as
// lenient origins do. A strict decoder would refuse the path.
func unescape(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if hi, lo := unhex(p[i+1]), unhex(p[i+2]); hi < 16 && lo < 16 {
				b = append(b, hi<<4|lo)
				i += 2
				continue
			}
		}
		b = append(b, p[i])
	}
	return string(b)
}

// unhex returns the value of a hexadecimal digit, 16 for anything else.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// fold reads a decoded path as the least strict do: it ends at what would have
// ended it undecoded, or ended a string in C, spaces and control characters are
// not there, and overlong UTF-8 (RFC 3629 section 10) stands for ASCII.
func fold(p string) string {
	if end := strings.IndexAny(p, "?#\x00"); end >= 0 {
		p = p[:end]
	}
	p = overlong.Replace(p) // first: Map takes what is no UTF-8 for U+FFFD
	if strings.IndexFunc(p, unseen) < 0 {
		return p
	}
	return strings.Map(func(r rune) rune {
		if unseen(r) {
			return -1
		}
		return r
	}, p)
}

func unseen(r rune) bool { return r <= ' ' || r == 0x7f }

var overlong = strings.NewReplacer("\xc0\xae", ".", "\xe0\x80\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`)

func slashes(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// dropParameters removes ";parameters" from every segment.
func dropParameters(p string) string {
	if !strings.Contains(p, ";") {
		return p
	}
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

func mergeSlashes(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}

// removeDots is remove_dot_segments of RFC 3986 section 5.2.4.
func removeDots(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}
	segments := strings.Split(p, "/")
	kept := segments[:0]
	for i, s := range segments {
		if s != "." && s != ".." {
			kept = append(kept, s)
			continue
		}
		if s == ".." && len(kept) > 1 {
			kept = kept[:len(kept)-1]
		}
		if i == len(segments)-1 {
			kept = append(kept, "")
		}
	}
	return strings.Join(kept, "/")
}

// under reports whether p lies at or below prefix, on a segment boundary. The
// empty prefix holds everything.
func under(p, prefix string) bool {
	return prefix == "" || strings.HasPrefix(p, prefix) && (len(p) == len(prefix) || p[len(prefix)] == '/')
}
