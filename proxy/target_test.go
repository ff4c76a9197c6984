package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
)

// What a client wrote of its target is what the origin reads, and what routes.
func TestTargetsAreKeptAsWritten(t *testing.T) {
	for _, tt := range []struct{ name, target, h1, h2 string }{
		{"plain", "/a/b?c=d", "", ""},
		{"escapes", "/a%2fb%2Fc/%7e/%41?x=%2f+%20", "", ""},
		{"dots and slashes", "/a/./b//../c/", "", ""},
		{"parameters", "/a;x=1/b;y", "", ""},
		{"empty query", "/a?", "", ""},
		{"question marks", "/a?b?c", "", ""},
		{"two slashes", "//a/b", "", ""},
		{"what a path may not hold", `/a%2fb/{c}|"d"`, "", "/a%2fb/%7Bc%7D%7C%22d%22"},
		{"what a query may not hold", `/a?{"b":"c|d"}`, "", ""},
		{"brackets", "/a[0]?b[]=1", "", ""},
		{"doubly escaped", "/%252e%252e/%25zz", "", ""},
	} {
		if tt.h1 == "" {
			tt.h1 = tt.target
		}
		if tt.h2 == "" {
			tt.h2 = tt.target
		}
		for _, h2 := range []bool{false, true} {
			want := map[bool]string{false: tt.h1, true: tt.h2}[h2]
			for _, manner := range []string{"bearer", "query"} {
				t.Run(fmt.Sprintf("%s, origin h2=%v, %s", tt.name, h2, manner), func(t *testing.T) {
					r := newRig(t, h2, whoami)
					want := want
					if manner == "query" {
						r.queryRoute()
						want = tt.h2 // a changed target is written anew
						sep := "?"
						if _, query, found := cutQuery(want); found && query != "" {
							sep = "&"
						} else if found {
							sep = ""
						}
						want += sep + "key=" + canary
						want = digest(want)
					}
					c, br := r.tls(apiHost + ":443")
					fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", tt.target, apiHost)
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					got := resp.Header.Get("X-Uri")
					if manner == "query" {
						got = digest(got)
					}
					if got != want {
						t.Errorf("h1 client: the origin read %q, want %q", resp.Header.Get("X-Uri"), want)
					}
					h := r.h2(apiHost + ":443")
					got = h.wait(h.open(true, get(tt.target))).first("x-uri")
					if manner == "query" {
						got = digest(got)
					}
					if got != want {
						t.Errorf("h2 client: the origin read %q, want %q", got, want)
					}
				})
			}
		}
	}
}

func cutQuery(s string) (path, query string, found bool) {
	for i := range s {
		if s[i] == '?' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// queryRoute routes apiHost by a query parameter.
func (r *rig) queryRoute() { r.injectRoute(provider.Inject{Manner: provider.MannerQuery, Name: "key"}) }

// injectRoute routes apiHost with an inject.
func (r *rig) injectRoute(in provider.Inject) {
	r.t.Helper()
	pattern, err := provider.ParseHostURL(apiHost)
	if err != nil {
		r.t.Fatal(err)
	}
	r.inject.Update(injector.NewTable([]*injector.Route{{Provider: "example", Connection: "default", Pattern: pattern,
		Injects: []provider.Inject{in}}}))
}

// A path that net/url cannot keep as written is matched as written all the same.
func TestRoutedPathIsTheSentPath(t *testing.T) {
	origin := newRawOrigin(t, echo, "http/1.1")
	r := newRig(t, false, whoami, origin.use)
	r.route("https://" + apiHost + "/api")
	for _, path := range []string{`/api%2f"`, `/api%2f..%2f{`, `/api/..%2f|`, `/%61pi/"`} {
		c, br := r.tls(apiHost + ":443")
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, apiHost)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Authsome-Error"); got != "ambiguous_path" {
			t.Errorf("h1 %s: got %d %s, want ambiguous_path", path, resp.StatusCode, got)
		}
		h := r.h2(apiHost + ":443")
		if got := h.wait(h.open(true, get(path))).first("authsome-error"); got != "ambiguous_path" {
			t.Errorf("h2 %s: got %s, want ambiguous_path", path, got)
		}
	}
	if got := origin.take(); len(got) > 0 {
		t.Errorf("the origin read %q", got)
	}
}

// FuzzRequestTarget holds the short way to parse a target to the long one, which
// is net/url's.
func FuzzRequestTarget(f *testing.F) {
	for _, seed := range []string{"/", "/v1/chat/completions", "/a?b=c&d", "/a?", "/a??", "//a", "/a%2fb", "/a;b,c:d@e=f$g&h+i~j", "/a#b",
		"/a?b#c", "/a?\x7f", "/[", "/a!b", "/a?[]", "*", "http://h/a", "/a b", "/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if target == "" {
			return
		}
		short, ok := proxy.PlainTarget(target)
		if !ok {
			return
		}
		long, err := proxy.RequestTarget(target)
		if err != nil {
			t.Fatalf("%q is taken the short way, and is none: %v", target, err)
		}
		if short != *long {
			t.Errorf("%q is %#v the short way and %#v the long one", target, short, *long)
		}
	})
}

// What nearly every request asks for is taken the short way.
func TestPlainTargets(t *testing.T) {
	for target, want := range map[string]bool{"/": true, "/v1/chat/completions": true, "/repos/a/b/issues?state=all&page=2": true,
		"/a%20b": false, "//a": false, "/a?": false, "http://h/": false, "*": false, `/a?"`: true} {
		if _, got := proxy.PlainTarget(target); got != want {
			t.Errorf("%s: got %v, want %v", target, got, want)
		}
	}
}
