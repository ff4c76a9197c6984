package oauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// CallTimeout bounds one call to an endpoint, from the dial to the last byte of the answer. Somebody
	// waits for it: a person at a terminal or a request that needs a fresh token.
	CallTimeout = 30 * time.Second
	// MaxAnswerBytes bounds what is read of an answer, after decompression. Real ones are a few KiB.
	MaxAnswerBytes = 1 << 20

	maxRetryAfter = time.Hour // what a Retry-After may ask for at most
)

// reply is a complete answer.
type reply struct {
	status      int
	contentType string
	retryAfter  time.Duration
	body        []byte
}

// outgoing is a request before it is sent. Secrets are what it carries.
type outgoing struct {
	op      string // for errors
	method  string
	url     string
	header  http.Header
	body    []byte
	secrets secrets
}

// send makes one call within the limits of this package. The error is an *Error.
func (c *Config) send(ctx context.Context, out outgoing) (*reply, error) {
	if err := checkURL(out.op, out.url); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.callTimeout())
	defer cancel()
	var written atomic.Bool // the transport may still write when Do has returned
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { written.Store(true) },
	})
	req, err := http.NewRequestWithContext(traced, out.method, out.url, bytes.NewReader(out.body))
	if err != nil { // the URL was parsed and the method is ours
		return nil, unsupported(out.op, "the request cannot be built")
	}
	req.Header = out.header
	res, err := c.client().Do(req)
	if err != nil {
		return nil, c.broken(ctx, limited, out, err, written.Load())
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return nil, badResponse(out.op, res.StatusCode, "the endpoint redirects, and a secret is not sent after it; put the final URL into the definition")
	}
	body, tooLarge, err := readLimited(res.Body)
	if err != nil {
		return nil, c.broken(ctx, limited, out, err, true)
	}
	if tooLarge {
		return nil, badResponse(out.op, res.StatusCode, "the answer is larger than "+strconv.Itoa(MaxAnswerBytes)+" bytes")
	}
	return &reply{
		status: res.StatusCode, contentType: res.Header.Get("Content-Type"),
		retryAfter: retryAfter(res.Header.Get("Retry-After"), c.now()), body: body,
	}, nil
}

// client is the caller's HTTP client without what a token endpoint has no use for: redirects, which
// would carry the secret elsewhere, cookies, and a second clock.
func (c *Config) client() *http.Client {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar, client.Timeout = nil, 0
	return &client
}

// broken says why no complete answer was had. The texts of net/http are not passed on: they quote the
// URL, which may hold a token, and malformed answers.
func (c *Config) broken(parent, limited context.Context, out outgoing, err error, written bool) *Error {
	e := &Error{Op: out.op, Retryable: true, AnswerLost: written}
	var local *LocalError
	switch {
	case errors.Is(parent.Err(), context.Canceled):
		e.Code, e.kind, e.cause, e.Retryable = "cancelled", ErrCancelled, context.Canceled, false
	case parent.Err() != nil:
		e.Code, e.kind, e.cause = "timeout", ErrTimeout, context.DeadlineExceeded
	case limited.Err() != nil:
		e.Code, e.kind = "timeout", ErrTimeout
		e.Description = "no complete answer within " + c.callTimeout().String()
	case errors.As(err, &local):
		e.Code, e.kind, e.cause, e.Retryable, e.Description = "unreachable", ErrUnreachable, local, false, out.secrets.clean(local.Error(), maxDescription)
	default:
		e.Code, e.kind, e.Description = "unreachable", ErrUnreachable, out.secrets.clean(reason(err), maxDescription)
		if e.Description == ErrUntrusted.Error() {
			e.cause = ErrUntrusted
		}
	}
	return e
}

// reason puts a failure of the network into words of our own, or of error types whose text holds only
// addresses and certificate names.
func reason(err error) string {
	var (
		dns       *net.DNSError
		errno     syscall.Errno
		op        *net.OpError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns):
		return "the host name cannot be resolved: " + dns.Name
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &verify):
		return ErrUntrusted.Error()
	case errors.As(err, &record):
		return "the server does not speak TLS"
	case errors.As(err, &alert):
		return "the TLS handshake failed"
	case errors.As(err, &op) && errors.As(err, &errno):
		return op.Op + ": " + errno.Error()
	case errors.As(err, &errno):
		return errno.Error()
	}
	return "the connection broke"
}

// checkURL refuses to send a secret in the clear. Loopback is exempt: no network is involved.
func checkURL(op, raw string) error {
	insecure := &Error{Op: op, Code: "insecure_url", kind: ErrInsecureURL}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil {
		insecure.Description = "the endpoint is not a plain absolute URL"
		return insecure
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	insecure.Description = "the endpoint must be https"
	return insecure
}

// loopback says whether a host names this machine, without asking a resolver.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3); 0 when it says nothing usable.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		return min(max(0, time.Duration(min(seconds, 1<<20))*time.Second), maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}
