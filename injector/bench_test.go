package injector_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"authsome/injector"
)

// sizes are numbers of providers. A lookup must cost the same with all of them.
var sizes = []int{10, 1_000, 10_000}

func large(t testing.TB, providers int) *injector.Table {
	claims := make([]claim, 0, providers+providers/10)
	for i := range providers {
		switch i % 10 {
		case 0:
			claims = append(claims, claim{"c", fmt.Sprintf("*.p%d.example.com", i), false})
		case 1:
			claims = append(claims, claim{"c", fmt.Sprintf(`regex:[a-z]+\.p%d-example\.com`, i), false})
		case 2:
			claims = append(claims, claim{"c", fmt.Sprintf("https://api.p%d.example.com/v1", i), false},
				claim{"", fmt.Sprintf("https://api.p%d.example.com/oauth/token", i), true})
		default:
			claims = append(claims, claim{"c", fmt.Sprintf("api.p%d.example.com", i), false})
		}
	}
	return table(t, claims...)
}

// lookups are one request of each kind, to the last provider of its kind.
func lookups(providers int) map[string]string {
	last := providers - 10
	return map[string]string{
		"exact":    fmt.Sprintf("api.p%d.example.com/v1/things/7", last+3),
		"wildcard": fmt.Sprintf("x.y.p%d.example.com/v1/things/7", last),
		"regex":    fmt.Sprintf("x.p%d-example.com/v1/things/7", last+1),
		"path":     fmt.Sprintf("api.p%d.example.com/v1/things/7", last+2),
		"none":     "api.elsewhere.example.net/v1/things/7",
	}
}

func prepared(t testing.TB, where string) (injector.Target, *http.Request) {
	t.Helper()
	u, err := url.Parse("https://" + where)
	if err != nil {
		t.Fatal(err)
	}
	target, err := injector.ParseTarget(u.Host, 443)
	if err != nil {
		t.Fatal(err)
	}
	return target, &http.Request{URL: u, Header: http.Header{"Accept": {"*/*"}}}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range sizes {
		routes := large(b, n)
		for kind, where := range lookups(n) {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				target, r := prepared(b, where)
				b.ReportAllocs()
				for b.Loop() {
					if m, err := routes.Match(target, r); err != nil || (m.Route == nil) != (kind == "none") {
						b.Fatal(m, err)
					}
				}
			})
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	in := injector.New(&source{value: "credential"})
	to := route(b, claim{"c", "api.example.com", false})
	r := request(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Attach(b.Context(), to, r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLookupMakesNoGarbage(t *testing.T) {
	for _, n := range sizes {
		routes := large(t, n)
		for kind, where := range lookups(n) {
			target, r := prepared(t, where)
			if m, err := routes.Match(target, r); err != nil || (m.Route == nil) != (kind == "none") {
				t.Fatalf("%s/%d: got %+v, %v", kind, n, m, err)
			}
			if got := testing.AllocsPerRun(100, func() { routes.Match(target, r); routes.Covers(target) }); got != 0 {
				t.Errorf("%s/%d: a lookup allocates %v times", kind, n, got)
			}
		}
	}
}
