package injector

import (
	"net/http"
	"strings"
)

// candidates are the routes whose host and port match a target, most specific
// kind first. The array holds what any real table yields; more go to the heap.
type candidates struct {
	rank   [8]int
	routes [8][]*Route
	n      int
	more   []ranked
}

type ranked struct {
	rank   int
	routes []*Route
}

func (c *candidates) add(rank int, routes []*Route) {
	if len(routes) == 0 {
		return
	}
	if c.n < len(c.routes) {
		c.rank[c.n], c.routes[c.n] = rank, routes
		c.n++
		return
	}
	c.more = append(c.more, ranked{rank, routes})
}

func (c *candidates) empty() bool { return c.n == 0 }

// each calls f for every candidate with its rank; lower is more specific.
func (c *candidates) each(f func(rank int, r *Route)) {
	for i := range c.n {
		for _, r := range c.routes[i] {
			f(c.rank[i], r)
		}
	}
	for _, m := range c.more {
		for _, r := range m.routes {
			f(m.rank, r)
		}
	}
}

const (
	rankExact = 0
	// Wildcards rank by how many labels the wildcard stands for, so that
	// *.eu.example.com beats *.example.com. A host has at most 127 labels.
	rankWildcard = 1
	rankRegex    = 1000
)

func (t *Table) candidates(target Target, c *candidates) {
	c.add(rankExact, t.exact[target])
	if len(t.wildcard)+len(t.regex) == 0 || target.IsLiteral() {
		return
	}
	suffix, labels := target.Host, 0
	for {
		for _, r := range t.regex[suffix] {
			if r.port == target.Port && r.re.MatchString(target.Host) {
				c.add(rankRegex, r.route)
			}
		}
		_, rest, found := strings.Cut(suffix, ".")
		if !found {
			return
		}
		suffix = rest
		c.add(rankWildcard+labels, t.wildcard[Target{suffix, target.Port}])
		labels++
	}
}

// Match is what a table says of one request. At most one of Route and Tied is
// set; neither means that the request is forwarded as it is.
type Match struct {
	Route *Route
	Tied  []string // "provider/connection" of connections that tie
}

// Match finds the connection for a request to target. A path is refused with
// [ErrAmbiguousPath] when some reading of it, such as the decoded or the cleaned
// one, would route differently than it does as written. The request's
// [ConnectionHeader] picks among the connections in the table and is removed; a
// name that none of the candidates has is [ErrNotGranted].
func (t *Table) Match(target Target, r *http.Request) (Match, error) {
	pick := takeConnection(r.Header)
	var c candidates
	t.candidates(target, &c)
	if c.empty() {
		return Match{}, nil
	}
	written := r.URL.EscapedPath()
	if written == "" {
		written = "/"
	}
	best, err := c.best(written, pick)
	if !plain(written) && c.prefixed() {
		for _, p := range readings(written)[1:] {
			other, otherErr := c.best(p, pick)
			if other.route != best.route || len(other.tied) != len(best.tied) || otherErr != err {
				return Match{}, ErrAmbiguousPath
			}
		}
	}
	if err != nil || best.route == nil || best.route.Never {
		return Match{Tied: best.tied}, err
	}
	return Match{Route: best.route}, nil
}

// takeConnection removes the header and returns its value.
func takeConnection(h http.Header) string {
	v, ok := h[ConnectionHeader]
	if !ok {
		return ""
	}
	delete(h, ConnectionHeader)
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

type choice struct {
	route *Route
	tied  []string
}

// best picks the winner for one reading of the path: the longest path prefix,
// then the most specific host pattern.
func (c *candidates) best(p, pick string) (choice, error) {
	var win *Route
	var winRank int
	var tied []*Route
	named := pick == ""
	c.each(func(rank int, r *Route) {
		if !under(p, r.Pattern.PathPrefix) {
			return
		}
		if pick != "" && !r.Never {
			if r.Connection != pick {
				return
			}
			named = true
		}
		switch compare(win, winRank, r, rank) {
		case -1:
			win, winRank, tied = r, rank, tied[:0]
		case 0:
			tied = append(tied, r)
		}
	})
	if win != nil && win.Never {
		return choice{route: win}, nil
	}
	if !named && (win == nil || !win.Never) && c.claims(p) {
		return choice{}, ErrNotGranted
	}
	if len(tied) == 0 {
		return choice{route: win}, nil
	}
	return choice{tied: connectionNames(append(tied, win))}, nil
}

// prefixed reports whether the path of a request matters at all.
func (c *candidates) prefixed() bool {
	found := false
	c.each(func(_ int, r *Route) { found = found || r.Pattern.PathPrefix != "" })
	return found
}

// claims reports whether any connection would have been a candidate for p.
func (c *candidates) claims(p string) bool {
	found := false
	c.each(func(_ int, r *Route) { found = found || !r.Never && under(p, r.Pattern.PathPrefix) })
	return found
}

// compare returns -1 when r beats win, 1 when win beats r, and 0 for a tie
// between two connections. A Never route beats everything that is not longer.
func compare(win *Route, winRank int, r *Route, rank int) int {
	if win == nil {
		return -1
	}
	a, b := len(win.Pattern.PathPrefix), len(r.Pattern.PathPrefix)
	switch {
	case b > a:
		return -1
	case b < a:
		return 1
	case r.Never != win.Never:
		if r.Never {
			return -1
		}
		return 1
	case rank < winRank:
		return -1
	case rank > winRank:
		return 1
	case r.Never, r.Provider == win.Provider && r.Connection == win.Connection:
		return 1 // the same connection twice is no conflict
	}
	return 0
}
