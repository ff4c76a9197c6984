package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// TestRetryKeepsTheBody has a pooled connection close under a request whose body
// waits for "100 Continue": what the second attempt sends must be all of it.
func TestRetryKeepsTheBody(t *testing.T) {
	t.Parallel()
	const want = "every byte of it, once"
	for name, length := range map[string]int64{"length": int64(len(want)), "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int32
			got := make(chan string, 1)
			origin := newRawOrigin(t, func(c *rawConn) {
				stale := conns.Add(1) == 1
				for answered := false; ; answered = true {
					req, err := http.ReadRequest(c.br)
					if err != nil || stale && answered {
						return // closed without an answer: the request may be sent anew
					}
					if req.Header.Get("Expect") != "" {
						time.Sleep(200 * time.Millisecond) // whoever may not read the body has time to
						io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
						body, err := io.ReadAll(req.Body)
						got <- fmt.Sprint(string(body), " ", err)
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}, "http/1.1")
			r := newRig(t, false, nil, origin.use)
			client := r.client(false)
			client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			if resp, err := client.Get("https://" + apiHost + "/"); err != nil {
				t.Fatal(err)
			} else {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			req, _ := http.NewRequest(http.MethodPost, "https://"+apiHost+"/", io.NopCloser(strings.NewReader(want)))
			req.ContentLength = length
			req.Header.Set("Expect", "100-continue")
			req.Header.Set("Idempotency-Key", "1")
			answered := make(chan error, 1)
			go func() {
				resp, err := client.Do(req)
				if err == nil {
					resp.Body.Close()
				}
				answered <- err
			}()
			if body := wait(t, "the body", got); body != want+" <nil>" {
				t.Errorf("the origin got %q, want %q", body, want)
			}
			wait(t, "the answer", answered)
		})
	}
}

// TestProtocolErrorIsAnsweredAtOnce: net/http sends a request anew that was reset
// with this code, after ever longer pauses.
func TestProtocolErrorIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
		if path == "/bad" {
			seen.Add(1)
			o.fr.WriteRSTStream(id, http2.ErrCodeProtocol)
			return
		}
		o.head(id, true, ":status", "204")
	}), "h2")
	r := newRig(t, true, nil, origin.use)
	for _, clientH2 := range []bool{true, false} {
		client := r.client(clientH2)
		client.Timeout = 15 * time.Second // the pauses come to 31 s
		for _, tt := range []struct {
			method string
			times  int32 // that the origin sees it
		}{{http.MethodPost, 1}, {http.MethodGet, 2}} { // a GET is tried on a new connection
			if resp, err := client.Get("https://" + apiHost + "/"); err != nil {
				t.Fatal(err)
			} else if resp.Body.Close(); resp.StatusCode != http.StatusNoContent {
				t.Fatal(resp.StatusCode)
			}
			seen.Store(0)
			req, _ := http.NewRequest(tt.method, "https://"+apiHost+"/bad", nil)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Authsome-Error") != "upstream_unreachable" || seen.Load() != tt.times {
				t.Errorf("%s: got %d %v, the origin saw it %d times, want %d", tt.method, resp.StatusCode, resp.Header, seen.Load(), tt.times)
			}
		}
	}
}

// A stream that the origin refuses is sent again, on another connection, unless
// its body is gone; and not for ever.
func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	var seen, refusals atomic.Int32
	bodies := make(chan string, 8)
	origin := newRawOrigin(t, h2Origin(func(conn int, o *h2Speaker, id uint32, path string) {
		decide := func() {
			seen.Add(1)
			if refusals.Add(-1) >= 0 {
				o.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				return
			}
			o.head(id, true, ":status", "200", "x-conn", fmt.Sprint(conn))
		}
		switch path {
		case "/body": // decides when it has the body
			o.whole = func(uint32) { decide() }
		case "/asks": // decides by the head, and then asks for the body
			if refusals.Add(-1) >= 0 {
				o.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				return
			}
			o.said.Reset()
			o.head(id, false, ":status", "100")
			o.whole = func(uint32) {
				bodies <- o.said.String()
				o.head(id, true, ":status", "200")
			}
		default:
			decide()
		}
	}), "h2")
	r := newRig(t, true, nil, origin.use)
	send := func(client *http.Client, path, body string, refuse int32) int {
		t.Helper()
		seen.Store(0)
		refusals.Store(refuse)
		req, _ := http.NewRequest(http.MethodPost, "https://"+apiHost+path, nil)
		if body != "" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		if path == "/asks" {
			req.Header.Set("Expect", "100-continue")
			client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, clientH2 := range []bool{true, false} {
		client := r.client(clientH2)
		if got := send(client, "/", "", 1); got != http.StatusOK || seen.Load() != 2 {
			t.Errorf("refused once: got %d after %d times", got, seen.Load())
		}
		if got := send(client, "/", "", 100); got != http.StatusBadGateway || seen.Load() != 4 {
			t.Errorf("refused always: got %d after %d times", got, seen.Load())
		}
		if got := send(client, "/body", "used up", 1); got != http.StatusBadGateway || seen.Load() != 1 {
			t.Errorf("refused with its body: got %d after %d times", got, seen.Load())
		}
		if got := send(client, "/asks", "every byte of it", 2); got != http.StatusOK {
			t.Errorf("refused before its body: got %d", got)
		} else if body := wait(t, "the body", bodies); body != "every byte of it" {
			t.Errorf("refused before its body: the origin got %q", body)
		}
	}
}

// GOAWAY while requests are under way: what the origin has not looked at is sent
// anew, what it has is not. A POST shows it: it would not be sent twice
// otherwise.
func TestGoAwayUnderWay(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	var first uint32
	origin := newRawOrigin(t, h2Origin(func(conn int, o *h2Speaker, id uint32, path string) {
		mu.Lock()
		defer mu.Unlock()
		seen[path]++
		switch {
		case conn == 1 && path == "/seen":
			first = id
			return
		case conn == 1 && path == "/unseen":
			o.fr.WriteGoAway(first, http2.ErrCodeNo, nil)
			o.head(first, true, ":status", "200", "x-conn", "1")
			return
		}
		o.head(id, true, ":status", "200", "x-conn", fmt.Sprint(conn))
	}), "h2")
	r := newRig(t, true, nil, origin.use)
	h := r.h2(apiHost + ":443")
	kept := h.open(true, post("/seen"))
	eventually(t, "the origin has the first", func() bool { mu.Lock(); defer mu.Unlock(); return first != 0 })
	again := h.open(true, post("/unseen"))
	for id, conn := range map[uint32]string{kept: "1", again: "2"} {
		if a := h.wait(id); a.status != "200" || a.first("x-conn") != conn {
			t.Errorf("got %+v, want an answer over connection %s", a, conn)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["/seen"] != 1 || seen["/unseen"] != 2 {
		t.Errorf("the origin saw %v", seen)
	}
}

// A connection that ends under a request that it was used for before: what may be
// sent twice is.
func TestConnectionsThatDie(t *testing.T) {
	t.Parallel()
	var seen, conns atomic.Int32
	origin := newRawOrigin(t, func(c *rawConn) {
		conns.Add(1)
		h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
			if path == "/die" {
				seen.Add(1)
				c.Close()
				return
			}
			o.head(id, true, ":status", "204")
		})(c)
	}, "h2")
	r := newRig(t, true, nil, origin.use)
	client := r.client(true)
	send := func(method, path string, want int) {
		t.Helper()
		req, _ := http.NewRequest(method, "https://"+apiHost+path, nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != want {
			t.Errorf("%s %s: got %d, want %d", method, path, resp.StatusCode, want)
		}
	}
	for _, tt := range []struct {
		method string
		times  int32
	}{{http.MethodGet, 2}, {http.MethodPost, 1}} {
		send(http.MethodGet, "/", http.StatusNoContent)
		seen.Store(0)
		send(tt.method, "/die", http.StatusBadGateway)
		if got := seen.Load(); got != tt.times {
			t.Errorf("%s: the origin saw it %d times, want %d", tt.method, got, tt.times)
		}
	}
	send(http.MethodGet, "/", http.StatusNoContent)
	before := conns.Load()
	origin.mu.Lock()
	for _, c := range origin.conns { // while it is idle
		c.Close()
	}
	origin.mu.Unlock()
	send(http.MethodGet, "/", http.StatusNoContent)
	if got := conns.Load(); got != before+1 {
		t.Errorf("%d connections for the request after that", got-before)
	}
}

// An origin that wants HTTP/1.1 for a request gets it (RFC 9113 section 7).
func TestHTTP11Required(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, func(c *rawConn) {
		tc := c.Conn.(*tls.Conn)
		if tc.Handshake() != nil {
			return
		}
		if tc.ConnectionState().NegotiatedProtocol != "h2" {
			echo(c)
			return
		}
		h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
			if path == "/old" {
				o.fr.WriteRSTStream(id, http2.ErrCodeHTTP11Required)
				return
			}
			o.head(id, true, ":status", "204")
		})(c)
	}, "h2", "http/1.1")
	r := newRig(t, true, nil, origin.use)
	client := r.client(true)
	for range 2 {
		for path, want := range map[string]int{"/": http.StatusNoContent, "/old": http.StatusOK} {
			resp, err := client.Get("https://" + apiHost + path)
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != want {
				t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
			}
		}
	}
}

// The errors by which net/http says that a request was not sent have no names.
// (That of GOAWAY is in TestGoAwayUnderWay.)
func TestErrorsOfNetHTTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, whoami)
	for _, used := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.originRoots(), ServerName: apiHost}, ForceAttemptHTTP2: true}
		cc, err := transport.NewClientConn(t.Context(), "https", r.origin.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequest(http.MethodGet, "https://"+apiHost, nil)
		if used {
			resp, err := cc.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		cc.Close()
		if _, err := cc.RoundTrip(req); err == nil || !proxy.NeverSent(err) {
			t.Errorf("on a closed connection, used before: %v: got %v", used, err)
		}
	}
	if proxy.NeverSent(io.ErrUnexpectedEOF) {
		t.Error("an origin that went away may have had the request")
	}
}
