package injector

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"authsome/provider"

	"github.com/google/martian/v3"
)

// Route sends the requests that its pattern matches to one connection. A Route
// belongs to one table and must not be changed once it is in it.
type Route struct {
	Provider   string
	Connection string
	Pattern    provider.HostPattern
	Injects    []provider.Inject
	Headers    map[string]string // set only when the request lacks them

	// Refreshable says that a credential which the origin rejects may have a
	// newer one.
	Refreshable bool

	// Never marks the provider's own authorization and token endpoints: what
	// matches is forwarded as it is, because the credential must not be sent
	// where credentials are made.
	Never bool

	applied atomic.Pointer[applied]
}

// applied is the modifier built for one credential value.
type applied struct {
	credential string
	modifier   martian.RequestModifier
}

// Table is an immutable route table.
type Table struct {
	exact    map[Target][]*Route
	wildcard map[Target][]*Route      // Target.Host is the suffix without "*."
	regex    map[string][]*regexRoute // by literal registrable domain
	granted  map[grant]struct{}
	hosts    int
	ties     []Tie
}

type grant struct{ provider, connection string }

type regexRoute struct {
	re    *regexp.Regexp
	port  uint16
	route []*Route // the one route, in the shape that candidates take
}

// Tie is a set of connections that claim the same requests. None of them is
// used: guessing would send one account's credential in place of another's.
type Tie struct {
	Where       string   // the host_url they share
	Connections []string // "provider/connection", sorted
}

// NewTable builds a table. Routes that claim the same host, port and path with
// the same kind of pattern are reported by [Table.Ties].
func NewTable(routes []*Route) *Table {
	t := &Table{
		exact:    make(map[Target][]*Route),
		wildcard: make(map[Target][]*Route),
		regex:    make(map[string][]*regexRoute),
		granted:  make(map[grant]struct{}),
	}
	for _, r := range routes {
		t.granted[grant{r.Provider, r.Connection}] = struct{}{}
		key := Target{Host: r.Pattern.Host, Port: r.Pattern.Port}
		switch r.Pattern.Kind {
		case provider.Exact:
			t.exact[key] = append(t.exact[key], r)
		case provider.Wildcard:
			t.wildcard[key] = append(t.wildcard[key], r)
		case provider.Regex:
			s := r.Pattern.Suffix
			t.regex[s] = append(t.regex[s], &regexRoute{r.Pattern.Regexp, r.Pattern.Port, []*Route{r}})
		}
	}
	t.hosts = len(t.exact) + len(t.wildcard) + len(t.regex)
	t.ties = findTies(routes)
	return t
}

// Ties returns the claims that no request can settle, without a connection
// being named in the request.
func (t *Table) Ties() []Tie { return t.ties }

// Len returns the number of distinct host patterns.
func (t *Table) Len() int { return t.hosts }

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

// Covers reports whether any request to the target could get a credential, and
// so whether its connection has to be intercepted.
func (t *Table) Covers(target Target) bool {
	var c candidates
	t.candidates(target, &c)
	covered := false
	c.each(func(_ int, r *Route) { covered = covered || !r.Never })
	return covered
}

// Grants reports whether a connection has any route in the table.
func (t *Table) Grants(provider, connection string) bool {
	_, ok := t.granted[grant{provider, connection}]
	return ok
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

func connectionNames(routes []*Route) []string {
	names := make([]string, 0, len(routes))
	for _, r := range routes {
		names = append(names, r.Provider+"/"+r.Connection)
	}
	sort.Strings(names)
	return names
}

// findTies groups routes by what they claim.
func findTies(routes []*Route) []Tie {
	type claim struct {
		kind   provider.Kind
		host   string
		port   uint16
		prefix string
	}
	groups := make(map[claim][]*Route)
	for _, r := range routes {
		if r.Never {
			continue
		}
		k := claim{r.Pattern.Kind, r.Pattern.Host, r.Pattern.Port, r.Pattern.PathPrefix}
		if r.Pattern.Kind == provider.Regex {
			k.host = r.Pattern.Raw
		}
		clash := false
		for _, have := range groups[k] {
			clash = clash || have.Provider == r.Provider && have.Connection == r.Connection
		}
		if !clash {
			groups[k] = append(groups[k], r)
		}
	}
	var ties []Tie
	for _, g := range groups {
		if len(g) > 1 {
			ties = append(ties, Tie{Where: g[0].Pattern.Raw, Connections: connectionNames(g)})
		}
	}
	sort.Slice(ties, func(i, j int) bool { return ties[i].Where < ties[j].Where })
	return ties
}

// Ports returns the ports that the table has routes to, in order.
func (t *Table) Ports() []uint16 {
	seen := make(map[uint16]bool)
	for target := range t.exact {
		seen[target.Port] = true
	}
	for target := range t.wildcard {
		seen[target.Port] = true
	}
	for _, routes := range t.regex {
		for _, r := range routes {
			seen[r.port] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Hosts returns the hosts, or the domains that hold them, which the table has
// routes to: what a certificate authority has to be permitted to name.
func (t *Table) Hosts() []string {
	seen := make(map[string]bool)
	add := func(host string, routes []*Route) {
		for _, r := range routes {
			if !r.Never {
				seen[host] = true
			}
		}
	}
	for target, routes := range t.exact {
		add(target.Host, routes)
	}
	for target, routes := range t.wildcard {
		add(target.Host, routes)
	}
	for suffix := range t.regex {
		seen[suffix] = true
	}
	hosts := make([]string, 0, len(seen))
	for host := range seen {
		hosts = append(hosts, host)
	}
	sort.Strings(hosts)
	return hosts
}
