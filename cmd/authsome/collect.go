package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// engineCollector exposes what the authority and the vault count themselves.
type engineCollector struct {
	e       *engine
	mints   *prometheus.Desc
	cached  *prometheus.Desc
	reloads *prometheus.Desc
	expiry  *prometheus.Desc
	invalid *prometheus.Desc
}

func newEngineCollector(e *engine) *engineCollector {
	return &engineCollector{e: e,
		mints:   prometheus.NewDesc("authsome_leaf_mints_total", "Certificates made for intercepted hosts.", nil, nil),
		cached:  prometheus.NewDesc("authsome_leaf_cache_entries", "Certificates in memory.", nil, nil),
		reloads: prometheus.NewDesc("authsome_vault_reload_total", "Reloads of the vault by the running proxy.", []string{"outcome"}, nil),
		expiry: prometheus.NewDesc("authsome_credential_expiry_timestamp_seconds", "When the credential of a connection that this proxy may use expires, in Unix time.",
			[]string{"provider", "connection"}, nil),
		invalid: prometheus.NewDesc("authsome_invalid_definitions", "Provider definitions of the user's that are left out, because they are not valid.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *engineCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.mints, c.cached, c.reloads, c.expiry, c.invalid} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *engineCollector) Collect(ch chan<- prometheus.Metric) {
	minted, cached := c.e.authority.Stats()
	ok, failed := c.e.client.Vault.ReloadStats()
	ch <- prometheus.MustNewConstMetric(c.mints, prometheus.CounterValue, float64(minted))
	ch <- prometheus.MustNewConstMetric(c.cached, prometheus.GaugeValue, float64(cached))
	ch <- prometheus.MustNewConstMetric(c.reloads, prometheus.CounterValue, float64(ok), "ok")
	ch <- prometheus.MustNewConstMetric(c.reloads, prometheus.CounterValue, float64(failed), "failed")
	ch <- prometheus.MustNewConstMetric(c.invalid, prometheus.GaugeValue, float64(c.e.client.Registry.Invalid()))
	// Those that this proxy may use: it renews no others. What can be read is
	// reported, the rest is in doctor.
	may := c.e.granted.Load()
	grants, _ := c.e.client.Broker.Grants(may.providers, may.choose)
	for _, g := range grants {
		if !g.Connection.ExpiresAt.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.expiry, prometheus.GaugeValue, float64(g.Connection.ExpiresAt.Unix()),
				g.Connection.Provider, g.Connection.Name)
		}
	}
}

func buildInfo() prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "authsome_build_info", Help: "What this is; always 1.",
		ConstLabels: prometheus.Labels{"version": buildVersion(), "go": runtime.Version()}})
	g.Set(1)
	return g
}

// register exposes what authsome proxy has beyond the engine.
func (s *sidecar) register() {
	s.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authsome_config_reload_total",
		Help: "Reloads of the configuration by outcome."}, []string{"outcome"})
	s.reloads.WithLabelValues("ok")
	s.reloads.WithLabelValues("failed")
	s.engine.registry.MustRegister(s.reloads,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "authsome_authority_expiry_timestamp_seconds",
			Help: "When the certificate that signs leaves ends, in Unix time."},
			func() float64 { return float64(s.engine.authority.NotAfter().Unix()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "authsome_ready",
			Help: "Whether a request would be served, as /readyz says: 1 or 0."},
			func() float64 {
				if ready, _ := s.readiness(); ready {
					return 1
				}
				return 0
			}))
}
