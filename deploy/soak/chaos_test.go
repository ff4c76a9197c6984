//go:build linux

package soak_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"authsome/vault/audit"
)

// chaos is a proxy under load around which everything fails in turn.
type chaos struct {
	w      *world
	load   *load
	before sample

	stopAuth func() // ends the authorization server that dies
}

// chaosLife is how long access tokens live: a fault of their server shows after
// that.
const chaosLife = 3 * time.Second

// TestChaos breaks what the proxy depends on. Each fault must show as the code
// that belongs to it, to the client, in the audit log and in the metrics; nobody
// else may notice; and when the fault ends, so do the refusals, by themselves.
func TestChaos(t *testing.T) {
	if !inside(t) {
		return
	}
	c := newChaos(t)
	// What touches one host alone can fail all at once when time is short.
	t.Run("one host", func(t *testing.T) {
		for _, f := range c.local() {
			t.Run(f.name, func(t *testing.T) {
				if !long() {
					t.Parallel()
				}
				f.run(t)
			})
		}
	})
	for _, f := range c.global() {
		t.Run(f.name, f.run)
	}
	c.load.end()
	c.load.report(t)
	t.Logf("meanwhile %v was done, and refused: %v", c.load.counts, c.load.refusals)
	c.w.drain(c.before)
	c.w.finish()
}

// incident is a fault, or some of one thing.
type incident struct {
	name string
	run  func(t *testing.T)
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	issuers := map[string]*issuer{}
	for _, name := range []string{"machine", "dead", "oops", "trash", "hang", "spent"} {
		issuers[name] = newIssuer(chaosLife)
	}
	w := newWorld(t, issuers)
	w.mountHome()
	w.register(keyDefinition("api", "api."+domain, "h2."+domain, "*.wild."+domain, "api.fault."+domain), keyDefinition("turn", "turn."+domain),
		oauthDefinition("machine", "client_credentials", "machine."+domain, "machine.auth."+domain))
	w.must("login", "api", "--secret-file", w.secret("api"))
	w.must("login", "machine", "--client-id", "machine", "--secret-file", w.secret("client"))
	stopAuth := w.net.serveFaultAuth(t)
	for name := range issuers {
		if name != "machine" {
			auth := name + ".auth." + domain
			if name == "dead" {
				auth = name + ".fault-auth." + domain
			}
			w.register(oauthDefinition(name, "pkce", name+"."+domain, auth))
			w.approve(name)
		}
	}
	w.start()
	c := &chaos{w: w, load: newLoad(w), before: w.measure(), stopAuth: stopAuth}
	c.load.requests(1)
	c.load.streams(1)
	c.load.tunnels()
	c.load.tokens("machine")
	return c
}

// fetching is a probe: a request of an agent.
func (c *chaos) fetching(client *http.Client, host, came string) func(context.Context) error {
	return func(ctx context.Context) error { return fetch(ctx, client, host, came, c.load.next(), 2000) }
}

// client is one that keeps no connection: a refusal inside one, and before it,
// is the same to it.
func (c *chaos) client() *http.Client { return c.w.dropping() }

// enough refusals to believe in a fault.
const enough = 3

// shows sees a fault through: refusals with its code, at once or when what is
// cached has expired, and each with its line and its count.
func (c *chaos) shows(t *testing.T, code string, recorded bool, host string, probe func(context.Context) error) {
	t.Helper()
	began, counted := time.Now(), c.w.metric("authsome_refusals_total", `code="`+code+`"`)
	seen := 0
	for seen < enough {
		err := probe(t.Context())
		var r *refused
		switch {
		case err == nil && time.Since(began) < patience: // not yet
		case errors.As(err, &r) && r.code == code:
			seen++
		default:
			t.Fatalf("after %d refusals and %s: got %v, want it refused: %s", seen, time.Since(began), err, code)
		}
	}
	if got := c.w.metric("authsome_refusals_total", `code="`+code+`"`) - counted; got < enough {
		t.Errorf("authsome_refusals_total of %s grew by %g, want at least %d", code, got, enough)
	}
	lines := c.w.entries(func(e audit.Event) bool {
		return e.Event == "refuse" && e.Code == code && strings.HasSuffix(e.Host, host+"."+domain) && !e.Time.Before(began.Truncate(time.Millisecond))
	})
	if recorded && lines < enough {
		t.Errorf("the audit log has %d refusals with %s, want at least %d", lines, code, enough)
	}
}

// heals waits until the refusals end.
func (c *chaos) heals(t *testing.T, code string, probe func(context.Context) error) {
	t.Helper()
	began := time.Now()
	for good := 0; good < 3; {
		err := probe(t.Context())
		var r *refused
		switch {
		case err == nil:
			good++
		case good == 0 && errors.As(err, &r) && r.code == code && time.Since(began) < patience:
			pause(t.Context(), 50*time.Millisecond)
		default:
			t.Fatalf("%s after the fault has ended, and after %d good answers: %v", time.Since(began), good, err)
		}
	}
	t.Logf("it recovered within %s", time.Since(began).Round(time.Millisecond))
}

// local are the faults that concern one host.
func (c *chaos) local() []incident {
	all := []incident{{"origin", func(t *testing.T) { c.origin(t, "http/1.1") }}}
	if long() { // the address is the same
		all = append(all, incident{"origin of HTTP/2", func(t *testing.T) { c.origin(t, "h2", "http/1.1") }})
	}
	return append(all,
		incident{"token endpoint dead", c.deadTokenEndpoint},
		incident{"token endpoint answers 500", func(t *testing.T) { c.badTokenEndpoint(t, "oops", answers500) }},
		incident{"token endpoint answers garbage", func(t *testing.T) { c.badTokenEndpoint(t, "trash", answersTrash) }},
		incident{"token endpoint hangs", c.hangingTokenEndpoint})
}

// origin goes through the ways in which an origin fails.
func (c *chaos) origin(t *testing.T, protocols ...string) {
	const host = "api.fault"
	client := c.client()
	probe := c.fetching(client, host, "the key")
	address := faultOrigin + ":443"
	faults := &c.w.net.fault

	stop := c.w.net.serve(t, address, c.w.net, protocols...)
	c.heals(t, "", probe)
	stop()
	c.shows(t, "upstream_unreachable", true, host, probe)

	// It accepts, and says nothing: ten seconds for the handshake.
	mute := listenMute(t, address)
	c.shows(t, "upstream_timeout", true, host, atOnce(probe, enough))
	mute()
	stop = c.w.net.serve(t, address, c.w.net, protocols...)
	c.heals(t, "upstream_timeout", probe)

	// It takes the request and never answers. There is no limit for that, as
	// models think for minutes: the client gives up.
	faults.mode.Store(originHangs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	if err := probe(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an origin that never answers: got %v, want the client to give up", err)
	}
	cancel()
	eventually(t, "the audit log says that the client has gone", time.Minute, func() bool {
		return c.w.entries(func(e audit.Event) bool { return e.Code == "client_gone" && e.Host == host+"."+domain }) > 0
	})

	faults.mode.Store(originResets)
	for _, client := range []*http.Client{client, c.w.newClient(true)} {
		a, err := ask(t.Context(), client, http.MethodGet, "https://"+host+"."+domain+"/bytes?n=100000", nil, 0)
		if !errors.Is(err, errCut) {
			t.Errorf("an origin that resets in the middle: got %d and %d bytes, %v, want the client to notice", a.status, a.n, err)
		}
		client.CloseIdleConnections()
	}
	faults.mode.Store(originWorks)
	c.heals(t, "", probe)
	stop()
}

// atOnce makes the first n probes all at once: a fault that shows after ten
// seconds shows for all of them then.
func atOnce(probe func(context.Context) error, n int) func(context.Context) error {
	results := make(chan error, n)
	asked := 0
	return func(ctx context.Context) error {
		if asked == 0 {
			for range n {
				go func() { results <- probe(ctx) }()
			}
		}
		if asked++; asked > n {
			return probe(ctx)
		}
		return <-results
	}
}

func (c *chaos) deadTokenEndpoint(t *testing.T) {
	probe := c.fetching(c.client(), "dead", "a token")
	c.heals(t, "", probe)
	c.stopAuth()
	c.shows(t, "refresh_failed", true, "dead", probe)
	c.w.net.serveFaultAuth(t)
	c.heals(t, "refresh_failed", probe)
}

func (c *chaos) badTokenEndpoint(t *testing.T, name string, f fault) {
	issuer, probe := c.w.net.issuers[name], c.fetching(c.client(), name, "a token")
	c.heals(t, "", probe)
	issuer.set(f)
	c.shows(t, "refresh_failed", true, name, probe)
	issuer.set(works)
	c.heals(t, "refresh_failed", probe)
	if _, replays, _ := issuer.counts(); replays > 0 {
		t.Errorf("%d spent refresh tokens were sent", replays)
	}
}

// hangingTokenEndpoint has requests wait for their token. They are refused when
// the call's 30 seconds are over; if the answer comes before, they go on.
func (c *chaos) hangingTokenEndpoint(t *testing.T) {
	issuer, probe := c.w.net.issuers["hang"], c.fetching(c.client(), "hang", "a token")
	c.heals(t, "", probe)
	issuer.set(hangs)
	if long() {
		c.shows(t, "refresh_failed", true, "hang", probe)
	} else {
		waited := make(chan error)
		eventually(t, "a request waits for its token", time.Minute, func() bool {
			go func() { waited <- probe(t.Context()) }()
			select {
			case err := <-waited:
				if err != nil {
					t.Errorf("before its token has expired: %v", err)
				}
				return false
			case <-time.After(chaosLife):
				return true
			}
		})
		issuer.set(works)
		if err := <-waited; err != nil {
			t.Errorf("the answer came late, but it came: got %v", err)
		}
	}
	issuer.set(works)
	c.heals(t, "refresh_failed", probe)
	if _, replays, _ := issuer.counts(); replays > 0 {
		t.Errorf("%d spent refresh tokens were sent", replays)
	}
}

// unseen probes a host that the proxy has no connection to.
func (c *chaos) unseen(client *http.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		n := c.load.next()
		return fetch(ctx, client, fmt.Sprintf("n%d.wild", n), "the key", n, 100)
	}
}
