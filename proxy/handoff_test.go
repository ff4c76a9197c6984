package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"
)

// TestConnectionsThatNobodyWants has many requests find out at once that their
// origin speaks HTTP/2: of their connections few are needed, and the others do
// not stay for as long as the origin is in use.
func TestConnectionsThatNobodyWants(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		io.WriteString(w, "ok")
	}
	r := newRig(t, true, handler, func(r *rig, c *proxy.Config) {
		c.Limits.IdleUpstream = 400 * time.Millisecond
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			time.Sleep(50 * time.Millisecond) // so that all connect before the first has
			nc, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return &closing{Conn: nc, closed: func() { open.Add(-1) }}, nil
		}
	})
	client := r.client(true)
	ask := func() {
		resp, err := client.Get("https://" + apiHost + "/")
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(ask)
	}
	all.Wait()
	if open.Load() < 20 {
		t.Fatalf("%d connections were made", open.Load())
	}
	eventually(t, "few connections are left", func() bool {
		ask()
		return open.Load() <= 5
	})
}
