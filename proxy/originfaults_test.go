package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// status says what a request gets within a time in which none that works takes.
func (r *rig) status(client *http.Client) int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiHost+"/", nil)
	resp, err := client.Do(req)
	if err != nil {
		r.t.Error(err)
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// heldConn calls hold before it writes what comes after the TLS 1.3 handshake.
type heldConn struct {
	net.Conn
	sealed int // writes of encrypted records: the first is the client's Finished
	hold   func()
}

func (c *heldConn) Write(p []byte) (int, error) {
	if p[0] == 23 {
		if c.sealed++; c.sealed == 2 {
			c.hold()
		}
	}
	return c.Conn.Write(p)
}

// A connection that ends before anything was sent on it is not tried again and
// again: net/http takes a request on each, to fail it. Their clients go away
// while they are made.
func TestConnectionsThatWereNeverUsed(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) { o.head(id, true, ":status", "204") }), "h2")
	holding, goOn := make(chan struct{}), make(chan struct{})
	var well atomic.Bool
	r := newRig(t, true, nil, origin.use, func(_ *rig, c *proxy.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := dial(ctx, network, address)
			if err != nil || well.Load() {
				return nc, err
			}
			return &heldConn{Conn: nc, hold: func() { holding <- struct{}{}; <-goOn }}, nil
		}
	})
	for i := range 24 { // half of them begin a stream all the same
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiHost+"/", nil)
			if resp, err := r.client(true).Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		wait(t, "a connection is made", holding)
		leave()
		wait(t, "the client leaves", left)
		time.Sleep(20 * time.Millisecond) // the proxy need not notice each
		goOn <- struct{}{}
		origin.mu.Lock()
		for _, c := range origin.conns {
			c.Close()
		}
		origin.mu.Unlock()
		r.reaches(float64(i+1), "authsome_requests_total")
	}
	well.Store(true)
	for range 5 {
		if got := r.status(r.client(true)); got != http.StatusNoContent {
			t.Errorf("got %d", got)
		}
	}
}

// An origin that allows no streams for a while is none that is forgotten, and its
// connections are closed.
func TestNoStreamsAllowed(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	var open, made atomic.Int32
	origin := newRawOrigin(t, func(c *rawConn) {
		if c.Conn.(*tls.Conn).Handshake() != nil {
			return
		}
		made.Add(1)
		open.Add(1)
		defer open.Add(-1)
		limit := uint32(0)
		if well.Load() {
			limit = 100
		}
		fr := http2.NewFramer(c, c.br)
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
		h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) {
			if limit == 0 {
				o.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				return
			}
			o.head(id, true, ":status", "204")
		})(c)
	}, "h2")
	r := newRig(t, true, nil, origin.use)
	clients := []*http.Client{r.client(true), r.client(false)}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if got := r.status(clients[i%2]); got != http.StatusBadGateway {
				t.Errorf("got %d of an origin that allows no streams", got)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n >= 150 {
		t.Errorf("%d connections for 50 requests: what one finds out is true for all who wait for it", n)
	}
	eventually(t, "connections of no use are closed", func() bool { return open.Load() == 0 })
	well.Store(true)
	for range 10 {
		if got := r.status(clients[0]); got != http.StatusNoContent {
			t.Errorf("got %d of an origin that allows streams again", got)
		}
	}
}

// An origin that is out of order from the first frame on is found to be so by all
// who wait, at once: none waits for the settings of a connection that has ended.
func TestOriginsThatSpeakNonsense(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]func(fr *http2.Framer, c *rawConn){
		"no HTTP/2":       func(_ *http2.Framer, c *rawConn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"no settings":     func(fr *http2.Framer, _ *rawConn) { fr.WritePing(false, [8]byte{}) },
		"settings of 5":   func(fr *http2.Framer, _ *rawConn) { fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) },
		"on a stream":     func(fr *http2.Framer, _ *rawConn) { fr.WriteRawFrame(http2.FrameSettings, 0, 3, nil) },
		"cut in settings": func(_ *http2.Framer, c *rawConn) { c.Write([]byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3}); c.Close() },
		"goodbye":         func(fr *http2.Framer, _ *rawConn) { fr.WriteSettings(); fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"bad window": func(fr *http2.Framer, _ *rawConn) {
			fr.WriteSettings()
			fr.WriteWindowUpdate(0, 1<<31-1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := newRawOrigin(t, func(c *rawConn) {
				if c.Conn.(*tls.Conn).Handshake() != nil {
					return
				}
				fr := http2.NewFramer(c, nil)
				fr.AllowIllegalWrites = true
				say(fr, c)
				io.Copy(io.Discard, c)
			}, "h2")
			r := newRig(t, true, nil, origin.use)
			clients := []*http.Client{r.client(true), r.client(false)}
			var all sync.WaitGroup
			for i := range 30 { // one second for each would be too long
				all.Go(func() {
					if got := r.status(clients[i%2]); got != http.StatusBadGateway {
						t.Errorf("got %d", got)
					}
				})
			}
			all.Wait()
		})
	}
}

// A balancer's backends do not all speak HTTP/2, each connection may reach another,
// and none lasts long. Every request is answered.
func TestMixedBackends(t *testing.T) {
	t.Parallel()
	var asked, dials atomic.Int32
	handler := func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1)%5 == 0 {
			w.Header().Set("Connection", "close") // GOAWAY, in HTTP/2
		}
		io.WriteString(w, "ok")
	}
	r := newRig(t, true, handler)
	old := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	old.TLS = r.origin.TLS.Clone()
	old.TLS.NextProtos = []string{"http/1.1"}
	old.StartTLS()
	t.Cleanup(old.Close)
	r.redirect(func(string) string {
		if dials.Add(1)%3 == 0 {
			return r.origin.Listener.Addr().String()
		}
		return old.Listener.Addr().String()
	})
	clients := []*http.Client{r.client(true), r.client(false), r.client(true)}
	for range 10 {
		r.all(60, clients...)
	}
}

// An origin that goes on to answer and reads nothing more does not hold those that
// come to the same connection later, nor what its client has left.
func TestOriginsThatDoNotRead(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	ended := make(chan struct{})
	origin := newRawOrigin(t, func(c *rawConn) {
		n := conns.Add(1)
		h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) {
			if n > 1 {
				o.head(id, true, ":status", "204")
				return
			}
			o.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			o.fr.WriteWindowUpdate(0, 1<<30)
			o.head(id, false, ":status", "200")
			for o.fr.WriteData(id, false, []byte("x")) == nil {
				time.Sleep(10 * time.Millisecond)
			}
			close(ended)
		})(c)
	}, "h2")
	r := newRig(t, true, nil, origin.use, func(_ *rig, c *proxy.Config) { c.Limits.Ping = 500 * time.Millisecond })
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+apiHost+"/", io.NopCloser(zeros{}))
	resp, err := r.client(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sent := func() float64 { return r.metric("authsome_bytes_total", "direction=up") }
	for before := -1.0; sent() != before; time.Sleep(100 * time.Millisecond) { // until nothing moves
		before = sent()
	}
	leave()
	if got := r.status(r.client(true)); got != http.StatusNoContent {
		t.Errorf("another client: got %d", got)
	}
	wait(t, "the connection ends", ended)
}

// An origin that allows no more streams on a connection ends those that there are,
// and gets the next ones over another. The first is closed then.
func TestNoMoreStreamsAllowed(t *testing.T) {
	t.Parallel()
	begun, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var conns atomic.Int32
	origin := newRawOrigin(t, func(c *rawConn) {
		first := conns.Add(1) == 1
		if first {
			defer close(ended)
		}
		h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
			if path != "/long" {
				if first {
					t.Error("a request on a connection that allows none")
				}
				o.head(id, true, ":status", "204")
				return
			}
			o.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			o.head(id, false, ":status", "200")
			o.fr.WriteData(id, false, []byte("o"))
			close(begun)
			go func() {
				<-goOn
				o.fr.WriteData(id, true, []byte("k"))
			}()
		})(c)
	}, "h2")
	r := newRig(t, true, nil, origin.use)
	resp, err := r.client(true).Get("https://" + apiHost + "/long")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wait(t, "the first stream", begun)
	for range 3 {
		if got := r.status(r.client(true)); got != http.StatusNoContent {
			t.Errorf("beside it: got %d", got)
		}
	}
	close(goOn)
	if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	wait(t, "the connection ends", ended)
}
