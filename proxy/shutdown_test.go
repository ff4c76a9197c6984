package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Shutdown cuts what does not end by itself, whatever stage it is in, and
// returns.
func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(r *rig, reached chan struct{})
	}{
		{"a connection that has said nothing", func(r *rig, reached chan struct{}) { r.dial(); reached <- struct{}{} }},
		{"half a head", func(r *rig, reached chan struct{}) {
			io.WriteString(r.dial(), "CONNECT "+apiHost)
			reached <- struct{}{}
		}},
		{"a tunnel without a handshake", func(r *rig, reached chan struct{}) { r.connect(apiHost + ":443"); reached <- struct{}{} }},
		{"half a handshake", func(r *rig, reached chan struct{}) {
			c, _ := r.connect(apiHost + ":443")
			c.Write([]byte{0x16, 3, 1, 1, 0})
			reached <- struct{}{}
		}},
		{"an idle intercepted connection", func(r *rig, reached chan struct{}) { r.tls(apiHost + ":443"); reached <- struct{}{} }},
		{"half a head inside", func(r *rig, reached chan struct{}) {
			c, _ := r.tls(apiHost + ":443")
			io.WriteString(c, "GET / HT")
			reached <- struct{}{}
		}},
		{"a GET that waits", func(r *rig, _ chan struct{}) {
			c, _ := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET /wait HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
		}},
		{"a POST that waits", func(r *rig, _ chan struct{}) {
			c, _ := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "POST /wait HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\nhi", apiHost)
		}},
		{"an upload that stops", func(r *rig, _ chan struct{}) {
			c, _ := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "POST /wait HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\n\r\nhi", apiHost)
		}},
		{"an answer that stops", func(r *rig, _ chan struct{}) {
			c, _ := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
		}},
		{"an idle h2 connection", func(r *rig, reached chan struct{}) { r.h2(apiHost + ":443"); reached <- struct{}{} }},
		{"an h2 request that waits", func(r *rig, _ chan struct{}) { r.h2(apiHost+":443").open(true, get("/wait")) }},
		{"an h2 answer that stops", func(r *rig, _ chan struct{}) { r.h2(apiHost+":443").open(true, get("/stream")) }},
		{"an h2 upload that stops", func(r *rig, _ chan struct{}) {
			h := r.h2(apiHost + ":443")
			h.fr.WriteData(h.open(false, post("/wait")), false, []byte("x"))
		}},
		{"a WebSocket", func(r *rig, _ chan struct{}) {
			ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
			defer cancel()
			if _, _, err := websocket.Dial(ctx, "wss://"+apiHost+"/socket", &websocket.DialOptions{HTTPClient: r.client(false)}); err != nil {
				r.t.Error(err)
			}
		}},
		{"a tunnel", func(r *rig, reached chan struct{}) { r.connect("elsewhere.test:443"); reached <- struct{}{} }},
		{"a tunnel whose client has ended its half", func(r *rig, reached chan struct{}) {
			silent := newRawOrigin(r.t, func(c *rawConn) { <-r.t.Context().Done() })
			r.redirect(func(string) string { return silent.listen.Addr().String() })
			c, _ := r.connect("elsewhere.test:443")
			c.(*net.TCPConn).CloseWrite()
			time.Sleep(20 * time.Millisecond)
			reached <- struct{}{}
		}},
		{"a plain request that waits", func(r *rig, reached chan struct{}) {
			c := r.dial()
			fmt.Fprintf(c, "GET http://plain.test:443/wait HTTP/1.1\r\nHost: plain.test:443\r\n%s\r\n", r.authHeader())
			reached <- struct{}{}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reached := make(chan struct{}, 8)
			r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
				switch req.URL.Path {
				case "/stream":
					io.WriteString(w, "first")
					w.(http.Flusher).Flush()
				case "/socket":
					ws, err := websocket.Accept(w, req, nil)
					if err != nil {
						t.Error(err)
						return
					}
					reached <- struct{}{}
					ws.Read(context.Background())
					return
				}
				reached <- struct{}{}
				io.Copy(io.Discard, req.Body)
				<-req.Context().Done()
			})
			tt.open(r, reached)
			wait(t, "the proxy is in the stage", reached)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- r.proxy.Shutdown(ctx) }()
			err := wait(t, "Shutdown returns", done)
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if got := r.metric("authsome_active_connections"); got != 0 {
				t.Errorf("%v connections are still open", got)
			}
		})
	}
}

// Shutdown lets a request in flight end, and tells its connection so.
func TestShutdownDrains(t *testing.T) {
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		started, goOn := make(chan struct{}), make(chan struct{})
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			close(started)
			<-goOn
			io.Copy(w, req.Body)
		})
		type result struct {
			body string
			err  error
		}
		got := make(chan result, 1)
		go func() {
			resp, err := r.client(clientH2).Post("https://"+apiHost, "text/plain", strings.NewReader("whole"))
			if err != nil {
				got <- result{"", err}
				return
			}
			b, err := io.ReadAll(resp.Body)
			got <- result{string(b), err}
		}()
		wait(t, "the request is in flight", started)
		done := make(chan error, 1)
		go func() { done <- r.proxy.Shutdown(context.Background()) }()
		time.Sleep(20 * time.Millisecond)
		close(goOn)
		if res := wait(t, "the answer comes", got); res.err != nil || res.body != "whole" {
			t.Errorf("got %q, %v", res.body, res.err)
		}
		if err := wait(t, "Shutdown returns", done); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}
