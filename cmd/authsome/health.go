package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// States of a sidecar.
const (
	stateStarting int32 = iota
	stateReady
	stateStopping
)

// metricsServer answers scrapes and probes. It attaches nothing and shows no
// secret, so it asks for no token.
func (s *sidecar) metricsServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.engine.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.readyz)
	return &http.Server{Handler: mux, ReadHeaderTimeout: drainTime, IdleTimeout: 2 * time.Minute}
}

// readiness says whether a request would be served, and names each condition.
func (s *sidecar) readiness() (ready bool, checks map[string]string) {
	checks = map[string]string{"state": "ok", "authority": "ok", "audit": "ok"}
	switch s.state.Load() {
	case stateStarting:
		checks["state"] = "starting"
	case stateStopping:
		checks["state"] = "stopping"
	}
	if !time.Now().Before(s.engine.authority.NotAfter()) {
		checks["authority"] = "expired"
	}
	if ticket, err := s.client.Audit.Reserve(); err != nil {
		checks["audit"] = "unavailable"
	} else {
		ticket.Release()
	}
	ready = true
	for _, state := range checks {
		ready = ready && state == "ok"
	}
	return ready, checks
}

// readyz answers 200 while the proxy is ready, 503 otherwise.
func (s *sidecar) readyz(w http.ResponseWriter, _ *http.Request) {
	ready, checks := s.readiness()
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(map[string]any{"ready": ready, "checks": checks})
}

// healthTime bounds a health check.
const healthTime = 3 * time.Second

// healthcheck asks a running proxy whether it is ready. Containers without a
// shell and curl ask this way.
func (a *app) healthcheck(ctx context.Context, addr string) error {
	unready := func(msg, hint string) error {
		return &fault{code: "NotReady", exit: exitOther, msg: msg, hint: hint}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return unready("there is no metrics address to ask", "give --metrics-addr or --config, as the proxy has them")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return unready(err.Error(), "check --metrics-addr")
	}
	resp, err := (&http.Transport{}).RoundTrip(req) // not through a proxy, whatever the environment says
	if err != nil {
		return unready(fmt.Sprintf("no answer from %s: %v", addr, err), "is the proxy running, with this --metrics-addr?")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var answer struct {
		Ready  bool              `json:"ready"`
		Checks map[string]string `json:"checks"`
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || !answer.Ready {
		return unready(fmt.Sprintf("not ready: status %d %s", resp.StatusCode, answer.Checks), "see the proxy's log")
	}
	if a.json {
		return a.emit(answer)
	}
	a.say("ready")
	return nil
}
