package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"authsome/vault/audit"
)

// report records a refusal that belongs to no exchange: the metric, the audit
// line and the log say the same as the answer. r may be nil.
func (p *Proxy) report(c *conn, r *http.Request, ref *Refusal) {
	e := audit.Event{Event: "refuse", Outcome: "denied", Code: string(ref.Code), Provider: ref.Provider,
		Host: c.target.Host, Port: int(c.target.Port), Status: ref.Status()}
	if r != nil {
		e.Method, e.Protocol = r.Method, "http/1.1"
	}
	p.count(ref, e.Host)
	var ok bool
	if e.Detail, ok = c.refusalLines(p).next(time.Now()); !ok {
		return
	}
	ticket, err := p.cfg.Audit.Reserve()
	if err == nil {
		err = ticket.Commit(e)
	}
	p.recorded(ref, err)
}

// count counts and logs a refusal. The first of its kind for a host is a
// warning: whoever runs the program may see no more of it than "502".
func (p *Proxy) count(ref *Refusal, host string) {
	p.metrics.refusals.WithLabelValues(string(ref.Code)).Inc()
	level := slog.LevelInfo
	// Many clients send their token only after a 407.
	if ref.Code != CodeProxyAuthRequired && p.warned.first(string(ref.Code)+" "+host) {
		level = slog.LevelWarn
	}
	hint := ref.Hint
	if hint == "" {
		hint = refusals[ref.Code].hint
	}
	p.log.Log(context.Background(), level, "refused", "code", string(ref.Code), "host", host, "provider", ref.Provider, "cause", ref.cause, "hint", hint)
}

// recorded is told what became of a refusal's audit line. A refusal that cannot
// be recorded is a refusal still.
func (p *Proxy) recorded(ref *Refusal, err error) {
	switch {
	case err == nil:
		p.unrecorded.Store(false)
	case !p.unrecorded.Swap(true): // once for each time that it goes wrong: every request meets the same full disk
		p.log.Error("audit refusal", "code", string(ref.Code), "error", err)
	}
}

// refuse answers the exchange's request with a refusal and records it.
func (x *exchange) refuse(ref *Refusal) ending {
	if x.route != nil && ref.Provider == "" {
		ref.Provider = x.route.Provider
	}
	x.end = time.Now()
	reset := x.resets(ref)
	if x.status = ref.Status(); reset {
		x.status = 0 // that is no answer
	}
	e := x.event("refuse", "denied")
	e.Code, e.Provider = string(ref.Code), ref.Provider
	x.p.count(ref, x.target.Host)
	record := x.route != nil && x.exposed
	if !record {
		e.Detail, record = x.c.refusalLines(x.p).next(x.end)
	}
	if record {
		var err error
		if !x.reserved {
			x.ticket, err = x.p.cfg.Audit.Reserve()
		}
		if err == nil {
			x.reserved = false
			err = x.ticket.Commit(e)
		}
		x.p.recorded(ref, err)
	}
	x.measure("refused")
	if reset || x.cancel.cancelled() && !x.cancel.withdrawn.Load() && !x.wasLate() {
		return broken // there is nobody left to read it
	}
	x.extend()
	ref.write(x.w)
	return complete
}

// finish records an exchange that the origin answered.
func (x *exchange) finish() {
	x.end = time.Now()
	outcome := "passed"
	if x.route != nil {
		outcome = "injected"
		x.reserved = false
		if err := x.ticket.Commit(x.event("inject", "ok")); err != nil {
			x.p.log.Error("audit injection", "provider", x.route.Provider, "error", err)
		}
		if x.p.log.Enabled(context.Background(), slog.LevelDebug) { // its arguments cost more than asking
			x.p.log.Debug("injected", "provider", x.route.Provider, "connection", x.route.Connection,
				"method", x.r.Method, "host", x.target.Host, "status", x.status, "protocol", x.protocol)
		}
	}
	x.measure(outcome)
}

// abandoned records an exchange whose client had gone before there was an
// answer. Its credential may have been sent. Where it was not, the client asked
// nobody but the proxy, which a client of HTTP/2 can do ten thousand times a
// second, and has the lines of a refusal.
func (x *exchange) abandoned() ending {
	x.end = time.Now()
	e := x.event("inject", "failed")
	e.Code = "client_gone"
	record := x.reserved
	if record && !x.exposed {
		e.Detail, record = x.c.refusalLines(x.p).next(x.end)
	}
	if record {
		x.reserved = false
		if err := x.ticket.Commit(e); err != nil {
			x.p.log.Error("audit injection", "provider", x.route.Provider, "error", err)
		}
	}
	x.measure("abandoned")
	return broken
}

// release gives back a reservation that an early end left unused.
func (x *exchange) release() {
	if x.reserved {
		x.reserved = false
		x.ticket.Release()
	}
}

func (x *exchange) event(name, outcome string) audit.Event {
	e := audit.Event{Time: x.end, Event: name, Outcome: outcome, Method: x.r.Method, Scheme: x.scheme,
		Host: x.target.Host, Port: int(x.target.Port), Path: x.path, Status: x.status,
		BytesIn: x.up.Load(), BytesOut: x.down, Duration: x.end.Sub(x.start), Protocol: x.protocol}
	if x.route != nil {
		e.Provider, e.Connection = x.route.Provider, x.route.Connection
	}
	return e
}

// onceLog remembers what has been said. Its size is bounded, because hosts are a
// client's choice; what comes after is not said at all.
type onceLog struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

const onceEntries = 1024

// first reports whether key was not asked for before.
func (o *onceLog) first(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[key] || len(o.seen) >= onceEntries {
		return false
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	o.seen[key] = true
	return true
}

// tied says once per host that connections tie for it.
func (p *Proxy) tied(host string, connections []string) {
	if p.ties.first(host) {
		p.log.Warn("no credential attached: several connections claim this host; choose one with --connection, --provider or the Authsome-Connection header",
			"host", host, "connections", strings.Join(connections, ", "))
	}
}
