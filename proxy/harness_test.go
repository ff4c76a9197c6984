package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/ca"
	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	apiHost    = "api.example.test"
	canary     = "canary-4f1d8c20-secret"
	proxyToken = "proxy-token-for-tests"
)

// source is a credential source that a test steers.
type source struct {
	mu    sync.Mutex
	value string
	err   error
	next  string // what Refresh gives
	asked int
}

func (s *source) Credential(context.Context, string, string) (secret.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret.New(s.value), s.err
}

func (s *source) Refresh(_ context.Context, _, _ string, stale secret.Text) (secret.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.next == "" {
		return stale, nil
	}
	s.value = s.next
	return secret.New(s.next), nil
}

func (s *source) set(value string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err = value, err
}

// rig is a proxy with an origin behind it.
type rig struct {
	t       testing.TB
	proxy   *proxy.Proxy
	addr    string // of the proxy
	origin  *httptest.Server
	trust   *x509.CertPool // the proxy's authority
	roots   *x509.CertPool // the origin's authority
	source  *source
	inject  *injector.Injector
	audit   string
	log     *lockedBuffer
	metrics *prometheus.Registry
	dials   atomic.Pointer[func(address string) string] // where a dial really goes
	track   func(net.Conn)                              // told of connections to the proxy, or nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// redirect says where dials go from now on, while the proxy runs.
func (r *rig) redirect(to func(address string) string) { r.dials.Store(&to) }

// to is where a dial of address goes.
func (r *rig) to(address string) string { return (*r.dials.Load())(address) }

type option func(*rig, *proxy.Config)

// newRig starts an origin with handler and a proxy that routes apiHost to it.
// h2 says whether the origin offers HTTP/2.
func newRig(t testing.TB, h2 bool, handler http.HandlerFunc, options ...option) *rig {
	t.Helper()
	r := &rig{t: t, source: &source{value: canary}, log: &lockedBuffer{}, metrics: prometheus.NewRegistry(),
		audit: filepath.Join(t.TempDir(), "audit.log")}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	r.trust = x509.NewCertPool()
	r.trust.AppendCertsFromPEM(authority.RootPEM())

	originCA, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test", "elsewhere.test"}})
	if err != nil {
		t.Fatal(err)
	}
	r.origin = httptest.NewUnstartedServer(handler)
	protos := []string{"http/1.1"}
	if h2 {
		protos = []string{"h2", "http/1.1"}
		r.origin.EnableHTTP2 = true
	}
	r.origin.TLS = &tls.Config{NextProtos: protos, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return originCA.Leaf(context.Background(), hello.ServerName)
	}}
	r.origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	r.origin.StartTLS()
	t.Cleanup(r.origin.Close)
	roots := x509.NewCertPool()
	r.roots = roots
	roots.AppendCertsFromPEM(originCA.RootPEM())

	log, err := audit.Open(r.audit, audit.Config{Profile: "default"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	r.inject = injector.New(r.source)
	r.route(apiHost)
	r.redirect(func(address string) string {
		if strings.HasSuffix(address, ".test:443") {
			return r.origin.Listener.Addr().String()
		}
		return address
	})
	cfg := proxy.Config{Injector: r.inject, Authority: authority, Audit: log, Token: secret.New(proxyToken),
		RootCAs: roots, Registerer: r.metrics, Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, r.to(address))
		}}
	for _, o := range options {
		o(r, &cfg)
	}
	if r.proxy, err = proxy.New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.proxy.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		r.proxy.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		r.noSecret()
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", r.log)
		}
	})
	return r
}

// route replaces the route table with one API-key-style route per host_url.
func (r *rig) route(hosts ...string) { r.routeAs(provider.AuthAPIKey, hosts...) }

func (r *rig) routeAs(kind provider.AuthType, hosts ...string) {
	r.t.Helper()
	var routes []*injector.Route
	for _, host := range hosts {
		pattern, err := provider.ParseHostURL(host)
		if err != nil {
			r.t.Fatal(err)
		}
		routes = append(routes, &injector.Route{Provider: "example", Connection: "default", Pattern: pattern,
			Refreshable: kind == provider.AuthOAuth2, Injects: []provider.Inject{{Manner: provider.MannerBearer}}})
	}
	r.inject.Update(injector.NewTable(routes))
}

// client is an HTTP client behind the proxy.
func (r *rig) client(h2 bool) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr, User: url.UserPassword("run", proxyToken)}),
		TLSClientConfig: &tls.Config{RootCAs: r.trust}, ForceAttemptHTTP2: h2, DisableCompression: true}
	if !h2 {
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// connect opens a tunnel by hand and returns the connection with its reader.
func (r *rig) connect(target string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c := r.dial()
	io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n"+r.authHeader()+"\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("CONNECT %s: got %d", target, resp.StatusCode)
	}
	return c, br
}

func (r *rig) authHeader() string {
	q := &http.Request{Header: http.Header{}}
	q.SetBasicAuth("run", proxyToken)
	return "Proxy-Authorization: " + q.Header.Get("Authorization") + "\r\n"
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if r.track != nil {
		r.track(c)
	} else {
		r.t.Cleanup(func() { c.Close() })
	}
	return c
}

// tls opens an intercepted connection by hand, speaking HTTP/1.1.
func (r *rig) tls(target string) (*tls.Conn, *bufio.Reader) {
	r.t.Helper()
	raw, _ := r.connect(target)
	host, _, _ := net.SplitHostPort(target)
	c := tls.Client(raw, &tls.Config{RootCAs: r.trust, ServerName: host, NextProtos: []string{"http/1.1"}})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// events returns the audit log, without waiting for more.
func (r *rig) events() []audit.Event {
	r.t.Helper()
	f, err := os.Open(r.audit)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	var all []audit.Event
	for e, err := range audit.Read(f, audit.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// event waits for the last audit entry of a kind.
func (r *rig) event(kind string) audit.Event {
	r.t.Helper()
	for range 200 {
		all := r.events()
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Event == kind {
				return all[i]
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("no %q in the audit log: %+v", kind, r.events())
	return audit.Event{}
}

// noSecret checks that the credential is in nothing that the proxy keeps.
func (r *rig) noSecret() {
	kept, _ := os.ReadFile(r.audit)
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Error(err)
	}
	var metrics strings.Builder
	for _, f := range families {
		metrics.WriteString(f.String())
	}
	for name, text := range map[string]string{"audit": string(kept), "log": r.log.String(), "metrics": metrics.String()} {
		for _, secret := range []string{canary, proxyToken} {
			if strings.Contains(text, secret) {
				r.t.Errorf("the %s holds the secret %q", name, secret)
			}
		}
	}
}

// metric returns the value of a counter or gauge, its labels given as
// name=value.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for _, want := range labels {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetName()+"="+l.GetValue() == want
				}
				if !found {
					continue next
				}
			}
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// reaches waits for a metric: an exchange is counted after its answer is sent.
func (r *rig) reaches(want float64, name string, labels ...string) {
	r.t.Helper()
	got := 0.0
	for range 200 {
		if got = r.metric(name, labels...); got == want {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Errorf("%s%v: got %v, want %v", name, labels, got, want)
}

var errNoCredential = errors.New("there is none")

// originRoots verify the origin's own certificate.
func (r *rig) originRoots() *x509.CertPool { return r.roots }

func bufioReader(c net.Conn) *bufio.Reader { return bufio.NewReader(c) }

func readResponse(c net.Conn) (*http.Response, error) {
	return http.ReadResponse(bufio.NewReader(c), nil)
}

func authorityOf(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func auditOf(t *testing.T) *audit.Log {
	t.Helper()
	l, err := audit.Open(filepath.Join(t.TempDir(), "audit.log"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
