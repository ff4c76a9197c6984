package proxy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"authsome/proxy"
)

// PITFALLS 22: connections to an origin are used again however many are in use
// at once.
func TestOriginConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const clients, requests = 32, 8
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		var dials atomic.Int32
		r := newRig(t, originH2, whoami, func(_ *rig, c *proxy.Config) {
			dial := c.Dial
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				return dial(ctx, network, address)
			}
		})
		var wg sync.WaitGroup
		for range clients {
			client := r.client(clientH2)
			wg.Go(func() {
				for range requests {
					resp, err := client.Get("https://" + apiHost)
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		if n := dials.Load(); n > clients {
			t.Errorf("%d connections for %d clients at a time", n, clients)
		}
	})
}

// PITFALLS 12: clients that guess the token shut out nobody but themselves, from
// whatever address they come.
func TestGuessersLockNobodyOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, whoami)
	conns := &connTracker{}
	r.track = conns.add
	defer conns.close()
	for range 300 {
		resp, err := r.raw("CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic cnVuOndyb25n\r\n\r\n")
		if err != nil || resp.StatusCode != http.StatusProxyAuthRequired {
			t.Fatalf("got %v, %v, want 407", resp, err)
		}
	}
	resp, err := r.client(false).Get("https://" + apiHost)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Authorization"); got != injected {
		t.Errorf("a client with the token, at the same address: got %d %v", resp.StatusCode, resp.Header)
	}
}
