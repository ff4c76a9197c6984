package proxy

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"authsome/injector"

	"github.com/google/martian/v3"
	"github.com/google/martian/v3/header"
)

var (
	hopByHop   = header.NewHopByHopModifier()
	badFraming = header.NewBadFramingModifier()
)

var _ martian.RequestResponseModifier = hopByHop

// isHopByHop reports whether a field makes a head worth a closer look. Two
// Content-Length are refused where heads are read.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Te", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Connection",
		"Proxy-Authenticate", "Proxy-Authorization", "Transfer-Encoding":
		return true
	}
	return false
}

// hasHopByHop reports whether a header has anything that is not for the other
// side. Most have nothing.
func hasHopByHop(h http.Header) bool {
	for name := range h {
		if isHopByHop(name) {
			return true
		}
	}
	return false
}

// removeHopByHop removes what concerns this connection alone (RFC 9110 section
// 7.6.1), keeping an upgrade and the client's readiness for trailers.
func removeHopByHop(r *http.Request) error {
	if !hasHopByHop(r.Header) {
		return nil
	}
	// What most HTTP/1.1 clients send, although it is the default, names no
	// other field and needs no closer look.
	if v := r.Header["Connection"]; len(v) == 1 && strings.EqualFold(v[0], "keep-alive") {
		delete(r.Header, "Connection")
		if !hasHopByHop(r.Header) {
			return nil
		}
	}
	upgrade := upgradeType(r.Header)
	trailers := false
	for _, v := range r.Header["Te"] {
		trailers = trailers || strings.EqualFold(strings.TrimSpace(v), "trailers")
	}
	if err := badFraming.ModifyRequest(r); err != nil {
		return err
	}
	if err := hopByHop.ModifyRequest(r); err != nil {
		return err
	}
	if upgrade != "" {
		r.Header["Connection"], r.Header["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if trailers {
		r.Header["Te"] = []string{"trailers"}
	}
	return nil
}

var noUserAgent = []string{""}

// outbound makes the request ready to be sent to the origin. Its URL has no
// host: an HTTP/1.1 origin gets the path alone, see absolute.
func (x *exchange) outbound() *http.Request {
	out := x.r
	out.Host = x.authority()
	x.retarget(out)
	if out.Body == nil || out.Body == http.NoBody || out.ContentLength == 0 || x.extended != nil {
		out.Body = nil
		return out
	}
	if _, kept := out.Body.(*injector.Kept); kept { // and counted
		return out
	}
	body := &countedBody{ReadCloser: out.Body, x: x}
	out.Body = body
	if x.route != nil && x.route.Refreshable {
		x.replay = &replayBody{ReadCloser: body}
		out.Body = x.replay
	}
	return out
}

// retarget writes the request line's target anew when it is not what the client
// wrote: the credential is in the query, or a host was in front of it.
func (x *exchange) retarget(out *http.Request) {
	if x.query != out.URL.RawQuery || out.RequestURI == "" || out.RequestURI[0] != '/' {
		out.RequestURI = (&url.URL{Path: out.URL.Path, RawPath: out.URL.RawPath, RawQuery: out.URL.RawQuery,
			ForceQuery: out.URL.ForceQuery}).RequestURI()
	}
}

// absolute is a copy of an outbound request as net/http's transport wants it.
func absolute(ctx context.Context, out *http.Request, scheme string, t injector.Target) *http.Request {
	abs := out.WithContext(ctx)
	abs.URL = &url.URL{Scheme: scheme, Host: t.String(), Path: out.URL.Path, RawPath: out.URL.RawPath,
		RawQuery: out.URL.RawQuery, ForceQuery: out.URL.ForceQuery}
	abs.RequestURI, abs.Close = "", false
	if _, ok := abs.Header["User-Agent"]; !ok {
		abs.Header["User-Agent"] = noUserAgent // or the transport would add its own
	}
	return abs
}

// authority is the Host for the origin.
func (x *exchange) authority() string {
	if x.scheme == "https" && x.target.Port == 443 || x.scheme == "http" && x.target.Port == 80 {
		if strings.Contains(x.target.Host, ":") {
			return "[" + x.target.Host + "]"
		}
		return x.target.Host
	}
	return x.target.String()
}
