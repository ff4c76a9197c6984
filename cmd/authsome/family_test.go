//go:build linux

package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows/oauth/oauthtest"
	"authsome/vault"
	"authsome/vault/audit"
)

const (
	proxies  = 3   // processes that serve as authsome proxy
	runs     = 3   // processes that serve as authsome run
	exports  = 2   // processes of authsome export in each round
	clients  = 200 // goroutines that ask at once through each proxy and run
	expiries = 10  // rounds
)

// family is an authorization server that gives one login by device code, rotates
// its refresh token, and revokes everything when an old one comes again.
type family struct {
	mu      sync.Mutex
	serial  int  // guarded by mu; of the tokens that are good
	replays int  // guarded by mu
	dead    bool // guarded by mu

	hangs func(carryOut func()) // guarded by mu; what becomes of the next refresh, instead of an answer
}

// ServeHTTP implements http.Handler.
func (f *family) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/device" {
		answer(w, http.StatusOK, map[string]any{"device_code": "d-" + canary, "user_code": "WXYZ", "verification_uri": "https://127.0.0.1/go", "interval": 1})
		return
	}
	if r.Form.Get("grant_type") == "refresh_token" && (f.dead || r.Form.Get("refresh_token") != f.token("refresh")) {
		f.replays++
		f.dead = true
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	if hangs := f.hangs; hangs != nil && r.Form.Get("grant_type") == "refresh_token" {
		f.hangs = nil
		f.mu.Unlock()
		hangs(func() {
			f.mu.Lock()
			f.serial++
			f.mu.Unlock()
		})
		f.mu.Lock()
		return
	}
	f.serial++
	answer(w, http.StatusOK, map[string]any{"access_token": f.token("access"), "refresh_token": f.token("refresh"), "expires_in": 3600})
}

// token is the good one of a kind. The caller holds mu.
func (f *family) token(kind string) string { return fmt.Sprintf("%s-%d-%s", kind, f.serial, canary) }

func (f *family) good(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead && token == f.token("access")
}

func (f *family) state() (serial, replays int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serial, f.replays
}

// newFamily starts one and logs in to it, as acme/default.
func newFamily(t *testing.T) (*family, *realm) {
	t.Helper()
	f := new(family)
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	as := &oauthtest.Server{Issuer: server.URL, Roots: x509.NewCertPool()}
	as.Roots.AddCert(server.Certificate())
	r := newRealm(t, as)
	r.vouch = f.good
	r.definition(func(d map[string]any) {
		d["flow"] = "device_code"
		d["oauth"] = map[string]any{"device_authorization_url": server.URL + "/device", "token_url": server.URL + "/token"}
	})
	r.must("login", "acme", "--client-id", "app")
	return f, r
}

// hub is a process that attaches the credential, and a client of it.
type hub struct {
	client  *http.Client
	metrics string // URL
}

// via makes a client of a proxy. One that speaks HTTP/1.1 has a connection for
// each request under way.
func via(t *testing.T, proxy, bundle string, h2 bool) *http.Client {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(bundle)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("read bundle: %v", err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2, MaxIdleConnsPerHost: clients}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// hubOf starts authsome run, whose child says how to use the proxy and stays.
func (r *realm) hubOf() *hub {
	r.t.Helper()
	cmd := exec.Command(binary, "run", "--metrics-addr", "127.0.0.1:0", "--", "sh", "-c", `printf '%s\n' "$HTTPS_PROXY" "$SSL_CERT_FILE"; exec cat`)
	cmd.Env = r.env()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	stderr := new(lockedBuffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		stdin.Close()
		late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), canary) {
			r.t.Errorf("run ended with %v: %s", err, stderr)
		}
	})
	lines := bufio.NewScanner(stdout)
	var said []string
	for len(said) < 2 && lines.Scan() {
		said = append(said, lines.Text())
	}
	metrics := regexp.MustCompile(`Metrics are at (\S+)`).FindStringSubmatch(stderr.String())
	if len(said) < 2 || metrics == nil {
		r.t.Fatalf("run says %q: %s", said, stderr)
	}
	return &hub{via(r.t, said[0], said[1], false), metrics[1]}
}

// knows reports whether a hub's credential expires before a time, by its metrics.
func (h *hub) knows(t *testing.T, before time.Time) bool {
	res, err := http.Get(h.metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^authsome_credential_expiry_timestamp_seconds\{.*provider="acme".*\} (\S+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no expiry in the metrics:\n%s", text)
	}
	at, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return at < float64(before.Unix())
}

// expire has the stored token of acme/default end at a time from now, as an hour
// since its login would.
func expire(t *testing.T, home string, in time.Duration) {
	t.Helper()
	ctx := context.Background()
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.log"), audit.Config{Profile: "default"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	store, err := vault.OpenBolt(filepath.Join(home, "profiles", "default", "store.db"), vault.BoltConfig{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(ctx, vault.Config{Store: store, Wrapper: vault.LocalKey(filepath.Join(home, "master.key")), Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	e, err := v.Get(ctx, "profile:default:acme:connection:default")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := e.Record()
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]time.Duration{"obtained_at": in - time.Hour, "expires_at": in} {
		rec.Fields[name], _ = json.Marshal(time.Now().Add(from).UTC().Truncate(time.Second))
	}
	if err := v.Apply(ctx, audit.Event{Event: "test", Outcome: "ok"}, vault.Change{Key: e.Key, Record: &rec, Previous: e}); err != nil {
		t.Fatal(err)
	}
}

// Proxies and runs, each under 200 requests, and exports find the token expired at
// once. The API accepts no token but the newest, and the authorization server
// revokes the login when a refresh token comes twice.
func TestOneRefreshForProxiesRunsAndExports(t *testing.T) {
	t.Parallel()
	f, r := newFamily(t)
	var hubs []*hub
	for range proxies {
		s := r.serve()
		hubs = append(hubs, &hub{via(t, s.variables()["HTTPS_PROXY"], s.bundle, true), "http://" + s.metrics + "/metrics"})
	}
	for range runs {
		hubs = append(hubs, r.hubOf())
	}
	for round := 1; round <= expiries; round++ {
		expire(t, r.home, -time.Hour)
		for _, h := range hubs {
			eventually(t, "a process sees that the token has expired", func() bool { return h.knows(t, time.Now()) }, func() string { return h.metrics })
		}
		for problem, n := range r.rush(hubs) {
			t.Errorf("round %d: %d times %s", round, n, problem)
		}
		if serial, replays := f.state(); serial != 1+round || replays > 0 {
			t.Fatalf("round %d: %d refreshes so far, %d replays; want one a round", round, serial-1, replays)
		}
	}
	names := r.events()
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "refresh") })
	if len(names) != 2*expiries || slices.Contains(names, "refresh failed") {
		t.Errorf("audit = %q, want a start and an end for each of %d rounds", names, expiries)
	}
}

// rush asks through all hubs and by exports at the same time, and returns what was
// not as it should be.
func (r *realm) rush(hubs []*hub) map[string]int {
	var mu sync.Mutex
	wrong := map[string]int{}
	exported := map[string]bool{}
	var all sync.WaitGroup
	start := make(chan struct{})
	for _, h := range hubs {
		for range clients {
			all.Go(func() {
				<-start
				if status, body := get(h.client, apiURL); status != http.StatusOK || !strings.HasPrefix(body, "welcome") {
					mu.Lock()
					defer mu.Unlock()
					wrong[fmt.Sprintf("%d %s", status, body)]++
				}
			})
		}
	}
	for range exports {
		all.Go(func() {
			<-start
			got := r.authsome("export", "acme")
			mu.Lock()
			defer mu.Unlock()
			exported[got.stdout] = true
			if got.code != 0 || got.stderr != "" {
				wrong[fmt.Sprintf("export: exit %d %s", got.code, got.stderr)]++
			}
		})
	}
	close(start)
	all.Wait()
	if len(exported) != 1 {
		wrong[fmt.Sprintf("%d different exports", len(exported))]++
	}
	return wrong
}

// A token near its end that cannot be renewed is used while it is good. That it was
// not renewed is told, once for each command, and shown by list and doctor.
func TestRefreshThatFailsWhileTheTokenIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(oauthDefinition)
	w.must("login", "acme", "--flow", "device_code", "--client-id", "down")
	for _, args := range [][]string{{"export", "acme"}, {"run", "--", "curl", "-sS", apiURL}} {
		expire(t, w.home, 100*time.Second)
		got := w.must(args...)
		if !strings.Contains(got.stdout, "welcome") && !strings.Contains(got.stdout, canary) {
			t.Errorf("%v: %s%s", args, got.stdout, got.stderr)
		}
		if strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "temporarily_unavailable") {
			t.Errorf("%v says\n%s", args, got.stderr)
		}
		time.Sleep(1100 * time.Millisecond) // the pause after a failure
	}
	if text := w.must("list", "--connected").stdout; !regexp.MustCompile(`connected +expires in (1m|\d\ds)\n\nacme/default: last refresh failed \d+s ago: .*temporarily_unavailable.*\n  it is tried again`).MatchString(text) {
		t.Errorf("list says\n%s", text)
	}
	if got := w.must("doctor", "--no-clients"); !regexp.MustCompile(`ok +acme/default +connected, expires in \S+; the last refresh failed \d+s ago: .*temporarily_unavailable`).MatchString(got.stdout) {
		t.Errorf("doctor says\n%s", got.stdout)
	}
}

// An export is killed in the middle of its refresh. The next one takes over at once:
// with the token, if the provider had not replaced it yet; else with an error that
// says what happened and what helps.
func TestExportKilledInItsRefresh(t *testing.T) {
	t.Parallel()
	for _, rotated := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotated=%v", rotated), func(t *testing.T) {
			t.Parallel()
			f, r := newFamily(t)
			expire(t, r.home, -time.Hour)
			asked, killed := make(chan bool), make(chan bool)
			f.mu.Lock()
			f.hangs = func(carryOut func()) {
				if rotated {
					carryOut()
				}
				close(asked)
				<-killed
			}
			f.mu.Unlock()
			victim := r.command(nil, "export", "acme")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			<-asked
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			victim.Wait()
			close(killed)
			began := time.Now()
			got := r.authsome("export", "acme")
			if took := time.Since(began); took > patience {
				t.Errorf("the lease of a dead process was waited for: %v", took)
			}
			if !rotated {
				if got.code != 0 || !strings.Contains(got.stdout, "access-2-") {
					t.Errorf("exit %d: %s", got.code, got.stderr)
				}
				return
			}
			if got.code != 6 || !strings.Contains(got.stderr, "was lost, and the new token with it") || !strings.Contains(got.stderr, "(run: authsome login acme)") {
				t.Errorf("exit %d: %s", got.code, got.stderr)
			}
			if got := r.must("list", "--connected").stdout; !strings.Contains(got, "invalid") || !strings.Contains(got, "run: authsome login acme") {
				t.Errorf("list says\n%s", got)
			}
			r.must("login", "acme")
			if got := r.must("export", "acme"); !strings.Contains(got.stdout, "access-3-") {
				t.Errorf("after the login: %s", got.stderr)
			}
		})
	}
}
