package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// moody is an HTTP/2 origin that does a different thing with each request, and
// allows another number of streams from time to time.
func moody(conns *atomic.Int32) func(*rawConn) {
	return func(c *rawConn) {
		if c.Conn.(*tls.Conn).Handshake() != nil || conns.Add(1)%7 == 0 {
			return // hangs up
		}
		h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
			switch rand.IntN(14) {
			case 0:
				o.fr.WriteRSTStream(id, resetCodes[rand.IntN(len(resetCodes))])
			case 1:
				o.head(id, false, ":status", "200")
				o.fr.WriteData(id, false, []byte("half"))
				o.fr.WriteRSTStream(id, resetCodes[rand.IntN(len(resetCodes))])
			case 2:
				o.fr.WriteGoAway(id-2*uint32(rand.IntN(2)), http2.ErrCodeNo, nil)
				o.head(id, true, ":status", "204")
			case 3:
				c.Close()
			case 4: // the client has to go
			case 5:
				o.head(id, false, ":status", "200")
			case 6:
				o.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(rand.IntN(5))})
				o.head(id, true, ":status", "204")
			case 7:
				o.head(id, false, ":status", "103", "link", "</a>")
				o.head(id, true, ":status", "401")
			default:
				o.head(id, false, ":status", "200")
				o.fr.WriteData(id, true, make([]byte, 1000))
			}
		})(c)
	}
}

// Whatever happens to requests, each gives its stream back once, and nobody waits
// when all are over.
func TestStreamsAreGivenBack(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	origin := newRawOrigin(t, moody(&conns), "h2")
	r := newRig(t, true, nil, origin.use)
	clients := []*http.Client{r.client(true), r.client(false), r.client(true)}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for range 25 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(50))*time.Millisecond)
				method, body := http.MethodGet, io.Reader(nil)
				if rand.IntN(3) == 0 {
					method, body = http.MethodPost, strings.NewReader("body")
				} else if rand.IntN(5) == 0 {
					method = http.MethodHead
				}
				req, _ := http.NewRequestWithContext(ctx, method, "https://"+apiHost+"/", body)
				if rand.IntN(4) == 0 {
					req.Header.Set("Content-Type", "application/grpc")
				}
				if resp, err := clients[i%len(clients)].Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	all.Wait()
	over := func() bool {
		streams, waiting, dialing := r.proxy.PoolCounts()
		return streams == 0 && waiting == 0 && !dialing
	}
	if eventually(t, "all is given back", over); t.Failed() {
		t.Log(r.proxy.PoolCounts())
	}
}

// A proxy that ends takes nobody for one who waits: neither those who wait for a
// connection, nor whoever makes it.
func TestEndWhileConnecting(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	dialing := make(chan struct{})
	r := newRig(t, true, whoami, counted(&made, func(ctx context.Context, n int32) {
		if n == 1 {
			close(dialing)
		}
		<-ctx.Done()
	}))
	var all sync.WaitGroup
	clients := []*http.Client{r.client(true), r.client(false)}
	for i := range 20 {
		all.Go(func() {
			if resp, err := clients[i%2].Post("https://"+apiHost, "text/plain", strings.NewReader("body")); err == nil {
				resp.Body.Close()
			}
		})
	}
	wait(t, "somebody connects", dialing)
	eventually(t, "the others wait", func() bool { _, waiting, _ := r.proxy.PoolCounts(); return waiting == 19 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.proxy.Shutdown(ctx); err == nil {
		t.Error("requests were cut, and Shutdown says nothing of it")
	}
	all.Wait()
	eventually(t, "nobody waits", func() bool {
		_, waiting, dialing := r.proxy.PoolCounts()
		return waiting == 0 && !dialing
	})
}
