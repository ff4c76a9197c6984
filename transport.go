package authsome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authsome/injector"
	"authsome/provider"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// TransportConfig says what a [Transport] may use. The zero value gives the
// default connection of every connected provider.
type TransportConfig struct {
	// Base sends the requests; nil is a clone of http.DefaultTransport. It must
	// verify certificates, send a request where its URL says and nowhere else,
	// and not write request headers anywhere.
	Base http.RoundTripper

	Providers   []string            // none: all that are connected
	Connections map[string][]string // provider → connections, instead of its default one
}

// Transport attaches credentials to requests as the proxy does: by the same
// route table, to https only, and with an audit entry for each. A request to any
// other host, or to a provider's own token endpoint, goes out as it is.
//
// The credential is in no request that the caller holds: it is attached to a
// copy, so an http.Client that follows a redirect takes it nowhere, and a URL in
// an error does not show it. What the caller has put in its place, such as a
// placeholder, is replaced; so is a signature for AWS, with whatever key it was
// made. A request that should carry a credential and cannot is not sent; the error
// is a *[RefusedError].
//
// It is safe for concurrent use.
type Transport struct {
	client   *Client
	cfg      TransportConfig
	injector *injector.Injector
	log      *slog.Logger
	tied     sync.Map // host → struct{}: told that connections tie for it
}

// RefusedError is why a request was not sent, or got no answer.
type RefusedError struct {
	// Code is the one that the proxy gives in Authsome-Error: target_mismatch,
	// ambiguous_path, credential_missing, refresh_failed, injection_failed,
	// audit_unavailable or upstream_unreachable.
	Code     string
	Provider string
	Err      error
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Provider == "" {
		return fmt.Sprintf("authsome: %s: %v", e.Code, e.Err)
	}
	return fmt.Sprintf("authsome: %s: %s: %v", e.Code, e.Provider, e.Err)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Hint returns what to run next, "" when there is nothing.
func (e *RefusedError) Hint() string {
	var hinted interface{ Hint() string }
	if errors.As(e.Err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// ErrUnverified is returned for a Base that does not verify certificates.
var ErrUnverified = errors.New("the base transport does not verify certificates")

// Transport returns an http.RoundTripper that attaches the credentials of the
// profile's connections. It follows the vault until ctx ends: a login or logout
// takes effect within two seconds. Connections that cannot be used are logged.
// It fails with ErrUnverified, or with what the vault fails with.
func (c *Client) Transport(ctx context.Context, cfg TransportConfig) (*Transport, error) {
	if cfg.Base == nil {
		cfg.Base = http.DefaultTransport.(*http.Transport).Clone()
	}
	if base, ok := cfg.Base.(*http.Transport); ok && base.TLSClientConfig != nil && base.TLSClientConfig.InsecureSkipVerify &&
		base.TLSClientConfig.VerifyConnection == nil && base.TLSClientConfig.VerifyPeerCertificate == nil {
		return nil, ErrUnverified
	}
	t := &Transport{client: c, cfg: cfg, injector: injector.New(c.Broker), log: c.log}
	if err := c.Broker.Watch(ctx, t.update); err != nil {
		return nil, err
	}
	return t, nil
}

// update builds the route table anew from the vault's snapshot.
func (t *Transport) update() {
	grants, err := t.client.Broker.Grants(t.cfg.Providers, t.cfg.Connections)
	if errors.Is(err, provider.ErrNotFound) { // registered since we opened, perhaps
		for _, err := range t.client.Registry.Reload(t.client.Home.ProvidersDir()) {
			t.log.Warn("provider definition left out", "error", err)
		}
		grants, err = t.client.Broker.Grants(t.cfg.Providers, t.cfg.Connections)
	}
	if err != nil {
		t.log.Warn("some connections cannot be used", "error", err)
	}
	var routes []*injector.Route
	for _, g := range grants {
		compiled, err := injector.Compile(g.Definition, pinned(g.Connection))
		if err != nil {
			t.log.Warn("connection left out", "error", err)
			continue
		}
		routes = append(routes, compiled...)
	}
	t.injector.Update(injector.NewTable(routes))
}

// CloseIdleConnections closes those of the base transport.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.cfg.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := &exchange{t: t, asked: r, start: time.Now()}
	x.out = r.Clone(r.Context())
	x.out.Trailer = r.Trailer // its values are set while the body is read
	if err := x.prepare(); err != nil {
		x.closeBody()
		return nil, err
	}
	if x.route == nil {
		resp, err := t.cfg.Base.RoundTrip(x.out)
		if resp != nil {
			resp.Request = r
		}
		return resp, err
	}
	return x.send()
}

// exchange is one request and its answer.
type exchange struct {
	t      *Transport
	asked  *http.Request // the caller's, which is not modified
	out    *http.Request // the one that is sent
	target injector.Target
	path   string // as the caller wrote it, without the query

	route      *injector.Route // nil: sent without a credential
	credential secret.Text
	ticket     audit.Ticket

	start    time.Time
	status   int
	protocol string
	up, down atomic.Int64 // body bytes
}

// prepare decides about the request and attaches the credential to the copy.
func (x *exchange) prepare() error {
	u := x.out.URL
	if u == nil || u.Scheme != "https" {
		x.out.Header.Del(injector.ConnectionHeader)
		return nil
	}
	var err error
	if x.target, err = injector.ParseTarget(u.Host, 443); err != nil {
		x.out.Header.Del(injector.ConnectionHeader)
		return nil // no host of a provider's: the base transport says what is wrong
	}
	x.path = u.EscapedPath()
	m, err := x.t.injector.Table().Match(x.target, x.out)
	if err != nil {
		return x.refuse(matchCode(err), err)
	}
	x.route = m.Route
	if m.Tied != nil {
		x.t.tie(x.target.Host, m.Tied)
	}
	if x.route == nil {
		return nil
	}
	if err := x.bind(); err != nil {
		return x.refuse("target_mismatch", err)
	}
	return x.attach()
}

func matchCode(err error) string {
	switch {
	case errors.Is(err, injector.ErrAmbiguousPath):
		return "ambiguous_path"
	case errors.Is(err, injector.ErrNotGranted):
		return "credential_missing"
	}
	return "injection_failed"
}

// errMismatch is the cause of a target_mismatch.
var errMismatch = errors.New("the request names another host than its URL")

// bind checks that the request says nothing else than the URL that was matched.
func (x *exchange) bind() error {
	if x.out.URL.Opaque != "" { // it would be sent in place of the path
		return fmt.Errorf("%w: it has an opaque URL", errMismatch)
	}
	if x.out.Host == "" {
		return nil
	}
	if named, err := injector.ParseTarget(x.out.Host, x.target.Port); err != nil || named != x.target {
		return errMismatch
	}
	return nil
}

// attach reserves the audit line and then sets the credential.
func (x *exchange) attach() (err error) {
	if x.ticket, err = x.t.client.Audit.Reserve(); err != nil {
		return x.refuse("audit_unavailable", err)
	}
	if err = x.keepBody(); err == nil {
		x.credential, err = x.t.injector.Attach(x.asked.Context(), x.route, x.out)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, injector.ErrUnsigned): // as it came
		x.ticket.Release()
		x.route = nil
		return nil
	}
	code := "injection_failed"
	if errors.Is(err, injector.ErrCredential) {
		code = "credential_missing"
		var coded interface{ RefusalCode() string }
		if errors.As(err, &coded) {
			code = coded.RefusalCode()
		}
	}
	return x.refuse(code, err)
}

// refuse records why the request was not sent.
func (x *exchange) refuse(code string, cause error) error {
	out := &RefusedError{Code: code, Err: cause}
	e := x.event("refuse", audit.Denied)
	e.Code = code
	if x.route != nil {
		out.Provider = x.route.Provider
	}
	commit := x.ticket.Commit
	if x.ticket == (audit.Ticket{}) {
		commit = x.t.client.Audit.Write
	}
	if err := commit(e); err != nil { // it is refused all the same
		x.t.log.Error("audit refusal", "code", code, "error", err)
	}
	return out
}

// send sends the request. A credential that the origin rejects is replaced once,
// when there is a newer one and the body can be sent again.
func (x *exchange) send() (*http.Response, error) {
	x.countBody()
	resp, err := x.t.cfg.Base.RoundTrip(x.out)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && x.route.Refreshable {
		resp, err = x.again(resp)
	}
	if err != nil {
		return nil, x.refuse("upstream_unreachable", err)
	}
	x.status, x.protocol = resp.StatusCode, "http/1.1"
	if resp.ProtoMajor == 2 {
		x.protocol = "h2"
	}
	resp.Request = x.asked
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.protocol = "upgrade"
		x.record()
		return resp, nil
	}
	resp.Body = &recordedBody{ReadCloser: resp.Body, x: x}
	return resp, nil
}

// again tries a newer credential; without one the answer stands.
func (x *exchange) again(resp *http.Response) (*http.Response, error) {
	ctx := x.asked.Context()
	sent := x.out.Body != nil && x.out.Body != http.NoBody
	if sent && x.asked.GetBody == nil {
		return resp, nil
	}
	next := x.out.Clone(ctx)
	next.Trailer = x.out.Trailer
	replaced, err := x.t.injector.Replace(ctx, x.route, x.credential, next)
	if err != nil {
		x.t.log.Warn("refresh after 401", "provider", x.route.Provider, "connection", x.route.Connection, "error", err)
	}
	if err != nil || !replaced {
		return resp, nil
	}
	if sent {
		if next.Body, err = x.asked.GetBody(); err != nil {
			return resp, nil
		}
	}
	resp.Body.Close()
	x.out = next
	x.countBody()
	return x.t.cfg.Base.RoundTrip(x.out)
}

func (x *exchange) event(name, outcome string) audit.Event {
	e := audit.Event{Event: name, Outcome: outcome, Profile: x.t.client.Profile, Method: x.asked.Method, Scheme: "https",
		Host: x.target.Host, Port: int(x.target.Port), Path: x.path, Status: x.status,
		BytesIn: x.up.Load(), BytesOut: x.down.Load(), Duration: time.Since(x.start), Protocol: x.protocol}
	if e.Method == "" {
		e.Method = http.MethodGet
	}
	if x.route != nil {
		e.Provider, e.Connection = x.route.Provider, x.route.Connection
	}
	return e
}

// record writes the audit line that was reserved.
func (x *exchange) record() {
	if err := x.ticket.Commit(x.event("inject", audit.OK)); err != nil {
		x.t.log.Error("audit injection", "provider", x.route.Provider, "error", err)
	}
}

// tiedHosts bounds the memory: a wildcard makes hosts a caller's choice.
const tiedHosts = 1024

// tie says once per host that connections tie for it.
func (t *Transport) tie(host string, connections []string) {
	if _, told := t.tied.LoadOrStore(host, struct{}{}); told {
		return
	}
	n := 0
	t.tied.Range(func(any, any) bool { n++; return n <= tiedHosts })
	if n > tiedHosts {
		t.tied.Delete(host)
		return
	}
	t.log.Warn("no credential attached: several connections claim this host; name one in TransportConfig or in the Authsome-Connection header",
		"host", host, "connections", strings.Join(connections, ", "))
}
