package injector_test

import (
	"fmt"
	"slices"
	"testing"

	"authsome/injector"
)

func TestRouting(t *testing.T) {
	routes := table(t,
		claim{"exact", "api.example.com", false},
		claim{"port", "https://api.example.com:8443", false},
		claim{"v1", "https://api.example.com/v1", false},
		claim{"v1users", "https://api.example.com/v1/users", false},
		claim{"", "https://api.example.com/oauth/token", true},
		claim{"wild", "*.example.com", false},
		claim{"eu", "*.eu.example.com", false},
		claim{"wildv2", "https://*.example.com/v2", false},
		claim{"regex", `regex:tenant-[0-9]+\.example\.org`, false},
		claim{"regexany", `regex:.*\.example\.net`, false},
		claim{"literal", "10.1.2.3", false},
		claim{"v6", "https://[2001:db8::1]/", false},
		claim{"local", "https://localhost:9443", false},
		claim{"", "*.never.example.com", true},
	)
	for _, tt := range []struct{ target, path, want string }{
		// PITFALLS 4: a host has one spelling.
		{"API.EXAMPLE.COM:443", "/", "exact"},
		{"api.example.com.:443", "/", "exact"},
		{"api.example.com:443", "/", "exact"},
		// Ports are part of the claim.
		{"api.example.com:8443", "/", "port"},
		{"api.example.com:80", "/", ""},
		{"api.example.com:444", "/", ""},
		// The longest path prefix, on segment boundaries.
		{"api.example.com:443", "/v1", "v1"},
		{"api.example.com:443", "/v1/", "v1"},
		{"api.example.com:443", "/v1/x", "v1"},
		{"api.example.com:443", "/v10", "exact"},
		{"api.example.com:443", "/V1/x", "exact"},
		{"api.example.com:443", "/v1/users/7", "v1users"},
		{"api.example.com:443", "/v1/users2", "v1"},
		{"api.example.com:443", "/v1?x=/v1/users", "v1"},
		{"api.example.com:443", "/%76%31/x", "ambiguous"}, // "exact" as written, "v1" once decoded
		// The provider's own endpoints.
		{"api.example.com:443", "/oauth/token", ""},
		{"api.example.com:443", "/oauth/token/revoke", ""},
		{"api.example.com:443", "/oauth/tokens", "exact"},
		{"x.never.example.com:443", "/", ""}, // at one path length it beats every host
		// Wildcards: any depth, never the apex, never a part of a label.
		{"www.example.com:443", "/", "wild"},
		{"a.b.c.example.com:443", "/", "wild"},
		{"example.com:443", "/", ""},
		{"evilexample.com:443", "/", ""},
		{"example.com.evil.test:443", "/", ""},
		{"x.eu.example.com:443", "/", "eu"},
		{"x.y.eu.example.com:443", "/", "eu"},
		{"eu.example.com:443", "/", "wild"},
		{"www.example.com:8443", "/", ""},
		// A longer path wins over a closer host.
		{"api.example.com:443", "/v2/x", "wildv2"},
		{"x.eu.example.com:443", "/v2", "wildv2"},
		// Expressions match whole hosts.
		{"tenant-7.example.org:443", "/", "regex"},
		{"TENANT-7.example.org:443", "/", "regex"},
		{"tenant-x.example.org:443", "/", ""},
		{"a.tenant-7.example.org:443", "/", ""},
		{"tenant-7.example.org.evil.test:443", "/", ""},
		{"tenant-7.example.org:8443", "/", ""},
		{"a.example.net:443", "/", "regexany"},
		{"a.b.example.net:443", "/", "regexany"},
		{"evilexample.net:443", "/", ""},
		// Addresses and loopback by their exact name only.
		{"10.1.2.3:443", "/", "literal"},
		{"10.1.2.4:443", "/", ""},
		{"[2001:db8:0::1]:443", "/", "v6"},
		{"localhost:9443", "/", "local"},
		{"localhost:443", "/", ""},
		{"127.0.0.1:9443", "/", ""},
		{"unknown.test:443", "/", ""},
	} {
		if got := winner(t, routes, tt.target, tt.path, ""); got != tt.want {
			t.Errorf("%s%s: got %q, want %q", tt.target, tt.path, got, tt.want)
		}
	}
}

// A wildcard that stands for fewer labels is the more specific one.
func TestWildcardRanks(t *testing.T) {
	routes := table(t, claim{"c", "*.c.example.com", false}, claim{"b", "*.b.c.example.com", false},
		claim{"apex", "*.example.com", false}, claim{"regex", `regex:.*\.b\.c\.example\.com`, false})
	for target, want := range map[string]string{
		"x.b.c.example.com:443": "b", "x.y.b.c.example.com:443": "b", "b.c.example.com:443": "c",
		"x.c.example.com:443": "c", "c.example.com:443": "apex", "q.example.com:443": "apex",
	} {
		if got := winner(t, routes, target, "/", ""); got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}

// PITFALLS 2: an expression that any domain could satisfy is no route at all.
func TestSloppyExpressionsMakeNoRoute(t *testing.T) {
	routes := table(t, claim{"apis", `regex:(.*\.)?googleapis\.com`, false}, claim{"raw", `regex:raw\.githubusercontent\.com`, false})
	for target, want := range map[string]string{
		"storage.googleapis.com:443": "apis", "googleapis.com:443": "apis",
		"googleapis.evil.com:443": "", "googleapis.com.evil.com:443": "", "evilgoogleapis.com:443": "",
		"raw.githubusercontent.com:443": "raw", "evilgithubusercontent.com:443": "", "rawXgithubusercontent.com:443": "",
		"raw.githubusercontent.com.evil.com:443": "",
	} {
		if got := winner(t, routes, target, "/", ""); got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}

// PITFALLS 9: two claims to one request are settled by nobody, and reported.
func TestTies(t *testing.T) {
	routes := table(t,
		claim{"work", "api.example.com", false}, claim{"home", "api.example.com", false},
		claim{"third", "https://api.example.com/only", false},
		claim{"rx1", `regex:.*\.example\.org`, false}, claim{"rx2", `regex:.*\.example\.org`, false},
		claim{"single", "other.example.com", false}, claim{"single", "https://other.example.com/", false},
		claim{"w1", "*.example.net", false}, claim{"w2", "https://*.example.net/x", false})
	for _, tt := range []struct{ target, path, pick, want string }{
		{"api.example.com:443", "/", "", "tie"},
		{"api.example.com:443", "/", "work", "work"},
		{"api.example.com:443", "/", "home", "home"},
		{"api.example.com:443", "/", "nobody", "not granted"},
		{"api.example.com:443", "/only", "", "third"},
		{"api.example.com:443", "/only", "work", "work"},
		{"x.example.org:443", "/", "", "tie"},
		{"x.example.org:443", "/", "rx2", "rx2"},
		{"other.example.com:443", "/", "", "single"}, // the same connection twice is no conflict
		{"x.example.net:443", "/", "", "w1"},
		{"x.example.net:443", "/x", "", "w2"},
		{"uncovered.test:443", "/", "nobody", ""}, // a host of nobody's is not asked about
	} {
		if got := winner(t, routes, tt.target, tt.path, tt.pick); got != tt.want {
			t.Errorf("%s%s picking %q: got %q, want %q", tt.target, tt.path, tt.pick, got, tt.want)
		}
	}
	m, err := match(t, routes, "api.example.com:443", "/", "")
	if want := []string{"p/home", "p/work"}; err != nil || !slices.Equal(m.Tied, want) {
		t.Errorf("tied: got %v, %v, want %v", m.Tied, err, want)
	}
	var got []string
	for _, tie := range routes.Ties() {
		got = append(got, fmt.Sprint(tie.Where, tie.Connections))
	}
	want := []string{"api.example.com[p/home p/work]", `regex:.*\.example\.org[p/rx1 p/rx2]`}
	if !slices.Equal(got, want) {
		t.Errorf("Ties: got %q, want %q", got, want)
	}
}

// The name of a connection that is not among the routes must not fall back to
// one that is, and must not hide the provider's own endpoints.
func TestPickingAConnection(t *testing.T) {
	routes := table(t, claim{"work", "api.example.com", false}, claim{"", "https://api.example.com/token", true},
		claim{"home", "https://api.example.com/home", false})
	for _, tt := range []struct{ path, pick, want string }{
		{"/", "work", "work"},
		{"/", "home", "not granted"},
		{"/home", "home", "home"},
		{"/home", "work", "work"},
		{"/token", "work", ""},
		{"/token", "home", ""},
		{"/token", "nobody", ""},
		{"/x", "WORK", "not granted"},
	} {
		if got := winner(t, routes, "api.example.com:443", tt.path, tt.pick); got != tt.want {
			t.Errorf("%s picking %q: got %q, want %q", tt.path, tt.pick, got, tt.want)
		}
	}
}

func TestCovers(t *testing.T) {
	routes := table(t, claim{"a", "https://api.example.com/v1", false}, claim{"", "login.example.com", true},
		claim{"w", "*.wild.example.com", false}, claim{"r", `regex:r.*\.example\.org`, false}, claim{"l", "127.0.0.1", false})
	for in, want := range map[string]bool{
		"api.example.com:443": true, "API.example.com.:443": true, "api.example.com:80": false, "login.example.com:443": false,
		"x.wild.example.com:443": true, "wild.example.com:443": false, "r1.example.org:443": true, "x.example.org:443": false,
		"127.0.0.1:443": true, "127.0.0.2:443": false, "elsewhere.test:443": false,
	} {
		target, err := injector.ParseTarget(in, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := routes.Covers(target); got != want {
			t.Errorf("Covers(%s): got %v, want %v", in, got, want)
		}
	}
	if got, want := routes.Hosts(), []string{"127.0.0.1", "api.example.com", "example.org", "wild.example.com"}; !slices.Equal(got, want) {
		t.Errorf("Hosts: got %v, want %v", got, want)
	}
	if got := routes.Len(); got != 5 {
		t.Errorf("Len: got %d, want 5", got)
	}
}

// More patterns than the table's fixed candidates must still be weighed.
func TestManyCandidates(t *testing.T) {
	claims := []claim{{"exact", "https://a.b.c.d.e.f.g.h.i.example.com/deep", false}}
	for _, suffix := range []string{"example.com", "i.example.com", "h.i.example.com", "g.h.i.example.com", "f.g.h.i.example.com",
		"e.f.g.h.i.example.com", "d.e.f.g.h.i.example.com", "c.d.e.f.g.h.i.example.com", "b.c.d.e.f.g.h.i.example.com"} {
		claims = append(claims, claim{suffix, "*." + suffix, false})
	}
	claims = append(claims, claim{"deepest", "https://*.example.com/deep/er", false})
	routes := table(t, claims...)
	for path, want := range map[string]string{"/": "b.c.d.e.f.g.h.i.example.com", "/deep": "exact", "/deep/er/x": "deepest"} {
		if got := winner(t, routes, "a.b.c.d.e.f.g.h.i.example.com:443", path, ""); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
