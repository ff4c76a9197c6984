package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"authsome/proxy"
)

// The path to an origin goes away while connections to it are idle, and nobody is
// told. What may be sent twice is answered over a new connection; what may not is
// refused in half a minute, where the kernel takes a quarter of an hour. One
// request finds out for all connections.
func TestLostPath(t *testing.T) {
	if !inside(t) {
		return
	}
	const before, after = "192.0.2.1", "192.0.2.2"
	ip(t, "link set lo up")
	ip(t, "addr add "+after+"/32 dev lo")
	for _, tt := range []struct {
		name, method string
		body         int64
		want         int
	}{
		{"a request that may be sent twice", http.MethodGet, 0, http.StatusOK},
		{"one that may not", http.MethodPost, 1 << 10, http.StatusGatewayTimeout},
		{"a large one", http.MethodPost, 8 << 20, http.StatusGatewayTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ip(t, "addr add "+before+"/32 dev lo")
			var both sync.WaitGroup // each needs a connection of its own
			both.Add(2)
			r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodPut {
					both.Done()
					both.Wait()
				}
				io.Copy(io.Discard, req.Body)
				host, _, _ := net.SplitHostPort(req.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
				w.Header().Set("X-Address", host)
			}, func(_ *rig, c *proxy.Config) { c.Limits.Ping = 2 * time.Second })
			for _, address := range []string{before, after} {
				go r.origin.Config.Serve(tls.NewListener(listenAt(t, address), r.origin.TLS))
			}
			ask := func(method string, body int64, want int, at string) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, method, "https://"+apiHost+"/", io.LimitReader(zeros{}, body))
				resp, err := r.client(false).Do(req)
				if err != nil {
					t.Errorf("%s: %v", method, err)
					return
				}
				resp.Body.Close()
				if got := resp.Header.Get("X-Address"); resp.StatusCode != want || got != at {
					t.Errorf("%s: got %d from %q, want %d from %q", method, resp.StatusCode, got, want, at)
				}
			}
			r.redirect(func(string) string { return net.JoinHostPort(before, "443") })
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() { ask(http.MethodPut, 0, http.StatusOK, before) })
			}
			all.Wait()
			time.Sleep(proxy.TrustedFor)
			ip(t, "addr del "+before+"/32 dev lo")
			ip(t, "route add blackhole "+before+"/32")
			defer ip(t, "route del blackhole "+before+"/32")
			r.redirect(func(string) string { return net.JoinHostPort(after, "443") })

			at := ""
			if tt.want == http.StatusOK {
				at = after
			}
			ask(tt.method, tt.body, tt.want, at)
			ask(http.MethodPost, tt.body, http.StatusOK, after)
		})
	}
}
