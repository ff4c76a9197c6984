package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// Connections that ended before anything was sent on them are not tried again:
// net/http would take a request on each, to fail it.
func TestConnectionsThatNeverWorked(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	works := h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) { o.head(id, true, ":status", "204") })
	origin := newRawOrigin(t, func(c *rawConn) {
		if c.Conn.(*tls.Conn).Handshake() == nil && well.Load() {
			works(c)
		}
	}, "h2")
	r := newRig(t, true, nil, origin.use)
	client := r.client(true)
	for range 30 {
		if got := r.status(client); got != http.StatusBadGateway {
			t.Fatalf("got %d of an origin that hangs up", got)
		}
	}
	well.Store(true)
	for range 10 {
		if got := r.status(client); got != http.StatusNoContent {
			t.Errorf("got %d of an origin that works again", got)
		}
	}
}

// An origin that allows no streams for a while is none that is forgotten, and its
// connections are closed.
func TestNoStreamsAllowed(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	var open atomic.Int32
	origin := newRawOrigin(t, func(c *rawConn) {
		if c.Conn.(*tls.Conn).Handshake() != nil {
			return
		}
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
