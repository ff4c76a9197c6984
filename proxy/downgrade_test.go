package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestDowngrade sends requests that only HTTP/2 frames can spell to an
// HTTP/1.1 origin. What cannot be said there alike is refused.
func TestDowngrade(t *testing.T) {
	const refused, either = "", "*"
	type request struct {
		name    string
		fields  []string
		data    string
		trailer []string
		want    string // request line at the origin; refused for none
	}
	with := func(name, value string) []string { return get("/", name, value) }
	method := func(m string) []string {
		return []string{":method", m, ":scheme", "https", ":authority", apiHost, ":path", "/"}
	}
	authority := func(a string) []string {
		return []string{":method", "GET", ":scheme", "https", ":authority", a, ":path", "/"}
	}
	origin := newRawOrigin(t, echoAndClose, "http/1.1")
	r := newRig(t, false, whoami, origin.use)
	for i, tt := range []request{
		{name: "plain", fields: get("/x?q=1"), want: "GET /x?q=1"},
		{name: "CRLF in a value", fields: with("x", "a\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1"), want: refused},
		{name: "LF in a value", fields: with("x", "a\nTransfer-Encoding: chunked"), want: refused},
		{name: "CR in a value", fields: with("x", "a\rb"), want: refused},
		{name: "NUL in a value", fields: with("x", "a\x00b"), want: refused},
		{name: "CRLF in a name", fields: with("x: a\r\nhost", "b"), want: refused},
		{name: "colon in a name", fields: with("x:y", "b"), want: refused},
		{name: "space in a name", fields: with("x y", "b"), want: refused},
		{name: "space at the end of a name", fields: with("content-length ", "44"), want: refused},
		{name: "empty name", fields: with("", "b"), want: refused},
		{name: "upper-case name", fields: with("X-Upper", "b"), want: refused},
		{name: "upper-case Transfer-Encoding", fields: with("Transfer-Encoding", "chunked"), want: refused},
		{name: "space before a value", fields: with("x", " a"), want: "GET /"},
		{name: "obs-fold in a value", fields: with("x", "a\r\n b"), want: refused},
		{name: "transfer-encoding", fields: post("/", "transfer-encoding", "chunked"), data: "0\r\n\r\n", want: refused},
		{name: "connection", fields: with("connection", "close"), want: refused},
		{name: "connection names what is injected", fields: with("connection", "authorization"), want: refused},
		{name: "keep-alive", fields: with("keep-alive", "1"), want: refused},
		{name: "proxy-connection", fields: with("proxy-connection", "x"), want: refused},
		{name: "upgrade", fields: with("upgrade", "websocket"), want: refused},
		{name: "te other than trailers", fields: with("te", "gzip"), want: refused},
		{name: "te trailers", fields: with("te", "trailers"), want: "GET /"},
		{name: "proxy-authorization", fields: with("proxy-authorization", "Basic x"), want: "GET /"},

		{name: "CRLF in :path", fields: get("/ HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /smuggled"), want: refused},
		{name: "space in :path", fields: get("/a HTTP/1.1"), want: refused},
		{name: "space in the query", fields: get("/?a HTTP/1.1"), want: refused},
		{name: "tab in the query", fields: get("/?a\tb"), want: refused},
		{name: "bytes past ASCII in :path", fields: get("/é"), want: refused},
		{name: "bytes past ASCII in the query", fields: get("/?é"), want: refused},
		{name: "fragment", fields: get("/a#b"), want: refused},
		{name: "fragment after a query", fields: get("/a?b#c"), want: refused},
		{name: "bad escape", fields: get("/%zz"), want: refused},
		{name: "empty :path", fields: get(""), want: refused},
		{name: ":path without a slash", fields: get("x"), want: refused},
		{name: ":path is absolute", fields: get("https://evil.test/x"), want: refused},
		{name: ":path is absolute, of this host", fields: get("https://" + apiHost + "/x"), want: refused},
		{name: ":path looks like an authority", fields: get("//evil.test/x"), want: "GET //evil.test/x"},
		{name: "asterisk", fields: []string{":method", "OPTIONS", ":scheme", "https", ":authority", apiHost, ":path", "*"}, want: "OPTIONS *"},
		{name: "asterisk of GET", fields: get("*"), want: refused},
		{name: "space in :method", fields: method("GET /smuggled HTTP/1.1\r\nHost: x"), want: refused},
		{name: "space at the end of :method", fields: method("GET "), want: refused},
		{name: "empty :method", fields: method(""), want: refused},
		{name: ":method that is no token", fields: method("GE(T"), want: refused},
		{name: ":scheme http", fields: []string{":method", "GET", ":scheme", "http", ":authority", apiHost, ":path", "/"}, want: "GET /"}, // sent on over TLS
		{name: "CRLF in :scheme", fields: []string{":method", "GET", ":scheme", "https\r\nX: y", ":authority", apiHost, ":path", "/"}, want: refused},
		{name: "odd :scheme", fields: []string{":method", "GET", ":scheme", "https://evil.test/?", ":authority", apiHost, ":path", "/"}, want: refused},

		{name: ":authority of another host", fields: authority("evil.test"), want: refused},
		{name: ":authority with userinfo", fields: authority("evil.test@" + apiHost), want: refused},
		{name: ":authority with a path", fields: authority(apiHost + "/x"), want: refused},
		{name: ":authority with CRLF", fields: authority(apiHost + "\r\nX: y"), want: refused},
		{name: ":authority in upper case", fields: authority("API.EXAMPLE.TEST"), want: "GET /"},
		{name: ":authority empty", fields: authority(""), want: refused},
		{name: "no :authority, host", fields: []string{":method", "GET", ":scheme", "https", ":path", "/", "host", apiHost}, want: "GET /"},
		{name: "no :authority, another host", fields: []string{":method", "GET", ":scheme", "https", ":path", "/", "host", "evil.test"}, want: refused},
		{name: "no :authority, two hosts", fields: []string{":method", "GET", ":scheme", "https", ":path", "/", "host", apiHost, "host", "evil.test"}, want: refused},
		{name: ":authority and the same host", fields: with("host", apiHost), want: "GET /"},
		{name: ":authority and another host", fields: with("host", "evil.test"), want: refused},
		{name: "two :authority", fields: append(authority(apiHost)[:6:6], ":authority", "evil.test", ":path", "/"), want: refused},
		{name: "two :path", fields: append(authority(apiHost), ":path", "/smuggled"), want: refused},
		{name: "two :method", fields: append([]string{":method", "POST"}, authority(apiHost)...), want: refused},
		{name: "no :method", fields: []string{":scheme", "https", ":authority", apiHost, ":path", "/"}, want: refused},
		{name: "pseudo-header after a field", fields: []string{":method", "GET", ":scheme", "https", ":authority", apiHost, "x", "y", ":path", "/"}, want: refused},
		{name: "unknown pseudo-header", fields: append([]string{":smuggled", "1"}, get("/")...), want: refused},
		{name: ":status", fields: append([]string{":status", "200"}, get("/")...), want: refused},
		{name: ":protocol without CONNECT", fields: append([]string{":protocol", "websocket"}, get("/")...), want: refused},

		{name: "CONNECT", fields: []string{":method", "CONNECT", ":authority", apiHost + ":443"}, want: refused},
		{name: "CONNECT to another host", fields: []string{":method", "CONNECT", ":authority", "evil.test:443"}, want: refused},
		{name: "CONNECT with a path", fields: []string{":method", "CONNECT", ":scheme", "https", ":authority", apiHost, ":path", "/"}, want: refused},
		{name: "connect in lower case", fields: method("connect"), want: "connect /"},

		{name: "body", fields: post("/"), data: "abc", want: "POST /"},
		{name: "body and its length", fields: post("/", "content-length", "3"), data: "abc", want: "POST /"},
		{name: "body longer than its length", fields: post("/", "content-length", "3"), data: "abcGET /smuggled HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n", want: refused},
		{name: "body shorter than its length", fields: post("/", "content-length", "44"), data: "abc", want: refused},
		{name: "length zero and a body", fields: post("/", "content-length", "0"), data: "GET /smuggled HTTP/1.1\r\n\r\n", want: either},
		{name: "two lengths", fields: post("/", "content-length", "3", "content-length", "44"), data: "abc", want: refused},
		{name: "two lengths alike", fields: post("/", "content-length", "3", "content-length", "3"), data: "abc", want: refused},
		{name: "a list of lengths", fields: post("/", "content-length", "3, 3"), data: "abc", want: refused},
		{name: "signed length", fields: post("/", "content-length", "+3"), data: "abc", want: refused},
		{name: "negative length", fields: post("/", "content-length", "-1"), data: "abc", want: refused},
		{name: "length that is none", fields: post("/", "content-length", "abc"), data: "abc", want: refused},
		{name: "empty length", fields: post("/", "content-length", ""), data: "abc", want: refused},
		{name: "length past 64 bits", fields: post("/", "content-length", "18446744073709551619"), data: "abc", want: refused},

		{name: "announced trailer", fields: post("/", "trailer", "x-sum"), data: "abc", trailer: []string{"x-sum", "1"}, want: "POST /"},
		{name: "trailer that would be a credential", fields: post("/", "trailer", "authorization"), data: "abc", trailer: []string{"authorization", "mine"}, want: refused},
		{name: "trailer with CRLF", fields: post("/", "trailer", "x-sum"), data: "abc", trailer: []string{"x-sum", "1\r\n\r\nGET /smuggled HTTP/1.1"}, want: refused},
		{name: "trailer with a pseudo-header", fields: post("/"), data: "abc", trailer: []string{":path", "/smuggled"}, want: refused},
		{name: "trailer with an upper-case name", fields: post("/"), data: "abc", trailer: []string{"X-Sum", "1"}, want: refused},
		{name: "trailer with a length", fields: post("/", "trailer", "content-length"), data: "abc", trailer: []string{"content-length", "44"}, want: "POST /"},
		{name: "cookie crumbs", fields: get("/", "cookie", "a=1", "cookie", "b=2"), want: "GET /"},
		{name: "the client's own credential", fields: get("/", "authorization", "mine", "authorization", "mine"), want: "GET /"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := r.h2(apiHost + ":443")
			mark := fmt.Sprintf("case-%d-", i)
			id := h.open(tt.data == "" && tt.trailer == nil, append(tt.fields[:len(tt.fields):len(tt.fields)], "x-case", mark))
			if tt.data != "" || tt.trailer != nil {
				h.fr.WriteData(id, tt.trailer == nil, []byte(tt.data))
			}
			if tt.trailer != nil {
				h.trailer(id, tt.trailer...)
			}
			a := h.wait(id)
			h.conn.Close()
			streams := slices.DeleteFunc(origin.streams(), func(s string) bool { return !strings.Contains(s, mark) })
			if tt.want == refused && tt.data == "" && tt.trailer == nil && len(streams) > 0 {
				t.Errorf("the origin read %q", streams)
			}
			if tt.want == refused {
				if a.status != "" && a.status[0] < '4' {
					t.Errorf("got %s %v, want a refusal; the origin read %q", a.status, a.header, streams)
				}
			} else if got := a.first("x-line"); tt.want != either && (a.status != "200" || got != tt.want) {
				t.Errorf("got %s %q (reset %v, GOAWAY %v, %v), want %q", a.status, got, a.reset, h.away, a.header, tt.want)
			}
			checkDowngraded(t, tt.name, streams)
		})
	}
	for _, s := range origin.streams() {
		if s != "" && !strings.Contains(s, "X-Case: ") {
			t.Errorf("the origin read a request of nobody's: %q", s)
		}
	}
}

func checkDowngraded(t *testing.T, name string, streams []string) {
	t.Helper()
	for _, stream := range streams {
		counts := requestsIn(stream)
		for parser, n := range counts {
			if n != counts["strict"] || n > 1 {
				t.Errorf("the origin read what %s parsers find %d requests in, %v: %q", parser, n, counts, stream)
			}
		}
		head, _, _ := strings.Cut(stream, "\r\n\r\n")
		lines := strings.Split(head, "\r\n")
		if strings.Count(lines[0], " ") != 2 {
			t.Errorf("request line: %q", lines[0])
		}
		var seen []string
		for _, l := range lines[1:] {
			field, _, _ := strings.Cut(l, ":")
			seen = append(seen, strings.ToLower(field))
		}
		for _, once := range []string{"host", "authorization"} {
			if n := len(slices.DeleteFunc(slices.Clone(seen), func(s string) bool { return s != once })); n != 1 {
				t.Errorf("%d fields named %s: %q", n, once, head)
			}
		}
		if slices.Contains(seen, "content-length") && slices.Contains(seen, "transfer-encoding") {
			t.Errorf("two framings: %q", head)
		}
		if name == "cookie crumbs" && !strings.Contains(head, "Cookie: a=1; b=2") {
			t.Errorf("crumbs were not joined (RFC 9113 section 8.2.3): %q", head)
		}
		if strings.Contains(stream, "mine") || strings.Contains(stream, "Proxy-Authorization") {
			t.Errorf("the origin read what the client must not send: %q", stream)
		}
	}
}
