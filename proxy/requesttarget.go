package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// pathBytes are those that a path may have and that are the same once decoded
// (RFC 3986 section 3.3), and queryBytes those of a query.
var pathBytes, queryBytes = func() (path, query [256]bool) {
	for c := byte(' ') + 1; c < 0x7f; c++ {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		path[c] = letter || strings.IndexByte("/-_.~$&+,:;=@", c) >= 0
		query[c] = c != '#'
	}
	return path, query
}()

// plainTarget sets u to what requestTarget returns, for the targets that need
// no closer look. It is false for all others.
func plainTarget(target string, u *url.URL) bool {
	if target[0] != '/' || len(target) > 1 && target[1] == '/' {
		return false
	}
	end := 1
	for end < len(target) && pathBytes[target[end]] {
		end++
	}
	*u = url.URL{Path: target[:end]}
	if end == len(target) {
		return true
	}
	if target[end] != '?' || end+1 == len(target) {
		return false
	}
	u.RawQuery = target[end+1:]
	for i := range len(u.RawQuery) {
		if !queryBytes[u.RawQuery[i]] {
			return false
		}
	}
	return true
}

// requestTarget parses the four forms of RFC 9112 section 3.2.
func requestTarget(method, target string) (*url.URL, error) {
	if target == "" {
		return nil, fmt.Errorf("%w: request target", errHead)
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return nil, fmt.Errorf("%w: request target", errHead)
		}
	}
	target = escapePath(target)
	switch {
	case method == http.MethodConnect:
		return &url.URL{Host: target}, nil
	case target == "*" && method == http.MethodOptions:
		return &url.URL{Path: "*"}, nil
	case target[0] == '/' && len(target) > 1 && target[1] == '/':
		// url.Parse would read "//host/path" as an authority.
		u, err := url.ParseRequestURI("http://h" + target)
		if err != nil {
			return nil, fmt.Errorf("%w: request target", errHead)
		}
		u.Scheme, u.Host = "", ""
		return u, nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Opaque != "" || u.Host == "" && target[0] != '/' {
		return nil, fmt.Errorf("%w: request target", errHead)
	}
	return u, nil
}

// escapePath escapes what RFC 3986 does not allow in a path. Given a path with
// such a byte, net/url forgets how all of it was written, and "%2F" becomes "/".
func escapePath(target string) string {
	const odd = "\"<>\\^`{|}"
	path, query, found := strings.Cut(target, "?")
	if !strings.ContainsAny(path, odd) {
		return target
	}
	var b strings.Builder
	for i := range len(path) {
		if strings.IndexByte(odd, path[i]) >= 0 {
			fmt.Fprintf(&b, "%%%02X", path[i])
		} else {
			b.WriteByte(path[i])
		}
	}
	if found {
		b.WriteString("?" + query)
	}
	return b.String()
}
