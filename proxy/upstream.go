package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"authsome/injector"

	socks "golang.org/x/net/proxy"
)

// What an HTTP/2 origin may send that nobody has read yet. Where there are many
// streams at once, those over further connections have less: it is kept here for
// each client that does not read.
const (
	streamWindowBytes = 2 << 20
	connWindowBytes   = 128 << 20
	narrowing         = 8 // as much less
)

// newTransport returns the pooled transport to origins.
func (p *Proxy) newTransport() *http.Transport {
	t := &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        p.tlsConfig(""),
		TLSHandshakeTimeout:    p.limits.Dial,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the client's Accept-Encoding is the client's business
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    512,
		IdleConnTimeout:        p.limits.IdleUpstream,
		ResponseHeaderTimeout:  p.limits.ResponseHeader,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		// The proxy's own 4 KiB buffers hold a head; a larger write goes out
		// as it is.
		WriteBufferSize: 4 << 10,
		ReadBufferSize:  4 << 10,
		HTTP2: &http.HTTP2Config{
			// An origin that has silently gone is noticed, and one that takes
			// nothing more: whoever writes to it keeps all others from it.
			SendPingTimeout:  p.limits.Ping,
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: p.limits.Ping,
			MaxReadFrameSize: 256 << 10,
			// A large download is not held back by a small window. Clients
			// share a connection: see streamsPerConn.
			MaxReceiveBufferPerStream:     streamWindowBytes,
			MaxReceiveBufferPerConnection: connWindowBytes,
		},
	}
	if p.cfg.UpstreamProxy != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) { return p.cfg.UpstreamProxy(r.URL) }
	}
	return t
}

func (p *Proxy) tlsConfig(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		RootCAs:            p.cfg.RootCAs,
		ServerName:         serverName,
		ClientSessionCache: tls.NewLRUClientSessionCache(256),
		// Short records after a pause help where a round trip is long and cost
		// a system call each where bodies are.
		DynamicRecordSizingDisabled: true,
	}
}

func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.limits.Dial)
	defer cancel()
	if p.cfg.Dial != nil {
		return p.cfg.Dial(ctx, network, address)
	}
	d := net.Dialer{} // races IPv6 and IPv4 (RFC 8305)
	if p.cfg.Forbid != nil {
		d.ControlContext = p.control
	}
	return d.DialContext(ctx, network, address)
}

// errProxy marks a failure of the upstream proxy rather than of the origin.
var errProxy = errors.New("upstream proxy")

// ofProxy reports whether it was the upstream proxy that failed, also for
// net/http's transport.
func ofProxy(err error) bool {
	var op *net.OpError
	return errors.Is(err, errProxy) || errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect")
}

// dialTarget opens a connection to a target for a tunnel, through the upstream
// proxy when there is one for it.
func (p *Proxy) dialTarget(ctx context.Context, t injector.Target) (net.Conn, error) {
	if p.forbidden(t) {
		return nil, errForbidden
	}
	scheme := "https"
	if t.Port == 80 {
		scheme = "http"
	}
	via, err := p.upstreamFor(scheme, t)
	if err != nil {
		return nil, err
	}
	if via == nil {
		if p.guarded(t) {
			ctx = guard(ctx)
		}
		return p.dial(ctx, "tcp", t.String())
	}
	switch via.Scheme {
	case "socks5", "socks5h":
		return p.dialSOCKS(ctx, via, t)
	case "http", "https":
		return p.dialConnect(ctx, via, t)
	}
	return nil, fmt.Errorf("%w: scheme %q", errProxy, via.Scheme)
}

// upstreamFor returns the upstream proxy for a target, nil for none.
func (p *Proxy) upstreamFor(scheme string, t injector.Target) (*url.URL, error) {
	if p.cfg.UpstreamProxy == nil {
		return nil, nil
	}
	via, err := p.cfg.UpstreamProxy(&url.URL{Scheme: scheme, Host: t.String()})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	return via, nil
}

func (p *Proxy) dialSOCKS(ctx context.Context, via *url.URL, t injector.Target) (net.Conn, error) {
	var auth *socks.Auth
	if u := via.User; u != nil {
		password, _ := u.Password()
		auth = &socks.Auth{User: u.Username(), Password: password}
	}
	d, err := socks.SOCKS5("tcp", withPort(via, "1080"), auth, forwardDialer{p})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	nc, err := d.(socks.ContextDialer).DialContext(ctx, "tcp", t.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	return nc, nil
}

// forwardDialer lets the SOCKS client dial as the proxy does.
type forwardDialer struct{ p *Proxy }

func (f forwardDialer) Dial(network, address string) (net.Conn, error) {
	return f.p.dial(f.p.ctx, network, address)
}

func (f forwardDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f.p.dial(ctx, network, address)
}

// dialConnect asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6).
func (p *Proxy) dialConnect(ctx context.Context, via *url.URL, t injector.Target) (net.Conn, error) {
	defaultPort := "80"
	if via.Scheme == "https" {
		defaultPort = "443"
	}
	nc, err := p.dial(ctx, "tcp", withPort(via, defaultPort))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if via.Scheme == "https" {
		nc = tls.Client(nc, p.tlsConfig(via.Hostname()))
	}
	tunnel, err := askConnect(nc, via, t)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	return tunnel, nil
}

func askConnect(nc net.Conn, via *url.URL, t injector.Target) (net.Conn, error) {
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: t.String()}, Host: t.String(), Header: http.Header{}}
	if u := via.User; u != nil {
		password, _ := u.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := r.Write(nc); err != nil {
		return nil, err
	}
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d to CONNECT", resp.StatusCode)
	}
	return takeAhead(nc, br), nil
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// upstreamRefusal turns a failure to reach an origin into its refusal. The
// cause is for the log: what it says may not be for the client.
func upstreamRefusal(err error) *Refusal {
	reset, wasReset := originReset(err)
	var (
		dns      *net.DNSError
		shake    *originTLSError
		verify   *tls.CertificateVerificationError
		host     x509.HostnameError
		unknown  x509.UnknownAuthorityError
		ref      = refuse(CodeUpstreamUnreachable, err)
		deadline = errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	)
	switch {
	case errors.Is(err, errForbidden):
		ref.Code, ref.Detail, ref.Hint = CodeEgressDenied, "The host is the machine that the proxy runs on.", "start with --allow-host for this host"
	case isBodyError(err) && isTimeout(err):
		ref.Code, ref.Hint = CodeRequestTimeout, "send the body without long pauses"
	case isBodyError(err):
		ref.Code, ref.Detail = CodeBadRequest, "The request's body is malformed, or ended early."
	case wasReset:
		ref.Detail, ref.Hint = "The origin reset the request's stream, with "+reset.Code.String()+".", "try again; if it stays so, report it to whoever runs the origin"
	case err == errNoStreams:
		ref.Detail, ref.Hint = "The origin allows no requests on its connections.", "try again; if it stays so, report it to whoever runs the origin"
	case errors.Is(err, errHead), errors.Is(err, errHeadTooLarge):
		ref.Detail, ref.Hint = "The origin's answer is malformed.", "report it to whoever runs the origin"
	case ofProxy(err):
		ref.Detail, ref.Hint = "The upstream proxy did not give a connection.", "check HTTPS_PROXY or --upstream-proxy, and its credentials"
		if deadline || isTimeout(err) {
			ref.Code = CodeUpstreamTimeout
		}
	case errors.As(err, &verify), errors.As(err, &host), errors.As(err, &unknown):
		ref.Code, ref.Detail = CodeUpstreamTLS, "The origin's certificate was not accepted."
	case errors.As(err, &shake) && !deadline && !isTimeout(err):
		ref.Code, ref.Detail = CodeUpstreamTLS, "The TLS handshake with the origin failed."
	case errors.As(err, &dns) && !dns.IsTimeout:
		ref.Detail, ref.Hint = "The origin's name cannot be resolved.", "check the host name, and that DNS works on the proxy's side"
	case deadline, isTimeout(err):
		ref.Code = CodeUpstreamTimeout
	case isRefused(err):
		ref.Detail, ref.Hint = "The origin refused the connection.", "check that the origin listens on this port"
	}
	return ref
}
