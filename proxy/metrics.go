package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"time"

	"authsome/ca"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the proxy's own. No label takes a value that a client chooses:
// providers come from the vault, and everything else from a fixed set.
type metrics struct {
	requests        *prometheus.CounterVec
	duration        *prometheus.HistogramVec
	overhead        prometheus.Histogram
	tunnels         *prometheus.CounterVec
	active          *prometheus.GaugeVec
	moved           *prometheus.CounterVec
	refusals        *prometheus.CounterVec
	handshakeErrors *prometheus.CounterVec
	ambiguous       prometheus.GaugeFunc
	up, down        prometheus.Counter // of moved, for requests and their answers

	mu              sync.RWMutex // guards all below
	requestCounters map[requestLabels]prometheus.Counter
	durations       map[string]prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, p *Proxy) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authsome_requests_total", Help: "Requests that were forwarded or refused."},
			[]string{"provider", "outcome", "code_class", "protocol"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authsome_request_duration_seconds", Help: "From a request's head to the end of its answer.",
			Buckets:                     []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			NativeHistogramMinResetDuration: time.Hour}, []string{"provider"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "authsome_proxy_overhead_seconds", Help: "What the proxy added before the answer began: all but the wait for the origin.",
			Buckets:                     []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			NativeHistogramMinResetDuration: time.Hour}),
		tunnels: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authsome_tunnels_total", Help: "Connections joined to hosts without a credential."}, []string{"outcome"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "authsome_active_connections", Help: "Open client connections; one inside another counts as both."}, []string{"kind"}),
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authsome_bytes_total", Help: "Body and tunnel bytes as they move, up to the origin and down to the client."}, []string{"direction", "kind"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authsome_refusals_total", Help: "Refusals by code."}, []string{"code"}),
		handshakeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authsome_tls_handshake_errors_total", Help: "Failed TLS handshakes by side and reason."}, []string{"side", "reason"}),
		ambiguous: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "authsome_ambiguous_routes", Help: "Host claims that several connections share, so that none is used."},
			func() float64 { return float64(len(p.cfg.Injector.Table().Ties())) }),
	}
	m.up, m.down = m.moved.WithLabelValues("up", "request"), m.moved.WithLabelValues("down", "response")
	m.requestCounters, m.durations = make(map[requestLabels]prometheus.Counter), make(map[string]prometheus.Observer)
	m.begin()
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.overhead, m.tunnels, m.active,
		m.moved, m.refusals, m.handshakeErrors, m.ambiguous} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// begin shows every series with fixed labels from the start: to a rate, one that
// appears with its first event has had none.
func (m *metrics) begin() {
	for code := range refusals {
		m.refusals.WithLabelValues(string(code))
	}
	for _, outcome := range []string{"ok", "failed", "not_redirected"} {
		m.tunnels.WithLabelValues(outcome)
	}
	for _, kind := range []string{"client", "redirected", "intercept", "tunnel", "upgrade"} {
		m.active.WithLabelValues(kind)
	}
	for _, direction := range []string{"up", "down"} {
		m.moved.WithLabelValues(direction, "tunnel")
		m.moved.WithLabelValues(direction, "upgrade")
	}
	for _, reason := range []string{"server_name", "untrusted", "alert", "not_tls", "timeout", "closed", "other"} {
		m.handshakeErrors.WithLabelValues("client", reason)
		if reason != "server_name" { // the origin names none
			m.handshakeErrors.WithLabelValues("origin", reason)
		}
	}
}

// open counts a connection for as long as it lasts.
func (m *metrics) open(kind string) (closed func()) {
	g := m.active.WithLabelValues(kind)
	g.Inc()
	return g.Dec
}

func (m *metrics) bytes(direction, kind string, n int64) {
	if n > 0 {
		m.moved.WithLabelValues(direction, kind).Add(float64(n))
	}
}

// measure counts an exchange that has ended.
func (x *exchange) measure(outcome string) {
	m, provider := x.p.metrics, ""
	if x.route != nil {
		provider = x.route.Provider
	}
	m.request(requestLabels{provider, outcome, codeClass(x.status), x.protocol}).Inc()
	m.durationOf(provider).Observe(x.end.Sub(x.start).Seconds())
	if x.waited > 0 {
		// What follows the answer's head is the origin's time and the
		// client's; the proxy's own is what came before it.
		m.overhead.Observe((x.headAt - x.waited).Seconds())
	}
}

// requestLabels are the label values of one request counter.
type requestLabels struct{ provider, outcome, class, protocol string }

// request finds a counter without hashing its labels anew. Providers, outcomes,
// classes and protocols are all from small sets, so the cache is small too.
func (m *metrics) request(l requestLabels) prometheus.Counter {
	m.mu.RLock()
	c := m.requestCounters[l]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c = m.requests.WithLabelValues(l.provider, l.outcome, l.class, l.protocol)
	m.requestCounters[l] = c
	return c
}

func (m *metrics) durationOf(provider string) prometheus.Observer {
	m.mu.RLock()
	o := m.durations[provider]
	m.mu.RUnlock()
	if o != nil {
		return o
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o = m.duration.WithLabelValues(provider)
	m.durations[provider] = o
	return o
}

var codeClasses = [...]string{1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}

func codeClass(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return codeClasses[status/100]
}

// handshakeReason names what went wrong in a handshake, from a fixed set.
func handshakeReason(err error) string {
	var record tls.RecordHeaderError
	var name *ca.TargetMismatchError
	switch {
	case errors.As(err, &name):
		return "server_name"
	case remoteAlert(err) != noAlert:
		switch remoteAlert(err) {
		case 42, 43, 44, 45, 46, 48: // RFC 8446 section 6.2: bad certificate … unknown CA
			return "untrusted"
		}
		return "alert"
	case errors.As(err, &record), errors.Is(err, errHello):
		return "not_tls"
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		return "closed"
	}
	return "other"
}

// noAlert is no alert of RFC 8446 section 6.
const noAlert = -1

// remoteAlert returns the TLS alert that the other side sent. crypto/tls has no
// exported type for one: a number inside a net.OpError of this name.
func remoteAlert(err error) int {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return noAlert
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return noAlert
	}
	return int(v.Uint())
}
