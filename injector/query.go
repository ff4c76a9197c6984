package injector

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/google/martian/v3"
)

// query replaces one query parameter. Every other byte of the query is left as
// the client wrote it: origins sign and cache by it.
type query struct {
	name string
	pair string // name=value, escaped
}

var _ martian.RequestModifier = (*query)(nil)

func newQuery(name, value string) *query {
	return &query{name, url.QueryEscape(name) + "=" + url.QueryEscape(value)}
}

// ModifyRequest implements martian.RequestModifier.
func (q *query) ModifyRequest(r *http.Request) error {
	r.URL.User = nil
	r.URL.ForceQuery = false
	rest := r.URL.RawQuery
	if rest != "" {
		rest = without(rest, q.name)
	}
	if rest == "" {
		r.URL.RawQuery = q.pair
		return nil
	}
	r.URL.RawQuery = rest + "&" + q.pair
	return nil
}

// without removes every spelling of a parameter. Some origins split at ';' too,
// so a value may not hide one behind it.
func without(raw, name string) string {
	var b strings.Builder
	for len(raw) > 0 {
		end := strings.IndexAny(raw, "&;")
		part, sep := raw, ""
		if end >= 0 {
			part, sep = raw[:end], raw[end:end+1]
			raw = raw[end+1:]
		} else {
			raw = ""
		}
		key, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(key); err == nil && decoded == name {
			continue
		}
		b.WriteString(part)
		b.WriteString(sep)
	}
	return strings.TrimRight(b.String(), "&;")
}
