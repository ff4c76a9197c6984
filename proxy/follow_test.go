package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"authsome/injector"
	"authsome/provider"

	"github.com/coder/websocket"
)

// grant routes hosts to connections of the same name.
func (r *rig) grant(connections ...string) {
	r.t.Helper()
	var routes []*injector.Route
	for _, name := range connections {
		pattern, err := provider.ParseHostURL(name + ".example.test")
		if err != nil {
			r.t.Fatal(err)
		}
		routes = append(routes, &injector.Route{Provider: name, Connection: "default", Pattern: pattern,
			Injects: []provider.Inject{{Manner: provider.MannerBearer}}})
	}
	r.inject.Update(injector.NewTable(routes))
}

// A client whose connection was tunnelled when its host became known comes back
// and gets its credential, without having been told to.
func TestTunnelsFollowALogin(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		r := newRig(t, h2, whoami)
		r.route()
		client := r.client(h2)
		both := r.trust.Clone()
		client.Transport.(*http.Transport).TLSClientConfig.RootCAs = both
		addOrigin(t, r, both)
		get := func() (string, error) {
			resp, err := client.Get("https://" + apiHost)
			if err != nil {
				return "", err
			}
			resp.Body.Close()
			return resp.Header.Get("X-Authorization"), nil
		}
		if got, err := get(); got != "" || err != nil {
			t.Fatalf("%q before there was a credential, %v", got, err)
		}
		r.reaches(1, "authsome_active_connections", "kind=tunnel")
		r.route(apiHost)
		eventually(t, "the tunnel is closed", func() bool { return r.metric("authsome_active_connections", "kind=tunnel") == 0 })
		// A client that has not yet seen that its connection is gone fails once.
		eventually(t, fmt.Sprintf("a client of an origin with h2 %v comes back", h2), func() bool { got, _ := get(); return got == injected })
	}
}

// addOrigin adds the certificate of the rig's origin, which is its own root here.
func addOrigin(t *testing.T, r *rig, pool *x509.CertPool) {
	t.Helper()
	c, err := tls.Dial("tcp", r.origin.Listener.Addr().String(), &tls.Config{RootCAs: r.originRoots(), ServerName: apiHost})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	chain := c.ConnectionState().VerifiedChains[0]
	pool.AddCert(chain[len(chain)-1])
}

// What is in use is not cut by a login, nor what would be tunnelled again.
func TestTunnelsInUseOutlastALogin(t *testing.T) {
	t.Parallel()
	const hello = "\x16\x03\x01" // as far as the proxy can see
	for _, tt := range []struct {
		name  string
		first string
		use   func(t *testing.T, c *halves, origin <-chan *rawConn)
	}{
		{"bytes up", hello, func(t *testing.T, c *halves, origin <-chan *rawConn) {
			for range 6 {
				if _, err := io.WriteString(c, "x"); err != nil {
					t.Fatal(err)
				}
				sleep(400)
			}
		}},
		{"bytes down", hello, func(t *testing.T, c *halves, origin <-chan *rawConn) {
			o := <-origin
			for range 6 {
				if _, err := io.WriteString(o, "x"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				sleep(400)
			}
		}},
		{"a client that reads slowly", hello, func(t *testing.T, c *halves, origin <-chan *rawConn) {
			const size = 24 << 20 // more than the kernel's buffers hold
			o := <-origin
			go o.Write(make([]byte, size))
			sleep(1600)
			if n, err := io.CopyN(io.Discard, c, size); err != nil {
				t.Errorf("got %d bytes, %v", n, err)
			}
		}},
		{"a client that has ended its half", hello, func(t *testing.T, c *halves, origin <-chan *rawConn) {
			c.CloseWrite()
			sleep(1600)
			io.WriteString(<-origin, "late")
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		}},
		{"no TLS", "SSH-2.0-x\r\n", func(t *testing.T, c *halves, origin <-chan *rawConn) { sleep(1600) }},
		{"nothing yet", "", func(t *testing.T, c *halves, origin <-chan *rawConn) {
			sleep(1600)
			io.WriteString(c, "SSH-2.0-x\r\n")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conns := make(chan *rawConn, 1)
			origin := newRawOrigin(t, func(c *rawConn) {
				conns <- c
				io.Copy(io.Discard, c)
				<-t.Context().Done()
			})
			r := newRig(t, false, whoami, origin.use)
			r.route()
			conn, br := r.connect(apiHost + ":443")
			c := &halves{conn, br}
			io.WriteString(c, tt.first)
			eventually(t, "the origin has heard the client", func() bool { return strings.Join(origin.streams(), "") == tt.first })
			r.route(apiHost)
			tt.use(t, c, conns)
			if got := r.metric("authsome_active_connections", "kind=tunnel"); got != 1 {
				t.Errorf("%v tunnels are open, want 1", got)
			}
		})
	}
}

// What was given a credential ends within the 2 s that a logout may take, and
// nothing else does.
func TestRequestsFollowALogout(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		t.Parallel()
		reached, gone := make(chan struct{}, 8), make(chan string, 8)
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/wait" {
				http.NewResponseController(w).EnableFullDuplex()
				io.WriteString(w, "first")
				w.(http.Flusher).Flush()
			}
			reached <- struct{}{}
			if req.URL.Path == "/both" {
				io.Copy(io.Discard, req.Body)
			} else {
				<-req.Context().Done()
			}
			gone <- req.Host + req.URL.Path
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ask := func(url string) <-chan string {
			out := make(chan string, 1)
			var body io.Reader
			if strings.HasSuffix(url, "/both") {
				body = stuck()
				context.AfterFunc(ctx, func() { body.(io.Closer).Close() })
			}
			req, _ := http.NewRequestWithContext(ctx, "POST", "https://"+url, body)
			go func() {
				resp, err := r.client(clientH2).Do(req)
				if err == nil {
					if _, err = io.ReadAll(resp.Body); err == nil {
						out <- resp.Header.Get("Authsome-Error")
						return
					}
				}
				out <- "cut"
			}()
			wait(t, "the request reaches the origin", reached)
			return out
		}
		r.grant("api", "stays")
		want := map[string]string{ // "cut" where the client cannot be told any more
			"/wait": "credential_missing", "/stream": "cut", "/both": "cut"}
		ends := map[string]<-chan string{}
		for path := range want {
			ends[path] = ask(apiHost + path)
		}
		other := ask("stays.example.test/stream")
		r.grant("stays")
		r.grant("api", "stays") // at once: nothing was taken away
		sleep(1200)
		if len(gone) > 0 {
			t.Fatalf("%s was broken off though its connection is there", <-gone)
		}
		r.grant("stays")
		for path, end := range ends {
			if got := wait(t, path+" ends", end); got != want[path] {
				t.Errorf("%s: the client got %q, want %q", path, got, want[path])
			}
		}
		for range ends {
			if got := wait(t, "the origin notices", gone); !strings.HasPrefix(got, apiHost) {
				t.Errorf("the request to %s was broken off", got)
			}
		}
		if e := r.event("refuse"); e.Code != "credential_missing" || e.Provider != "api" || e.Connection != "default" {
			t.Errorf("audit: %+v", e)
		}
		if len(other) > 0 || len(gone) > 0 {
			t.Error("a request of another connection was broken off")
		}
	})
}

// A WebSocket that was opened with a credential goes with it (PITFALLS 11).
func TestWebSocketsFollowALogout(t *testing.T) {
	t.Parallel()
	for _, originH2 := range []bool{false, true} {
		for _, clientH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, originH2, socketOrigin)
				client := r.client(false)
				if clientH2 {
					client = &http.Client{Transport: overH2{r.h2conn(apiHost)}}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				ws, _, err := websocket.Dial(ctx, "https://"+apiHost+"/", &websocket.DialOptions{HTTPClient: client})
				if err != nil {
					t.Fatal(err)
				}
				defer ws.CloseNow()
				ws.Read(ctx)
				sent := []byte("still here")
				ws.Write(ctx, websocket.MessageBinary, sent)
				if _, got, err := ws.Read(ctx); err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("got %q, %v", got, err)
				}
				r.route()
				if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
					t.Errorf("the WebSocket is still open: %v", err)
				}
				r.reaches(0, "authsome_active_connections", "kind=upgrade")
			})
		}
	}
}

// halves is a connection whose first bytes were read ahead.
type halves struct {
	net.Conn
	br *bufio.Reader
}

func (h *halves) Read(p []byte) (int, error) { return h.br.Read(p) }
func (h *halves) CloseWrite() error          { return h.Conn.(*net.TCPConn).CloseWrite() }
