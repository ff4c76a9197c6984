package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"go.uber.org/goleak"
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

// usage is what a process holds.
type usage struct {
	goroutines goleak.Option // ignores those that there are
	files      int
	heap       uint64 // bytes
}

func used(t testing.TB) usage {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // pools keep what they hold for one collection
		runtime.GC() // and so do the pipes of splice
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{goleak.IgnoreCurrent(), len(fds), m.HeapAlloc}
}

// leftBytes is what the heap may have grown by for each connection that is over:
// less than what there is of one without its buffers, and of many more than the
// heap varies by.
const leftBytes = 512

// returnsTo waits until no goroutine runs that did not run before so many
// connections, no more files are open, and the heap is about as large.
func (before usage) returnsTo(t *testing.T, connections int) {
	t.Helper()
	var now usage
	var leaked error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		now, leaked = used(t), goleak.Find(before.goroutines)
		if leaked == nil && now.files <= before.files && now.heap <= before.heap+uint64(connections)*leftBytes {
			return
		}
	}
	t.Errorf("files: %d, were %d; heap: %d bytes, were %d; goroutines that were not: %v",
		now.files, before.files, now.heap, before.heap, leaked)
}

// PITFALLS 24: clients that give up, in whatever way, leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name string
		once func(r *rig)
	}{
		{"clients that reject our certificate", func(r *rig) {
			raw, _ := r.connect(apiHost + ":443")
			if tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: apiHost}).Handshake() == nil {
				r.t.Error("the handshake succeeded")
			}
			raw.Close()
		}},
		{"clients that reject our certificate and stay", func(r *rig) {
			raw, _ := r.connect(apiHost + ":443")
			tls.Client(raw, &tls.Config{RootCAs: r.roots, ServerName: apiHost}).Handshake()
		}},
		{"clients that reset within the handshake", func(r *rig) {
			raw, _ := r.connect(apiHost + ":443")
			raw.Write([]byte{0x16, 3, 1, 2, 0, 1})
			raw.(*net.TCPConn).SetLinger(0)
			raw.Close()
		}},
		{"clients that connect and leave", func(r *rig) { r.dial().Close() }},
		{"clients without a token", func(r *rig) {
			c := r.dial()
			io.WriteString(c, "CONNECT "+apiHost+":443 HTTP/1.1\r\nHost: x\r\n\r\n")
			readResponse(c)
			c.Close()
		}},
		{"heads that are too large", func(r *rig) {
			c, br := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX: %s\r\n\r\n", apiHost, strings.Repeat("a", 70<<10))
			if resp, err := http.ReadResponse(br, nil); err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				r.t.Errorf("got %d, want 431", resp.StatusCode)
			}
		}},
		{"malformed requests", func(r *rig) { c := r.dial(); io.WriteString(c, "\x00\x01\x02\r\n\r\n"); readResponse(c) }},
		{"requests that are abandoned", func(r *rig) {
			c, _ := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "POST /wait HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\nabc", apiHost)
			c.NetConn().Close()
		}},
		{"answers that are abandoned", func(r *rig) {
			c, br := r.tls(apiHost + ":443")
			fmt.Fprintf(c, "GET /endless HTTP/1.1\r\nHost: %s\r\n\r\n", apiHost)
			http.ReadResponse(br, nil)
			c.NetConn().Close()
		}},
		{"h2 streams that are reset", func(r *rig) {
			h := r.h2(apiHost + ":443")
			for range 5 {
				h.fr.WriteRSTStream(h.open(true, get("/wait")), 8)
			}
			h.conn.Close()
		}},
		{"tunnels", func(r *rig) {
			c, _ := r.connect("elsewhere.test:443")
			io.WriteString(c, "x")
			c.Close()
		}},
		{"requests to an origin that is not there", func(r *rig) {
			c, br := r.tls("gone.example.test:443")
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: gone.example.test\r\n\r\n")
			http.ReadResponse(br, nil)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, true, func(w http.ResponseWriter, req *http.Request) {
				switch req.URL.Path {
				case "/wait":
					io.Copy(io.Discard, req.Body)
					<-req.Context().Done()
				case "/endless":
					io.Copy(w, zeros{})
				}
			}, short, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeader, c.Logger = 10*time.Second, nil })
			r.route(apiHost, "gone.example.test")
			dials := *r.dials.Load()
			r.redirect(func(address string) string {
				if strings.HasPrefix(address, "gone.") {
					return "127.0.0.1:1"
				}
				return dials(address)
			})
			conns := &connTracker{}
			r.track = conns.add
			tt.once(r)
			conns.close()
			eventually(t, "the proxy is at rest", func() bool { return r.metric("authsome_active_connections") == 0 })
			before := used(t)
			const connections = 200
			for range connections {
				tt.once(r)
				conns.close()
			}
			before.returnsTo(t, connections)
		})
	}
}

// connTracker closes what a test's clients opened, as their exit would.
type connTracker struct {
	mu   sync.Mutex // guards open
	open []net.Conn
}

func (k *connTracker) add(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open = append(k.open, c)
}

func (k *connTracker) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.open {
		c.Close()
	}
	k.open = nil
}

// A flood fills the slots and no more, is told so, and leaves them usable.
func TestConnectionFlood(t *testing.T) {
	const slots = 16
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) {
		c.Limits.Connections, c.Limits.IdleUpstream, c.Logger = slots, 500*time.Millisecond, nil
	})
	conns := &connTracker{}
	r.track = conns.add
	r.dial()
	conns.close()
	eventually(t, "the slot is free", func() bool { return r.metric("authsome_active_connections") == 0 })
	before := used(t)
	const rounds = 4
	for round := range rounds {
		for range slots {
			r.connect(apiHost + ":443")
		}
		refused := 0
		for range 3 * slots {
			c := r.dial()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil && resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Authsome-Error") == "too_many_connections" {
				refused++
			}
		}
		if refused != 3*slots {
			t.Errorf("round %d: %d of %d were told that there is no room", round, refused, 3*slots)
		}
		conns.close()
		eventually(t, "the slots are free", func() bool { return r.metric("authsome_active_connections") == 0 })
	}
	client := r.client(false)
	resp, err := client.Get("https://" + apiHost)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("after the flood: %v, %v", resp, err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	before.returnsTo(t, rounds*4*slots)
}

// Slow heads of every kind fill the slots, again and again. The proxy ends them,
// and nothing of them is left.
func TestSlowFlood(t *testing.T) {
	const slots, rounds = 64, 2
	r := newRig(t, false, whoami, short, func(_ *rig, c *proxy.Config) { c.Limits.Connections, c.Logger = slots, nil })
	conns := &connTracker{}
	r.track = conns.add
	slow := []func() net.Conn{
		func() net.Conn { c := r.dial(); io.WriteString(c, "CONNECT "); return c },
		func() net.Conn { c, _ := r.connect(apiHost + ":443"); return c },
		func() net.Conn { c, _ := r.connect(apiHost + ":443"); c.Write([]byte{0x16, 3, 1, 2, 0}); return c },
		func() net.Conn { c, _ := r.tls(apiHost + ":443"); io.WriteString(c, "GET / HTTP/1.1\r\nX: "); return c },
		func() net.Conn {
			h := r.h2(apiHost + ":443")
			h.fr.WriteRawFrame(1, 0, 1, h.block(get("/"))) // HEADERS without END_HEADERS
			return h.conn
		},
	}
	flood := func() {
		var open []net.Conn
		for i := range slots {
			open = append(open, slow[i%len(slow)]())
		}
		for _, c := range open {
			closes(t, c)
		}
		eventually(t, "the slots are free", func() bool { return r.metric("authsome_active_connections") == 0 })
		conns.close()
	}
	flood()
	before := used(t)
	for range rounds {
		flood()
	}
	before.returnsTo(t, rounds*slots)
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

// Heads are bounded in bytes on both sides.
func TestLargeHeads(t *testing.T) {
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeaderBytes = 8 << 10 })
	for _, n := range []int{6 << 10, 9 << 10, 1 << 20} {
		want := map[bool]int{true: 200, false: 431}[n < 8<<10]
		c, br := r.tls(apiHost + ":443")
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nX: %s\r\n\r\n", apiHost, strings.Repeat("a", n))
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("h1, %d bytes: got %v, %v, want %d", n, resp, err, want)
		}
		req, _ := http.NewRequest("GET", "https://"+apiHost, nil)
		req.Header.Set("X", strings.Repeat("a", n))
		resp, err = r.client(true).Do(req)
		if err == nil && resp.StatusCode != want && !(want == 200 && resp.StatusCode == 200) || err != nil && want == 200 {
			t.Errorf("h2, %d bytes: got %v, %v, want %d", n, resp, err, want)
		}
	}
}
