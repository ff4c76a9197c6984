package authsome_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome"
	"authsome/injector"
	"authsome/provider"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

const canary = "canary-91c5e07a-not-for-anybody"

// definitions are providers whose hosts exist in tests alone.
var definitions = []string{
	`{"schema_version":1,"name":"example","display_name":"Example","auth_type":"api_key","flow":"api_key",
	  "host_url":["api.example.com","https://paths.example.com/v1"],"api_key":{"env_var":"EXAMPLE_API_KEY"},"headers":{"Example-Version":"7"},
	  "export":{"env":{"api_key":"EXAMPLE_API_KEY"}}}`,
	`{"schema_version":1,"name":"rival","display_name":"Rival","auth_type":"api_key","flow":"api_key",
	  "host_url":"api.example.com","api_key":{"env_var":"RIVAL_API_KEY"},"export":{"env":{"api_key":"RIVAL_API_KEY"}}}`,
	`{"schema_version":1,"name":"asker","display_name":"Asker","auth_type":"api_key","flow":"api_key",
	  "host_url":"query.example.com","api_key":{"env_var":"ASKER_API_KEY"},"inject":{"manner":"query","name":"key"},
	  "export":{"env":{"api_key":"ASKER_API_KEY"}}}`,
}

// open opens a fresh home that knows the definitions above.
func open(t *testing.T, o authsome.Options) *authsome.Client {
	t.Helper()
	if o.Home == "" {
		o.Home = filepath.Join(t.TempDir(), "home")
	}
	home, _, err := authsome.OpenHome(o.Home)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		if _, err := provider.Register(home.ProvidersDir(), []byte(d), true); err != nil {
			t.Fatal(err)
		}
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	c, err := authsome.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		noCanary(t, o.Home)
	})
	return c
}

// noCanary searches a home for the secret in clear.
func noCanary(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	more, _ := filepath.Glob(filepath.Join(dir, "profiles", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, more...) {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), canary) {
			t.Errorf("%s holds the secret", name)
		}
	}
}

func login(t *testing.T, c *authsome.Client, name, connection string) {
	t.Helper()
	if _, err := c.Login(t.Context(), authsome.LoginRequest{Provider: name, Connection: connection, APIKey: secret.New(canary)}, nil); err != nil {
		t.Fatal(err)
	}
}

// entries returns the audit log's entries of a kind.
func entries(t *testing.T, c *authsome.Client, event string) []audit.Event {
	t.Helper()
	f, err := os.Open(c.Home.AuditPath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []audit.Event
	for e, err := range audit.Read(f, audit.Filter{Event: event}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// base leads every connection to addr and trusts roots alone.
func base(t *testing.T, addr string, roots *x509.CertPool) *http.Transport {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func transport(t *testing.T, c *authsome.Client, cfg authsome.TransportConfig) *authsome.Transport {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	tr, err := c.Transport(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestCatalogueThroughTheTransport holds the library to what the proxy is held
// to: the same request leads to the same arrival.
func TestCatalogueThroughTheTransport(t *testing.T) {
	addr, roots := playEveryHost(t)
	c := open(t, authsome.Options{})
	s := &street{t: t}
	tried := 0
	for name, want := range expectations() {
		e, err := provider.Bundled().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if e.AuthType != provider.AuthAPIKey {
			continue
		}
		held, err := c.Login(t.Context(), authsome.LoginRequest{Provider: name, APIKey: secret.New(want.credential), BaseURL: baseOf(e)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, done := context.WithCancel(t.Context()) // or all would follow the vault to the end
		tr, err := c.Transport(ctx, authsome.TransportConfig{Base: base(t, addr, roots), Providers: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: tr}
		for _, entry := range held.HostURL {
			a, special := want.at[entry]
			if !special {
				a = want.arrival
			}
			for _, address := range addresses(t, entry) {
				s.checkArrival(client, name, address, want.credential, a, "client's own")
				tried++
			}
		}
		done()
	}
	if got := len(entries(t, c, "inject")); got != tried || tried < 100 {
		t.Errorf("%d requests and %d entries in the audit log", tried, got)
	}
}

// scene is a transport before an origin that plays every host.
type scene struct {
	*street
	client *authsome.Client
	http   *http.Client
	tr     *authsome.Transport
}

func newScene(t *testing.T, cfg authsome.TransportConfig, logins ...string) *scene {
	t.Helper()
	addr, roots := playEveryHost(t)
	c := open(t, authsome.Options{})
	for _, l := range logins {
		name, connection, _ := strings.Cut(l, "/")
		login(t, c, name, connection)
	}
	cfg.Base = base(t, addr, roots)
	tr := transport(t, c, cfg)
	return &scene{&street{t: t}, c, &http.Client{Transport: tr, Timeout: 20 * time.Second}, tr}
}

func TestTransportLeavesOthersAlone(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{}, "example/")
	for _, address := range []string{"https://paths.example.com/v2/x", "https://paths.example.com/v10", "https://api.notion.com/v1", "https://api.example.com:8443/x"} {
		s.checkUntouched(s.http, "example", address)
	}
	if got := entries(t, s.client, "inject"); len(got) != 0 {
		t.Errorf("injected: %+v", got)
	}
	// Over http nothing is ever attached; there is no TLS to talk to here.
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://api.example.com/x", nil)
	r.Header.Set(injector.ConnectionHeader, "default")
	seen := &recorder{}
	tr := transport(t, s.client, authsome.TransportConfig{Base: seen})
	if _, err := tr.RoundTrip(r); err == nil || !strings.Contains(err.Error(), "recorded") {
		t.Fatal(err)
	}
	if len(seen.request.Header) != 0 {
		t.Errorf("over http: %v", seen.request.Header)
	}
	if r.Header.Get(injector.ConnectionHeader) == "" {
		t.Error("the caller's request was modified")
	}
}

// recorder is a base transport that keeps the request and fails.
type recorder struct{ request *http.Request }

func (r *recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	r.request = q
	if q.Body != nil {
		q.Body.Close()
	}
	return nil, errors.New("recorded, not sent")
}

func TestTransportKeepsTheCallersRequest(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{}, "example/", "asker/")
	for _, address := range []string{"https://api.example.com/things", "https://query.example.com/things?a=1&key=mine"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer mine")
		resp, err := s.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if r.URL.String() != address || r.Header.Get("Authorization") != "Bearer mine" {
			t.Errorf("the caller's request became %v %v", r.URL, r.Header)
		}
		if held := fmt.Sprint(resp.Request.URL, resp.Request.Header, resp.Header); strings.Contains(held, canary) {
			t.Errorf("the response's request holds the credential: %s", held)
		}
	}
	for _, e := range entries(t, s.client, "inject") {
		if e.Method != "GET" || e.Scheme != "https" || e.Port != 443 || e.Path != "/things" || e.Status != 200 || e.BytesOut == 0 ||
			e.Duration <= 0 || e.Protocol != "h2" || e.Profile != "default" || e.Connection != "default" {
			t.Errorf("audit: %+v", e)
		}
	}
	if got := len(entries(t, s.client, "inject")); got != 2 {
		t.Errorf("%d audit entries, want 2", got)
	}
}

// TestTransportRedirects follows redirects from an injected host to others: the
// credential stays behind, and is in no Referer.
func TestTransportRedirects(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{}
	addr, roots := playHosts(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Host] = fmt.Sprint(r.URL, r.Header)
		mu.Unlock()
		switch r.Host {
		case "query.example.com":
			http.Redirect(w, r, "https://paths.example.com/v2/out", http.StatusTemporaryRedirect)
		case "paths.example.com":
			http.Redirect(w, r, "https://elsewhere.example.com/?x=1", http.StatusFound)
		}
	}), "example.com")
	c := open(t, authsome.Options{})
	login(t, c, "asker", "")
	login(t, c, "example", "")
	client := &http.Client{Transport: transport(t, c, authsome.TransportConfig{Base: base(t, addr, roots)})}
	resp, err := client.Get("https://query.example.com/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !strings.Contains(seen["query.example.com"], canary) {
		t.Errorf("the provider's host got no credential: %s", seen["query.example.com"])
	}
	for _, host := range []string{"paths.example.com", "elsewhere.example.com"} {
		if seen[host] == "" || strings.Contains(seen[host], canary) {
			t.Errorf("%s got %s", host, seen[host])
		}
	}
	if got := resp.Request.URL.String(); got != "https://elsewhere.example.com/?x=1" {
		t.Errorf("ended at %s", got)
	}
}

// playHosts is an origin with a certificate for every name below domain.
func playHosts(t *testing.T, h http.Handler, domain string) (addr string, roots *x509.CertPool) {
	t.Helper()
	return serveHosts(t, h, []string{domain}, nil)
}

func TestTransportChoosesConnections(t *testing.T) {
	ask := func(s *scene, pick string) (string, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://api.example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if pick != "" {
			r.Header.Set(injector.ConnectionHeader, pick)
		}
		resp, err := s.http.Do(r)
		if err != nil {
			return "", err
		}
		resp.Body.Close()
		all := entries(t, s.client, "inject")
		if len(all) == 0 {
			return "", nil
		}
		return all[len(all)-1].Provider + "/" + all[len(all)-1].Connection, nil
	}
	t.Run("default", func(t *testing.T) {
		s := newScene(t, authsome.TransportConfig{}, "example/", "example/work")
		if got, err := ask(s, ""); got != "example/default" || err != nil {
			t.Error(got, err)
		}
		if got, err := ask(s, "work"); err == nil {
			t.Errorf("a connection that was not given: %s", got)
		}
	})
	t.Run("several", func(t *testing.T) {
		s := newScene(t, authsome.TransportConfig{Connections: map[string][]string{"example": {"default", "work"}}}, "example/", "example/work")
		if got, err := ask(s, "work"); got != "example/work" || err != nil {
			t.Error(got, err)
		}
		if got, err := ask(s, "default"); got != "example/default" || err != nil {
			t.Error(got, err)
		}
	})
	t.Run("tie", func(t *testing.T) {
		s := newScene(t, authsome.TransportConfig{}, "example/", "rival/")
		if got, err := ask(s, ""); got != "" || err != nil {
			t.Errorf("a tie was settled for %s, %v", got, err)
		}
	})
	t.Run("one provider", func(t *testing.T) {
		s := newScene(t, authsome.TransportConfig{Providers: []string{"rival"}}, "example/", "rival/")
		if got, err := ask(s, ""); got != "rival/default" || err != nil {
			t.Error(got, err)
		}
	})
}

// closes tells whether a body was closed.
type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error { c.closed = true; return nil }

func TestTransportRefuses(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{}, "example/")
	for _, tc := range []struct {
		code   string
		change func(r *http.Request)
	}{
		{"target_mismatch", func(r *http.Request) { r.Host = "other.example.com" }},
		{"target_mismatch", func(r *http.Request) { r.Host = "api.example.com:444" }},
		{"target_mismatch", func(r *http.Request) { r.URL.Opaque = "//evil.example.com/x" }},
		{"ambiguous_path", func(r *http.Request) { r.URL = mustParse("https://paths.example.com/v1/%2e%2e/v2") }},
		{"credential_missing", func(r *http.Request) { r.Header.Set(injector.ConnectionHeader, "nobody") }},
	} {
		body := &closes{Reader: strings.NewReader("body")}
		r, err := http.NewRequestWithContext(t.Context(), "POST", "https://api.example.com/x", body)
		if err != nil {
			t.Fatal(err)
		}
		tc.change(r)
		_, err = s.tr.RoundTrip(r)
		var refused *authsome.RefusedError
		if !errors.As(err, &refused) || refused.Code != tc.code {
			t.Errorf("%s: got %v", tc.code, err)
		}
		if !body.closed {
			t.Errorf("%s: the body was not closed", tc.code)
		}
		all := entries(t, s.client, "refuse")
		if last := all[len(all)-1]; last.Code != tc.code || last.Outcome != audit.Denied {
			t.Errorf("%s: in the audit log %+v", tc.code, last)
		}
	}
	if got := entries(t, s.client, "inject"); len(got) > 0 {
		t.Errorf("injected all the same: %+v", got)
	}
	for _, spelling := range []string{"API.Example.Com", "api.example.com.", "api.example.com:443"} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://api.example.com/x", nil)
		r.Host = spelling
		resp, err := s.tr.RoundTrip(r)
		if err != nil {
			t.Errorf("Host %s: %v", spelling, err)
			continue
		}
		resp.Body.Close()
	}
}

func mustParse(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestTransportUnreachable(t *testing.T) {
	c := open(t, authsome.Options{})
	login(t, c, "example", "")
	tr := transport(t, c, authsome.TransportConfig{Base: &recorder{}})
	_, err := (&http.Client{Transport: tr}).Get("https://api.example.com/x")
	var refused *authsome.RefusedError
	if !errors.As(err, &refused) || refused.Code != "upstream_unreachable" || refused.Provider != "example" {
		t.Errorf("got %v", err)
	}
	if got := entries(t, c, "refuse"); len(got) != 1 || got[0].Code != "upstream_unreachable" {
		t.Errorf("audit: %+v", got)
	}
}

func TestTransportWantsCertificatesVerified(t *testing.T) {
	c := open(t, authsome.Options{})
	_, err := c.Transport(t.Context(), authsome.TransportConfig{Base: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}})
	if !errors.Is(err, authsome.ErrUnverified) {
		t.Errorf("got %v", err)
	}
}

// TestTransportFollowsTheVault changes the vault from elsewhere while the
// transport is in use.
func TestTransportFollowsTheVault(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{})
	other, err := authsome.Open(t.Context(), authsome.Options{Home: s.client.Home.Dir, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	injected := func() bool {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "https://api.example.com/x", nil)
		before := len(entries(t, s.client, "inject"))
		resp, err := s.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return len(entries(t, s.client, "inject")) > before
	}
	within := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(4 * time.Second); injected() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("injected is not %v", want)
			}
		}
	}
	within(false)
	login(t, other, "example", "")
	within(true)
	if _, err := other.Broker.Remove(t.Context(), "example"); err != nil {
		t.Fatal(err)
	}
	within(false)
}

func TestTransportConcurrently(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{}, "example/", "asker/")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				address := []string{"https://api.example.com/x", "https://query.example.com/y", "https://paths.example.com/"}[i%3]
				resp, err := s.http.Post(address, "text/plain", strings.NewReader("12345"))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	all := entries(t, s.client, "inject")
	if len(all) != 60 {
		t.Errorf("%d audit entries, want 60", len(all))
	}
	for _, e := range all {
		if e.BytesIn != 5 || e.BytesOut == 0 {
			t.Errorf("audit: %+v", e)
		}
	}
}

func TestTransportWithoutAuditLog(t *testing.T) {
	s := newScene(t, authsome.TransportConfig{}, "example/")
	if err := s.client.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.http.Get("https://api.example.com/x")
	var refused *authsome.RefusedError
	if !errors.As(err, &refused) || refused.Code != "audit_unavailable" {
		t.Errorf("got %v", err)
	}
	if _, err := s.client.AccessToken(t.Context(), "example", ""); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("AccessToken: got %v", err)
	}
}
