package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Code names a refusal. Codes are stable: clients, audit entries and metrics
// all carry the same one.
type Code string

// The refusals. Each has one row in the table below, which feeds the response,
// the audit line and the metric.
const (
	CodeProxyAuthRequired   Code = "proxy_auth_required"
	CodeBadRequest          Code = "bad_request"
	CodeHeaderTooLarge      Code = "header_too_large"
	CodeRequestTimeout      Code = "request_timeout"
	CodeTargetMismatch      Code = "target_mismatch"
	CodeAmbiguousPath       Code = "ambiguous_path"
	CodeCredentialMissing   Code = "credential_missing"
	CodeRefreshFailed       Code = "refresh_failed"
	CodeInjectionFailed     Code = "injection_failed"
	CodeEgressDenied        Code = "egress_denied"
	CodeUpstreamUnreachable Code = "upstream_unreachable"
	CodeUpstreamTLS         Code = "upstream_tls"
	CodeUpstreamTimeout     Code = "upstream_timeout"
	CodeTooManyConnections  Code = "too_many_connections"
	CodeAuditUnavailable    Code = "audit_unavailable"
	CodeShuttingDown        Code = "shutting_down"
)

type row struct {
	status int
	title  string
	hint   string
}

var refusals = map[Code]row{
	CodeProxyAuthRequired:   {http.StatusProxyAuthRequired, "This proxy needs its token", "use the proxy URL, with its userinfo, that authsome gave this process"},
	CodeBadRequest:          {http.StatusBadRequest, "The request is malformed or ambiguous", "send one well-formed HTTP request; see RFC 9112"},
	CodeHeaderTooLarge:      {http.StatusRequestHeaderFieldsTooLarge, "The request header is too large", "send fewer or shorter header fields"},
	CodeRequestTimeout:      {http.StatusRequestTimeout, "The request did not arrive in time", "send the whole request header within 10 s"},
	CodeTargetMismatch:      {http.StatusMisdirectedRequest, "The request names another host than its connection", "open a connection to the host you want and name it in Host and SNI"},
	CodeAmbiguousPath:       {http.StatusBadRequest, "The path reads differently once decoded", "send the path decoded and without dot segments"},
	CodeCredentialMissing:   {http.StatusBadGateway, "There is no usable credential for this host", "run: authsome login"},
	CodeRefreshFailed:       {http.StatusBadGateway, "The credential has expired and could not be refreshed", "run: authsome login --force"},
	CodeInjectionFailed:     {http.StatusBadGateway, "The credential could not be attached", "run: authsome doctor"},
	CodeEgressDenied:        {http.StatusForbidden, "This host is not allowed", "start with --allow-host for this host, or with --egress allow"},
	CodeUpstreamUnreachable: {http.StatusBadGateway, "The origin cannot be reached", "check the host name and your network"},
	CodeUpstreamTLS:         {http.StatusBadGateway, "The origin's certificate or TLS was not accepted", "check the origin's certificate; authsome trusts the system's roots and SSL_CERT_FILE"},
	CodeUpstreamTimeout:     {http.StatusGatewayTimeout, "The origin did not answer in time", "try again, or raise the response header timeout"},
	CodeTooManyConnections:  {http.StatusServiceUnavailable, "The proxy has too many connections", "close idle connections, or raise the limit"},
	CodeAuditUnavailable:    {http.StatusServiceUnavailable, "The audit record cannot be written", "free disk space or mend audit.log, then run: authsome doctor"},
	CodeShuttingDown:        {http.StatusServiceUnavailable, "The proxy is shutting down", "try again"},
}

// Refusal is a request that the proxy answers itself.
type Refusal struct {
	Code     Code
	Provider string // name of the provider concerned, or empty
	Detail   string // one safe sentence; never a cause's text, never client data
	Hint     string // overrides the table's
	cause    error  // for the log alone
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.cause != nil {
		return string(r.Code) + ": " + r.cause.Error()
	}
	return string(r.Code)
}

// Unwrap returns what went wrong.
func (r *Refusal) Unwrap() error { return r.cause }

// Status is the HTTP status of the refusal.
func (r *Refusal) Status() int { return refusals[r.Code].status }

func refuse(code Code, cause error) *Refusal { return &Refusal{Code: code, cause: cause} }

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Code     Code   `json:"code"`
	Provider string `json:"provider,omitempty"`
	Hint     string `json:"hint"`
}

func (r *Refusal) body() []byte {
	row := refusals[r.Code]
	p := problem{Type: "about:blank", Title: row.title, Status: row.status,
		Detail: r.Detail, Code: r.Code, Provider: r.Provider, Hint: row.hint}
	if r.Hint != "" {
		p.Hint = r.Hint
	}
	b, err := json.Marshal(p)
	if err != nil { // strings and an int always marshal
		return []byte(`{"code":"` + string(r.Code) + `"}`)
	}
	return append(b, '\n')
}

// header fills in the fields of a refusal's response.
func (r *Refusal) header(h http.Header, length int) {
	h["Content-Type"] = []string{"application/problem+json"}
	h["Content-Length"] = []string{strconv.Itoa(length)}
	h["Authsome-Error"] = []string{string(r.Code)}
	h["Cache-Control"] = []string{"no-store"}
	if r.Code == CodeProxyAuthRequired {
		h["Proxy-Authenticate"] = []string{`Basic realm="authsome"`}
	}
}

// write answers with the refusal.
func (r *Refusal) write(w http.ResponseWriter) {
	body := r.body()
	r.header(w.Header(), len(body))
	w.WriteHeader(r.Status())
	w.Write(body) // the client may be gone; there is nobody else to tell
}
