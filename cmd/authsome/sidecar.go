package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"authsome"
	"authsome/ca"
	"authsome/proxy"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/prometheus/client_golang/prometheus"
)

// sidecar is authsome proxy, from its start to its end.
type sidecar struct {
	app       *app
	load      func() (sidecarConfig, error)
	client    *authsome.Client
	engine    *engine
	bootstrap bootstrap
	sockets   sockets
	metrics   *http.Server
	failed    chan error // a listener has ended
	reloads   *prometheus.CounterVec
	upstream  atomic.Pointer[func(*url.URL) (*url.URL, error)]
	state     atomic.Int32 // see health.go

	mu      sync.Mutex // guards all below
	cfg     sidecarConfig
	token   secret.Text
	written handout
}

// startSidecar makes everything that serving takes, and serves. It fails when
// any of it does: there is no half of a proxy.
func (a *app) startSidecar(ctx context.Context, cfg sidecarConfig, load func() (sidecarConfig, error)) (s *sidecar, err error) {
	s = &sidecar{app: a, load: load, cfg: cfg, failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			s.sockets.close()
			if s.engine != nil {
				s.engine.stop(ctx)
			}
			if s.metrics != nil {
				s.metrics.Close()
			}
		}
	}()
	if s.sockets, err = openSockets(ctx, cfg); err != nil {
		return s, err
	}
	options := a.options(newRunID())
	options.Memory = cfg.Store == "memory"
	if s.client, err = a.openWith(ctx, options); err != nil {
		return s, err
	}
	if s.token, err = a.proxyToken(cfg.TokenFile); err != nil {
		return s, err
	}
	if err = s.checkOpen(); err != nil {
		return s, err
	}
	s.bootstrap = bootstrap{app: a, client: s.client}
	if err = s.bootstrap.apply(ctx, cfg.Credentials); err != nil {
		return s, err
	}
	if err = s.startEngine(ctx); err != nil {
		return s, err
	}
	s.serve()
	if err = s.publish(); err != nil {
		return s, err
	}
	if err = s.client.Record("run.start", "", ""); err != nil {
		return s, err
	}
	s.tell()
	return s, nil
}

// checkOpen refuses listeners that strangers could use, before anything is
// served.
func (s *sidecar) checkOpen() error {
	if !s.token.IsZero() {
		return nil
	}
	for _, l := range s.sockets.proxy {
		if t, ok := l.Addr().(*net.TCPAddr); !ok || !t.IP.IsLoopback() {
			return &fault{code: "OpenListener", exit: exitUsage, err: proxy.ErrOpenListener,
				msg: fmt.Sprintf("listen on %s: %v", l.Addr(), proxy.ErrOpenListener), hint: "give --token-file FILE, or listen on 127.0.0.1"}
		}
	}
	return nil
}

func (s *sidecar) startEngine(ctx context.Context) error {
	cfg := s.cfg
	choose, err := grantFlags{cfg.Provider, cfg.Connection}.choose(ctx, s.client)
	if err != nil {
		return err
	}
	egress, err := parseEgress("proxy", cfg.Egress, cfg.AllowHost)
	if err != nil {
		return err
	}
	via, err := s.upstreamOf(cfg)
	if err != nil {
		return err
	}
	s.upstream.Store(&via)
	s.engine, err = s.app.startEngine(context.WithoutCancel(ctx), s.client, engineConfig{
		grants: cfg.Provider, choose: choose, egress: egress, token: &s.token,
		upstream:  func(u *url.URL) (*url.URL, error) { return (*s.upstream.Load())(u) },
		authority: s.openAuthority,
		updated:   s.vaultChanged,
		proxy:     proxy.Config{OpenLoopback: s.token.IsZero()},
	})
	if err != nil {
		return err
	}
	s.register()
	return nil
}

// upstreamOf says how origins are reached with cfg.
func (s *sidecar) upstreamOf(cfg sidecarConfig) (func(*url.URL) (*url.URL, error), error) {
	via, err := upstreamProxy(cfg.UpstreamProxy, s.app.getenv)
	if via == nil {
		via = func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	return via, err
}

func (s *sidecar) openAuthority(ctx context.Context, cfg ca.Config) (*ca.Authority, error) {
	cfg.Lifetime = s.cfg.CALifetime
	if s.cfg.CADir == "" {
		return ca.New(ctx, cfg)
	}
	authority, err := ca.Load(ctx, s.cfg.CADir, cfg)
	if err == nil {
		_, err = authority.Renew(ctx) // it may be near its end, and no agent has its files yet
	}
	return authority, err
}

// serve gives the sockets to those who serve them. Whichever ends is reported.
func (s *sidecar) serve() {
	for _, l := range s.sockets.proxy {
		go func() { s.ended(l, s.engine.proxy.Serve(l)) }()
	}
	for _, l := range s.sockets.transparent {
		go func() { s.ended(l, s.engine.proxy.ServeRedirected(l)) }()
	}
	if len(s.sockets.metrics) == 0 {
		return
	}
	s.metrics = s.metricsServer()
	for _, l := range s.sockets.metrics {
		go func() { s.ended(l, s.metrics.Serve(l)) }()
	}
}

func (s *sidecar) ended(l net.Listener, err error) {
	if err == nil || errors.Is(err, http.ErrServerClosed) {
		return // we were told to stop
	}
	s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// tell says what runs, on stderr.
func (s *sidecar) tell() {
	for _, l := range s.sockets.proxy {
		s.app.say("proxy: http://%s", l.Addr())
	}
	for _, l := range s.sockets.transparent {
		s.app.say("transparent: %s", l.Addr())
	}
	for _, l := range s.sockets.metrics {
		s.app.say("metrics: http://%s/metrics", l.Addr())
	}
	if s.token.IsZero() && len(s.sockets.proxy) > 0 {
		s.app.say("no token: every process that reaches the loopback here can use the credentials (--token-file FILE asks for one)")
	}
	s.engine.reportTies(s.app)
	if s.engine.injector.Table().Len() == 0 {
		s.app.warn("nothing is connected: no credential will be attached (run: authsome login PROVIDER)")
	}
}

// renewEvery is how often the authority is looked after; more often when its end
// is near, whatever lifetime it was made with.
const renewEvery = time.Hour

func (s *sidecar) untilRenewal() time.Duration {
	left := time.Until(s.engine.authority.NotAfter())
	return min(renewEvery, max(left/12, time.Second))
}

// run serves until ctx ends or something that serving takes is lost.
func (s *sidecar) run(ctx context.Context, hangups <-chan os.Signal) error {
	defer s.stop(ctx)
	s.state.Store(stateReady)
	s.vaultChanged() // what changed since the files were written
	s.notify("READY=1")
	stopWatchdog := s.startWatchdog()
	defer stopWatchdog()
	working, quit := context.WithCancel(ctx)
	idle := make(chan struct{})
	go func() { defer close(idle); s.maintain(working, hangups) }()
	defer func() { quit(); <-idle }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// maintain does what comes up while the proxy serves, one thing at a time.
func (s *sidecar) maintain(ctx context.Context, hangups <-chan os.Signal) {
	renewals := time.NewTimer(s.untilRenewal())
	defer renewals.Stop()
	looks := time.NewTicker(secretFilesEvery)
	defer looks.Stop()
	state := s.secretState()
	secrets := secretFiles{state, state}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			s.reload(ctx, "reloaded")
		case <-renewals.C:
			s.renew(ctx)
			renewals.Reset(s.untilRenewal())
		case <-looks.C:
			if secrets.changed(s.secretState()) {
				s.reload(ctx, "a secret was replaced: the new one is in use")
			}
		}
	}
}

// stop lets requests in flight end. Readiness is lost at once, so that no new
// client is sent here, and the metrics stay until the end.
func (s *sidecar) stop(ctx context.Context) {
	s.state.Store(stateStopping)
	s.notify("STOPPING=1")
	s.engine.stop(ctx)
	if s.metrics != nil {
		s.metrics.Close()
	}
	s.sockets.close()
	if err := s.client.Audit.Write(audit.Event{Event: "run.end", Profile: s.client.Profile, Outcome: "ok"}); err != nil {
		s.app.logger().Error("audit the end", "error", err)
	}
}

// renew replaces the root in time. Connections are not touched.
func (s *sidecar) renew(ctx context.Context) {
	changed, err := s.engine.authority.Renew(ctx)
	if err != nil {
		s.app.logger().Error("renew the certificate authority", "error", err)
		return
	}
	if !changed {
		return
	}
	if err := s.client.Record("ca.renew", "", ""); err != nil {
		s.app.logger().Error("audit the renewal", "error", err)
	}
	if err := s.publish(); err != nil {
		s.app.logger().Error("write the trust files anew", "error", err)
	}
}

// vaultChanged follows a change of the routes.
func (s *sidecar) vaultChanged() {
	if s.state.Load() != stateReady {
		return // the start publishes once everything is there
	}
	if err := s.publish(); err != nil {
		s.app.logger().Error("write the agents' variables anew", "error", err)
	}
}

// reload reads anew everything that can change while the proxy runs. When
// something of it cannot be used, all stays as it was but for the credentials
// whose files were good. When all could, it says that it is done.
func (s *sidecar) reload(ctx context.Context, done string) {
	s.notifyReloading()
	defer s.notify("READY=1")
	after := "; the proxy goes on as it was"
	commit, err := s.prepareReload(ctx)
	if err == nil {
		after = "; all else is in force"
		err = commit()
	}
	if err != nil {
		s.reloads.WithLabelValues("failed").Inc()
		s.app.plain(s.app.style(red, "error:") + " reload: " + describe(err).msg + after)
		return
	}
	s.reloads.WithLabelValues("ok").Inc()
	s.app.say("%s", done)
}

// prepareReload does what can fail for a mistake in the new configuration. What
// it returns puts that in force.
func (s *sidecar) prepareReload(ctx context.Context) (commit func() error, err error) {
	next, err := s.load()
	if err != nil {
		return nil, err
	}
	token, err := s.app.proxyToken(next.TokenFile)
	if err != nil {
		return nil, err
	}
	egress, err := parseEgress("proxy", next.Egress, next.AllowHost)
	if err != nil {
		return nil, err
	}
	via, err := s.upstreamOf(next)
	if err != nil {
		return nil, err
	}
	for _, err := range s.client.Registry.Reload(s.client.Home.ProvidersDir()) {
		s.app.warn("%v", err)
	}
	if err := s.bootstrap.apply(ctx, next.Credentials); err != nil {
		return nil, err
	}
	choose, err := grantFlags{next.Provider, next.Connection}.choose(ctx, s.client)
	if err != nil {
		return nil, err
	}
	if err := s.engine.proxy.SetToken(token, drainTime); err != nil {
		return nil, &fault{code: "Usage", exit: exitUsage, msg: "token_file cannot be set or unset while the proxy runs", hint: "start it again", err: err}
	}
	return func() error {
		s.upstream.Store(&via)
		s.engine.proxy.SetEgress(egress)
		s.mu.Lock()
		s.token = token
		s.adopt(next)
		s.mu.Unlock()
		s.engine.granted.Store(&granted{next.Provider, choose})
		s.engine.update(s.app)
		return s.tellAgents(ctx)
	}, nil
}

// tellAgents has the authority cover the routes as they are now, and writes what
// follows from that for the agents.
func (s *sidecar) tellAgents(ctx context.Context) error {
	dns, ips := s.engine.permitted()
	if _, err := s.engine.authority.Permit(ctx, dns, ips); err != nil {
		return err
	}
	return s.publish()
}

// adopt takes over a new configuration, and says what of it has to wait.
// The caller holds s.mu.
func (s *sidecar) adopt(next sidecarConfig) {
	old := s.cfg
	for key, same := range map[string]bool{
		"listen":             slices.Equal(old.Listen, next.Listen),
		"transparent_listen": slices.Equal(old.TransparentListen, next.TransparentListen),
		"metrics_addr":       old.MetricsAddr == next.MetricsAddr,
		"ca_dir":             old.CADir == next.CADir,
		"ca_lifetime":        old.CALifetime == next.CALifetime,
		"store":              old.Store == next.Store,
	} {
		if !same {
			s.app.warn("%s: the new value takes effect at the next start", key)
		}
	}
	s.cfg = next
}
