//lint:file-ignore SA1019 net/http's server has no way to serve a connection that is accepted elsewhere.

package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// counted counts the connections that are made to origins, and may hold them up.
func counted(made *atomic.Int32, hold func(ctx context.Context, n int32)) option {
	return func(_ *rig, c *proxy.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			n := made.Add(1)
			if hold != nil {
				hold(ctx, n)
			}
			return dial(ctx, network, address)
		}
	}
}

// all asks n times at once, and wants "ok" each time.
func (r *rig) all(n int, clients ...*http.Client) {
	r.t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			resp, err := clients[i%len(clients)].Get("https://" + apiHost + "/")
			if err != nil {
				r.t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
				r.t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
		})
	}
	wg.Wait()
}

// TestBurstsShareConnections has many requests find out at once that their origin
// speaks HTTP/2: one finds out for all.
func TestBurstsShareConnections(t *testing.T) {
	t.Parallel()
	for _, clientH2 := range []bool{true, false} {
		var made atomic.Int32
		arrived := make(chan struct{}, 100)
		r := newRig(t, true, func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			for len(arrived) < cap(arrived) && r.Context().Err() == nil { // all are under way at once
				time.Sleep(time.Millisecond)
			}
			io.WriteString(w, "ok")
		}, counted(&made, nil))
		r.all(100, r.client(clientH2))
		if n := made.Load(); n > 3 {
			t.Errorf("client h2=%v: %d connections were made", clientH2, n)
		}
	}
}

// What nobody reads is kept for each stream, up to its window: it is large on one
// connection to an origin, which the first requests share, and small on the rest.
func TestLaterConnectionsHaveSmallWindows(t *testing.T) {
	t.Parallel()
	const connections = 4
	arrived := make(chan struct{}, connections)
	answer := h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) {
		arrived <- struct{}{}
		for len(arrived) < connections && t.Context().Err() == nil { // all are under way at once
			time.Sleep(time.Millisecond)
		}
		o.head(id, true, ":status", "204")
	})
	origin := newRawOrigin(t, func(c *rawConn) {
		http2.NewFramer(c, nil).WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		answer(c)
	}, "h2")
	r := newRig(t, true, nil, origin.use)
	var all sync.WaitGroup
	for range connections {
		all.Go(func() { r.status(r.client(true)) })
	}
	all.Wait()
	windows := map[uint32]int{}
	for _, stream := range origin.streams() {
		fr := http2.NewFramer(nil, strings.NewReader(strings.TrimPrefix(stream, http2.ClientPreface)))
		f, err := fr.ReadFrame()
		settings, ok := f.(*http2.SettingsFrame)
		if err != nil || !ok {
			t.Fatalf("a connection begins with %v, %v", f, err)
		}
		window, _ := settings.Value(http2.SettingInitialWindowSize)
		windows[window]++
	}
	if windows[2<<20] != 1 || windows[256<<10] < connections-1 || len(windows) != 2 {
		t.Errorf("connections by the window of a stream: %v", windows)
	}
}

// A client that goes away while it connects for others leaves it to one of them.
func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	dialing := make(chan struct{})
	r := newRig(t, true, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") },
		counted(&made, func(ctx context.Context, n int32) {
			if n == 1 {
				close(dialing)
				<-ctx.Done()
			}
		}))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiHost+"/", nil)
		resp, err := r.client(true).Do(req)
		if err == nil {
			resp.Body.Close()
		}
		left <- err
	}()
	wait(t, "the first dial", dialing)
	var others sync.WaitGroup
	others.Go(func() { r.all(20, r.client(true), r.client(false)) })
	eventually(t, "the others have come", func() bool { return r.metric("authsome_active_connections", "kind=intercept") >= 3 })
	leave()
	if err := wait(t, "the client that left", left); err == nil {
		t.Error("the client that left got an answer")
	}
	others.Wait()
	if n := made.Load(); n > 2 {
		t.Errorf("%d connections were made", n)
	}
}

// limitedOrigin takes one stream at a time on each connection.
func limitedOrigin(t *testing.T, handler http.HandlerFunc) *rawOrigin {
	return newRawOrigin(t, func(c *rawConn) {
		if c.Conn.(*tls.Conn).Handshake() != nil {
			return
		}
		(&http2.Server{MaxConcurrentStreams: 1}).ServeConn(c.Conn, &http2.ServeConnOpts{Handler: handler, BaseConfig: &http.Server{ErrorLog: discardLog()}})
	}, "h2")
}

func TestOneStreamAtATime(t *testing.T) {
	t.Parallel()
	origin := limitedOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(10 * time.Millisecond)
		io.WriteString(w, "ok")
	})
	r := newRig(t, true, nil, origin.use)
	for range 3 {
		r.all(20, r.client(true), r.client(false))
	}
}

// An origin that has more to do than connections may be made answers all in the
// end, and a client that does not wait so long loses nobody the turn.
func TestMoreThanAllConnectionsTake(t *testing.T) {
	t.Parallel()
	const slots = 128
	begun, goOn := make(chan struct{}, 2*slots), make(chan struct{})
	origin := limitedOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-goOn
		io.WriteString(w, "ok")
	})
	var made atomic.Int32
	r := newRig(t, true, nil, origin.use, counted(&made, nil))
	clients := []*http.Client{r.client(true), r.client(true)}
	var requests sync.WaitGroup
	requests.Go(func() { r.all(slots+30, clients...) })
	for range slots {
		wait(t, "all connections are in use", begun)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var impatient sync.WaitGroup
	for range 10 {
		impatient.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiHost+"/", nil)
			if resp, err := clients[0].Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("an answer came before its turn: %d", resp.StatusCode)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // let some of them queue; they may leave whenever they like
	cancel()
	impatient.Wait()
	if n := made.Load(); n != slots {
		t.Errorf("%d connections were made", n)
	}
	close(goOn)
	requests.Wait()
}

// An origin that stops to offer HTTP/2 is spoken to in HTTP/1.1, and again in
// HTTP/2 when it offers it.
func TestOriginChangesItsMind(t *testing.T) {
	t.Parallel()
	spoken := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, "ok")
	}
	r := newRig(t, true, spoken)
	old := httptest.NewUnstartedServer(http.HandlerFunc(spoken))
	old.TLS = r.origin.TLS.Clone()
	old.TLS.NextProtos = []string{"http/1.1"}
	old.StartTLS()
	t.Cleanup(old.Close)
	for _, tt := range []struct {
		at   *httptest.Server
		want string
	}{{r.origin, "HTTP/2.0"}, {old, "HTTP/1.1"}, {r.origin, "HTTP/2.0"}} {
		r.redirect(func(string) string { return tt.at.Listener.Addr().String() })
		for range 3 {
			resp, err := r.client(true).Get("https://" + apiHost)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("X-Proto"); got != tt.want {
				t.Errorf("got %d %s, want %s", resp.StatusCode, got, tt.want)
			}
		}
		r.origin.CloseClientConnections()
	}
}

// What an origin allows is read off its settings, however they come. The first
// that name no limit set none; later ones leave it as it is.
func TestStreamsAllowed(t *testing.T) {
	t.Parallel()
	limit := func(n uint32) []http2.Setting {
		return []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 3 << 16}, {ID: http2.SettingMaxConcurrentStreams, Val: n}}
	}
	other := []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: 1 << 20}}
	for name, tt := range map[string]struct {
		said [][]http2.Setting
		want int
	}{
		"nothing":              {nil, 1},
		"few":                  {[][]http2.Setting{limit(7)}, 7},
		"many":                 {[][]http2.Setting{limit(1 << 31)}, 60},
		"no limit":             {[][]http2.Setting{other}, 60},
		"no settings":          {[][]http2.Setting{{}}, 60},
		"fewer, later":         {[][]http2.Setting{limit(50), limit(2)}, 2},
		"more, later":          {[][]http2.Setting{limit(1), limit(20)}, 20},
		"something else later": {[][]http2.Setting{limit(4), other}, 4},
	} {
		var said bytes.Buffer
		fr := http2.NewFramer(&said, nil)
		for _, settings := range tt.said {
			fr.WriteSettings(settings...)
			fr.WriteSettingsAck()
			fr.WriteData(1, false, []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9}) // looks like a frame
		}
		for size := 1; size <= said.Len()+1; size++ {
			if got := proxy.StreamsAllowed(said.Bytes(), size); got != tt.want {
				t.Errorf("%s, in pieces of %d: got %d, want %d", name, size, got, tt.want)
			}
		}
	}
}
