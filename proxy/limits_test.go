package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"
)

// short makes every limit short enough to run into, and long enough for a busy
// machine to keep.
func short(_ *rig, c *proxy.Config) {
	c.Limits = proxy.Limits{Connections: 64, RequestHeader: 600 * time.Millisecond, Dial: 5 * time.Second, IdleClient: 700 * time.Millisecond,
		IdleUpstream: 600 * time.Millisecond, IdleStream: time.Second, IdleUpgrade: time.Second}
}

// closes waits for the proxy to end a connection, and returns what it said.
func closes(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	said, err := io.ReadAll(c)
	var e net.Error
	if errors.As(err, &e) && e.Timeout() {
		t.Error("the proxy keeps a connection that does nothing")
	}
	return string(said)
}

// trickle writes bytes one by one until the other side closes.
func trickle(t *testing.T, c net.Conn, every time.Duration, s string) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
			if _, err := c.Write([]byte{s[i%len(s)]}); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); c.Close(); <-done })
}

// A head must arrive in its time, however its bytes are spread.
func TestSlowHeads(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(t *testing.T, r *rig) net.Conn // returns what has to be closed
	}{
		{"nothing", func(_ *testing.T, r *rig) net.Conn { return r.dial() }},
		{"half a head", func(_ *testing.T, r *rig) net.Conn {
			c := r.dial()
			io.WriteString(c, "CONNECT "+apiHost+":443 HTTP/1.1\r\nHo")
			return c
		}},
		{"a trickle", func(t *testing.T, r *rig) net.Conn {
			c := r.dial()
			io.WriteString(c, "CONNECT "+apiHost+":443 HTTP/1.1\r\nX: ")
			trickle(t, c, 20*time.Millisecond, "a")
			return c
		}},
		{"a trickle of empty lines", func(t *testing.T, r *rig) net.Conn {
			c := r.dial()
			trickle(t, c, 20*time.Millisecond, "\r\n")
			return c
		}},
		{"silence after CONNECT", func(_ *testing.T, r *rig) net.Conn { c, _ := r.connect(apiHost + ":443"); return c }},
		{"half a handshake", func(t *testing.T, r *rig) net.Conn {
			c, _ := r.connect(apiHost + ":443")
			c.Write([]byte{0x16, 3, 1, 2, 0})
			trickle(t, c, 20*time.Millisecond, "\x00")
			return c
		}},
		{"a trickle inside", func(t *testing.T, r *rig) net.Conn {
			c, _ := r.tls(apiHost + ":443")
			io.WriteString(c, "GET / HTTP/1.1\r\nX: ")
			trickle(t, c, 20*time.Millisecond, "a")
			return c
		}},
		{"a trickle in the second request", func(t *testing.T, r *rig) net.Conn {
			c, br := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\nGET / HTTP/1.1\r\nX: ", apiHost)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			trickle(t, c, 20*time.Millisecond, "a")
			return c
		}},
		{"an idle client inside", func(_ *testing.T, r *rig) net.Conn { c, _ := r.tls(apiHost + ":443"); return c }},
		{"an idle h2 client", func(_ *testing.T, r *rig) net.Conn { return r.h2(apiHost + ":443").conn }},
		{"h2 headers without end", func(t *testing.T, r *rig) net.Conn {
			h := r.h2(apiHost + ":443")
			block := h.block(get("/"))
			h.fr.WriteRawFrame(1, 0, 1, block) // HEADERS without END_HEADERS
			return h.conn
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, false, whoami, short)
			c := tt.open(t, r)
			began := time.Now()
			closes(t, c)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			eventually(t, "the proxy has forgotten the connection", func() bool { return r.metric("authsome_active_connections") == 0 })
		})
	}
}

// A request that stands still is ended, at its client and at its origin, and
// one that moves in either direction is not.
func TestStandstill(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, r *rig)
		path string
	}{
		{"h1 upload stops", func(t *testing.T, r *rig) {
			c, br := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "POST /upload HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\nabc", apiHost)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("got %v, %v, want 408", resp, err)
			}
		}, ""},
		{"h2 upload stops", func(t *testing.T, r *rig) {
			h := r.h2(apiHost + ":443")
			id := h.open(false, post("/upload"))
			h.fr.WriteData(id, false, []byte("abc"))
			if a := h.wait(id); a.status == "200" || !a.ended {
				t.Errorf("got %+v", a)
			}
		}, ""},
		{"h1 client does not read", func(t *testing.T, r *rig) {
			c, _ := r.tls(apiHost + ":443")
			c.NetConn().(*net.TCPConn).SetReadBuffer(4 << 10)
			fmt.Fprintf(c, "GET /endless HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
		}, ""},
		{"h2 client does not open its window", func(t *testing.T, r *rig) {
			h := r.h2(apiHost + ":443")
			h.hold = true
			id := h.open(true, get("/endless"))
			h.wait(id)
		}, ""},
		{"h1 origin stops", func(t *testing.T, r *rig) {
			resp, err := r.client(false).Get("https://" + apiHost + "/stops")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Error("a cut body looks whole")
			}
		}, ""},
		{"h2 client, origin stops", func(t *testing.T, r *rig) {
			resp, err := r.client(true).Get("https://" + apiHost + "/stops")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Error("a cut body looks whole")
			}
		}, ""},
		{"origin does not read", func(t *testing.T, r *rig) {
			resp, err := r.client(false).Post("https://"+apiHost+"/unread", "", io.LimitReader(zeros{}, 64<<20))
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("got %d", resp.StatusCode)
			}
		}, ""},
		{"h2 client, origin does not read", func(t *testing.T, r *rig) {
			resp, err := r.client(true).Post("https://"+apiHost+"/unread", "", io.LimitReader(zeros{}, 64<<20))
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("got %d", resp.StatusCode)
			}
		}, ""},
	} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, origin h2=%v", tt.name, originH2), func(t *testing.T) {
				t.Parallel()
				gone := make(chan struct{})
				r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
					defer close(gone)
					switch req.URL.Path {
					case "/upload":
						io.Copy(io.Discard, req.Body)
					case "/endless":
						io.Copy(w, zeros{})
					case "/stops":
						io.WriteString(w, "first")
						w.(http.Flusher).Flush()
						<-req.Context().Done()
					case "/unread":
						http.NewResponseController(w).EnableFullDuplex()
						select {
						case <-req.Context().Done():
						case <-time.After(5 * time.Second):
						}
					}
				}, short)
				done := make(chan struct{})
				go func() { defer close(done); tt.do(t, r) }()
				if !strings.Contains(tt.name, "does not read") || strings.Contains(tt.name, "client does not") {
					wait(t, "the origin is let go", gone)
				}
				wait(t, "the client is let go", done)
			})
		}
	}
}

func TestMovingStreamsAreNotCut(t *testing.T) {
	const pieces, every = 12, 130 * time.Millisecond // more than the idle limit in all
	for _, tt := range []struct{ name, path string }{{"up only", "/up"}, {"down only", "/down"}} {
		t.Run(tt.name, func(t *testing.T) {
			combos(t, func(t *testing.T, clientH2, originH2 bool) {
				t.Parallel()
				r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
					http.NewResponseController(w).EnableFullDuplex()
					io.WriteString(w, "head")
					w.(http.Flusher).Flush() // the answer has begun; nothing more comes for long
					if req.URL.Path == "/up" {
						n, err := io.Copy(io.Discard, req.Body)
						fmt.Fprint(w, n, err)
						return
					}
					for range pieces {
						time.Sleep(every)
						io.WriteString(w, "x")
						w.(http.Flusher).Flush()
					}
				}, short)
				var body io.Reader
				if tt.path == "/up" {
					pr, pw := io.Pipe()
					go func() {
						for range pieces {
							time.Sleep(every)
							io.WriteString(pw, "x")
						}
						pw.Close()
					}()
					body = pr
				}
				req, _ := http.NewRequest("POST", "https://"+apiHost+tt.path, body)
				resp, err := r.client(clientH2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				want := "head" + strings.Repeat("x", pieces)
				if tt.path == "/up" {
					want = fmt.Sprintf("head%d <nil>", pieces)
				}
				if err != nil || string(got) != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			})
		})
	}
}

func TestIdleTunnels(t *testing.T) {
	origin := newRawOrigin(t, func(c *rawConn) { io.Copy(io.Discard, c) })
	r := newRig(t, false, whoami, origin.use, short)
	c, _ := r.connect("elsewhere.test:443")
	closes(t, c)
	// One direction that moves keeps both.
	c, _ = r.connect("elsewhere.test:443")
	for range 12 {
		time.Sleep(130 * time.Millisecond)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatalf("a tunnel that moves was cut: %v", err)
		}
	}
}

// What origins keep open is bounded in time, whatever they speak.
func TestIdleOriginConnectionsAreClosed(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint(h2), func(t *testing.T) {
			var open atomic.Int32
			var started sync.WaitGroup
			started.Add(30)
			r := newRig(t, h2, func(http.ResponseWriter, *http.Request) { started.Done(); started.Wait() }, func(_ *rig, c *proxy.Config) {
				c.Limits.IdleUpstream, c.Limits.IdleClient = 500*time.Millisecond, 500*time.Millisecond
				dial := c.Dial
				c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					nc, err := dial(ctx, network, address)
					if err == nil {
						open.Add(1)
						nc = &closing{Conn: nc, closed: func() { open.Add(-1) }}
					}
					return nc, err
				}
			})
			client := r.client(true)
			var wg sync.WaitGroup
			for range 30 { // at once, so that many connections are made
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+apiHost, nil)
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
				})
			}
			wg.Wait()
			if open.Load() == 0 && !h2 {
				t.Error("no connection was kept")
			}
			eventually(t, "all connections to the origin are closed", func() bool { return open.Load() == 0 })
		})
	}
}

// closing says when a connection is closed.
type closing struct {
	net.Conn
	once   sync.Once
	closed func()
}

func (c *closing) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}
