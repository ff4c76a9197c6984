package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"authsome/injector"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// exchange is one request and its answer.
type exchange struct {
	p        *Proxy
	c        *conn
	w        http.ResponseWriter
	r        *http.Request
	scheme   string
	protocol string    // "http/1.1", "h2", "websocket" or "upgrade"
	extended io.Reader // what the client sends in a WebSocket on an HTTP/2 stream, or nil
	path     string    // as the client wrote it, without the query
	query    string    // as the client wrote it
	target   injector.Target
	idle     idle // bounds how long its bodies stand still
	cancel   canceller
	body     *clientBody // of an HTTP/1 request, or nil

	route      *injector.Route // nil: forwarded without a credential
	credential secret.Text
	ticket     audit.Ticket
	reserved   bool
	exposed    bool // the credential may be on its way to the origin
	replay     *replayBody
	kept       int64      // bytes of memory that the request's body takes, to be signed
	answer     originBody // of an HTTP/1 origin

	start  time.Time
	sent   time.Time     // when it was last given to the origin's connection
	end    time.Time     // when its outcome was known; zero before
	waited time.Duration // for the origin's response head
	headAt time.Duration // from start to the origin's response head
	status int
	up     atomic.Int64 // body bytes sent; the transport counts in its own goroutine
	down   int64        // body bytes received
}

// ending is how an exchange left its connection.
type ending int

const (
	complete ending = iota // answered; the connection may go on
	broken                 // cut in the middle; the client must notice
	taken                  // upgraded; the connection was used up
)

// forwardH1 serves a request of an intercepted or plain HTTP/1 connection.
func (p *Proxy) forwardH1(c *conn, w *h1Writer, r *http.Request) bool {
	trailer, end := p.exchange(w, r, c)
	switch end {
	case complete:
		return w.finish(trailer)
	case broken:
		// Without close_notify and with a reset, so that a body that ends
		// with its connection is not mistaken for a whole one.
		abort(c.raw)
	}
	return false
}

// forward serves a request of an intercepted HTTP/2 connection.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, c *conn) {
	trailer, end := p.exchange(w, r, c)
	if end == broken {
		panic(http.ErrAbortHandler) // resets the stream
	}
	for name, v := range trailer {
		w.Header()[http.TrailerPrefix+name] = v
	}
}

func (p *Proxy) exchange(w http.ResponseWriter, r *http.Request, c *conn) (http.Header, ending) {
	x := &exchange{p: p, c: c, w: w, r: r, protocol: "http/1.1", scheme: "http",
		path: r.URL.EscapedPath(), query: r.URL.RawQuery, target: c.target, start: time.Now()}
	if c.secure {
		x.scheme = "https"
	}
	if r.ProtoMajor == 2 {
		x.protocol = "h2"
		defer context.AfterFunc(r.Context(), x.cancel.cancel)()
		c.streams.enter(&x.cancel)
		defer c.streams.leave(&x.cancel)
	} else {
		c.serving.Store(&x.cancel)
		defer c.serving.Store(nil)
		if body, ok := r.Body.(*clientBody); ok {
			body.cancel, x.body = &x.cancel, body
		} else {
			c.watch.start(x.start, &x.cancel)
		}
		if c.ctx.Err() != nil { // cut before there was anything to cancel
			x.cancel.cancel()
		}
	}
	defer x.release()
	defer x.endIdle()
	defer x.endBody()
	if ref := x.prepare(x.context()); ref != nil {
		return nil, x.refuse(ref)
	}
	resp, ref := x.roundTrip(x.context())
	switch {
	case ref != nil && x.cancel.withdrawn.Load():
		return nil, x.refuse(withdrawnRefusal(x.route))
	case ref != nil && !x.wasLate() && (x.cancel.cancelled() || x.context().Err() != nil):
		return nil, x.abandoned()
	case ref != nil:
		return nil, x.refuse(ref)
	}
	switch {
	case x.extended != nil:
		return x.respondExtended(resp)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return nil, x.upgrade(resp)
	}
	return x.respond(resp)
}

// lend says that others may still look at the request when it was answered.
func (x *exchange) lend() {
	if w, ok := x.w.(*h1Writer); ok {
		w.lent, w.answered = true, nil
	}
}

// answered takes the head of the origin's answer, to be freed with the request's.
func (x *exchange) answered(h *head) {
	if w, ok := x.w.(*h1Writer); ok {
		w.answered = h
	}
}

// context is for what is done on behalf of the request. It ends with the
// client's connection, or with its HTTP/2 stream.
func (x *exchange) context() context.Context {
	if x.r.ProtoMajor == 2 {
		return x.r.Context()
	}
	return x.c.ctx
}

// prepare decides about the request and makes it ready for the origin.
func (x *exchange) prepare(ctx context.Context) *Refusal {
	if x.r.ProtoMajor == 2 {
		if err := errors.Join(x.asExtended(), strictH2(x.r)); err != nil {
			return refuse(CodeBadRequest, err)
		}
		keepExpect(x.r)
	}
	if ref := x.bind(); ref != nil {
		return ref
	}
	if ref := x.match(); ref != nil {
		return ref
	}
	if x.route == nil && !x.p.egress.Load().allows(x.target) {
		return refuse(CodeEgressDenied, nil)
	}
	if w, ok := x.w.(*h1Writer); !ok || w.asked.hopByHop {
		if ref := x.prepareHopByHop(); ref != nil {
			return ref
		}
	}
	switch {
	case x.route == nil:
		return nil
	case returnsRequest(x.r.Method):
		ref := refuse(CodeBadRequest, errors.New("TRACE of a credential"))
		ref.Detail, ref.Hint = "The answer would hold the credential.", "use another method"
		return ref
	}
	return x.attach(ctx)
}

// prepareHopByHop removes what concerns the client's connection alone, and sees
// to an upgrade.
func (x *exchange) prepareHopByHop() *Refusal {
	if err := removeHopByHop(x.r); err != nil {
		return refuse(CodeBadRequest, err)
	}
	if upgradeType(x.r.Header) != "" && x.r.Body != http.NoBody {
		// Bytes of the body and of the new protocol could not be told apart;
		// a server may ignore an upgrade (RFC 9110 section 7.8).
		delete(x.r.Header, "Upgrade")
		delete(x.r.Header, "Connection")
	}
	if upgradeType(x.r.Header) != "" {
		x.protocol = "upgrade"
		if strings.EqualFold(upgradeType(x.r.Header), "websocket") {
			x.protocol = "websocket"
		}
	}
	return nil
}

// returnsRequest reports whether a method asks for the request itself (RFC 9110
// section 9.3.8), which is how a client would see its credential. TRACK is what
// IIS calls it. Origins may not look at the case.
func returnsRequest(method string) bool {
	return strings.EqualFold(method, http.MethodTrace) || strings.EqualFold(method, "TRACK")
}

// bind checks that the request names the host that its connection is for.
// Plain requests to the proxy name theirs in the request line.
func (x *exchange) bind() *Refusal {
	r, c := x.r, x.c
	if !c.secure && !c.bound && r.URL.IsAbs() {
		return x.bindPlain()
	}
	port := uint16(80)
	if c.secure {
		port = 443
	}
	for _, host := range [...]string{r.Host, r.URL.Host} {
		if host == "" && r.URL.Host == "" && r.ProtoMinor == 0 && r.ProtoMajor == 1 {
			continue // HTTP/1.0 need not name it again
		}
		if host == "" && r.URL.Host == "" || host != "" && c.isHost(host) {
			continue
		}
		// A Host without a port means the scheme's own; a client that was
		// told another port by CONNECT may leave it out all the same.
		t, err := injector.ParseTarget(host, port)
		if err != nil || t.Host != c.target.Host || t.Port != c.target.Port && hasPort(host) {
			return refuse(CodeTargetMismatch, err)
		}
		known := host
		c.host.Store(&known)
	}
	if r.Host == "" && r.ProtoAtLeast(1, 1) {
		return refuse(CodeTargetMismatch, nil)
	}
	return nil
}

func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

// match asks the route table. Only what runs over TLS can match.
func (x *exchange) match() *Refusal {
	table := x.p.cfg.Injector.Table()
	if !x.c.secure {
		delete(x.r.Header, injector.ConnectionHeader)
		return nil
	}
	m, err := table.Match(x.target, x.r)
	switch {
	case errors.Is(err, injector.ErrAmbiguousPath):
		return refuse(CodeAmbiguousPath, err)
	case errors.Is(err, injector.ErrNotGranted):
		ref := refuse(CodeCredentialMissing, err)
		ref.Detail = "The request names a connection that this run was not given."
		ref.Hint = "start the run with --connection PROVIDER=NAME, or leave out the " + injector.ConnectionHeader + " header"
		return ref
	case err != nil:
		return refuse(CodeInjectionFailed, err)
	}
	x.route = m.Route
	if m.Tied != nil {
		x.p.tied(x.target.Host, m.Tied)
	}
	return nil
}

// attach reserves the audit line and then sets the credential.
func (x *exchange) attach(ctx context.Context) *Refusal {
	var err error
	if x.ticket, err = x.p.cfg.Audit.Reserve(); err != nil {
		return refuse(CodeAuditUnavailable, err)
	}
	x.reserved = true
	x.cancel.route.Store(x.route)
	x.r.Host = x.authority() // a signature covers it
	if x.route.WantsBody(x.r) {
		if err := x.keepBody(); err != nil {
			return bodyRefusal(x.route, err)
		}
	}
	x.credential, err = x.p.cfg.Injector.Attach(ctx, x.route, x.r)
	switch {
	case errors.Is(err, injector.ErrUnsigned):
		x.withoutCredential()
	case err != nil:
		return credentialRefusal(x.route, err)
	}
	return nil
}

// withoutCredential is for a request that matched a route, and is forwarded as it
// came all the same.
func (x *exchange) withoutCredential() {
	x.release()
	x.route = nil
	x.cancel.route.Store(nil)
}

// coded is what a credential source's error may tell the client.
type coded interface {
	error
	RefusalCode() string // one of the Code values
	Hint() string        // what to run next
}

func credentialRefusal(route *injector.Route, err error) *Refusal {
	ref := refuse(CodeInjectionFailed, err)
	ref.Provider = route.Provider
	var signing *injector.SigningError
	if errors.As(err, &signing) {
		ref.Detail, ref.Hint = signing.Detail, signing.Next
	}
	if !errors.Is(err, injector.ErrCredential) {
		return ref
	}
	ref.Code, ref.Hint = CodeCredentialMissing, "run: authsome login "+route.Provider
	var c coded
	if errors.As(err, &c) {
		if _, known := refusals[Code(c.RefusalCode())]; known {
			ref.Code = Code(c.RefusalCode())
		}
		ref.Hint = c.Hint()
	}
	return ref
}

// withdrawnRefusal is for a request that waits for its answer when its
// credential is taken away.
func withdrawnRefusal(route *injector.Route) *Refusal {
	return &Refusal{Code: CodeCredentialMissing, Provider: route.Provider, Hint: "run: authsome login " + route.Provider,
		Detail: "The connection was logged out while the request was under way."}
}

// roundTrip sends the request. A credential that the origin rejects is replaced
// once, when there is a newer one and the body can be sent again.
func (x *exchange) roundTrip(ctx context.Context) (*http.Response, *Refusal) {
	out := x.outbound()
	resp, err := x.send(ctx, out)
	if err != nil {
		return nil, x.unanswered(err)
	}
	if resp.StatusCode != http.StatusUnauthorized || x.route == nil || !x.route.Refreshable {
		return resp, nil
	}
	if out.Body != nil && !x.replay.rewind() {
		return resp, nil
	}
	ok, err := x.p.cfg.Injector.Replace(ctx, x.route, x.credential, out)
	if err != nil || !ok {
		if err != nil {
			x.p.log.Warn("refresh after 401", "provider", x.route.Provider, "connection", x.route.Connection, "error", err)
		}
		return resp, nil
	}
	resp.Body.Close()
	x.retarget(out)
	if resp, err = x.send(ctx, out); err != nil {
		return nil, x.unanswered(err)
	}
	return resp, nil
}

// unanswered is the refusal for a request that got no answer.
func (x *exchange) unanswered(err error) *Refusal {
	if !x.wasLate() {
		return upstreamRefusal(err)
	}
	ref := refuse(CodeUpstreamTimeout, errStandstill)
	ref.Detail = "The origin did not take the request's body."
	return ref
}

func (x *exchange) send(ctx context.Context, out *http.Request) (resp *http.Response, err error) {
	x.sent = time.Now()
	if x.scheme == "https" {
		resp, err = x.p.origins.roundTrip(ctx, x, out)
	} else {
		resp, err = x.plainTrip(ctx, out)
	}
	x.headAt = time.Since(x.start)
	x.waited += x.headAt - x.sent.Sub(x.start)
	return resp, err
}
