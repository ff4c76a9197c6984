//go:build linux

package soak_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"authsome/vault/audit"
)

// The parts of a soak. Of a long one the first minutes are warm-up, in which
// pools fill and the heap finds its size.
const (
	quickLoad   = 14 * time.Second
	warmUp      = 2 * time.Minute
	tokenLife   = 6 * time.Second
	hangUpEvery = 10 * time.Second
)

// soak is a run, and what came of it.
type soak struct {
	w         *world
	load      *load
	lasts     time.Duration
	before    sample
	samples   []sample
	after     sample
	hangUps   int
	grants    int // of the authorization server, during the load
	late      int // tokens that arrived at an origin after their time
	requests  float64
	injected  float64
	refused   float64
	refreshes float64
	cpu       float64 // seconds of the proxy
	began     time.Time
}

// TestSoak runs one authsome proxy under everything that agents do, all at
// once. No client may get an answer that is not the one it should, and nothing
// may be left behind.
func TestSoak(t *testing.T) {
	if !inside(t) {
		return
	}
	s := newSoak(t)
	s.run()
	s.after = s.w.drain(s.before)
	s.account()
	if long() {
		wantFlat(t, s.samples)
	}
	s.load.report(t)
	if *reportPath != "" {
		s.write(*reportPath)
	}
	s.w.finish()
	s.count()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	issuers := map[string]*issuer{"acme": newIssuer(tokenLife), "machine": newIssuer(tokenLife - time.Second)}
	w := newWorld(t, issuers)
	w.register(keyDefinition("api", "api."+domain, "h2."+domain), keyDefinition("turn", "turn."+domain),
		oauthDefinition("acme", "pkce", "acme."+domain, "acme.auth."+domain),
		oauthDefinition("machine", "client_credentials", "machine."+domain, "machine.auth."+domain))
	w.must("login", "api", "--secret-file", w.secret("api"))
	w.must("login", "machine", "--client-id", "machine", "--secret-file", w.secret("client"))
	w.approve("acme")
	w.start()
	s := &soak{w: w, load: newLoad(w), lasts: *soakFor}
	if !long() {
		s.lasts = quickLoad
	}
	return s
}

// run puts the load on the proxy and takes samples.
func (s *soak) run() {
	busy, hold, sampling := 1, 3*time.Second, time.Second
	if long() {
		busy, hold, sampling = 2, 0, max(time.Second, s.lasts/300)
	}
	s.before, s.began = s.w.measure(), time.Now()
	granted := s.granted()
	s.load.requests(busy)
	s.load.transfers()
	s.load.streams(busy)
	s.load.tunnels()
	s.load.tokens("acme", "machine")
	s.load.turns(2 * time.Second)
	s.load.badClients(hold)
	warm := time.Now().Add(min(warmUp, s.lasts/4))
	pause(s.w.t.Context(), time.Until(warm))
	stop := make(chan struct{})
	samples := s.w.watch(sampling, stop)
	for end := s.began.Add(s.lasts); time.Now().Before(end); {
		s.w.running()
		s.w.hangUp()
		s.hangUps++
		pause(s.w.t.Context(), min(hangUpEvery, s.lasts/4))
	}
	close(stop)
	s.samples = <-samples
	s.load.end()
	s.grants = s.granted() - granted
}

func (s *soak) granted() (n int) {
	for _, i := range s.w.net.issuers {
		grants, _, _ := i.counts()
		n += grants
	}
	return n
}

// drain waits until the proxy is as it was before the load. What it keeps for
// longer are connections to origins, each with the goroutines that read and
// write it, and those must be gone after the time for which they are pooled.
func (w *world) drain(before sample) (after sample) {
	t := w.t
	t.Helper()
	defer func() {
		if t.Failed() {
			clients, origins := w.sockets()
			t.Logf("before the load %+v, after it %+v, with %d connections of clients and %d to origins", before, after, clients, origins)
		}
	}()
	for _, kind := range []string{"client", "intercept", "tunnel", "upgrade"} {
		eventually(t, "no "+kind+" connection is left", time.Minute, func() bool {
			return w.metric("authsome_active_connections", `kind="`+kind+`"`) == 0
		})
	}
	within := time.Minute
	if long() {
		within = 4 * time.Minute
	}
	eventually(t, "the proxy is as it was before the load", within, func() bool {
		after = w.measure()
		clients, origins := w.sockets()
		if long() && origins > 0 {
			return false
		}
		const slack = 4 // what the runtime and a scrape need
		return clients == 0 && after.descriptors <= before.descriptors+int64(origins)+slack &&
			after.goroutines <= before.goroutines+2*int64(origins)+slack
	})
	return after
}

// account compares what clients, the authorization servers and the proxy say.
func (s *soak) account() {
	t, w := s.w.t, s.w
	exposition := w.probe("/metrics")
	if got := int(sumOf(exposition, "authsome_config_reload_total", `outcome="ok"`)); got == 0 || got > s.hangUps {
		t.Errorf("%d hangups made %d reloads", s.hangUps, got)
	}
	for _, metric := range []string{`authsome_config_reload_total{outcome="failed"}`, `authsome_vault_reload_total{outcome="failed"}`,
		`authsome_refresh_total{outcome="failed"}`, `authsome_refresh_total{outcome="invalid_grant"}`} {
		name, labels, _ := strings.Cut(metric, "{")
		if got := sumOf(exposition, name, strings.TrimSuffix(labels, "}")); got != 0 {
			t.Errorf("%s: got %g, want 0", metric, got)
		}
	}
	s.refreshes = sumOf(exposition, "authsome_refresh_total", `outcome="ok"`)
	if int(s.refreshes) != s.grants {
		t.Errorf("the proxy counts %g refreshes, the authorization servers %d", s.refreshes, s.grants)
	}
	// Half a token's life before its end it is renewed.
	if want := int(s.lasts/(tokenLife/2)) * 2 / 3; s.grants < want {
		t.Errorf("%d refreshes in %s, want at least %d", s.grants, s.lasts, want)
	}
	for name, i := range w.net.issuers {
		_, replays, late := i.counts()
		if s.late += late; replays > 0 {
			t.Errorf("%s: %d spent refresh tokens were sent", name, replays)
		}
	}
	s.requests, s.injected = sumOf(exposition, "authsome_requests_total"), sumOf(exposition, "authsome_requests_total", `outcome="injected"`)
	s.refused = sumOf(exposition, "authsome_refusals_total")
	s.cpu = sumOf(exposition, "process_cpu_seconds_total")
	s.accountRefusals(exposition)
	for _, kind := range s.load.kinds() {
		if s.load.counts[kind] == 0 {
			t.Errorf("%s: nothing was done", kind)
		}
	}
}

// accountRefusals wants no refusal that no client provoked. One whose body ends
// early may still be there to be told so, or not.
func (s *soak) accountRefusals(exposition string) {
	t := s.w.t
	for line := range strings.Lines(exposition) {
		labels, ok := strings.CutPrefix(line, `authsome_refusals_total{code="`)
		if !ok {
			continue
		}
		code, rest, _ := strings.Cut(labels, `"} `)
		var got int
		fmt.Sscan(rest, &got)
		want := s.load.refusals[code]
		if left := s.load.counts["client that leaves an upload"] + s.load.counts["client that leaves an upload, HTTP/2"]; code == "bad_request" && got <= left {
			continue
		}
		if got != want {
			t.Errorf("%s: the proxy counts %d refusals, clients provoked %d", code, got, want)
		}
	}
}

// count compares the audit log with the metrics.
func (s *soak) count() {
	injected := s.w.entries(func(e audit.Event) bool { return e.Event == "inject" && e.Outcome == audit.OK })
	if injected != int(s.injected) {
		s.w.t.Errorf("the audit log has %d injections, the metrics %g", injected, s.injected)
	}
	if got := s.w.entries(func(e audit.Event) bool { return e.Event == "refuse" }); got != int(s.refused) {
		s.w.t.Errorf("the audit log has %d refusals, the metrics %g", got, s.refused)
	}
}
