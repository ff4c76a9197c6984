package ca_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authsome/ca"
)

func TestConcurrentCallersShareAMint(t *testing.T) {
	a := newAuthority(t)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := a.Leaf(t.Context(), "api.example.test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if minted, cached := a.Stats(); minted != 1 || cached != 1 {
		t.Errorf("got %d minted, %d cached, want one of each", minted, cached)
	}
}

func TestCancelledWaiterFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gate chan struct{}
		var mu sync.Mutex
		a := newAuthority(t, func(c *ca.Config) {
			c.Clock = func() time.Time {
				mu.Lock()
				wait := gate
				mu.Unlock()
				if wait != nil {
					<-wait
				}
				return time.Now()
			}
		})
		mu.Lock()
		gate = make(chan struct{}) // from here on a mint stands still
		mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := a.Leaf(ctx, "api.example.test"); first <- err }()
		synctest.Wait()
		go func() { _, err := a.Leaf(context.Background(), "api.example.test"); second <- err }()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the cancelled caller: got %v, want its context's error", err)
		}
		close(gate)
		if err := <-second; err != nil {
			t.Errorf("the other caller: %v", err)
		}
	})
}

// PITFALL 44: a leaf that is cached for ever ends after 24 h.
func TestLeafIsRenewedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		serial := func() string {
			t.Helper()
			c, err := a.Leaf(context.Background(), "api.example.test")
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(a.RootPEM(), c.Leaf, "api.example.test", time.Now()); err != nil {
				t.Fatal(err)
			}
			return c.Leaf.SerialNumber.String()
		}
		first := serial()
		time.Sleep(15 * time.Hour)
		if got := serial(); got != first {
			t.Error("renewed before two thirds of its life were over")
		}
		time.Sleep(2 * time.Hour)
		if got := serial(); got != first {
			t.Error("the handshake that starts a renewal waited for it")
		}
		synctest.Wait()
		second := serial()
		if second == first {
			t.Error("not renewed in the background")
		}
		time.Sleep(24*time.Hour - time.Minute) // nobody asked while it was good
		third := serial()
		if third == second {
			t.Error("a leaf with a minute to live was served")
		}
		time.Sleep(72 * time.Hour)
		serial()
		if minted, cached := a.Stats(); minted != 4 || cached != 1 {
			t.Errorf("got %d minted, %d cached, want 4 and 1", minted, cached)
		}
	})
}

func TestLeafEndsWithItsRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, func(c *ca.Config) { c.Lifetime = 30 * time.Hour })
		time.Sleep(29 * time.Hour)
		for range 3 {
			leaf, err := a.Leaf(context.Background(), "api.example.test")
			if err != nil {
				t.Fatal(err)
			}
			if got := leaf.Leaf.NotAfter; !got.Equal(a.NotAfter()) {
				t.Errorf("leaf ends %v, its root %v", got, a.NotAfter())
			}
			time.Sleep(15 * time.Minute)
			synctest.Wait()
		}
		if minted, _ := a.Stats(); minted != 1 {
			t.Errorf("minted %d leaves that end together, want 1", minted)
		}
		time.Sleep(time.Hour)
		if _, err := a.Leaf(context.Background(), "api.example.test"); !errors.Is(err, ca.ErrExpired) {
			t.Errorf("after the root's end: got %v, want ErrExpired", err)
		}
	})
}

// A clock that is set back makes a cached leaf one of the future.
func TestClockSetBack(t *testing.T) {
	now := time.Now()
	a := newAuthority(t, func(c *ca.Config) { c.Clock = func() time.Time { return now } })
	now = now.Add(48 * time.Hour)
	if _, err := a.Leaf(t.Context(), "api.example.test"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-24 * time.Hour)
	leaf, err := a.Leaf(t.Context(), "api.example.test")
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(a.RootPEM(), leaf.Leaf, "api.example.test", now); err != nil {
		t.Error(err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	for _, limit := range []int{1, 10, 64, 200} {
		a := newAuthority(t, func(c *ca.Config) { c.CacheEntries = limit })
		for i := range 300 {
			if _, err := a.Leaf(t.Context(), fmt.Sprintf("h%d.example.test", i)); err != nil {
				t.Fatal(err)
			}
		}
		if minted, cached := a.Stats(); minted != 300 || cached > limit || cached < limit/2 {
			t.Errorf("limit %d: got %d minted, %d cached", limit, minted, cached)
		}
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	a := newAuthority(t, func(c *ca.Config) { c.CacheEntries = 8 })
	for i := range 100 {
		for _, host := range []string{"hot.example.test", fmt.Sprintf("h%d.example.test", i)} {
			if _, err := a.Leaf(t.Context(), host); err != nil {
				t.Fatal(err)
			}
		}
	}
	if minted, _ := a.Stats(); minted != 101 {
		t.Errorf("minted %d, want 101: the host in use was evicted", minted)
	}
}

func BenchmarkMint(b *testing.B) {
	a := newAuthority(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := a.Leaf(b.Context(), fmt.Sprintf("h%d.example.test", i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCachedLeaf(b *testing.B) {
	a := newAuthority(b)
	ctx := b.Context()
	if _, err := a.Leaf(ctx, "api.example.test"); err != nil {
		b.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { a.Leaf(ctx, "api.example.test") }); n != 0 {
		b.Errorf("%v allocations per lookup, want none", n)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Leaf(ctx, "api.example.test"); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestCachedLookupMakesNoGarbage(t *testing.T) {
	a := newAuthority(t)
	ctx := t.Context()
	if _, err := a.TLSConfig(ctx, "api.example.test", "h2", "http/1.1"); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		a.Leaf(ctx, "api.example.test")
		a.TLSConfig(ctx, "api.example.test", "h2", "http/1.1")
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
