// Authsome is the proxy as "authsome run" starts it, audit log included, with a
// credential that does not come from a vault.
package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"authsome/ca"
	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
	"authsome/proxy/bench/internal/contestant"
	"authsome/proxy/bench/internal/rig"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/prometheus/client_golang/prometheus"
)

const token = "benchmark-token-0123456789abcdefghijklmnopq" // as long as a run's

func main() {
	env := contestant.Parse()
	p, err := newProxy(context.Background(), env)
	if err != nil {
		log.Fatal(err)
	}
	l := contestant.Listen()
	go p.Serve(l)
	contestant.Run(rig.Ready{Proxy: l.Addr().String(), Token: token})
}

func newProxy(ctx context.Context, env *contestant.Env) (*proxy.Proxy, error) {
	proxy.TuneMemory(ctx, os.Getenv("GOGC") != "")
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	authority, err := ca.New(ctx, ca.Config{PermittedDNS: []string{rig.H1Host, rig.H2Host}, Logger: logger})
	if err != nil {
		return nil, err
	}
	if err := env.Trust(authority.RootPEM()); err != nil {
		return nil, err
	}
	record, err := audit.Open(filepath.Join(env.Dir, "audit.log"), audit.Config{Profile: "default"})
	if err != nil {
		return nil, err
	}
	in := injector.New(source(secret.New(rig.Authorization[len("Bearer "):])))
	var routes []*injector.Route
	for _, host := range []string{rig.H1Host, rig.H2Host} {
		routes = append(routes, &injector.Route{Provider: "bench", Connection: "default",
			Pattern: provider.HostPattern{Kind: provider.Exact, Host: host, Port: 443, Raw: host},
			Injects: []provider.Inject{{Manner: provider.MannerBearer}}})
	}
	in.Update(injector.NewTable(routes))
	return proxy.New(proxy.Config{Injector: in, Authority: authority, Audit: record, Token: secret.New(token),
		Dial: env.Dial, RootCAs: env.Roots, Registerer: prometheus.NewRegistry(), Logger: logger})
}

// source hands out one credential.
func source(t secret.Text) injector.Source { return static{t} }

type static struct{ t secret.Text }

// Credential implements injector.Source.
func (s static) Credential(context.Context, string, string) (secret.Text, error) { return s.t, nil }
