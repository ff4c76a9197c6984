package injector_test

import (
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// PITFALLS 3: a path is matched decoded and cleaned, and a path whose readings
// route differently gets nothing and is refused.
func TestAmbiguousPaths(t *testing.T) {
	routes := table(t, claim{"api", "https://h.example.com/api", false}, claim{"admin", "https://h.example.com/api/admin", false},
		claim{"", "https://h.example.com/api/token", true})
	const ambiguous = "ambiguous"
	for _, tt := range []struct{ path, want string }{
		{"/api/x", "api"},
		{"/api/x/", "api"},
		{"/api", "api"},
		{"/api/", "api"},
		{"/api/%7Euser", "api"},
		{"/api/a%20b", "api"},
		{"/api/caf%C3%A9", "api"},
		{"/api/100%25", "api"},
		{"/api/a;v=1/b", "api"},
		{"/api//x", "api"},
		{"/api/x..y/...", "api"},
		{"/api/.hidden", "api"},
		{"/other", ""},
		{"/", ""},
		{"/apix", ""},
		{"/other/../elsewhere", ""},

		{"/api/../admin", ambiguous},
		{"/api/%2e%2e/admin", ambiguous},
		{"/api/%2E%2E/admin", ambiguous},
		{"/api/.%2e/admin", ambiguous},
		{"/api/%2e./admin", ambiguous},
		{"/api/..%2fadmin", ambiguous},
		{"/api%2f..%2fadmin", ambiguous},
		{"/api%2fx", ambiguous},
		{"/api/..%5cadmin", ambiguous},
		{`/api/..\admin`, ambiguous},
		{`/api\x`, ambiguous},
		{"/api/%252e%252e/admin", ambiguous},
		{"/api/%25%32%65%25%32%65/admin", ambiguous},
		{"/api/..%252fadmin", ambiguous},
		{"/api/%252e%252e%255cadmin", ambiguous},
		{"/api/..;/admin", ambiguous},
		{"/api/..;x=y/admin", ambiguous},
		{"/api/..%3b/admin", ambiguous},
		{"/api/%2e%2e;/admin", ambiguous},
		{"/api/%252e%252e%253b/admin", ambiguous},
		{"/api/;/../../admin", ambiguous},
		{"/api//../admin", ambiguous},
		{"/api/./../admin", ambiguous},
		{"/api/x/../../admin", ambiguous},
		{"/x/../api/y", ambiguous},
		{"/x/%2e%2e/api/y", ambiguous},
		{"//api/x", ambiguous},
		{"/./api/x", ambiguous},
		{"/api;x/y", ambiguous},
		{"/api%3bx/y", ambiguous},
		{"/%61pi/x", ambiguous},
		{"/%2561pi/x", ambiguous},
		{"/api/../../../../etc", ambiguous},
		// Between two connections, and into an endpoint that is never injected.
		{"/api/admin/../x", ambiguous},
		{"/api/%61dmin", ambiguous},
		{"/api/x/../token", ambiguous},
		{"/api/t%6fken", ambiguous},
		{"/api//token", ambiguous},
		{"/api/token;x", ambiguous},
		{"/api/./token", ambiguous},
		{"/api/token/", ""},
		// RFC 3986 section 5.2.4 by the letter keeps empty segments, and so
		// ends elsewhere than who merges slashes first.
		{"/api/../out//../api/ok", ambiguous},
		{"/api/%2e;%2f0/admin", ambiguous},   // parameters dropped first hide the slash
		{"/api/%252e%252e/%25zz", ambiguous}, // half of a lenient decoder's reading is an escape
		{"/api/%2e%2e/out//../api/ok", ambiguous},
		{"/api/../out/%2f../api/ok", ambiguous},
		// What ends a path, or is not seen, once it is decoded.
		{"/api/token%3fx", ambiguous},
		{"/api/token%23x", ambiguous},
		{"/api/token%00", ambiguous},
		{"/api/token%20", ambiguous},
		{"/api/to%0aken", ambiguous},
		{"/api/token%2500.json", ambiguous},
		{"/api/..%3f/x", ambiguous},
		{"/api/.%09./x", ambiguous},
		{"/api/%c0%ae%c0%ae/x", ambiguous},
		{"/api/..%c0%afx", ambiguous},
		{"/api/%e0%80%ae./x", ambiguous},
		{"/api/a%20b", "api"},
		{"/api/what%3f", "api"},
		{"/api/c%23", "api"},
		{"/api/%c3%a9", "api"},
		{"/api/%ff", "api"},
	} {
		if got := winner(t, routes, "h.example.com:443", tt.path, ""); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
	}
}

// Where the whole host has one credential no reading of a path matters.
func TestPathsDoNotMatterWithoutPrefixes(t *testing.T) {
	routes := table(t, claim{"all", "h.example.com", false})
	for _, path := range []string{"/a/../b", "/a%2fb", "/%252e%252e/", "/a;b/..;/c", "//x", `/a\b`, "/%ff", "/%00", "*"} {
		if got := winner(t, routes, "h.example.com:443", path, ""); got != "all" {
			t.Errorf("%s: got %q, want all", path, got)
		}
	}
}

// reading is how some origin finds what a path means.
type reading struct {
	name string
	of   func(escaped string) string
}

var lenient = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// readings are models of origins, written without a look at the product: what
// is decoded, when, and how dot segments are removed.
var readings = func() []reading {
	var list []reading
	decode := func(times int) func(string) string {
		return func(s string) string {
			for range times {
				s = lenient.ReplaceAllStringFunc(s, func(escape string) string {
					b, _ := hex.DecodeString(escape[1:])
					return string(b)
				})
			}
			return s
		}
	}
	parameters := func(s string) string {
		segments := strings.Split(s, "/")
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
		return strings.Join(segments, "/")
	}
	same := func(s string) string { return s }
	slashes := func(s string) string { return strings.ReplaceAll(s, `\`, "/") }
	merge := func(s string) string {
		for strings.Contains(s, "//") {
			s = strings.ReplaceAll(s, "//", "/")
		}
		return s
	}
	type step struct {
		name string
		f    func(string) string
	}
	for times := range 3 {
		for _, back := range []step{{"", same}, {", backslash is slash", slashes}} {
			for _, params := range []step{{"", same}, {", parameters dropped", parameters}} {
				for _, merged := range []step{{"", same}, {", slashes merged", merge}} {
					for _, dots := range []step{{", dots kept", same}, {", dots removed", removeDots}} {
						name := []string{"verbatim", "decoded", "decoded twice"}[times] + back.name + params.name + merged.name + dots.name
						d := decode(times)
						list = append(list, reading{name, func(s string) string {
							return dots.f(merged.f(params.f(back.f(d(s)))))
						}})
					}
				}
			}
		}
	}
	// Servlet containers drop parameters before they decode.
	list = append(list, reading{"parameters dropped, then decoded, dots removed", func(s string) string {
		return removeDots(merge(decode(1)(parameters(s))))
	}})
	// Dots are removed from the text that came, and what is left is decoded.
	list = append(list, reading{"dots removed, then decoded", func(s string) string { return decode(1)(removeDots(s)) }})
	return list
}()

// removeDots is remove_dot_segments of RFC 3986 section 5.2.4.
func removeDots(in string) string {
	var out []string
	segments := strings.Split(in, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return strings.Join(out, "/")
}

func TestRemoveDots(t *testing.T) {
	for in, want := range map[string]string{"/a/b/c/./../../g": "/a/g", "/mid/content=5/../6": "/mid/6", "/..": "/", "/a/..": "/",
		"/a/.": "/a/", "/../a": "/a", "/a//../b": "/a/b", "//": "//", "": ""} {
		if got := removeDots(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// lawfulPrefixes is what the path law is held on: prefixes in one another, a
// second connection, and an endpoint that is never injected.
var lawfulPrefixes = map[string]string{"/api": "api", "/api/admin": "admin", "/api/token": "never", "/v1/x": "v1"}

// owner is whose prefix a path that needs no more reading lies under.
func owner(p string) string {
	best := ""
	for prefix := range lawfulPrefixes {
		if strings.HasPrefix(p+"/", prefix+"/") && len(prefix) > len(best) {
			best = prefix
		}
	}
	return lawfulPrefixes[best]
}

// FuzzPathReadings holds the law: no reading of a path that is given a
// credential routes elsewhere.
func FuzzPathReadings(f *testing.F) {
	for _, seed := range []string{"/api/x", "/api/%2e%2e/x", "/api/..%2fx", "/api/%252e%252e/x", "/api/..;/x", `/api/..\x`,
		"/api//../x", "/api/../out//../api/ok", "/v1/x/../../api", "/api;a/../api/b", "/api/a/%2e%2e;%2f/../admin", "/api/..%255c..%255cx",
		"/api/..%3b%252f", "/api/token%2f..%2fx", "/api/x%00", "/api/%c0%ae%c0%ae/", "//api", "/api/.;/..;/x", "/api/;/..", "/api/x;/../../out"} {
		f.Add(seed)
	}
	claims := []claim{}
	for prefix, name := range lawfulPrefixes {
		claims = append(claims, claim{name, "https://h.example.com" + prefix, name == "never"})
	}
	routes := table(f, claims...)
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return // the request line or :path cannot carry it
		}
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		got := winner(t, routes, "h.example.com:443", path, "")
		if !slices.Contains([]string{"api", "admin", "v1"}, got) {
			return
		}
		sent := u.EscapedPath() // what goes out; the client's own spelling may differ
		for _, r := range readings {
			if meant := r.of(sent); owner(meant) != got {
				t.Fatalf("%q got the credential of %q, but %s it is %q, which is %q's", sent, got, r.name, meant, owner(meant))
			}
		}
	})
}
