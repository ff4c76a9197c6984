package injector

import (
	"net/url"
	"path"
	"strings"
)

// forms are the readings that an origin might make of one request path. A
// credential is only attached when all of them route alike.
type forms struct {
	list [5]string
	n    int
}

func (f *forms) add(p string) {
	for _, have := range f.list[:f.n] {
		if have == p {
			return
		}
	}
	f.list[f.n] = p
	f.n++
}

// readings returns the forms of an escaped path: as written, decoded, cleaned,
// decoded and cleaned, and with path parameters dropped (RFC 3986 section 3.3;
// servlet containers read "/a/..;x/b" as "/b"). The common path, with nothing
// to decode or clean, has one reading and costs no allocation.
func readings(escaped string) (f forms, ok bool) {
	if escaped == "" {
		escaped = "/"
	}
	f.add(escaped)
	if plain(escaped) {
		return f, true
	}
	f.add(clean(escaped))
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return f, false
	}
	// A doubly encoded path decodes to one that still holds an escape; which
	// origins decode twice cannot be known, so it is one more reading.
	if twice, err := url.PathUnescape(decoded); err == nil && twice != decoded {
		f.add(clean(twice))
	}
	f.add(clean(decoded))
	f.add(clean(dropParameters(strings.ReplaceAll(decoded, `\`, "/"))))
	return f, true
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

// clean resolves dot segments and repeated slashes, keeping a final slash.
func clean(p string) string {
	c := path.Clean("/" + p)
	if c != "/" && strings.HasSuffix(p, "/") {
		c += "/"
	}
	return c
}

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

// under reports whether p lies at or below prefix, on a segment boundary. The
// empty prefix holds everything.
func under(p, prefix string) bool {
	return prefix == "" || strings.HasPrefix(p, prefix) && (len(p) == len(prefix) || p[len(prefix)] == '/')
}
