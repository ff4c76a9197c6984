package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authsome"
	"authsome/ca"
	"authsome/flows"
	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
	"authsome/vault/secret"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/net/http/httpproxy"
)

// grantFlags say which connections a proxy may use.
type grantFlags struct {
	providers   []string
	connections []string // P=name
}

// choose parses --connection and checks every name against the vault.
func (g grantFlags) choose(ctx context.Context, client *authsome.Client) (map[string][]string, error) {
	chosen := make(map[string][]string)
	for _, pair := range g.connections {
		name, connection, ok := strings.Cut(pair, "=")
		if !ok || connection == "" {
			return nil, &fault{code: "Usage", exit: exitUsage, msg: "--connection " + provider.Repeat(pair) + ": want PROVIDER=NAME", hint: "run: authsome list --connected"}
		}
		if _, err := client.Registry.Lookup(name); err != nil {
			return nil, err
		}
		if _, err := client.Broker.Get(ctx, name, connection); err != nil {
			return nil, err
		}
		chosen[name] = append(chosen[name], connection)
	}
	for _, name := range g.providers {
		if _, err := client.Registry.Lookup(name); err != nil {
			return nil, err
		}
		if chosen[name] != nil {
			continue
		}
		if _, err := client.Broker.Get(ctx, name, ""); err != nil {
			return nil, err
		}
	}
	return chosen, nil
}

// engine is a running proxy with everything it needs.
type engine struct {
	client    *authsome.Client
	injector  *injector.Injector
	authority *ca.Authority
	proxy     *proxy.Proxy
	registry  *prometheus.Registry
	refreshes *prometheus.CounterVec
	token     secret.Text
	granted   atomic.Pointer[granted]
	updating  sync.Mutex // held while the routes are made anew
	updated   func()     // called after that; may be nil
	stopWatch context.CancelFunc
}

// granted are the connections that a proxy may use.
type granted struct {
	providers []string            // none: all
	choose    map[string][]string // provider → connections
}

// engineConfig is what differs between run, proxy and demo.
type engineConfig struct {
	grants   []string
	choose   map[string][]string
	egress   proxy.Egress
	upstream func(*url.URL) (*url.URL, error)
	proxy    proxy.Config // Dial, RootCAs, TrustPeer and the like

	token     *secret.Text                                            // nil: a random one; zero: none
	authority func(context.Context, ca.Config) (*ca.Authority, error) // nil: one in memory
	updated   func()                                                  // called when the routes were made anew; may be nil
}

// startEngine makes the authority, the routes and the proxy. Nothing listens
// yet. Routes follow the vault until stop.
func (a *app) startEngine(ctx context.Context, client *authsome.Client, cfg engineConfig) (*engine, error) {
	if err := ca.CheckRoots(a.getenv); err != nil { // they verify origins
		return nil, &fault{code: "TrustFile", exit: exitOther, msg: err.Error(), hint: readableFile, err: err}
	}
	e := &engine{client: client, injector: injector.New(client.Broker), registry: prometheus.NewRegistry()}
	e.refreshes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "authsome_refresh_total", Help: "Token refreshes by outcome."},
		[]string{"provider", "outcome"})
	e.registry.MustRegister(e.refreshes)
	client.Broker.Observe(func(provider, outcome string) { e.refreshes.WithLabelValues(provider, outcome).Inc() })
	e.updated = cfg.updated
	e.granted.Store(&granted{cfg.grants, cfg.choose})
	watchCtx, stop := context.WithCancel(ctx)
	e.stopWatch = stop
	proxy.TuneMemory(watchCtx, a.getenv("GOGC") != "")
	if err := client.Broker.Watch(watchCtx, func() { e.update(a) }); err != nil {
		stop()
		return nil, err
	}
	if err := e.assemble(ctx, a, cfg); err != nil {
		e.stop(ctx)
		return nil, err
	}
	return e, nil
}

func (e *engine) assemble(ctx context.Context, a *app, cfg engineConfig) (err error) {
	if cfg.authority == nil {
		cfg.authority = ca.New
	}
	dns, ips := e.permitted()
	if e.authority, err = cfg.authority(ctx, ca.Config{PermittedDNS: dns, PermittedIPs: ips, Logger: a.logger()}); err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	if e.token = newToken(); cfg.token != nil {
		e.token = *cfg.token
	}

	p := cfg.proxy
	p.Injector, p.Authority, p.Audit, p.Token = e.injector, e.authority, e.client.Audit, e.token
	p.Egress, p.UpstreamProxy, p.Registerer, p.Logger = cfg.egress, cfg.upstream, e.registry, a.logger()
	if e.proxy, err = proxy.New(p); err != nil {
		return err
	}
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(), newEngineCollector(e))
	return nil
}

// permitted are the names and addresses that the authority has to vouch for.
func (e *engine) permitted() (dns []string, ips []net.IP) {
	dns, ips = e.client.Registry.PermittedDNS()
	for _, host := range e.injector.Table().Hosts() {
		if ip := net.ParseIP(host); ip != nil {
			ips = append(ips, ip)
			continue
		}
		dns = append(dns, host)
	}
	return dns, ips
}

// newToken makes a token that nobody can guess.
func newToken() secret.Text {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails, see crypto/rand
	return secret.New(base64.RawURLEncoding.EncodeToString(raw))
}

// update builds the route table anew from the vault's snapshot. A connection
// whose routes do not compile is left out, and said so.
func (e *engine) update(a *app) {
	if e.updated != nil {
		defer e.updated()
	}
	e.updating.Lock()
	defer e.updating.Unlock()
	may := e.granted.Load()
	grants, err := e.client.Broker.Grants(may.providers, may.choose)
	if errors.Is(err, provider.ErrNotFound) {
		// Registered since we started, perhaps.
		for _, err := range e.client.Registry.Reload(e.client.Home.ProvidersDir()) {
			a.logger().Warn("provider definition left out", "error", err)
		}
		grants, err = e.client.Broker.Grants(may.providers, may.choose)
	}
	if err != nil {
		a.logger().Warn("some connections cannot be used", "error", err)
	}
	var routes []*injector.Route
	for _, g := range grants {
		e.expectRefreshes(g.Connection)
		compiled, err := injector.Compile(g.Definition, pinned(g.Connection))
		if err != nil {
			a.logger().Warn("connection left out", "error", err)
			continue
		}
		routes = append(routes, compiled...)
	}
	e.injector.Update(injector.NewTable(routes))
}

// expectRefreshes shows a provider's refreshes from the start. Of a grant that has
// become invalid there is one failure and no second: a counter that appeared with
// it would never have risen.
func (e *engine) expectRefreshes(c *flows.Connection) {
	if c.AuthType != provider.AuthOAuth2 {
		return
	}
	for _, outcome := range []string{"ok", "invalid_grant", "failed"} {
		e.refreshes.WithLabelValues(c.Provider, outcome)
	}
}

func pinned(c *flows.Connection) injector.Connection {
	return injector.Connection{Name: c.Name, BaseURL: c.BaseURL, HostURL: c.HostURL, TokenURL: c.TokenURL}
}

// drainTime is how long requests in flight may take once we are told to stop.
const drainTime = 10 * time.Second

func (e *engine) stop(ctx context.Context) {
	if e.proxy != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		e.proxy.Shutdown(ctx) // its error only says that something was cut
	}
	e.stopWatch()
}

// passwordElsewhere is what to do with a password of the upstream proxy.
const passwordElsewhere = "a user and password go into HTTPS_PROXY, or into upstream_proxy in the file of authsome proxy --config"

// checkUpstreamFlag refuses a value of --upstream-proxy that holds a secret: every
// user of the machine can read a command line.
func checkUpstreamFlag(flag string) error {
	if u, err := url.Parse(flag); err != nil || u.User == nil {
		return nil // what is no URL is refused where it is used
	}
	return &fault{code: "Usage", exit: exitUsage, msg: "--upstream-proxy: every user of this machine can read a user and password there", hint: passwordElsewhere}
}

// upstreamProxy returns how origins are reached: through the proxy that was
// named, or as the parent's environment says.
func upstreamProxy(named string, getenv func(string) string) (func(*url.URL) (*url.URL, error), error) {
	either := func(name string) string {
		if v := getenv(strings.ToLower(name)); v != "" {
			return v
		}
		return getenv(name)
	}
	if named != "" {
		u, err := url.Parse(named)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			return nil, &fault{code: "Usage", exit: exitUsage, msg: "--upstream-proxy: want http://, https:// or socks5:// and host:port", hint: passwordElsewhere}
		}
		return func(*url.URL) (*url.URL, error) { return u, nil }, nil
	}
	cfg := httpproxy.Config{HTTPProxy: either("HTTP_PROXY"), HTTPSProxy: either("HTTPS_PROXY"), NoProxy: either("NO_PROXY")}
	if all := either("ALL_PROXY"); all != "" {
		cfg.HTTPProxy, cfg.HTTPSProxy = orElse(cfg.HTTPProxy, all), orElse(cfg.HTTPSProxy, all)
	}
	if cfg.HTTPProxy == "" && cfg.HTTPSProxy == "" {
		return nil, nil
	}
	for _, value := range []string{cfg.HTTPProxy, cfg.HTTPSProxy} {
		if value != "" && !isProxyValue(value) {
			return nil, &fault{code: "UpstreamProxy", exit: exitOther, msg: proxyVariable(value, either) + ": want http://, https:// or socks5:// and host:port, or host:port alone",
				hint: "mend the variable, or unset it to reach origins without a proxy"}
		}
	}
	return cfg.ProxyFunc(), nil
}

// isProxyValue reports whether a proxy variable has a value that can be used.
// httpproxy takes some that it cannot read for none, and the way out would be
// another than the one that was asked for.
func isProxyValue(value string) bool {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" {
		return false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return slices.Contains([]string{"http", "https", "socks5", "socks5h"}, strings.ToLower(u.Scheme))
}

// proxyVariable names the variable that has a value. The value itself may hold a
// password.
func proxyVariable(value string, either func(string) string) string {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		if either(name) == value {
			return name
		}
	}
	return "ALL_PROXY"
}

func orElse(v, def string) string {
	if v != "" {
		return v
	}
	return def
}

// parseEgress reads --egress and --allow-host of a command.
func parseEgress(command, mode string, allow []string) (egress proxy.Egress, err error) {
	url := slices.IndexFunc(allow, func(host string) bool { return strings.Contains(host, "/") })
	switch {
	case mode != "allow" && mode != "deny":
		err = fmt.Errorf("--egress %s: want allow or deny", provider.Repeat(mode))
	case url >= 0:
		err = fmt.Errorf("--allow-host %s: want host, host:port or *.domain, without https:// and a path", allow[url])
	default:
		egress, err = proxy.NewEgress(mode == "deny", allow)
	}
	if err != nil {
		return egress, &fault{code: "Usage", exit: exitUsage, msg: err.Error(), hint: "run: authsome " + command + " --help", err: err}
	}
	return egress, nil
}

// reportTies tells at the start which connections cancel each other out.
func (e *engine) reportTies(a *app) {
	for _, t := range e.injector.Table().Ties() {
		a.warn("%s is claimed by %s: no credential is attached; choose with --connection or --provider", t.Where, strings.Join(t.Connections, " and "))
	}
}
