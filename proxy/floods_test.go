package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// What one HTTP/2 connection may make the proxy hold, whatever is said on it. Each
// of its streams may have some goroutines, here and at the test's origin, and a
// buffer.
const (
	floodGoroutines = 250 * 6
	floodBytes      = 100 << 20
)

// floodLimits end what stands still soon, and nothing else. net/http keeps what
// there was of a connection until it would have asked for its origin.
func floodLimits(_ *rig, c *proxy.Config) {
	c.Limits.IdleStream, c.Limits.IdleUpstream, c.Limits.Ping, c.Logger = time.Second, 500*time.Millisecond, 2*time.Second, nil
}

// survives has a client attack, and another one ask meanwhile and afterwards.
func (r *rig) survives(t *testing.T, attack func(h *h2Client), settings ...http2.Setting) {
	t.Helper()
	other := r.client(true)
	answered := func() {
		t.Helper()
		if got := r.status(other); got != http.StatusOK {
			t.Errorf("another client: got %d", got)
		}
	}
	answered()
	before, goroutines := used(t), runtime.NumGoroutine()
	h := r.h2(apiHost+":443", settings...)
	over, most := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for tick := time.Tick(time.Millisecond); ; {
			select {
			case <-tick:
				n = max(n, runtime.NumGoroutine())
			case <-over:
				most <- n
				return
			}
		}
	}()
	attack(h)
	close(over)
	if n := <-most - goroutines; n > floodGoroutines {
		t.Errorf("%d goroutines served it", n)
	}
	if now := used(t).heap; now > before.heap+floodBytes {
		t.Errorf("it holds %d MiB", (now-before.heap)>>20)
	}
	answered()
	h.conn.Close()
	answered()
	other.CloseIdleConnections()
	before.returnsTo(t, 4000)
}

// ends reads until the connection has ended, and says with which code.
func (h *h2Client) ends() http2.ErrCode {
	h.t.Helper()
	h.until(func() bool { return h.away != nil && *h.away != http2.ErrCodeNo })
	if h.away == nil {
		return http2.ErrCodeNo
	}
	return *h.away
}

// Whatever an HTTP/2 client floods the proxy with, it holds little, others are
// answered, and nothing of it is left.
func TestHTTP2Floods(t *testing.T) {
	origin := func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/upload":
			io.Copy(io.Discard, req.Body)
		case "/large":
			io.CopyN(w, zeros{}, 200<<10)
		}
	}
	wants := func(t *testing.T, what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	for _, tt := range []struct {
		name     string
		attack   func(t *testing.T, h *h2Client)
		settings []http2.Setting
	}{
		{"a head of empty frames without end", func(_ *testing.T, h *h2Client) { // CVE-2024-27316
			h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block(get("/")), EndStream: true})
			for range 20_000 {
				h.fr.WriteContinuation(1, false, nil)
			}
		}, nil},
		{"a field named ten thousand times", func(t *testing.T, h *h2Client) { // 13 KiB for 40 MiB
			fields := get("/")
			for range 10_000 {
				fields = append(fields, "x", strings.Repeat("a", 4000))
			}
			wants(t, "the answer", h.wait(h.open(true, fields)).status, "431")
			wants(t, "the next", h.wait(h.open(true, get("/"))).status, "200")
		}, nil},
		{"pings", func(_ *testing.T, h *h2Client) {
			for i := 0; i < 20_000 && h.fr.WritePing(false, [8]byte{}) == nil; i++ {
			}
		}, nil},
		{"settings", func(_ *testing.T, h *h2Client) {
			for i := 0; i < 20_000 && h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)}) == nil; i++ {
			}
		}, nil},
		{"empty DATA", func(t *testing.T, h *h2Client) {
			id := h.open(false, post("/upload"))
			for range 20_000 {
				h.fr.WriteData(id, false, nil)
			}
			h.fr.WriteData(id, true, nil)
			wants(t, "the answer", h.wait(id).status, "200")
		}, nil},
		{"priorities", func(t *testing.T, h *h2Client) {
			for i := range uint32(20_000) {
				h.fr.WritePriority(2*i+1001, http2.PriorityParam{StreamDep: 2*i + 999, Weight: 255})
			}
			wants(t, "the next", h.wait(h.open(true, get("/"))).status, "200")
		}, nil},
		{"a stream's window that is too large", func(t *testing.T, h *h2Client) {
			id := h.open(false, post("/upload"))
			h.fr.WriteWindowUpdate(id, 1<<31-1)
			if a := h.wait(id); a.reset == nil || *a.reset != http2.ErrCodeFlowControl {
				t.Errorf("got %+v", a)
			}
			wants(t, "the next", h.wait(h.open(true, get("/"))).status, "200")
		}, nil},
		{"a connection's window that is too large", func(t *testing.T, h *h2Client) {
			h.fr.WriteWindowUpdate(0, 1<<31-1)
			wants(t, "the end", h.ends(), http2.ErrCodeFlowControl)
		}, nil},
		{"answers that nobody takes", func(t *testing.T, h *h2Client) {
			for range 250 {
				h.open(true, get("/large"))
			}
			if h.until(func() bool { return len(h.got) == 250 }); len(h.got) != 250 {
				t.Errorf("%d of 250 have begun", len(h.got))
			}
		}, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}},
		{"trailers that never come", func(t *testing.T, h *h2Client) {
			for range 250 {
				h.fr.WriteData(h.open(false, post("/upload", "trailer", "x-t")), false, []byte("x"))
			}
			for id := uint32(1); id < h.next; id += 2 {
				if a := h.wait(id); a.status != "408" {
					t.Fatalf("got %+v", a)
				}
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, true, origin, floodLimits)
			r.survives(t, func(h *h2Client) { tt.attack(t, h) }, tt.settings...)
		})
	}
}

// A client that resets its streams at once (CVE-2023-44487), or has the server do
// so (CVE-2025-8671), has no more requests at the origin than one that does not.
func TestRapidReset(t *testing.T) {
	for name, reset := range map[string]func(h *h2Client, id uint32) error{
		"by the client": func(h *h2Client, id uint32) error { return h.fr.WriteRSTStream(id, http2.ErrCodeCancel) },
		"by the server": func(h *h2Client, id uint32) error { return h.fr.WriteWindowUpdate(id, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			var now, most atomic.Int32
			r := newRig(t, true, func(_ http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/" {
					return
				}
				for n, m := now.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				defer now.Add(-1)
				<-req.Context().Done()
			}, floodLimits)
			r.survives(t, func(h *h2Client) {
				for i := 0; i < 20_000 && reset(h, h.open(true, get("/wait"))) == nil; i++ {
				}
				eventually(t, "requests are given up", func() bool { return r.metric("authsome_requests_total", "outcome=abandoned") > 0 })
			})
			if n := most.Load(); n > 250 {
				t.Errorf("%d requests at once were at the origin", n)
			}
		})
	}
}

// Nobody can fill the audit log with requests that ask nobody but the proxy: their
// client goes away before they are sent, or there is nothing to send them to.
func TestUnsentRequestsCannotFloodTheAuditLog(t *testing.T) {
	t.Parallel()
	var down, well atomic.Bool
	r := newRig(t, true, whoami, func(_ *rig, c *proxy.Config) {
		c.Logger = nil
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			switch {
			case well.Load():
				return dial(ctx, network, address)
			case down.Load():
				return nil, errors.New("there is no route")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	r.proxy.SpendRefusalLines()
	const times = 200
	h := r.h2(apiHost + ":443")
	for range times {
		h.fr.WriteRSTStream(h.open(true, get("/")), http2.ErrCodeCancel)
	}
	eventually(t, "all are given up", func() bool { return r.metric("authsome_requests_total", "outcome=abandoned") == times })
	down.Store(true)
	for range times {
		if a := h.wait(h.open(true, get("/"))); a.status != "502" {
			t.Fatalf("got %+v", a)
		}
	}
	r.reaches(times, "authsome_refusals_total", "code=upstream_unreachable")
	if all := r.events(); len(all) > 0 {
		t.Errorf("%d lines record %d requests that were not sent: %+v …", len(all), 2*times, all[0])
	}
	well.Store(true)
	if a := h.wait(h.open(true, get("/"))); a.status != "200" {
		t.Errorf("got %+v", a)
	}
	r.reaches(1, "authsome_requests_total", "outcome=injected")
	if e := r.event("inject"); e.Outcome != "ok" {
		t.Errorf("the injection after the flood: got %+v", e)
	}
}
