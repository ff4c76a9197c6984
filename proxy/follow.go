package proxy

import (
	"sync"
	"time"
)

// Routes change while connections are open. A request looks at the table in
// force, so that the next one on any connection follows it. What else is open
// is dealt with here, within the 2 s in which a login or logout takes effect:
//
//   - A tunnel to a host that credentials are routed to from now on is closed
//     once it is quiet.
//   - A request that was given a credential which is no longer granted, be it an
//     open WebSocket, is broken off.

// settleTime is how long a request that is under way may go on when its
// credential has been withdrawn: most are over by then, and a connection that is
// made anew at once is none that was taken away.
const settleTime = time.Second

// follow is called when the route table was replaced.
func (p *Proxy) follow() {
	table := p.cfg.Injector.Table()
	p.mu.Lock()
	for c := range p.conns {
		if t := c.tunnel.Load(); t != nil && table.Covers(t.target) {
			t.leave()
		}
	}
	p.mu.Unlock()
	time.AfterFunc(settleTime, p.withdraw)
}

// withdraw breaks off the requests whose credential is not granted any more.
func (p *Proxy) withdraw() {
	table := p.cfg.Injector.Table()
	check := func(k *canceller) {
		if r := k.route.Load(); r != nil && !table.Grants(r.Provider, r.Connection) {
			k.withdrawn.Store(true)
			k.cancel()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if k := c.serving.Load(); k != nil {
			check(k)
		}
		c.streams.each(check)
	}
}

// streams are the cancellers of an HTTP/2 connection's requests.
type streams struct {
	mu   sync.Mutex // guards open
	open map[*canceller]struct{}
}

func (s *streams) enter(k *canceller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*canceller]struct{})
	}
	s.open[k] = struct{}{}
}

func (s *streams) leave(k *canceller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
}

func (s *streams) each(f func(*canceller)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.open {
		f(k)
	}
}
