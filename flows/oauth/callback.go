package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"authsome/vault/secret"
)

const (
	// CallbackTimeout is how long a login waits for the browser to come back.
	CallbackTimeout = 300 * time.Second

	maxCodeBytes = 8 << 10 // of an authorization code; Microsoft's reach 2 KiB
)

// Callback is the handler for the redirect that ends an authorization. It answers only the redirect
// URI's own path, on its own host name, to this machine. A request whose state is wrong is refused and
// changes nothing: any page in the browser could have sent it. The first one whose state is right
// decides the login, for good or ill, and every later one is told so.
type Callback struct {
	auth    *Authorization
	host    string // what the Host header must be
	path    string
	page    func(http.ResponseWriter, Result)
	timeout time.Duration
	arrived chan arrival  // holds one; the first valid callback
	judged  chan struct{} // closed when verdict is set

	mu      sync.Mutex
	taken   bool  // guarded by mu: a callback decided the login, or it ended without one
	verdict error // written once before judged is closed, read after
}

// arrival is what a callback brought: a code, or the reason why there is none.
type arrival struct {
	code secret.Text
	err  error
}

// CallbackConfig is what may differ between callbacks. The zero value is usable.
type CallbackConfig struct {
	// Page renders the result; nil means [ResultPage]. The security headers are set before it is
	// called; it may replace the Content-Security-Policy. The status is written for it when it does not.
	Page func(http.ResponseWriter, Result)
	// Timeout is how long [Callback.Wait] waits; zero means [CallbackTimeout].
	Timeout time.Duration
}

// NewCallback makes the handler for one authorization, whose redirect URI must be plain http on
// loopback.
func NewCallback(auth *Authorization, config CallbackConfig) (*Callback, error) {
	u, err := url.Parse(auth.RedirectURI)
	if err != nil || u.Scheme != "http" || !loopback(u.Hostname()) || u.User != nil || u.RawQuery != "" {
		return nil, unsupported("callback", "the redirect URI must be http on loopback")
	}
	c := &Callback{
		auth: auth, host: u.Host, path: u.Path, page: config.Page, timeout: config.Timeout,
		arrived: make(chan arrival, 1), judged: make(chan struct{}),
	}
	if c.path == "" {
		c.path = "/"
	}
	if c.page == nil {
		c.page = ResultPage
	}
	if c.timeout <= 0 {
		c.timeout = CallbackTimeout
	}
	return c, nil
}

// Wait waits for the callback, gives its code to complete, which exchanges it, and only then lets the
// page be shown, so that the page tells the truth. It returns the login's error. A nil complete takes
// the code as the whole success. Wait is called once.
func (c *Callback) Wait(ctx context.Context, complete func(ctx context.Context, code secret.Text) error) error {
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	var err error
	select {
	case a := <-c.arrived:
		if err = a.err; err == nil && complete != nil {
			err = complete(ctx, a.code)
		}
	case <-timer.C:
		err = &Error{Op: "login", Code: "timeout", Description: "the browser did not come back within " + c.timeout.String(), kind: ErrTimeout}
	case <-ctx.Done():
		err = ended("login", ctx)
	}
	c.mu.Lock()
	c.taken = true
	c.mu.Unlock()
	c.verdict = err
	close(c.judged)
	return err
}

// ended is the error for a context that is done.
func ended(op string, ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Op: op, Code: "timeout", kind: ErrTimeout, cause: context.DeadlineExceeded}
	}
	return &Error{Op: op, Code: "cancelled", kind: ErrCancelled, cause: context.Canceled}
}

// ServeHTTP answers the callback and refuses everything else.
func (c *Callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	switch {
	case !fromLoopback(r.RemoteAddr):
		http.Error(w, "only this machine may call back", http.StatusForbidden)
	case !strings.EqualFold(r.Host, c.host): // a name that was rebound to loopback
		http.Error(w, "unknown host", http.StatusMisdirectedRequest)
	case r.URL.Path != c.path:
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	default:
		c.answer(w, r)
	}
}

// answer handles a request to the callback's path. State comes first: nothing of the request is looked
// at, let alone shown, before it is known to belong to this login.
func (c *Callback) answer(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || !c.stateMatches(query["state"]) {
		c.show(w, resultForeign)
		return
	}
	if !c.take() {
		c.show(w, resultAgain)
		return
	}
	code, err := c.read(query)
	c.arrived <- arrival{code, err}
	select {
	case <-c.judged:
		c.show(w, resultOf(c.verdict))
	case <-r.Context().Done(): // the browser left; the login goes on
	}
}

// stateMatches compares in constant time, so that timing tells nothing about the state.
func (c *Callback) stateMatches(values []string) bool {
	want := c.auth.State.Reveal()
	return len(values) == 1 && want != "" && subtle.ConstantTimeCompare([]byte(values[0]), []byte(want)) == 1
}

// take makes this callback the one that decides; false when there was one before.
func (c *Callback) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		return false
	}
	c.taken = true
	return true
}

// read takes the code out of a callback whose state is right (RFC 6749 section 4.1.2).
func (c *Callback) read(query url.Values) (secret.Text, error) {
	const op = "login"
	if err := c.checkIssuer(query["iss"]); err != nil {
		return secret.Text{}, err
	}
	hide := secretsOf(c.auth.State, c.auth.Verifier).with(query["code"]...)
	if query.Has("error") {
		e := &Error{
			Op: op, Code: hide.code(query.Get("error")),
			Description: hide.clean(query.Get("error_description"), maxDescription),
		}
		e.kind = kindOf(e.Code, 0)
		return secret.Text{}, e
	}
	codes := query["code"]
	if len(codes) != 1 || codes[0] == "" || len(codes[0]) > maxCodeBytes || !printable(codes[0]) {
		return secret.Text{}, badResponse(op, 0, "the provider came back without a usable code")
	}
	return secret.New(codes[0]), nil
}

// checkIssuer defends against mix-up of authorization servers (RFC 9207 section 2.4). An iss that
// cannot be compared, because the issuer is not known, says nothing.
func (c *Callback) checkIssuer(iss []string) error {
	switch {
	case len(iss) == 0 && !c.auth.RequireIss, c.auth.Issuer == "":
		return nil
	case len(iss) == 1 && iss[0] == c.auth.Issuer:
		return nil
	case len(iss) == 0:
		return badResponse("login", 0, "the provider came back without the iss that it announces")
	}
	return badResponse("login", 0, "the answer came from another issuer than the one that was asked")
}

// printable says whether a value is visible ASCII or space (VSCHAR of RFC 6749 appendix A).
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// fromLoopback says whether a peer is on this machine. An address that does not parse is not one of
// TCP's and cannot be remote.
func fromLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
