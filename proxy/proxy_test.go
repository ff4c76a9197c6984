package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"authsome/provider"
	"authsome/proxy"

	"github.com/coder/websocket"
)

// whoami answers with what the origin saw.
func whoami(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Authorization", digest(r.Header.Get("Authorization")))
	w.Header().Set("X-Host", r.Host)
	w.Header().Set("X-Uri", r.RequestURI)
	for name := range r.Header {
		w.Header().Add("X-Seen", name)
	}
	w.Write(body)
}

// digest stands for a secret, so that tests can compare it without printing it.
func digest(s string) string {
	if s == "" {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
}

var injected = digest("Bearer " + canary)

func TestInjects(t *testing.T) {
	for _, clientH2 := range []bool{false, true} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) {
				r := newRig(t, originH2, whoami)
				client := r.client(clientH2)
				for i := range 3 { // the second and third use pooled connections
					req, _ := http.NewRequest("POST", "https://"+apiHost+"/v1/x?q=1", strings.NewReader("hello"))
					req.Header.Set("Authorization", "Bearer authsome-proxy-managed")
					req.Header.Set("Authsome-Connection", "default")
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					want := map[string]string{"X-Authorization": injected, "X-Host": apiHost, "X-Uri": "/v1/x?q=1",
						"X-Proto": map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[originH2]}
					for name, v := range want {
						if got := resp.Header.Get(name); got != v {
							t.Errorf("request %d: %s: got %q, want %q", i, name, got, v)
						}
					}
					if string(body) != "hello" || resp.StatusCode != 200 {
						t.Errorf("got %d %q", resp.StatusCode, body)
					}
					for _, name := range resp.Header["X-Seen"] {
						if name == "Authsome-Connection" || strings.HasPrefix(name, "Proxy-") || name == "Accept-Encoding" {
							t.Errorf("the origin saw %s", name)
						}
					}
				}
				e := r.event("inject")
				wantProto := map[bool]string{false: "http/1.1", true: "h2"}[clientH2]
				if e.Method != "POST" || e.Scheme != "https" || e.Host != apiHost || e.Port != 443 || e.Path != "/v1/x" ||
					e.Status != 200 || e.BytesIn != 5 || e.BytesOut != 5 || e.Provider != "example" || e.Connection != "default" ||
					e.Protocol != wantProto || e.Duration <= 0 {
					t.Errorf("audit: %+v", e)
				}
				r.reaches(3, "authsome_requests_total", "provider=example", "outcome=injected", "code_class=2xx", "protocol="+wantProto)
			})
		}
	}
}

func TestUnmatchedHostIsTunnelled(t *testing.T) {
	r := newRig(t, false, whoami)
	// The client trusts the origin's own certificate only: interception would
	// fail its handshake.
	client := r.client(false)
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: r.originRoots(), NextProtos: []string{"http/1.1"}}
	resp, err := client.Get("https://elsewhere.test/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Authorization"); got != "" {
		t.Error("a tunnelled host got a credential")
	}
	if got := r.metric("authsome_tunnels_total", "outcome=ok"); got != 1 {
		t.Errorf("tunnels_total: got %v, want 1", got)
	}
}

func TestPlainHTTPIsForwardedWithoutCredential(t *testing.T) {
	r := newRig(t, false, whoami)
	plain := &http.Server{Handler: http.HandlerFunc(whoami)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go plain.Serve(l)
	t.Cleanup(func() { plain.Close() })
	r.redirect(func(string) string { return l.Addr().String() })
	req, _ := http.NewRequest("POST", "http://"+apiHost+"/x", strings.NewReader("body"))
	req.Header.Set("Authorization", "Bearer mine")
	resp, err := r.client(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if got := resp.Header.Get("X-Authorization"); got != digest("Bearer mine") || string(body) != "body" {
		t.Errorf("got authorization %q, body %q", got, body)
	}

	// Node sends CONNECT to port 80 and then plaintext.
	c, br := r.connect(apiHost + ":80")
	io.WriteString(c, "GET /y HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	resp, err = http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Authorization"); got != "" {
		t.Error("plaintext after CONNECT got a credential")
	}
}

func TestPlaintextInsideCoveredConnect(t *testing.T) {
	r := newRig(t, false, whoami)
	r.redirect(func(string) string { return "127.0.0.1:1" }) // must not be TLS
	c, br := r.connect(apiHost + ":443")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Authsome-Error"); got != "upstream_unreachable" {
		t.Errorf("got %q, want upstream_unreachable: it is sent on as plaintext, with no credential", got)
	}
	for _, e := range r.events() {
		if e.Event == "inject" {
			t.Errorf("plaintext was injected: %+v", e)
		}
	}
}

// problem is what a refusal's body must hold.
type problem struct {
	Type, Title, Code, Hint, Provider string
	Status                            int
}

func checkRefusal(t *testing.T, r *rig, resp *http.Response, code string, status int) {
	t.Helper()
	var p problem
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if resp.StatusCode != status || p.Status != status || p.Code != code || resp.Header.Get("Authsome-Error") != code {
		t.Errorf("got %d %s (body %+v), want %d %s", resp.StatusCode, resp.Header.Get("Authsome-Error"), p, status, code)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type: got %q", got)
	}
	if p.Hint == "" || p.Title == "" || p.Type == "" {
		t.Errorf("a refusal says what is wrong and what to do: %+v", p)
	}
	if e := r.event("refuse"); e.Code != code || e.Status != status {
		t.Errorf("audit: got %+v, want code %s", e, code)
	}
	if got := r.metric("authsome_refusals_total", "code="+code); got < 1 {
		t.Errorf("refusals_total{code=%q}: got %v", code, got)
	}
}

func TestRefusals(t *testing.T) {
	deny, err := proxy.NewEgress(true, []string{"allowed.test", "*.wild.test", "ported.test:444"})
	if err != nil {
		t.Fatal(err)
	}
	withEgress := func(_ *rig, c *proxy.Config) { c.Egress = deny }
	tests := []struct {
		name    string
		options []option
		do      func(r *rig) (*http.Response, error)
		code    string
		status  int
	}{
		{"credential missing", nil, func(r *rig) (*http.Response, error) {
			r.source.set("", errNoCredential)
			return r.client(true).Get("https://" + apiHost)
		}, "credential_missing", 502},
		{"credential that no header can carry", nil, func(r *rig) (*http.Response, error) {
			r.source.set("a\r\nX-Evil: 1", nil)
			return r.client(false).Get("https://" + apiHost)
		}, "injection_failed", 502},
		{"Host names another host", nil, func(r *rig) (*http.Response, error) {
			req, _ := http.NewRequest("GET", "https://"+apiHost, nil)
			req.Host = "evil.test"
			return r.client(false).Do(req)
		}, "target_mismatch", 421},
		{":authority names another host", nil, func(r *rig) (*http.Response, error) {
			req, _ := http.NewRequest("GET", "https://"+apiHost, nil)
			req.Host = "evil.test"
			return r.client(true).Do(req)
		}, "target_mismatch", 421},
		{"Host names another port", nil, func(r *rig) (*http.Response, error) {
			req, _ := http.NewRequest("GET", "https://"+apiHost, nil)
			req.Host = apiHost + ":8443"
			return r.client(false).Do(req)
		}, "target_mismatch", 421},
		{"egress denied", []option{withEgress}, func(r *rig) (*http.Response, error) {
			return r.raw("CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n" + r.authHeader() + "\r\n")
		}, "egress_denied", 403},
		{"egress denied for plain http to a covered host", []option{withEgress}, func(r *rig) (*http.Response, error) {
			return r.client(false).Get("http://" + apiHost + "/")
		}, "egress_denied", 403},
		{"origin unreachable", nil, func(r *rig) (*http.Response, error) {
			r.redirect(func(string) string { return "127.0.0.1:1" })
			return r.client(true).Get("https://" + apiHost)
		}, "upstream_unreachable", 502},
		{"tunnel unreachable", nil, func(r *rig) (*http.Response, error) {
			r.redirect(func(string) string { return "127.0.0.1:1" })
			return r.raw("CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n" + r.authHeader() + "\r\n")
		}, "upstream_unreachable", 502},
		{"origin not trusted", []option{func(r *rig, c *proxy.Config) { c.RootCAs = r.trust }}, func(r *rig) (*http.Response, error) {
			return r.client(false).Get("https://" + apiHost)
		}, "upstream_tls", 502},
		{"origin too slow", []option{func(_ *rig, c *proxy.Config) { c.Limits.ResponseHeader = 50 * time.Millisecond }}, func(r *rig) (*http.Response, error) {
			return r.client(false).Get("https://" + apiHost + "/sleep")
		}, "upstream_timeout", 504},
		{"origin-form at the proxy", nil, func(r *rig) (*http.Response, error) {
			return r.raw("GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + r.authHeader() + "\r\n")
		}, "bad_request", 400},
		{"malformed", nil, func(r *rig) (*http.Response, error) { return r.raw("GET / HTTP/1.1\nHost: x\n\n") }, "bad_request", 400},
		{"header too large", nil, func(r *rig) (*http.Response, error) {
			return r.raw("GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 70<<10) + "\r\n\r\n")
		}, "header_too_large", 431},
		{"no connection slot", []option{func(_ *rig, c *proxy.Config) { c.Limits.Connections = 1 }}, func(r *rig) (*http.Response, error) {
			r.connect(apiHost + ":443")
			return r.raw("CONNECT x.test:443 HTTP/1.1\r\nHost: x.test\r\n\r\n")
		}, "too_many_connections", 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/sleep" {
					time.Sleep(300 * time.Millisecond)
					return
				}
				t.Errorf("the origin was reached: %s %s", req.Method, req.URL)
			}, tt.options...)
			resp, err := tt.do(r)
			if err != nil {
				t.Fatal(err)
			}
			checkRefusal(t, r, resp, tt.code, tt.status)
		})
	}
}

// raw sends bytes to the proxy and reads one answer.
func (r *rig) raw(request string) (*http.Response, error) {
	c := r.dial()
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	return readResponse(c)
}

func TestProxyAuthentication(t *testing.T) {
	r := newRig(t, false, whoami)
	for name, header := range map[string]string{
		"none": "", "wrong": "Proxy-Authorization: Basic cnVuOndyb25n\r\n", "not Basic": "Proxy-Authorization: Bearer " + proxyToken + "\r\n",
		"Authorization instead": strings.TrimPrefix(r.authHeader(), "Proxy-"), "twice": r.authHeader() + r.authHeader(),
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := r.raw("CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: " + apiHost + "\r\n" + header + "\r\n")
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Header.Get("Proxy-Authenticate"); !strings.HasPrefix(got, "Basic ") {
				t.Errorf("Proxy-Authenticate: got %q", got)
			}
			checkRefusal(t, r, resp, "proxy_auth_required", 407)
		})
	}
	// git sends its credentials on the same connection after a 407.
	c := r.dial()
	io.WriteString(c, "CONNECT "+apiHost+":443 HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	br := bufioReader(c)
	for i, want := range []int{407, 200} {
		resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
		if err != nil {
			t.Fatal(err)
		}
		if want == 407 {
			io.CopyN(io.Discard, br, resp.ContentLength) // ReadResponse leaves CONNECT's body
			io.WriteString(c, "CONNECT "+apiHost+":443 HTTP/1.1\r\nHost: "+apiHost+"\r\n"+r.authHeader()+"\r\n")
		}
		if resp.StatusCode != want {
			t.Fatalf("answer %d: got %d, want %d", i, resp.StatusCode, want)
		}
	}
}

func TestServerNameMismatchIsRefused(t *testing.T) {
	r := newRig(t, false, whoami)
	raw, _ := r.connect(apiHost + ":443")
	c := tls.Client(raw, &tls.Config{RootCAs: r.trust, ServerName: "other.example.test"})
	if err := c.Handshake(); err == nil {
		t.Fatal("a ClientHello for another host was answered")
	}
	if e := r.event("refuse"); e.Code != "target_mismatch" {
		t.Errorf("audit: %+v", e)
	}
}

func TestHostSpellings(t *testing.T) {
	r := newRig(t, false, whoami)
	for _, host := range []string{apiHost, "API.Example.TEST", apiHost + ".", apiHost + ":443", "API.EXAMPLE.TEST.:443"} {
		c, br := r.tls("API.example.test:443")
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("X-Authorization"); got != injected {
			t.Errorf("Host %q: no credential was attached", host)
		}
		if got := resp.Header.Get("X-Host"); got != apiHost {
			t.Errorf("Host %q: the origin saw %q", host, got)
		}
	}
}

func TestClientHelloPipelinedWithConnect(t *testing.T) {
	r := newRig(t, false, whoami)
	// Writes are collected until the handshake flushes, so that CONNECT and
	// ClientHello go out in one segment.
	c := r.dial()
	pc := &pipelined{Conn: c, head: "CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: " + apiHost + "\r\n" + r.authHeader() + "\r\n"}
	tc := tls.Client(pc, &tls.Config{RootCAs: r.trust, ServerName: apiHost})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(tc, "GET / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	resp, err := readResponse(tc)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Authorization"); got != injected {
		t.Error("no credential was attached")
	}
}

// pipelined sends a CONNECT together with the first bytes and swallows the 200.
type pipelined struct {
	net.Conn
	head string
	read bool
}

func (p *pipelined) Write(b []byte) (int, error) {
	if p.head != "" {
		b2 := append([]byte(p.head), b...)
		p.head = ""
		_, err := p.Conn.Write(b2)
		return len(b), err
	}
	return p.Conn.Write(b)
}

func (p *pipelined) Read(b []byte) (int, error) {
	if !p.read {
		p.read = true
		one := make([]byte, 1)
		for seen := ""; !strings.HasSuffix(seen, "\r\n\r\n"); seen += string(one) {
			if _, err := io.ReadFull(p.Conn, one); err != nil {
				return 0, err
			}
		}
	}
	return p.Conn.Read(b)
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, true, func(w http.ResponseWriter, req *http.Request) {
		if digest(req.Header.Get("Authorization")) != injected {
			t.Error("the handshake had no credential")
		}
		ws, err := websocket.Accept(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		ws.SetReadLimit(2 << 20)
		for {
			kind, b, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				ws.Close(4001, "as you wish")
				return
			}
			if err := ws.Write(context.Background(), kind, b); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss://"+apiHost+"/socket", &websocket.DialOptions{HTTPClient: r.client(false)})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(2 << 20)
	for _, size := range []int{1, 1000, 1 << 20} {
		sent := bytes.Repeat([]byte("x"), size)
		if err := ws.Write(ctx, websocket.MessageBinary, sent); err != nil {
			t.Fatal(err)
		}
		_, got, err := ws.Read(ctx)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	ws.Write(ctx, websocket.MessageText, []byte("bye"))
	_, _, err = ws.Read(ctx)
	if websocket.CloseStatus(err) != 4001 {
		t.Errorf("close: got %v, want 4001", err)
	}
	if e := r.event("inject"); e.Protocol != "websocket" || e.Status != 101 || e.BytesIn < 1<<20 || e.BytesOut < 1<<20 {
		t.Errorf("audit: %+v", e)
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			next := make(chan struct{})
			r := newRig(t, h2, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/known" {
					w.Header().Set("Content-Length", "12")
				}
				for i := range 3 {
					fmt.Fprintf(w, "ev%d\n", i)
					w.(http.Flusher).Flush()
					<-next
				}
			})
			for _, path := range []string{"/unknown", "/known"} {
				resp, err := r.client(h2).Get("https://" + apiHost + path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					b := make([]byte, 4)
					if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != fmt.Sprintf("ev%d\n", i) {
						t.Fatalf("%s event %d: got %q, %v", path, i, b, err)
					}
					next <- struct{}{} // only now does the origin go on
				}
				resp.Body.Close()
			}
		})
	}
}

func TestContinueEndToEnd(t *testing.T) {
	asked := make(chan struct{}, 1)
	r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Expect") == "" {
			t.Error("Expect did not reach the origin")
		}
		if req.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		asked <- struct{}{}
		whoami(w, req)
	})
	c, br := r.tls(apiHost + ":443")
	fmt.Fprintf(c, "POST /take HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", apiHost)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v, %v, want 100", resp, err)
	}
	<-asked
	io.WriteString(c, "hello")
	resp, err = http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v, want 200", resp, err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	fmt.Fprintf(c, "POST /refuse HTTP/1.1\r\nHost: %s\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", apiHost)
	resp, err = http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 417 {
		t.Fatalf("got %v, %v, want the origin's 417 without a 100", resp, err)
	}
}

func TestInformationalResponses(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			r := newRig(t, h2, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Del("Link")
				w.WriteHeader(200)
			})
			c, br := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 103 || resp.Header.Get("Link") == "" {
				t.Fatalf("got %+v, %v, want 103 with Link", resp, err)
			}
			resp, err = http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Link") != "" {
				t.Fatalf("got %+v, %v, want 200", resp, err)
			}
		})
	}
}

func TestTrailersBothWays(t *testing.T) {
	for _, clientH2 := range []bool{false, true} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) {
				r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Trailer", "X-Sum")
					io.Copy(w, req.Body)
					w.Header().Set("X-Sum", "got "+req.Trailer.Get("X-Check"))
				})
				req, _ := http.NewRequest("POST", "https://"+apiHost, io.MultiReader(strings.NewReader("data")))
				req.Trailer = http.Header{"X-Check": {"42"}}
				resp, err := r.client(clientH2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || string(body) != "data" || resp.Trailer.Get("X-Sum") != "got 42" {
					t.Errorf("got %q, trailer %v, %v", body, resp.Trailer, err)
				}
			})
		}
	}
}

func TestLargeBodiesStream(t *testing.T) {
	const size = 24 << 20
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			r := newRig(t, h2, func(w http.ResponseWriter, req *http.Request) {
				n, err := io.Copy(io.Discard, req.Body)
				if err != nil || n != size {
					t.Errorf("the origin got %d bytes, %v", n, err)
				}
				io.CopyN(w, zeros{}, size)
			})
			resp, err := r.client(h2).Post("https://"+apiHost, "application/octet-stream", io.LimitReader(zeros{}, size))
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
				t.Errorf("got %d bytes, %v", n, err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCancellationReachesTheOrigin(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			started, gone := make(chan struct{}), make(chan struct{})
			r := newRig(t, h2, func(_ http.ResponseWriter, req *http.Request) {
				close(started)
				<-req.Context().Done()
				close(gone)
			})
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+apiHost, nil)
			go func() { <-started; cancel() }()
			if _, err := r.client(h2).Do(req); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
				t.Error("the origin still works for a client that has gone")
			}
		})
	}
}

func TestOriginCutsTheBody(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			r := newRig(t, h2, func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "half of ")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			resp, err := r.client(h2).Get("https://" + apiHost)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("got %q and no error: a cut body looks whole", b)
			}
		})
	}
}

func TestRefreshAfter401(t *testing.T) {
	for _, tt := range []struct {
		name   string
		body   func() io.Reader
		next   string
		status int
		calls  int
	}{
		{"no body", func() io.Reader { return nil }, "newer", 200, 2},
		{"small body", func() io.Reader { return strings.NewReader("again") }, "newer", 200, 2},
		{"body too large to keep", func() io.Reader { return io.LimitReader(zeros{}, 1<<20) }, "newer", 401, 1},
		{"nothing newer", func() io.Reader { return nil }, "", 401, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
				calls++
				b, _ := io.ReadAll(req.Body)
				if digest(req.Header.Get("Authorization")) == injected {
					w.WriteHeader(401)
					return
				}
				w.Write(b)
			})
			r.source.next = tt.next
			r.routeAs(provider.AuthOAuth2, apiHost)
			resp, err := r.client(false).Post("https://"+apiHost, "text/plain", tt.body())
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || calls != tt.calls {
				t.Errorf("got %d after %d calls, want %d after %d", resp.StatusCode, calls, tt.status, tt.calls)
			}
			if tt.name == "small body" && string(body) != "again" {
				t.Errorf("the second attempt sent %q", body)
			}
		})
	}
}

func TestKeepAliveAndPipelining(t *testing.T) {
	r := newRig(t, false, whoami)
	c, br := r.tls(apiHost + ":443")
	for i := range 3 {
		fmt.Fprintf(c, "POST /%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\n\r\n%d", i, apiHost, i)
	}
	fmt.Fprintf(c, "GET /last HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", apiHost)
	for i := range 4 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		want := strconv.Itoa(i)
		if i == 3 {
			want = ""
		}
		if string(body) != want {
			t.Errorf("answer %d: got %q", i, body)
		}
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close got %v, want a clean end", err)
	}
}

func TestRouteChangesReachOpenConnections(t *testing.T) {
	r := newRig(t, false, whoami)
	client := r.client(true)
	get := func() string {
		resp, err := client.Get("https://" + apiHost)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("X-Authorization")
	}
	if get() != injected {
		t.Fatal("no credential to begin with")
	}
	r.route() // a logout
	if get() != "" {
		t.Error("a keep-alive connection still spends the credential")
	}
	r.route(apiHost)
	if get() != injected {
		t.Error("a new login did not take effect")
	}
}

func TestOpenListenerIsRefused(t *testing.T) {
	r := newRig(t, false, whoami)
	_ = r
	cfg := proxy.Config{Injector: r.inject, Authority: authorityOf(t), Audit: auditOf(t)}
	if _, err := proxy.New(cfg); err == nil {
		t.Error("a proxy without a token was made")
	}
	cfg.OpenLoopback = true
	p, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Serve(l); !errors.Is(err, proxy.ErrOpenListener) {
		t.Errorf("got %v, want ErrOpenListener", err)
	}
	p.Shutdown(t.Context())
}

func TestChainsThroughAnUpstreamProxy(t *testing.T) {
	// The second proxy is another instance: it wants its own credentials.
	far := newRig(t, false, whoami)
	far.route("far.example.test") // not apiHost: it tunnels
	r := newRig(t, false, whoami, func(r *rig, c *proxy.Config) {
		c.RootCAs = far.originRoots()
		c.UpstreamProxy = func(*url.URL) (*url.URL, error) {
			return &url.URL{Scheme: "http", Host: far.addr, User: url.UserPassword("run", proxyToken)}, nil
		}
	})
	resp, err := r.client(true).Get("https://" + apiHost)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("X-Authorization") != injected {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	if got := far.metric("authsome_tunnels_total", "outcome=ok"); got != 1 {
		t.Errorf("the far proxy made %v tunnels, want 1", got)
	}
}
