package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// addressesFresh is how long an answer of the resolver is believed.
	addressesFresh = time.Minute
	// addressesKept is how long an address counts after the resolver last gave
	// it: hosts with many addresses give some at a time.
	addressesKept = time.Hour
	// addressesRetry is how long a resolver that did not answer is left alone.
	addressesRetry = 2 * time.Second
	// lookups at once.
	lookups = 16
)

// addressBook knows the addresses of the hosts that credentials are routed to,
// as far as they have one name: the hosts of a wildcard cannot be listed, and
// the domain's own addresses stand for them.
type addressBook struct {
	mu    sync.Mutex // guards all below
	hosts map[string]*hostAddresses
	round chan struct{} // closed once the lookups under way are over; nil: there are none
}

type hostAddresses struct {
	tried time.Time                // when the resolver was last asked, or gave up
	asked time.Time                // when it last answered
	known bool                     // the resolver has answered, if only that there is no such name
	seen  map[netip.Addr]time.Time // when the resolver last gave it
}

// covers reports whether dst may be the address of a host that credentials are
// routed to. It says so too, with an empty name, when that cannot be found out.
func (b *addressBook) covers(ctx context.Context, p *Proxy, dst netip.AddrPort) (host string, covered bool) {
	hosts := p.cfg.Injector.Table().Hosts()
	b.refresh(ctx, p, hosts)
	b.mu.Lock()
	defer b.mu.Unlock()
	oldest := time.Now().Add(-addressesKept)
	unknown := false
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil {
			if ip.Unmap() == dst.Addr() {
				return host, true
			}
			continue
		}
		h := b.hosts[host]
		if h == nil || !h.known && len(h.seen) == 0 {
			unknown = true
			continue
		}
		if at, ok := h.seen[dst.Addr()]; ok && at.After(oldest) {
			return host, true
		}
	}
	return "", unknown
}

type resolver func(ctx context.Context, host string) ([]netip.Addr, error)

func (p *Proxy) resolver() resolver {
	if p.cfg.Resolve != nil {
		return p.cfg.Resolve
	}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
}

// refresh has the hosts looked up whose addresses are not fresh, and forgets those
// that are no longer asked for. It waits until that is done or ctx ends. Whoever
// comes while lookups are under way waits for those: a resolver that does not
// answer is asked by one, and not by each client after the other.
func (b *addressBook) refresh(ctx context.Context, p *Proxy, hosts []string) {
	for {
		b.mu.Lock()
		round := b.round
		if round == nil {
			stale := b.stale(hosts)
			if len(stale) == 0 {
				b.mu.Unlock()
				return
			}
			round = make(chan struct{})
			b.round = round
			go b.lookUp(p, stale)
		}
		b.mu.Unlock()
		select {
		case <-round:
		case <-ctx.Done():
			return
		}
	}
}

// lookUp asks for the hosts' addresses, for as long as one client would wait. It
// outlives the client that began it, as others may wait for it by then.
func (b *addressBook) lookUp(p *Proxy, hosts []string) {
	ctx, cancel := context.WithTimeout(p.ctx, p.limits.RequestHeader)
	defer cancel()
	resolve := p.resolver()
	limit := make(chan struct{}, lookups)
	var all sync.WaitGroup
	for _, host := range hosts {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			addrs, err := resolve(ctx, host)
			b.note(host, addrs, err)
		})
	}
	all.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.round)
	b.round = nil
}

// stale returns those of the hosts that are to be looked up, and marks them as
// tried. The caller holds b.mu.
func (b *addressBook) stale(hosts []string) []string {
	now := time.Now()
	next := make(map[string]*hostAddresses, len(hosts))
	var stale []string
	for _, host := range hosts {
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		h := b.hosts[host]
		if h == nil {
			h = &hostAddresses{seen: map[netip.Addr]time.Time{}}
		}
		next[host] = h
		if now.Sub(h.asked) > addressesFresh && now.Sub(h.tried) > addressesRetry {
			h.tried = now
			stale = append(stale, host)
		}
	}
	b.hosts = next
	return stale
}

func (b *addressBook) note(host string, addrs []netip.Addr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosts[host]
	if h == nil {
		return
	}
	now := time.Now()
	h.tried = now
	var dns *net.DNSError
	if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
		return // what was known still is, and a later connection asks again
	}
	h.asked, h.known = now, true
	for addr, at := range h.seen {
		if now.Sub(at) > addressesKept {
			delete(h.seen, addr)
		}
	}
	for _, addr := range addrs {
		h.seen[addr.Unmap().WithZone("")] = now
	}
}
