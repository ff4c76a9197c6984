package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/proxy"

	"go.uber.org/goleak"
)

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
	r := newRig(t, false, whoami, short, func(_ *rig, c *proxy.Config) {
		c.Limits.Connections, c.Limits.RequestHeader, c.Logger = slots, time.Second, nil
	})
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
