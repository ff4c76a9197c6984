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
	// lookups at once.
	lookups = 16
)

// addressBook knows the addresses of the hosts that credentials are routed to,
// as far as they have one name: the hosts of a wildcard cannot be listed, and
// the domain's own addresses stand for them.
type addressBook struct {
	refreshing sync.Mutex // held while names are looked up

	mu    sync.Mutex // guards hosts
	hosts map[string]*hostAddresses
}

type hostAddresses struct {
	asked time.Time
	known bool                     // the resolver has answered, if only that there is no such name
	seen  map[netip.Addr]time.Time // when the resolver last gave it
}

// covers reports whether dst may be the address of a host that credentials are
// routed to. It says so too, with an empty name, when that cannot be found out.
func (b *addressBook) covers(ctx context.Context, p *Proxy, dst netip.AddrPort) (host string, covered bool) {
	hosts := p.cfg.Injector.Table().Hosts()
	b.refresh(ctx, p.resolver(), hosts)
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

// refresh looks up the hosts whose addresses are not fresh, and forgets those
// that are no longer asked for.
func (b *addressBook) refresh(ctx context.Context, resolve resolver, hosts []string) {
	b.refreshing.Lock()
	defer b.refreshing.Unlock()
	limit := make(chan struct{}, lookups)
	var all sync.WaitGroup
	for _, host := range b.stale(hosts) {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			addrs, err := resolve(ctx, host)
			b.note(host, addrs, err)
		})
	}
	all.Wait()
}

func (b *addressBook) stale(hosts []string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh := time.Now().Add(-addressesFresh)
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
		if h.asked.Before(fresh) {
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
	var dns *net.DNSError
	if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
		return // what was known still is, and the next connection asks again
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
