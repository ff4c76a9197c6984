package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"path/filepath"
	"syscall"

	"authsome/ca"

	"github.com/spf13/cobra"
)

type proxyFlags struct {
	config      string
	healthcheck bool
	set         sidecarConfig // what the flags say; only those that were given count
}

func newProxy(a *app) *cobra.Command {
	f := proxyFlags{set: defaultSidecar()}
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Run the proxy on its own, next to agents",
		Long: `Run the proxy on its own, as a sidecar or a gateway, until it is told to stop.

A loopback listener needs no token: whoever reaches it can use the credentials,
so it should be the loopback of a pod or a network namespace that holds nobody
else. Any other listener needs --token-file. What agents must be told is written
to --bundle-out (a CA bundle) and --env-out (variables).

GET /healthz, /readyz and /metrics are answered on --metrics-addr. SIGTERM lets
requests in flight end, for 10 seconds at most; SIGHUP reads the configuration,
the token, the provider definitions and the credentials' files anew. A file with a
secret in it that is replaced has the same effect.

--config names a YAML or JSON file whose keys are the flags' names with _ for -.
Flags win over it. Besides, it knows store (file or memory), ca_lifetime, and
credentials: logins that need nobody, from mounted files.`,
		Example: `  authsome proxy --token-file /run/authsome/token --env-out /shared/authsome.env --bundle-out /shared/ca.pem
  authsome proxy --listen 0.0.0.0:8080 --token-file /run/secrets/proxy-token
  authsome proxy --config /etc/authsome/proxy.yaml`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.proxy(cmd.Context(), f.load(cmd), f.healthcheck) },
	}
	flags, set := cmd.Flags(), &f.set
	flags.StringVar(&f.config, "config", "", "YAML or JSON file with what the flags say")
	flags.BoolVar(&f.healthcheck, "healthcheck", false, "ask the proxy that runs with these settings whether it is ready, and exit")
	flags.StringArrayVar(&set.Listen, "listen", set.Listen, `take proxy connections on this host:port (repeatable; "": none)`)
	flags.StringArrayVar(&set.TransparentListen, "transparent-listen", nil, "take connections that the kernel redirects on this host:port (repeatable; Linux)")
	flags.StringVar(&set.MetricsAddr, "metrics-addr", set.MetricsAddr, `serve /metrics, /healthz and /readyz on this host:port ("": nowhere)`)
	flags.StringVar(&set.CADir, "ca-dir", "", "keep the certificate authority in this directory (default: in memory, new at each start)")
	flags.StringVar(&set.BundleOut, "bundle-out", "", "write the CA bundle for agents to this file, and trust files beside it")
	flags.StringVar(&set.EnvOut, "env-out", "", "write the variables for agents to this file, as KEY=value lines")
	flags.StringVar(&set.AgentDir, "agent-dir", "", "directory of --bundle-out as agents see it (default: the same)")
	flags.StringVar(&set.Advertise, "advertise", "", "host:port under which agents reach the proxy, for --env-out (default: --listen)")
	flags.StringVar(&set.TokenFile, "token-file", "", "clients need the token in this file; it is made when there is none")
	flags.StringVar(&set.Egress, "egress", set.Egress, "hosts without a credential: allow or deny")
	flags.StringArrayVar(&set.AllowHost, "allow-host", nil, "with --egress deny, allow this host: host, host:port or *.domain (repeatable)")
	flags.StringVar(&set.UpstreamProxy, "upstream-proxy", "", "reach origins through this proxy; one with a password goes into HTTPS_PROXY or --config (default: HTTPS_PROXY and NO_PROXY)")
	var grants grantFlags
	addGrantFlags(cmd, &grants)
	cmd.PreRun = func(*cobra.Command, []string) { set.Provider, set.Connection = grants.providers, grants.connections }
	cmd.RegisterFlagCompletionFunc("egress", cobra.FixedCompletions([]string{"allow", "deny"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// load returns what reads the configuration: the file, and the flags over it.
// It is called again for each reload.
func (f *proxyFlags) load(cmd *cobra.Command) func() (sidecarConfig, error) {
	return func() (sidecarConfig, error) {
		cfg := defaultSidecar()
		if err := checkUpstreamFlag(f.set.UpstreamProxy); err != nil {
			return cfg, err
		}
		if f.config != "" {
			if err := readConfig(f.config, &cfg); err != nil {
				return cfg, err
			}
		}
		set := &f.set
		for name, copyFlag := range map[string]func(){
			"listen":             func() { cfg.Listen = set.Listen },
			"transparent-listen": func() { cfg.TransparentListen = set.TransparentListen },
			"metrics-addr":       func() { cfg.MetricsAddr = set.MetricsAddr },
			"ca-dir":             func() { cfg.CADir = set.CADir },
			"bundle-out":         func() { cfg.BundleOut = set.BundleOut },
			"env-out":            func() { cfg.EnvOut = set.EnvOut },
			"agent-dir":          func() { cfg.AgentDir = set.AgentDir },
			"advertise":          func() { cfg.Advertise = set.Advertise },
			"token-file":         func() { cfg.TokenFile = set.TokenFile },
			"egress":             func() { cfg.Egress = set.Egress },
			"allow-host":         func() { cfg.AllowHost = set.AllowHost },
			"provider":           func() { cfg.Provider = set.Provider },
			"connection":         func() { cfg.Connection = set.Connection },
			"upstream-proxy":     func() { cfg.UpstreamProxy = set.UpstreamProxy },
		} {
			if cmd.Flags().Changed(name) {
				copyFlag()
			}
		}
		return cfg, cfg.check()
	}
}

// check refuses what cannot work together.
func (cfg *sidecarConfig) check() error {
	cfg.Listen, cfg.TransparentListen = withoutEmpty(cfg.Listen), withoutEmpty(cfg.TransparentListen)
	bad := func(msg, hint string) error { return &fault{code: "Usage", exit: exitUsage, msg: msg, hint: hint} }
	switch {
	case len(cfg.Listen)+len(cfg.TransparentListen) == 0:
		return bad("no listener", "give --listen or --transparent-listen")
	case cfg.AgentDir != "" && cfg.BundleOut == "" && cfg.EnvOut == "":
		return bad("--agent-dir says how agents see the directory of --bundle-out, and there is none", "give --bundle-out")
	case cfg.Egress == "", cfg.Store == "":
		return bad("egress and store cannot be empty", "leave them out for the defaults")
	}
	if host, port, err := net.SplitHostPort(cfg.Advertise); cfg.Advertise != "" && (err != nil || host == "" || port == "") {
		return bad("--advertise "+cfg.Advertise+": want the host and the port under which agents reach the proxy", "give --advertise HOST:PORT")
	}
	for _, c := range cfg.Credentials {
		if c.SecretFile == "-" || c.ClientIDFile == "-" {
			return bad(c.where+": a file, not stdin", "name the file that holds it")
		}
	}
	if err := cfg.checkFiles(); err != nil {
		return err
	}
	_, err := parseEgress("proxy", cfg.Egress, cfg.AllowHost)
	return err
}

// checkFiles refuses files that would replace one another.
func (cfg *sidecarConfig) checkFiles() error {
	same := func(a, b string) error {
		return &fault{code: "Usage", exit: exitUsage, msg: a + " and " + b + " are the same file", hint: "give each its own"}
	}
	trustDir, seen := "", map[string]string{}
	if cfg.BundleOut != "" || cfg.EnvOut != "" {
		trustDir = absolute(cfg.trustDir())
	}
	for _, f := range []struct{ flag, path string }{{"--bundle-out", cfg.BundleOut}, {"--env-out", cfg.EnvOut}, {"--token-file", cfg.TokenFile}, {"--ca-dir", cfg.CADir}} {
		if f.path == "" {
			continue
		}
		path := absolute(f.path)
		if other := seen[path]; other != "" {
			return same(other, f.flag)
		}
		seen[path] = f.flag
		if dir, name := filepath.Split(path); filepath.Clean(dir) == trustDir && ca.IsTrustFile(name) && f.path != cfg.BundleOut {
			return same(f.flag, "the trust file "+name+" beside --bundle-out")
		}
	}
	if cfg.CADir != "" && absolute(cfg.CADir) == trustDir {
		return &fault{code: "Usage", exit: exitUsage, msg: "--ca-dir is the directory of the agents' files: its key is not for them", hint: "keep the authority in a directory of its own"}
	}
	return nil
}

// absolute is path as it can be compared; one that cannot be made absolute is
// compared as it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func withoutEmpty(all []string) []string {
	var out []string
	for _, s := range all {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (a *app) proxy(ctx context.Context, load func() (sidecarConfig, error), healthcheck bool) error {
	cfg, err := load()
	if err != nil {
		return err
	}
	if healthcheck {
		return a.healthcheck(ctx, cfg.MetricsAddr)
	}
	a.server = true
	// A hangup means reload here, and not the end as for every other command.
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	hangups, stopHangups := notifyHangup()
	defer stopHangups()
	s, err := a.startSidecar(ctx, cfg, load)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil // told to stop while starting
		}
		return fmt.Errorf("start the proxy: %w", err)
	}
	return s.run(ctx, hangups)
}
