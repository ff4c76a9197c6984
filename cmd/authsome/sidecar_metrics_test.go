//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// issuer is a token endpoint that a test steers.
type issuer struct {
	url string

	mu    sync.Mutex // guards all below
	lives int        // seconds that a token is good for
	fails string     // error code to answer with; "": none
	asked int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{url: "http://" + l.Addr().String() + "/token", lives: 3600}
	server := &http.Server{Handler: i}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return i
}

func (i *issuer) set(lives int, fails string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lives, i.fails = lives, fails
}

// ServeHTTP implements http.Handler.
func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	w.Header().Set("Content-Type", "application/json")
	if i.fails != "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q}`, i.fails)
		return
	}
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, canary, i.lives)
}

// robot logs in a provider of client credentials, whose host is its name.
func (w *world) robot(i *issuer, name string, connections ...string) {
	w.t.Helper()
	w.register(fmt.Sprintf(`{"schema_version": 1, "name": %q, "display_name": %q, "auth_type": "oauth2", "flow": "client_credentials",
		"host_url": ["%s.example.test"], "oauth": {"token_url": %q}}`, name, name, name, i.url))
	for _, connection := range connections {
		cmd := w.command(nil, "login", name, "--client-id", "bot", "--secret-file", "-", "--connection", connection)
		if r := w.run(cmd, "secret-of-the-robot\n"); r.code != 0 {
			w.t.Fatalf("login %s/%s: exit %d: %s", name, connection, r.code, r.stderr)
		}
	}
}

// metric returns a series' value, and whether it is there. The series is as it
// stands in the text format.
func (s *service) metric(series string) (value float64, ok bool) {
	s.t.Helper()
	_, all := s.probe("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(all)
	if m == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v, true
}

// reaches waits until a series has a value.
func (s *service) reaches(series string, want float64) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s is %v", series, want), func() bool {
		got, ok := s.metric(series)
		return ok && got == want
	})
}

func refreshes(provider, outcome string) string {
	return fmt.Sprintf(`authsome_refresh_total{outcome=%q,provider=%q}`, outcome, provider)
}

func expiryOf(provider, connection string) string {
	return fmt.Sprintf(`authsome_credential_expiry_timestamp_seconds{connection=%q,provider=%q}`, connection, provider)
}

// Each connection that the proxy may use shows when it expires, for as long as
// it is there.
func TestExpiryMetric(t *testing.T) {
	t.Parallel()
	w, i := newWorld(t), newIssuer(t)
	w.robot(i, "robot", "one", "two", "three")
	w.robot(i, "droid", "default")
	w.login(exampleDefinition, "example")
	s := w.serve("--connection", "robot=one", "--connection", "robot=two", "--provider", "droid", "--provider", "example")
	for _, series := range []string{expiryOf("robot", "one"), expiryOf("robot", "two"), expiryOf("droid", "default")} {
		got, ok := s.metric(series)
		if left := time.Until(time.Unix(int64(got), 0)); !ok || left < 50*time.Minute || left > time.Hour {
			t.Errorf("%s: got %v, %v: %v left, want an hour", series, got, ok, left)
		}
	}
	for _, series := range []string{expiryOf("robot", "three"), expiryOf("example", "default")} {
		if got, ok := s.metric(series); ok {
			t.Errorf("%s: got %v, want none: it is not the proxy's, or does not expire", series, got)
		}
	}
	w.must("logout", "robot", "--connection", "two")
	s.eventually("the series of a logout ends", func() bool { _, ok := s.metric(expiryOf("robot", "two")); return !ok })
	if _, ok := s.metric(expiryOf("robot", "one")); !ok {
		t.Error("the other connection's series ended too")
	}
}

func TestRefreshMetric(t *testing.T) {
	t.Parallel()
	w, i := newWorld(t), newIssuer(t)
	i.set(2, "")
	w.robot(i, "robot", "default")
	w.robot(i, "droid", "default")
	w.robot(i, "cyborg", "default")
	s := w.serve()
	client := s.client()
	for _, provider := range []string{"robot", "droid", "cyborg"} {
		for _, outcome := range []string{"ok", "invalid_grant", "failed"} {
			if got, ok := s.metric(refreshes(provider, outcome)); !ok || got != 0 {
				t.Errorf("%s before any: got %v, %v, want 0", refreshes(provider, outcome), got, ok)
			}
		}
	}
	time.Sleep(2 * time.Second) // the tokens expire
	i.set(3600, "")
	if status, body := get(client, "https://robot.example.test/"); status != http.StatusOK {
		t.Errorf("after a refresh: got %d %q", status, body)
	}
	i.set(3600, "invalid_grant")
	if status, _ := get(client, "https://droid.example.test/"); status != http.StatusBadGateway {
		t.Errorf("invalid grant: got %d, want 502", status)
	}
	i.set(3600, "server_error")
	if status, _ := get(client, "https://cyborg.example.test/"); status != http.StatusBadGateway {
		t.Errorf("failed: got %d, want 502", status)
	}
	for series, want := range map[string]float64{
		refreshes("robot", "ok"): 1, refreshes("robot", "failed"): 0,
		refreshes("droid", "invalid_grant"): 1, refreshes("droid", "ok"): 0,
		refreshes("cyborg", "failed"): 1, refreshes("cyborg", "invalid_grant"): 0,
		`authsome_requests_total{code_class="2xx",outcome="injected",protocol="h2",provider="robot"}`: 1,
		`authsome_requests_total{code_class="5xx",outcome="refused",protocol="h2",provider="droid"}`:  1,
		`authsome_requests_total{code_class="5xx",outcome="refused",protocol="h2",provider="cyborg"}`: 1,
	} {
		s.reaches(series, want)
	}
}

// What the authority and the vault count.
func TestEngineMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(strings.Replace(exampleDefinition, `"api.example.test"`, `"api.example.test", "www.example.test"`, 1), "example")
	s := w.serve()
	client := s.client()
	s.reaches("authsome_leaf_mints_total", 0)
	s.reaches("authsome_leaf_cache_entries", 0)
	for i, host := range []string{"api", "www"} {
		for range 2 { // the second leaf is a cached one
			client.CloseIdleConnections()
			if status, body := get(client, "https://"+host+".example.test/"); status != http.StatusOK {
				t.Fatalf("got %d %q", status, body)
			}
		}
		s.reaches("authsome_leaf_mints_total", float64(i+1))
		s.reaches("authsome_leaf_cache_entries", float64(i+1))
	}

	loaded, _ := s.metric(`authsome_vault_reload_total{outcome="ok"}`)
	w.must("logout", "example")
	w.login("", "example")
	s.eventually("a reload is counted", func() bool {
		got, _ := s.metric(`authsome_vault_reload_total{outcome="ok"}`)
		return got > loaded
	})
	if got, ok := s.metric(`authsome_vault_reload_total{outcome="failed"}`); !ok || got != 0 {
		t.Errorf("failed reloads: got %v, %v, want 0", got, ok)
	}
	store := filepath.Join(w.home, "profiles", "default", "store.db")
	if err := os.Truncate(store, 100); err != nil {
		t.Fatal(err)
	}
	s.eventually("a failed reload is counted", func() bool {
		got, _ := s.metric(`authsome_vault_reload_total{outcome="failed"}`)
		return got > 0
	})
	s.wantWelcome(client) // from the snapshot

	s.reaches("authsome_invalid_definitions", 0)
	file(t, filepath.Join(w.home, "providers"), "wrong.json", `{"name": "wrong"}`)
	s.reload()
	s.reaches("authsome_invalid_definitions", 1)
	if !strings.Contains(s.stderr.String(), "wrong.json") {
		t.Error("stderr does not name the definition that is left out")
	}
}

// The metric says what /readyz says.
func TestReadyMetric(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve("--config", file(t, t.TempDir(), "proxy.yaml", "ca_lifetime: 8h\n"))
	s.reaches("authsome_ready", 1)
	expiry, ok := s.metric("authsome_authority_expiry_timestamp_seconds")
	if left := time.Until(time.Unix(int64(expiry), 0)); !ok || left < 7*time.Hour || left > 8*time.Hour {
		t.Errorf("the authority ends in %v, want 8h", left)
	}
	log := filepath.Join(w.home, "audit.log")
	if err := os.Rename(log, log+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	s.reaches("authsome_ready", 0)
	if status, _ := s.probe("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: got %d, want 503", status)
	}
	if status, body := get(s.client(), apiURL); status != http.StatusServiceUnavailable || !strings.Contains(body, "audit_unavailable") {
		t.Errorf("a request: got %d %q, want 503 audit_unavailable", status, body)
	}
	s.reaches(`authsome_refusals_total{code="audit_unavailable"}`, 1)
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(log+".away", log); err != nil {
		t.Fatal(err)
	}
	s.reaches("authsome_ready", 1)
	s.wantWelcome(s.client())
}
