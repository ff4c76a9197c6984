package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// saying is an origin that answers each request with bytes of a test's choice
// and then, if told, closes.
func saying(answer func(r *http.Request) (say string, end bool)) func(*rawConn) {
	return func(c *rawConn) {
		for {
			r, err := http.ReadRequest(c.br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			say, end := answer(r)
			if _, err := io.WriteString(c, say); err != nil || end {
				return
			}
		}
	}
}

// TestOriginAnswers sends what origins say to HTTP/1.1 and HTTP/2 clients.
func TestOriginAnswers(t *testing.T) {
	type want struct {
		status  int
		body    string
		header  string // "Name: value" that must be there; "-Name" must not
		trailer string
		cut     bool // the body must not look whole
	}
	bad := want{status: 502, header: "Authsome-Error: upstream_unreachable"}
	long := strings.Repeat("x", 20<<10)
	for _, tt := range []struct {
		name   string
		method string // "" is GET
		say    string
		end    bool
		want   want
	}{
		{name: "length", say: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", want: want{status: 200, body: "hello", header: "Content-Length: 5"}},
		{name: "length zero", say: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", want: want{status: 200}},
		{name: "chunks", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", want: want{status: 200, body: "hello"}},
		{name: "chunks with extensions", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;z\r\n\r\n", want: want{status: 200, body: "hello"}},
		{name: "chunks and a trailer", say: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", want: want{status: 200, body: "hello", trailer: "1"}},
		{name: "a long trailer", say: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: " + long + "\r\n\r\n", want: want{status: 200, body: "hello", trailer: long}},
		{name: "a trailer that was not announced", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nSet-Cookie: a\r\n\r\n", want: want{status: 200, body: "hello", header: "-Set-Cookie"}},
		{name: "until the end", say: "HTTP/1.1 200 OK\r\n\r\nhello", end: true, want: want{status: 200, body: "hello"}},
		{name: "HTTP/1.0", say: "HTTP/1.0 200 OK\r\n\r\nhello", end: true, want: want{status: 200, body: "hello"}},
		{name: "HTTP/1.0 with a length", say: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", end: true, want: want{status: 200, body: "hello"}},
		{name: "no reason", say: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: want{status: 200}},
		{name: "status of nobody's", say: "HTTP/1.1 799 Odd\r\nContent-Length: 2\r\n\r\nhi", want: want{status: 799, body: "hi"}},
		{name: "204", say: "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", want: want{status: 204, header: "X: y"}},
		{name: "304 with a length", say: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n", want: want{status: 304, header: `Etag: "a"`}},
		{name: "HEAD with a length", method: "HEAD", say: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", want: want{status: 200, header: "Content-Length: 5"}},
		{name: "HEAD with chunks", method: "HEAD", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", want: want{status: 200}},
		{name: "two lengths alike", say: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", want: want{status: 200, body: "hello"}},
		{name: "both framings", say: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: want{status: 200, body: "hello"}},
		{name: "fields of the connection", say: "HTTP/1.1 200 OK\r\nConnection: x-own, keep-alive\r\nX-Own: a\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", want: want{status: 200, header: "-X-Own"}},
		{name: "early hints", say: "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", want: want{status: 200, body: "hi", header: "-Link"}},
		{name: "a 100 that nobody asked for", say: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", want: want{status: 200, body: "hi"}},
		{name: "many cookies", say: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", want: want{status: 200, header: "Set-Cookie: a=1"}},
		{name: "a long header", say: "HTTP/1.1 200 OK\r\nX-Long: " + long + "\r\nContent-Length: 0\r\n\r\n", want: want{status: 200, header: "X-Long: " + long}},
		{name: "bytes past ASCII", say: "HTTP/1.1 200 OK\r\nX: é\r\nContent-Length: 0\r\n\r\n", want: want{status: 200, header: "X: é"}},
		{name: "no date, no type", say: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", want: want{status: 200, body: "hi", header: "-Content-Type"}},

		{name: "cut within the length", say: "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", end: true, want: want{status: 200, cut: true}},
		{name: "cut within a chunk", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", end: true, want: want{status: 200, cut: true}},
		{name: "cut between chunks", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", end: true, want: want{status: 200, cut: true}},
		{name: "cut before the trailer", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", end: true, want: want{status: 200, cut: true}},
		{name: "a bad chunk", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", want: want{status: 200, cut: true}},

		{name: "a way past the proxy", say: "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 0\r\n\r\n", want: want{status: 200, header: "-Alt-Svc"}},
		{name: "an upgrade that nobody asked for", say: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", want: bad},
		{name: "two lengths", say: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", want: bad},
		{name: "signed length", say: "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", want: bad},
		{name: "negative length", say: "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", want: bad},
		{name: "a coding that we cannot end", say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", want: bad},
		{name: "bare LF", say: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", want: bad},
		{name: "a folded field", say: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", want: bad},
		{name: "NUL", say: "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n", want: bad},
		{name: "not HTTP", say: "SSH-2.0-OpenSSH_9.2\r\n\r\n", want: bad},
		{name: "an HTTP of another century", say: "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", want: bad},
		{name: "a short status", say: "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", want: bad},
		{name: "nothing", say: "", end: true, want: bad},
		{name: "half a head", say: "HTTP/1.1 200 OK\r\nContent-Le", end: true, want: bad},
		{name: "a head without end", say: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+long+"\r\n", 60), want: bad},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, client h2=%v", tt.name, h2), func(t *testing.T) {
				origin := newRawOrigin(t, saying(func(*http.Request) (string, bool) { return tt.say, tt.end }), "http/1.1")
				r := newRig(t, false, whoami, origin.use)
				method := tt.method
				if method == "" {
					method = "GET"
				}
				client := r.client(h2)
				client.Transport.(*http.Transport).MaxResponseHeaderBytes = 4 << 20
				if h2 && strings.HasPrefix(tt.say, "HTTP/1.1 304") || !h2 && len(tt.want.trailer) > 4<<10 {
					return // net/http's client wants a body from the one, and no more than 4 KiB from the other
				}
				for range 2 { // the second shows whether the first left its connection clean
					req, _ := http.NewRequest(method, "https://"+apiHost+"/", nil)
					resp, err := client.Do(req)
					if err != nil && tt.want.cut {
						continue // cut so early that nothing had been passed on
					}
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != tt.want.status || (err != nil) != tt.want.cut {
						t.Fatalf("got %d, %q, %v", resp.StatusCode, body, err)
					}
					if tt.want.status == 200 && !tt.want.cut && string(body) != tt.want.body {
						t.Errorf("body: got %q, want %q", body, tt.want.body)
					}
					checkField(t, resp.Header, tt.want.header)
					if got := resp.Trailer.Get("X-Sum"); got != tt.want.trailer {
						t.Errorf("trailer: got %.40q, want %.40q", got, tt.want.trailer)
					}
					for _, name := range []string{"Connection", "Keep-Alive", "Upgrade", "Transfer-Encoding", "Proxy-Authenticate"} {
						if got := resp.Header[name]; len(got) > 0 && !(name == "Connection" && got[0] == "close") {
							t.Errorf("%s: got %q", name, got)
						}
					}
				}
			})
		}
	}
}

func checkField(t *testing.T, h http.Header, want string) {
	t.Helper()
	if name, found := strings.CutPrefix(want, "-"); found {
		if got, ok := h[name]; ok {
			t.Errorf("%s: got %q, want none", name, got)
		}
		return
	}
	if name, value, found := strings.Cut(want, ": "); found {
		if got := h.Get(name); got != value {
			t.Errorf("%s: got %.60q, want %.60q", name, got, value)
		}
	}
}

// Heads whose lines end on any boundary of a reader's buffer are read.
func TestHeadsOfEveryLength(t *testing.T) {
	origin := newRawOrigin(t, saying(func(r *http.Request) (string, bool) {
		return "HTTP/1.1 200 OK\r\nX-Long: " + r.Header.Get("X-Long") + "\r\nContent-Length: 0\r\n\r\n", false
	}), "http/1.1")
	r := newRig(t, false, whoami, origin.use)
	c, br := r.tls(apiHost + ":443")
	for _, around := range []int{4096, 8192, 16384, 32768} {
		for n := around - 14; n <= around+2; n++ {
			long := strings.Repeat("a", n-len("X-Long: "))
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX-Long: %s\r\n\r\n", apiHost, long)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Header.Get("X-Long"); resp.StatusCode != 200 || got != long {
				t.Fatalf("a line of %d bytes: got %d %s and %d bytes back", n, resp.StatusCode, resp.Header.Get("Authsome-Error"), len(got))
			}
		}
	}
}

// HTTP/1.0 clients know no chunks and no informational answers, and keep a
// connection only if they say so.
func TestHTTP10Clients(t *testing.T) {
	origin := newRawOrigin(t, saying(func(r *http.Request) (string, bool) {
		hints := "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
		if r.URL.Path == "/chunks" {
			return hints + "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false
		}
		return hints + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false
	}), "http/1.1")
	r := newRig(t, false, whoami, origin.use)
	for _, tt := range []struct {
		name, request string
		stays         bool
	}{
		{"length", "GET /length HTTP/1.0\r\nHost: " + apiHost + "\r\n\r\n", false},
		{"length, kept", "GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
		{"chunks", "GET /chunks HTTP/1.0\r\n\r\n", false},
		{"chunks, kept", "GET /chunks HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false},
		{"a body", "POST /length HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", false},
		{"expectation", "POST /length HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, br := r.tls(apiHost + ":443")
			for range 2 {
				io.WriteString(c, tt.request)
				line, err := br.ReadString('\n')
				if err != nil || line != "HTTP/1.0 200 OK\r\n" {
					t.Fatalf("got %q, %v", line, err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(line), br)), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, found := resp.Header["Transfer-Encoding"]; found || len(resp.TransferEncoding) > 0 {
					t.Error("chunks were sent to HTTP/1.0")
				}
				if !tt.stays {
					b, err := io.ReadAll(resp.Body)
					if err != nil || string(b) != "hello" || !resp.Close {
						t.Errorf("got %q, %v, close=%v", b, err, resp.Close)
					}
					return
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
					t.Errorf("got %q, %v", b, err)
				}
				if got := resp.Header.Get("Connection"); got != "keep-alive" {
					t.Errorf("Connection: got %q", got)
				}
				br = bufio.NewReader(c)
			}
		})
	}
}
