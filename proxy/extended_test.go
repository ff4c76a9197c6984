//lint:file-ignore SA1019 net/http has a successor to what is deprecated here, which refuses to send :protocol.

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"authsome/proxy"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
)

// overH2 is a WebSocket library's transport: it opens the WebSocket by extended
// CONNECT (RFC 8441) and tells the library of the upgrade that it expects.
type overH2 struct {
	cc *http2.ClientConn
}

func (o overH2) RoundTrip(req *http.Request) (*http.Response, error) {
	in, out := io.Pipe()
	connect := req.Clone(req.Context())
	connect.Method, connect.Body, connect.ContentLength = http.MethodConnect, in, -1
	key := connect.Header.Get("Sec-Websocket-Key")
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Key"} {
		connect.Header.Del(name)
	}
	connect.Header[":protocol"] = []string{"websocket"}
	resp, err := o.cc.RoundTrip(connect)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", "websocket")
	resp.Header.Set("Sec-Websocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	resp.Body = &duplex{resp.Body, out}
	return resp, nil
}

// duplex is a stream in two parts.
type duplex struct {
	io.ReadCloser
	w *io.PipeWriter
}

func (d *duplex) Write(p []byte) (int, error) { return d.w.Write(p) }
func (d *duplex) Close() error {
	d.w.Close()
	return d.ReadCloser.Close()
}

// streamHijacker lets a WebSocket library that knows HTTP/1.1 serve an HTTP/2
// stream.
type streamHijacker struct {
	http.ResponseWriter
	r *http.Request
}

func (s *streamHijacker) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		status = http.StatusOK
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *streamHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c := &streamConn{r: s.r.Body, w: s.ResponseWriter, control: http.NewResponseController(s.ResponseWriter)}
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), c.control.Flush()
}

type streamConn struct {
	net.Conn // for what is not called
	r        io.ReadCloser
	w        io.Writer
	control  *http.ResponseController
}

func (c *streamConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c *streamConn) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	return n, errors.Join(err, c.control.Flush())
}
func (c *streamConn) Close() error                     { return c.r.Close() }
func (c *streamConn) SetDeadline(time.Time) error      { return nil }
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

// socketOrigin is an origin whose WebSockets return what they are sent. It says
// first how it was asked.
func socketOrigin(w http.ResponseWriter, req *http.Request) {
	switch req.URL.Path {
	case "/refuses":
		http.Error(w, "no", http.StatusTeapot)
		return
	case "/ignores":
		io.WriteString(w, "a page")
		return
	}
	how := fmt.Sprintf("%s %s %v", req.Proto, req.URL.RequestURI(), req.Header.Get("Authorization") == "Bearer "+canary)
	if req.Method == http.MethodConnect {
		req.Method = http.MethodGet
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		req.Header.Set("Sec-Websocket-Key", base64.StdEncoding.EncodeToString(make([]byte, 16)))
		w = &streamHijacker{w, req}
	}
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{"echo.v1"}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := context.Background()
	ws.SetReadLimit(8 << 20)
	ws.Write(ctx, websocket.MessageText, []byte(how))
	for {
		kind, p, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if string(p) == "close" {
			ws.Close(4001, "as asked")
			return
		}
		ws.Write(ctx, kind, p)
	}
}

// h2conn is an HTTP/2 connection to the intercepted host.
func (r *rig) h2conn(host string) *http2.ClientConn {
	r.t.Helper()
	raw, _ := r.connect(host + ":443")
	tc := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: r.trust, NextProtos: []string{"h2"}})
	if err := tc.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	cc, err := new(http2.Transport).NewClientConn(tc)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cc.Close() })
	return cc
}

// A WebSocket on an HTTP/2 stream (RFC 8441) reaches an origin that takes such
// streams, and one that wants an HTTP/1.1 upgrade.
func TestWebSocketOverHTTP2(t *testing.T) {
	for _, tt := range []struct {
		name string
		h2   bool
		want string
	}{{"HTTP/2 origin", true, "HTTP/2.0 /chat?room=1 true"}, {"HTTP/1.1 origin", false, "HTTP/1.1 /chat?room=1 true"}} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.h2, socketOrigin)
			client := &http.Client{Transport: overH2{r.h2conn(apiHost)}}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for range 2 { // two on one connection
				ws, resp, err := websocket.Dial(ctx, "https://"+apiHost+"/chat?room=1", &websocket.DialOptions{HTTPClient: client,
					Subprotocols: []string{"echo.v1"}, CompressionMode: websocket.CompressionContextTakeover,
					HTTPHeader: http.Header{"Authorization": {"Bearer placeholder"}}})
				if err != nil {
					t.Fatal(err)
				}
				defer ws.CloseNow()
				ws.SetReadLimit(8 << 20)
				if got := resp.Header.Get("Sec-Websocket-Protocol"); got != "echo.v1" {
					t.Errorf("subprotocol %q", got)
				}
				if _, p, err := ws.Read(ctx); err != nil || string(p) != tt.want {
					t.Fatalf("origin saw %q, %v, want %q", p, err, tt.want)
				}
				for _, size := range []int{0, 1, 125, 126, 65535, 65536, 3 << 20} {
					sent := bytes.Repeat([]byte("x"), size)
					go ws.Write(ctx, websocket.MessageBinary, sent)
					kind, p, err := ws.Read(ctx)
					if err != nil || kind != websocket.MessageBinary || !bytes.Equal(p, sent) {
						t.Fatalf("%d bytes: got %d bytes, %v, %v", size, len(p), kind, err)
					}
				}
				alive := ws.CloseRead(ctx)
				if err := ws.Ping(ctx); err != nil {
					t.Errorf("ping: %v", err)
				}
				ws.CloseNow()
				<-alive.Done()
			}
			injected := func() int {
				n := 0
				for _, e := range r.events() {
					if e.Event == "inject" && e.Protocol == "websocket" && e.Status == http.StatusOK {
						n++
					}
				}
				return n
			}
			eventually(t, "two WebSockets are on record", func() bool { return injected() == 2 })
		})
	}
}

// The origin's close code, its refusal, and a page where a WebSocket was asked
// for.
func TestWebSocketOverHTTP2Ends(t *testing.T) {
	for _, h2 := range []bool{true, false} {
		r := newRig(t, h2, socketOrigin)
		cc := r.h2conn(apiHost)
		client := &http.Client{Transport: overH2{cc}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ws, _, err := websocket.Dial(ctx, "https://"+apiHost+"/", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		ws.Read(ctx)
		ws.Write(ctx, websocket.MessageText, []byte("close"))
		_, _, err = ws.Read(ctx)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4001 || closed.Reason != "as asked" {
			t.Errorf("h2 %v: %v, want close code 4001", h2, err)
		}
		for path, want := range map[string]int{"/refuses": http.StatusTeapot, "/ignores": http.StatusBadGateway} {
			if h2 && path == "/ignores" {
				continue // a 2xx to CONNECT is what opens the stream
			}
			_, resp, err := websocket.Dial(ctx, "https://"+apiHost+path, &websocket.DialOptions{HTTPClient: client})
			if err == nil || resp == nil || resp.StatusCode != want {
				t.Errorf("h2 %v: %s: %v, %v, want %d", h2, path, resp, err, want)
			}
		}
		// Another protocol, and :protocol where it does not belong.
		for method, protocol := range map[string]string{http.MethodConnect: "connect-udp", http.MethodGet: "websocket"} {
			req, _ := http.NewRequestWithContext(ctx, method, "https://"+apiHost+"/", nil)
			req.Header[":protocol"] = []string{protocol}
			resp, err := cc.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("%s for %s: %s", method, protocol, resp.Status)
				}
			}
		}
	}
}

// A client that goes away ends its WebSocket at the origin, and the idle limit
// ends one that stands still.
func TestWebSocketOverHTTP2IsEnded(t *testing.T) {
	for _, h2 := range []bool{true, false} {
		for _, how := range []string{"reset", "idle"} {
			ended := make(chan struct{}, 1)
			r := newRig(t, h2, func(w http.ResponseWriter, req *http.Request) {
				socketOrigin(w, req)
				ended <- struct{}{}
			}, func(_ *rig, c *proxy.Config) {
				if how == "idle" {
					c.Limits.IdleUpgrade = 300 * time.Millisecond
				}
			})
			ws, _, err := websocket.Dial(t.Context(), "https://"+apiHost+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: overH2{r.h2conn(apiHost)}}})
			if err != nil {
				t.Fatal(err)
			}
			if how == "reset" {
				ws.CloseNow() // without a Close frame
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Errorf("h2 %v, %s: the origin was not told", h2, how)
			}
			ws.CloseNow()
			r.reaches(0, "authsome_active_connections", "kind=upgrade")
		}
	}
}

// What switches extended CONNECT on is for this process at its start alone: a
// child must not inherit it.
func TestExtendedConnectLeavesNoTrace(t *testing.T) {
	if v := os.Getenv("GODEBUG"); strings.Contains(v, "http2xconnect") {
		t.Errorf("GODEBUG=%s", v)
	}
}
