package proxy_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"
)

// A resolver that does not answer keeps no connection waiting for the lookups of
// others: they wait for one lookup together, and no longer than that takes.
func TestResolverThatHangsIsAskedOnceForAll(t *testing.T) {
	const clients = 20
	var asked atomic.Int64
	var answers atomic.Bool
	hanging := func(_ *rig, cfg *proxy.Config) {
		cfg.Limits.RequestHeader = 2 * time.Second
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			asked.Add(1)
			if answers.Load() {
				return []netip.Addr{apiAddr.Addr()}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	r, d := redirectedRig(t, nil, hanging)
	var all sync.WaitGroup
	for range clients {
		c := r.redirected(otherAddr) // which gives up after 20 s
		all.Go(func() {
			if got := alertOf(c, ""); got == nil || !strings.Contains(got.Error(), "unrecognized name") {
				t.Errorf("got %v, want the alert unrecognized_name", got)
			}
		})
	}
	all.Wait()
	if got := d.String(); got != "" {
		t.Errorf("dialled %s, want nothing", got)
	}
	if n := asked.Load(); n > clients/4 {
		t.Errorf("the resolver was asked %d times for %d clients", n, clients)
	}
	// Once it answers, that is noticed.
	answers.Store(true)
	eventually(t, "an address of no covered host is let pass", func() bool {
		alertOf(r.redirected(otherAddr), "")
		return d.String() != ""
	})
}
