package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"

	"github.com/coder/websocket"
	dto "github.com/prometheus/client_model/go"
)

// family returns a metric family as a scrape gets it, or nil.
func (r *rig) family(name string) *dto.MetricFamily {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	return nil
}

// series lists every series with its labels. A histogram is one.
func (r *rig) series() []string {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s := f.GetName()
			for _, l := range m.GetLabel() {
				s += " " + l.GetName() + "=" + l.GetValue()
			}
			all = append(all, s)
		}
	}
	return all
}

// A counter whose first event makes it appear has no rate: what alerts look at
// is there from the start.
func TestCountersBeginAtZero(t *testing.T) {
	r := newRig(t, false, whoami)
	series := r.series()
	for _, want := range []string{
		"authsome_refusals_total code=proxy_auth_required", "authsome_refusals_total code=audit_unavailable",
		"authsome_tunnels_total outcome=ok", "authsome_tunnels_total outcome=failed", "authsome_tunnels_total outcome=not_redirected",
		"authsome_active_connections kind=client", "authsome_active_connections kind=redirected", "authsome_active_connections kind=upgrade",
		"authsome_bytes_total direction=up kind=request", "authsome_bytes_total direction=down kind=response",
		"authsome_bytes_total direction=up kind=tunnel", "authsome_bytes_total direction=down kind=upgrade",
		"authsome_tls_handshake_errors_total reason=untrusted side=client", "authsome_tls_handshake_errors_total reason=untrusted side=origin",
		"authsome_ambiguous_routes",
	} {
		if !slices.Contains(series, want) {
			t.Errorf("%s is not there", want)
		}
	}
	for _, name := range []string{"authsome_refusals_total", "authsome_tunnels_total", "authsome_bytes_total", "authsome_tls_handshake_errors_total"} {
		if got := r.metric(name); got != 0 {
			t.Errorf("%s: got %v before anything happened", name, got)
		}
	}
}

// A histogram has native buckets for whoever scrapes them, and classic ones.
func TestHistograms(t *testing.T) {
	r := newRig(t, false, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(60 * time.Millisecond)
		io.WriteString(w, "late")
	})
	for range 3 {
		resp, err := r.client(true).Get("https://" + apiHost)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	r.reaches(3, "authsome_requests_total")
	for _, name := range []string{"authsome_request_duration_seconds", "authsome_proxy_overhead_seconds"} {
		f := r.family(name)
		if f == nil || len(f.GetMetric()) != 1 {
			t.Fatalf("%s: got %v", name, f)
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 3 || len(h.GetBucket()) < 10 || len(h.GetPositiveSpan()) == 0 || h.GetSchema() != 3 { // 2^(1/8) is the last below 1.1
			t.Errorf("%s: got %v", name, h)
		}
		for _, b := range h.GetBucket() {
			if name == "authsome_request_duration_seconds" && b.GetUpperBound() == .05 && b.GetCumulativeCount() != 0 {
				t.Errorf("%s: %d requests took less than the origin's 60 ms", name, b.GetCumulativeCount())
			}
		}
	}
	if got := r.family("authsome_proxy_overhead_seconds").GetMetric()[0].GetHistogram().GetSampleSum(); got <= 0 {
		t.Errorf("overhead: got %v s in all", got)
	}
}

// counts reads bytes in both directions of a kind.
func (r *rig) counts(kind string) (up, down float64) {
	r.t.Helper()
	return r.metric("authsome_bytes_total", "direction=up", "kind="+kind), r.metric("authsome_bytes_total", "direction=down", "kind="+kind)
}

func TestBytesOfRequests(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		held := make(chan struct{})
		r := newRig(t, h2, func(w http.ResponseWriter, req *http.Request) {
			n, _ := io.Copy(io.Discard, req.Body)
			w.Write(bytes.Repeat([]byte("x"), int(n)*2))
			if req.URL.Path == "/held" {
				http.NewResponseController(w).Flush()
				<-held
			}
		})
		resp, err := r.client(h2).Post("https://"+apiHost, "text/plain", strings.NewReader(strings.Repeat("y", 100_000)))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		r.reaches(1, "authsome_requests_total")
		if up, down := r.counts("request"); up != 100_000 || down != 0 {
			t.Errorf("h2=%v: request: got %v up and %v down, want 100000 and none", h2, up, down)
		}
		if up, down := r.counts("response"); up != 0 || down != 200_000 {
			t.Errorf("h2=%v: response: got %v up and %v down, want none and 200000", h2, up, down)
		}
		// What moves is counted when it does, not when a stream ends.
		resp, err = r.client(h2).Post("https://"+apiHost+"/held", "text/plain", strings.NewReader(strings.Repeat("y", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		r.reaches(202_000, "authsome_bytes_total", "kind=response")
		r.reaches(101_000, "authsome_bytes_total", "kind=request")
		if got := r.metric("authsome_requests_total"); got != 1 {
			t.Errorf("h2=%v: %v requests were counted while one is under way", h2, got)
		}
		close(held)
		resp.Body.Close()
	}
}

func TestBytesOfTunnelsAndUpgrades(t *testing.T) {
	r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
		ws, err := websocket.Accept(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.CloseNow()
		_, b, err := ws.Read(context.Background())
		if err == nil {
			ws.Write(context.Background(), websocket.MessageBinary, append(b, b...))
		}
		ws.Read(context.Background())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+apiHost+"/", &websocket.DialOptions{HTTPClient: r.client(false)})
	if err != nil {
		t.Fatal(err)
	}
	ws.Write(ctx, websocket.MessageBinary, make([]byte, 10_000))
	if _, got, err := ws.Read(ctx); err != nil || len(got) != 20_000 {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	for _, kind := range []string{"client", "intercept", "upgrade"} {
		r.reaches(1, "authsome_active_connections", "kind="+kind)
	}
	eventually(t, "an upgrade's bytes are counted while it is open", func() bool {
		up, down := r.counts("upgrade")
		return up == 10_000+8 && down == 20_000+4 // frame heads, masked one way (RFC 6455 section 5.2)
	})
	ws.CloseNow()
	r.reaches(1, "authsome_requests_total", "protocol=websocket", "code_class=1xx")
	if up, down := r.counts("request"); up+down != 0 {
		t.Errorf("an upgrade's bytes were counted as a request's: %v", up+down)
	}

	origin := newRawOrigin(t, func(c *rawConn) {
		io.CopyN(io.Discard, c, 3000)
		c.Write(make([]byte, 5000))
	})
	r = newRig(t, false, whoami, origin.use)
	c, br := r.connect("elsewhere.test:22")
	r.reaches(1, "authsome_active_connections", "kind=tunnel")
	c.Write(make([]byte, 3000))
	if n, err := io.Copy(io.Discard, br); n != 5000 || err != nil {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	c.Close()
	r.reaches(0, "authsome_active_connections")
	if up, down := r.counts("tunnel"); up != 3000 || down != 5000 {
		t.Errorf("tunnel: got %v up and %v down, want 3000 and 5000", up, down)
	}
}

// Tunnels that could not be opened are counted, however they began.
func TestFailedTunnels(t *testing.T) {
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, &net.DNSError{IsNotFound: true} }
	})
	if resp, err := r.raw("CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n" + r.authHeader() + "\r\n"); err != nil || resp.StatusCode != 502 {
		t.Fatalf("got %v, %v", resp, err)
	}
	r.reaches(1, "authsome_tunnels_total", "outcome=failed")
	c, _ := r.connect(apiHost + ":443")
	io.WriteString(c, "SSH-2.0-x\r\n")
	r.reaches(2, "authsome_tunnels_total", "outcome=failed")
	io.WriteString(r.redirected(otherAddr), "SSH-2.0-x\r\n")
	r.reaches(3, "authsome_tunnels_total", "outcome=failed")
	if got := r.metric("authsome_tunnels_total", "outcome=ok"); got != 0 {
		t.Errorf("ok: got %v, want none", got)
	}
}

// Reasons of failed handshakes are counted apart, for clients.
func TestClientHandshakeErrors(t *testing.T) {
	const name = "authsome_tls_handshake_errors_total"
	hello := "\x16\x03\x01\x00\x04\x01\x00\x00\x00"
	for reason, misbehave := range map[string]func(r *rig, c net.Conn){
		"untrusted": func(r *rig, c net.Conn) {
			tls.Client(c, &tls.Config{RootCAs: r.roots, ServerName: apiHost}).Handshake()
		},
		"server_name": func(r *rig, c net.Conn) {
			tls.Client(c, &tls.Config{RootCAs: r.trust, ServerName: "elsewhere.test"}).Handshake()
		},
		"alert": func(r *rig, c net.Conn) { // internal_error in place of a ClientHello
			io.WriteString(c, "\x16\x03\x01\x00\x04\x01\x00\x02\x00\x15\x03\x01\x00\x02\x02\x50")
		},
		"not_tls": func(r *rig, c net.Conn) { io.WriteString(c, "\x16\xff\xff\xff\xffnonsense") },
		"closed":  func(r *rig, c net.Conn) { io.WriteString(c, hello[:7]); c.Close() },
		"timeout": func(r *rig, c net.Conn) { io.WriteString(c, hello[:7]) },
		"other": func(r *rig, c net.Conn) { // a version that nobody speaks
			tls.Client(c, &tls.Config{RootCAs: r.trust, ServerName: apiHost, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		},
	} {
		t.Run(reason, func(t *testing.T) {
			r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) {
				if reason == "timeout" {
					c.Limits.RequestHeader = 200 * time.Millisecond
				}
			})
			c, _ := r.connect(apiHost + ":443")
			misbehave(r, c)
			r.reaches(1, name, "side=client", "reason="+reason)
			if got := r.metric(name); got != 1 {
				t.Errorf("in all: got %v, want 1", got)
			}
		})
	}
}

// Reasons of failed handshakes are counted apart, for origins.
func TestOriginHandshakeErrors(t *testing.T) {
	const name = "authsome_tls_handshake_errors_total"
	for reason, serve := range map[string]func(c *rawConn){
		"untrusted": nil, // the rig's own origin, which the proxy is not told to trust
		"alert":     func(c *rawConn) { c.br.Peek(1); io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28") },
		"not_tls":   func(c *rawConn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"closed":    func(c *rawConn) { c.br.Peek(1) },
		"timeout":   func(c *rawConn) { io.Copy(io.Discard, c) },
		"other":     func(c *rawConn) { c.br.Peek(1); io.WriteString(c, "\x16\x03\x03\x00\x04\x0e\x00\x00\x00") }, // ServerHelloDone first
	} {
		t.Run(reason, func(t *testing.T) {
			r := newRig(t, false, whoami, func(r *rig, c *proxy.Config) {
				c.Limits.Dial = time.Second
				if serve == nil {
					c.RootCAs = r.trust
					return
				}
				newRawOrigin(t, serve).use(r, c)
			})
			resp, err := r.client(false).Get("https://" + apiHost)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			r.reaches(1, name, "side=origin", "reason="+reason)
			if got := r.metric(name); got != 1 {
				t.Errorf("in all: got %v, want 1", got)
			}
		})
	}
	t.Run("the client has gone", func(t *testing.T) {
		asked := make(chan struct{})
		origin := newRawOrigin(t, func(c *rawConn) { c.br.Peek(1); close(asked); io.Copy(io.Discard, c) })
		r := newRig(t, false, whoami, origin.use)
		c, _ := r.tls(apiHost + ":443")
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
		<-asked
		c.NetConn().Close()
		r.reaches(1, "authsome_requests_total", "outcome=abandoned", "code_class=other")
		if got := r.metric(name); got != 0 {
			t.Errorf("got %v, want none: the origin did nothing wrong", got)
		}
	})
}

func TestAmbiguousRoutesAreCounted(t *testing.T) {
	r := newRig(t, false, whoami)
	if got := r.metric("authsome_ambiguous_routes"); got != 0 {
		t.Errorf("one connection: got %v", got)
	}
	var routes []*injector.Route
	for _, name := range []string{"one", "two"} {
		for _, host := range []string{"api.example.test", "www.example.test", name + ".example.test"} {
			pattern, err := provider.ParseHostURL(host)
			if err != nil {
				t.Fatal(err)
			}
			routes = append(routes, &injector.Route{Provider: name, Connection: "default", Pattern: pattern, Injects: []provider.Inject{{Manner: provider.MannerBearer}}})
		}
	}
	r.inject.Update(injector.NewTable(routes))
	if got := r.metric("authsome_ambiguous_routes"); got != 2 {
		t.Errorf("two hosts shared: got %v, want 2", got)
	}
}

// labelValues are all that a label of a proxy's metric can be.
var labelValues = map[string][]string{
	"provider":   {"", "example"},
	"outcome":    {"injected", "passed", "refused", "abandoned", "ok", "failed", "not_redirected"},
	"code_class": {"1xx", "2xx", "3xx", "4xx", "5xx", "other"},
	"protocol":   {"http/1.1", "h2", "websocket", "upgrade"},
	"direction":  {"up", "down"},
	"kind":       {"client", "redirected", "intercept", "tunnel", "upgrade", "request", "response"},
	"side":       {"client", "origin"},
	"reason":     {"untrusted", "server_name", "alert", "not_tls", "timeout", "closed", "other"},
	"code": {"proxy_auth_required", "bad_request", "header_too_large", "request_timeout", "target_mismatch", "ambiguous_path",
		"credential_missing", "refresh_failed", "injection_failed", "egress_denied", "upstream_unreachable", "upstream_tls",
		"upstream_timeout", "too_many_connections", "audit_unavailable", "shutting_down"},
}

// Whatever a client and an origin make up, none of it becomes a label.
func TestSeriesAreBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string { return fmt.Sprintf("w%x", random.Uint64()) }
	origin := newRawOrigin(t, func(c *rawConn) {
		for i := range math.MaxInt {
			r, err := http.ReadRequest(c.br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			status := []int{200, 204, 302, 404, 418, 500, 599, 600, 777, 999}[i%10]
			fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nX-%s: y\r\nContent-Length: 0\r\n\r\n", status, r.URL.Path[1:], r.URL.Path[1:])
		}
	}, "http/1.1")
	r := newRig(t, false, whoami, origin.use, func(_ *rig, c *proxy.Config) {
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, &net.DNSError{IsNotFound: true} }
	})
	say := func(c net.Conn, text string) { // and hear the beginning of an answer, or the end
		io.WriteString(c, text)
		c.Read(make([]byte, 1))
		c.Close()
	}
	attacks := []func(){
		func() { say(r.dial(), "CONNECT "+word()+".test:443 HTTP/1.1\r\nHost: x\r\n\r\n") },
		func() { say(r.dial(), word()+" http://"+word()+"/ "+word()+"\r\n\r\n") },
		func() { say(r.dial(), "GET http://"+word()+".test/ HTTP/1.1\r\nHost: y\r\n"+r.authHeader()+"\r\n") },
		func() {
			say(r.dial(), "CONNECT "+word()+":"+word()+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+word()+" "+word()+"\r\n\r\n")
		},
		func() {
			c, _ := r.connect(word() + ".test:" + fmt.Sprint(1+random.IntN(65535)))
			say(c, word())
		},
		func() {
			c, _ := r.connect(apiHost + ":443")
			tls.Client(c, &tls.Config{RootCAs: r.trust, ServerName: word() + ".test"}).Handshake()
			c.Close()
		},
		func() { // a provider, a connection and a run of one's own
			c, _ := r.tls(apiHost + ":443")
			say(c, "GET /"+word()+" HTTP/1.1\r\nHost: "+apiHost+"\r\nAuthsome-Connection: "+word()+"\r\nAuthsome-Provider: "+word()+"\r\nAuthsome-Error: "+word()+"\r\n\r\n")
		},
		func() {
			c, _ := r.tls(apiHost + ":443")
			say(c, "GET /"+word()+" HTTP/1.1\r\nHost: "+apiHost+"\r\nConnection: upgrade\r\nUpgrade: "+word()+"\r\n\r\n")
		},
		func() {
			c, br := r.tls(apiHost + ":443")
			for range 10 { // all of the origin's statuses
				io.WriteString(c, strings.ToUpper(word())+" /"+word()+"?"+word()+"=1 HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Error(err)
					break
				}
				io.Copy(io.Discard, resp.Body)
			}
			c.Close()
		},
		func() {
			client := r.client(true)
			req, err := http.NewRequest(strings.ToUpper(word()), "https://"+apiHost+"/"+word(), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-"+word(), word())
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
			}
			client.CloseIdleConnections()
		},
		func() {
			address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(random.Uint32())}), uint16(random.Uint32()))
			c := r.redirected(address)
			tls.Client(c, &tls.Config{RootCAs: r.trust, ServerName: word() + ".test"}).Handshake()
			c.Close()
		},
		func() {
			say(r.redirected(plainAddr), "GET / HTTP/1.1\r\nHost: "+word()+"\r\n\r\n")
		},
	}
	attack := func() {
		for range 8 {
			for _, a := range attacks {
				a()
			}
		}
		r.reaches(0, "authsome_active_connections")
	}
	attack()
	before := r.series()
	attack()
	after := r.series()
	if len(before) != len(after) {
		t.Errorf("%d series, and after more of the same %d:\n%s", len(before), len(after), strings.Join(after, "\n"))
	}
	for _, s := range after {
		words := strings.Fields(s)
		for _, label := range words[1:] {
			name, value, _ := strings.Cut(label, "=")
			if !slices.Contains(labelValues[name], value) {
				t.Errorf("%s: %q is no value of %s", words[0], value, name)
			}
		}
	}
	if got := r.metric("authsome_requests_total", "code_class=other"); got == 0 {
		t.Error("no status beyond 599 was counted")
	}
	if len(after) > 150 {
		t.Errorf("%d series for one provider", len(after))
	}
}
