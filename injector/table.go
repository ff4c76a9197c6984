package injector

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sort"
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

// WantsBody reports whether the body of a request must be given to [Keep] before
// [Injector.Attach].
func (r *Route) WantsBody(req *http.Request) bool {
	return slices.ContainsFunc(r.Injects, func(in provider.Inject) bool { return in.Manner == provider.MannerSigV4 }) && wantsBody(req.Header)
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
