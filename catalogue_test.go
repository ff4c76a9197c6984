package authsome_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"authsome/ca"
	"authsome/flows"
	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// arrival is what the vendor's documentation says that a request carries.
type arrival struct {
	headers map[string]string // whose credential or version it is; all others are the client's own
	query   string            // parameter that holds the credential, "" for none
	signed  bool              // the credential is a signature by AWS's rules
}

func bearer(value string) arrival { return one("Authorization", "Bearer "+value) }

func one(name, value string) arrival {
	return arrival{headers: map[string]string{name: value}}
}

func basicAuth(user, password string) arrival {
	return one("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// with adds a header that is the provider's own wish, not a credential.
func (a arrival) with(name, value string) arrival {
	a.headers = maps.Clone(a.headers)
	a.headers[name] = value
	return a
}

// site is where the tenant of a per-site provider is.
const site = "https://tenant.example.com"

// expected is one provider of the catalogue: a made-up credential of the right
// shape and what has to arrive, in the words of the vendor and not of the
// definition.
type expected struct {
	credential string
	arrival    arrival
	at         map[string]arrival // by resolved host_url, where it differs
}

// plainBearer are the providers that take "Authorization: Bearer" and a key or
// token of any shape, and nothing else.
const plainBearer = `ahrefs airtable atlassian beehiiv buffer calendly clearbit cloudflare cohere deepseek discord dub g2 gitlab google
	groq hubspot huggingface hunter instantly intercom keywords-everywhere linear mention-me microsoft mistral netlify openrouter
	optimizely perplexity resend savvycal sentry slack supabase tavily tolt typeform vercel wistia x zapier`

func expectations() map[string]expected {
	const key = "fake-credential-0123456789abcdef"
	const openai, claude, grid, replicate, stripe = "sk-proj-Fake0123456789abcdefghij", "sk-ant-api03-Fake0123456789abcdefghij",
		"SG.Fake-id_01234.Fake-secret_56789", "r8_Fake0123456789abcdefghij", "sk_test_Fake0123456789abcdef"
	sid, token := "AC0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	all := map[string]expected{
		"openai":        {openai, bearer(openai), nil},
		"replicate":     {replicate, bearer(replicate), nil},
		"sendgrid":      {grid, bearer(grid), nil},
		"stripe":        {stripe, bearer(stripe), nil},
		"anthropic":     {claude, one("X-Api-Key", claude).with("Anthropic-Version", "2023-06-01"), nil},
		"apollo":        {key, one("X-Api-Key", key), nil},
		"brevo":         {key, one("Api-Key", key), nil},
		"elevenlabs":    {key, one("Xi-Api-Key", key), nil},
		"figma":         {key, one("X-Figma-Token", key), nil},
		"postmark":      {key, one("X-Postmark-Server-Token", key), nil},
		"livestorm":     {key, one("Authorization", key), nil},
		"postiz":        {key, one("Authorization", key), nil},
		"klaviyo":       {key, one("Authorization", "Klaviyo-API-Key "+key).with("Revision", "2026-04-15"), nil},
		"klaviyo-oauth": {key, bearer(key).with("Revision", "2026-04-15"), nil},
		"notion":        {key, bearer(key).with("Notion-Version", "2022-06-28"), nil},
		"pagerduty":     {key, one("Authorization", "Token token="+key), nil},
		"datadog":       {"fakeapikey:fakeappkey", one("Dd-Api-Key", "fakeapikey").with("Dd-Application-Key", "fakeappkey"), nil},
		"ashby":         {key, basicAuth(key, ""), nil},
		"rewardful":     {key, basicAuth(key, ""), nil},
		"lemlist":       {key, basicAuth("", key), nil},
		"mailchimp":     {"fake0123456789-us21", basicAuth("authsome", "fake0123456789-us21"), nil},
		"aws":           {"AKIATESTTESTTESTTEST:" + strings.Repeat("k", 40), arrival{signed: true}, nil},
		"twilio":        {sid + ":" + token, basicAuth(sid, token), nil},
		"jira":          {"me@example.com:fake:token", basicAuth("me@example.com", "fake:token"), nil},
		"confluence":    {"me@example.com:faketoken", basicAuth("me@example.com", "faketoken"), nil},
		"semrush":       {"fake key+/=&", arrival{query: "key"}, nil},
		"serpapi":       {key, arrival{query: "api_key"}, nil},
		"github":        {key, bearer(key), map[string]arrival{"https://github.com": basicAuth("x-access-token", key)}},
		"gemini": {key, one("X-Goog-Api-Key", key), map[string]arrival{
			"https://generativelanguage.googleapis.com/v1beta/openai": bearer(key)}},
	}
	for _, name := range strings.Fields(plainBearer) {
		all[name] = expected{credential: key, arrival: bearer(key)}
	}
	return all
}

// arrived is what the origin tells of a request.
type arrived struct {
	Method, Host, Path, Query string
	Header                    http.Header
	Body                      string
}

// street is a proxy before an origin that plays every host there is.
type street struct {
	t         *testing.T
	injector  *injector.Injector
	source    *fixedSource
	auditPath string
	h1, h2    *http.Client
	proxied   *x509.CertPool // the proxy's authority alone
}

// fixedSource hands out the credential of the provider whose turn it is.
type fixedSource struct{ provider, value string }

func (s *fixedSource) Credential(_ context.Context, provider, connection string) (secret.Text, error) {
	if provider != s.provider || connection != "default" {
		return secret.Text{}, fmt.Errorf("asked for %s/%s", provider, connection)
	}
	return secret.New(s.value), nil
}

func newStreet(t *testing.T) *street {
	t.Helper()
	dns, ips := provider.Bundled().PermittedDNS()
	// The engine adds what the connections of per-site providers pinned.
	dns = append(dns, "tenant.example.com", "corp.example.net")
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: dns, PermittedIPs: ips})
	if err != nil {
		t.Fatal(err)
	}
	origin, roots := playEveryHost(t)
	s := &street{t: t, source: &fixedSource{}, auditPath: filepath.Join(t.TempDir(), "audit.log"), proxied: x509.NewCertPool()}
	s.injector = injector.New(s.source)
	log, err := audit.Open(s.auditPath, audit.Config{Profile: "default"})
	if err != nil {
		t.Fatal(err)
	}
	const token = "token-of-the-proxy"
	p, err := proxy.New(proxy.Config{Injector: s.injector, Authority: authority, Audit: log, Token: secret.New(token), RootCAs: roots,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, origin)
		}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l) }()
	s.proxied.AppendCertsFromPEM(authority.RootPEM())
	through := &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("run", token)}
	s.h1, s.h2 = s.client(through, roots, false), s.client(through, roots, true)
	t.Cleanup(func() {
		s.h1.CloseIdleConnections()
		s.h2.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		log.Close()
	})
	return s
}

// client trusts the proxy's authority and, for what is tunnelled, the origin's.
func (s *street) client(through *url.URL, origin *x509.CertPool, h2 bool) *http.Client {
	protos := new(http.Protocols)
	protos.SetHTTP1(!h2)
	protos.SetHTTP2(h2)
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(through), Protocols: protos, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(c tls.ConnectionState) error {
			leaf, between := c.PeerCertificates[0], x509.NewCertPool()
			for _, cert := range c.PeerCertificates[1:] {
				between.AddCert(cert)
			}
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: c.ServerName, Roots: s.proxied, Intermediates: between})
			if err != nil {
				_, err = leaf.Verify(x509.VerifyOptions{DNSName: c.ServerName, Roots: origin, Intermediates: between})
			}
			return err
		}}}}
}

// playEveryHost starts an origin that has a certificate for whatever it is
// called, and answers with what it received.
func playEveryHost(t *testing.T) (addr string, roots *x509.CertPool) {
	t.Helper()
	dns, ips := provider.Bundled().PermittedDNS()
	for _, e := range provider.Bundled().All() {
		r, err := e.Resolve(baseOf(e))
		if err != nil {
			t.Fatal(err)
		}
		for _, endpoint := range r.OwnEndpoints() {
			u, err := url.Parse(endpoint)
			if err != nil {
				t.Fatal(err)
			}
			dns = append(dns, u.Hostname())
		}
	}
	return serveHosts(t, http.HandlerFunc(tell), append(dns, "example.com", "corp.example.net"), ips)
}

// serveHosts starts an origin with a certificate for each host below the names.
func serveHosts(t *testing.T, h http.Handler, dns []string, ips []net.IP) (addr string, roots *x509.CertPool) {
	t.Helper()
	slices.Sort(dns)
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: slices.Compact(dns), PermittedIPs: ips})
	if err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewUnstartedServer(h)
	origin.EnableHTTP2 = true
	origin.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), hello.ServerName)
	}}
	origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	origin.StartTLS()
	t.Cleanup(origin.Close)
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.RootPEM())
	return origin.Listener.Addr().String(), roots
}

func tell(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	json.NewEncoder(w).Encode(arrived{r.Method, r.Host, r.URL.EscapedPath(), r.URL.RawQuery, r.Header, string(body)})
}

// baseOf is the base URL that a login without --base-url would choose, or the
// one that has to be given.
func baseOf(e *provider.Entry) string {
	if e.NeedsBaseURL() && e.DefaultBaseURL() == "" {
		return site
	}
	return ""
}

// login makes one provider the only connected one, as the vault would.
func (s *street) login(e *provider.Entry, base, credential string) (hosts []string) {
	s.t.Helper()
	if e.APIKey != nil {
		if err := flows.CheckKey(e.Definition, secret.New(credential)); err != nil {
			s.t.Fatalf("%s: %v", e.Name, err)
		}
	}
	hosts, err := e.Routes(base)
	if err != nil {
		s.t.Fatal(err)
	}
	resolved, err := e.Resolve(base)
	if err != nil {
		s.t.Fatal(err)
	}
	c := injector.Connection{Name: "default", BaseURL: base, HostURL: hosts}
	if resolved.OAuth != nil {
		c.TokenURL = resolved.OAuth.TokenURL
	}
	routes, err := injector.Compile(e.Definition, c)
	if err != nil {
		s.t.Fatal(err)
	}
	*s.source = fixedSource{e.Name, credential}
	s.injector.Update(injector.NewTable(routes))
	return hosts
}

// send makes a request through the proxy and returns what arrived.
func (s *street) send(client *http.Client, method, address string, header map[string]string, body string) arrived {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatalf("%s: %v", address, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var got arrived
	if err := json.NewDecoder(bytes.NewReader(answer)).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s", address, resp.Status, answer)
	}
	return got
}

// own are the headers of a client that knows nothing of authsome.
var own = map[string]string{"User-Agent": "some-sdk/1.0", "Accept": "application/json", "X-Request-Id": "r-1", "Content-Type": "application/json"}

const placeholder = "authsome-proxy-managed"

// addresses are the URLs that stand for a host_url: below its prefix, at its
// prefix, and for a wildcard at several depths.
func addresses(t *testing.T, entry string) []string {
	t.Helper()
	p, err := provider.ParseHostURL(entry)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{p.Host}
	if p.Kind == provider.Wildcard {
		hosts = []string{"us21." + p.Host, "a.b." + p.Host}
	} else if p.Kind != provider.Exact {
		t.Fatalf("%s: say here which hosts stand for an expression", entry)
	}
	var list []string
	for _, host := range hosts {
		if p.Port != 443 {
			host = net.JoinHostPort(host, strconv.Itoa(int(p.Port)))
		}
		list = append(list, "https://"+host+p.PathPrefix+"/v9/things/%C3%A9?b=2&a=1%202", "https://"+host+p.PathPrefix+"?b=2&a=1%202")
	}
	return list
}

// TestCatalogueThroughTheProxy sends a request to every host of every bundled
// provider through the real proxy and holds every header and the query of what
// arrives to what the vendor documents.
func TestCatalogueThroughTheProxy(t *testing.T) {
	s := newStreet(t)
	want := expectations()
	sent := map[string]int{}
	for _, e := range provider.Bundled().All() {
		wish, ok := want[e.Name]
		if !ok {
			t.Errorf("%s: nobody says what has to arrive", e.Name)
			continue
		}
		delete(want, e.Name)
		for _, entry := range s.login(e, baseOf(e), wish.credential) {
			a, special := wish.at[entry]
			if !special {
				a = wish.arrival
			}
			for _, address := range addresses(t, entry) {
				s.checkArrival(s.h1, e.Name, address, wish.credential, a, "")
				s.checkArrival(s.h2, e.Name, address, wish.credential, a, "client's own")
				sent[e.Name] += 2
			}
		}
		s.checkOutside(e)
	}
	if len(want) > 0 {
		t.Errorf("not in the catalogue: %v", slices.Sorted(maps.Keys(want)))
	}
	s.checkAudit(sent)
}

// checkArrival sends what an SDK with a placeholder sends. version is the
// client's own choice of a header that the provider has a default for.
func (s *street) checkArrival(client *http.Client, name, address, credential string, want arrival, version string) {
	s.t.Helper()
	if want.signed {
		s.checkSigned(client, address, credential)
		return
	}
	u, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	header, expect := maps.Clone(own), http.Header{}
	wantQuery := u.RawQuery
	if want.query != "" {
		u.RawQuery = want.query + "=" + placeholder + "&" + u.RawQuery
		wantQuery += "&" + want.query + "=" + url.QueryEscape(credential)
	}
	for name, value := range own {
		expect.Set(name, value)
	}
	for name, value := range want.headers {
		expect.Set(name, value)
		if strings.HasSuffix(name, "Version") || name == "Revision" {
			if version != "" {
				header[name] = version
				expect.Set(name, version)
			}
			continue
		}
		header[name] = placeholder
	}
	const body = `{"key":"` + placeholder + `"}`
	expect.Set("Content-Length", strconv.Itoa(len(body)))
	got := s.send(client, http.MethodPost, u.String(), header, body)
	if got.Host != u.Host || got.Path != orSlash(u.EscapedPath()) || got.Query != wantQuery || got.Method != http.MethodPost || got.Body != body {
		s.t.Errorf("%s: %s arrived as %s %s%s?%s %s, want the query %s", name, u, got.Method, got.Host, got.Path, got.Query, got.Body, wantQuery)
	}
	if !maps.EqualFunc(got.Header, expect, slices.Equal) {
		s.t.Errorf("%s: %s\ngot  %v\nwant %v", name, u, got.Header, expect)
	}
}

// checkSigned sends what a client of AWS has signed with the placeholders, which
// arrives signed with the credential, and what it has not signed, which arrives
// untouched.
func (s *street) checkSigned(client *http.Client, address, credential string) {
	s.t.Helper()
	s.checkUntouchedBut(client, "aws", address, "Authorization")
	const body = `{"prompt":"hello"}`
	sum := sha256.Sum256([]byte(body))
	sign := func(host, target, id, secret string, header http.Header, at time.Time) *http.Request {
		r, err := http.NewRequest(http.MethodPost, "https://"+host+target, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header = header
		creds := aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
		if err := v4.NewSigner().SignHTTP(s.t.Context(), creds, r, hex.EncodeToString(sum[:]), "bedrock", "eu-west-1", at); err != nil {
			s.t.Fatal(err)
		}
		return r
	}
	u, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	signed := sign(u.Host, u.RequestURI(), placeholder, placeholder, http.Header{"Content-Type": {"application/json"}}, time.Now().Add(-24*time.Hour))
	header := map[string]string{}
	for name := range signed.Header {
		header[name] = signed.Header.Get(name)
	}
	got := s.send(client, http.MethodPost, address, header, body)
	at, err := time.Parse("20060102T150405Z", got.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at) > time.Hour {
		s.t.Errorf("%s: dated %q", address, got.Header.Get("X-Amz-Date"))
	}
	id, secret, _ := strings.Cut(credential, ":")
	target := got.Path + "?" + got.Query
	want := sign(got.Host, target, id, secret, http.Header{"Content-Type": {"application/json"}}, at).Header.Get("Authorization")
	if got.Body != body || got.Query != u.RawQuery || got.Header.Get("Authorization") != want {
		s.t.Errorf("%s arrived as %s %q with\n%q\nwant %q", address, target, got.Body, got.Header["Authorization"], want)
	}
}

func orSlash(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// checkOutside sends requests to the provider's own endpoints, beside its path
// prefixes and to plain hosts of nobody's: they arrive as they were sent.
func (s *street) checkOutside(e *provider.Entry) {
	s.t.Helper()
	resolved, err := e.Resolve(baseOf(e))
	if err != nil {
		s.t.Fatal(err)
	}
	targets := resolved.OwnEndpoints()
	if resolved.OAuth != nil && len(targets) == 0 {
		s.t.Errorf("%s: no endpoint of its own", e.Name)
	}
	free := map[string]bool{} // hosts of which only some paths are routed
	for _, entry := range resolved.HostURL {
		p, err := provider.ParseHostURL(entry)
		if err != nil {
			s.t.Fatal(err)
		}
		before, seen := free[p.Host]
		free[p.Host] = p.PathPrefix != "" && (before || !seen)
	}
	for host, partly := range free {
		if partly {
			targets = append(targets, "https://"+host+"/elsewhere", "https://"+host)
		}
	}
	for i, target := range targets {
		client := []*http.Client{s.h1, s.h2}[i%2]
		for _, suffix := range []string{"", "?grant_type=refresh_token"} {
			s.checkUntouched(client, e.Name, target+suffix)
		}
	}
}

func (s *street) checkUntouched(client *http.Client, name, address string) {
	s.t.Helper()
	s.checkUntouchedBut(client, name, address, "")
}

// checkUntouchedBut is checkUntouched for a request without a header that it has
// otherwise.
func (s *street) checkUntouchedBut(client *http.Client, name, address, without string) {
	s.t.Helper()
	header, expect := maps.Clone(own), http.Header{}
	header["Authorization"] = "Basic b3duLWNsaWVudDpvd24tc2VjcmV0"
	header["X-Api-Key"] = "its own"
	delete(header, without)
	for name, value := range header {
		expect.Set(name, value)
	}
	const body = "client_id=own&refresh_token=own"
	expect.Set("Content-Length", strconv.Itoa(len(body)))
	u, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	got := s.send(client, http.MethodPost, address, header, body)
	if got.Host != u.Host || got.Path != orSlash(u.EscapedPath()) || got.Query != u.RawQuery || got.Body != body {
		s.t.Errorf("%s: %s arrived as %s%s?%s %s", name, address, got.Host, got.Path, got.Query, got.Body)
	}
	if !maps.EqualFunc(got.Header, expect, slices.Equal) {
		s.t.Errorf("%s: %s was touched\ngot  %v\nwant %v", name, address, got.Header, expect)
	}
}

// checkAudit holds the log to one entry for each injected request, of the right
// provider, and to nothing for the others.
func (s *street) checkAudit(sent map[string]int) {
	s.t.Helper()
	f, err := os.Open(s.auditPath)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	got := map[string]int{}
	for e, err := range audit.Read(f, audit.Filter{}) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Event != "inject" || e.Outcome != audit.OK || e.Status != http.StatusOK || e.Scheme != "https" || e.Host == "" || strings.Contains(e.Path, "?") {
			s.t.Errorf("in the audit log: %+v", e)
		}
		got[e.Provider]++
	}
	if !maps.Equal(got, sent) {
		s.t.Errorf("injections in the audit log %v\nwant %v", got, sent)
	}
	whole, err := os.ReadFile(s.auditPath)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, e := range expectations() {
		if bytes.Contains(whole, []byte(e.credential)) {
			s.t.Errorf("the credential of %s is in the audit log", name)
		}
	}
}

// TestSelfManagedThroughTheProxy logs in to an instance of one's own: its token
// goes there, and the vendor's public hosts see nothing of it.
func TestSelfManagedThroughTheProxy(t *testing.T) {
	const base = "https://corp.example.net"
	s := newStreet(t)
	for _, tc := range []struct {
		name, credential string
		path             string
		want             arrival
		public           []string
	}{
		{"github", "t0", "/api/v3/user", bearer("t0"), []string{"https://api.github.com/user", "https://uploads.github.com/x", "https://github.com/o/r.git/info/refs"}},
		{"github", "t1", "/o/r.git/info/refs", basicAuth("x-access-token", "t1"), nil},
		{"gitlab", "t2", "/api/v4/user", bearer("t2"), []string{"https://gitlab.com/api/v4/user"}},
		{"sentry", "t3", "/api/0/projects/", bearer("t3"), []string{"https://sentry.io/api/0/", "https://us.sentry.io/api/0/", "https://de.sentry.io/api/0/"}},
		{"datadog", "a:b", "/api/v1/validate", one("Dd-Api-Key", "a").with("Dd-Application-Key", "b"), []string{"https://api.datadoghq.com/api/v1"}},
		{"jira", "me@example.com:t", "/rest/api/3/myself", basicAuth("me@example.com", "t"), []string{"https://tenant.example.com/rest/api/3"}},
	} {
		e, err := provider.Bundled().Lookup(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		s.login(e, base, tc.credential)
		s.checkArrival(s.h2, tc.name, base+tc.path, tc.credential, tc.want, "")
		for _, address := range tc.public {
			s.checkUntouched(s.h1, tc.name, address)
		}
	}
}
