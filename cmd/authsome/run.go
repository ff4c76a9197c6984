package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strings"
	"syscall"

	"authsome"
	"authsome/ca"
	"authsome/proxy"
	"authsome/proxy/isolate"
	"authsome/vault/audit"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
)

type runFlags struct {
	grantFlags
	egress, metricsAddr, upstream string
	allow                         []string
	isolate                       bool
}

func newRun(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARG...]",
		Short: "Run a command behind the proxy",
		Long: `Run a command behind the proxy. The command holds placeholders; the proxy
attaches the credential of each connected provider to requests for its hosts.

authsome's own flags end at the first word that is not one. The exit code is the
command's, or 128+n when signal n ended it.`,
		Example: `  authsome run -- python agent.py
  authsome run --provider github --egress deny -- npx some-agent
  authsome run --isolate --egress deny -- python agent.py
  authsome run --connection github=work -- gh repo list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, errors.New("run: what command?"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	addGrantFlags(cmd, &f.grantFlags)
	flags.StringVar(&f.egress, "egress", "allow", "hosts without a credential: allow or deny")
	flags.StringArrayVar(&f.allow, "allow-host", nil, "with --egress deny, allow this host: host, host:port or *.domain; with --isolate, this machine too (repeatable)")
	flags.BoolVar(&f.isolate, "isolate", false, "give the command a network that leads to the proxy alone, and hide the authsome home from it (Linux)")
	flags.StringVar(&f.metricsAddr, "metrics-addr", "", "serve Prometheus metrics on this address")
	flags.StringVar(&f.upstream, "upstream-proxy", "", "reach origins through this proxy; one with a password goes into HTTPS_PROXY (default: HTTPS_PROXY and NO_PROXY)")
	cmd.RegisterFlagCompletionFunc("egress", cobra.FixedCompletions([]string{"allow", "deny"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func addGrantFlags(cmd *cobra.Command, f *grantFlags) {
	cmd.Flags().StringArrayVar(&f.providers, "provider", nil, "attach this provider's credential only (repeatable; default: all that are connected)")
	cmd.Flags().StringArrayVar(&f.connections, "connection", nil, "use this connection, PROVIDER=NAME (repeatable)")
}

// ownFailure gives an error the exit code of run's own failures, unless the
// contract has one for it.
func ownFailure(err error) error {
	f := describe(err)
	if f.exit != exitOther {
		return f
	}
	return &fault{code: f.code, exit: exitOwn, msg: f.msg, hint: f.hint, err: err}
}

func (a *app) run(ctx context.Context, f runFlags, argv []string) error {
	if err := checkUpstreamFlag(f.upstream); err != nil {
		return err
	}
	path, err := lookCommand(argv[0])
	if err != nil {
		return err
	}
	// From here on a signal is the child's, though it may have to wait for it:
	// to die of one now would leave files behind.
	signals := make(chan os.Signal, 16)
	if heeded := notIgnored(forwarded(f.isolate)...); len(heeded) > 0 {
		signal.Notify(signals, heeded...)
		defer signal.Stop(signals)
	}
	var c *cell
	if f.isolate {
		if c, err = a.openCell(); err != nil {
			return err
		}
	}
	session, err := a.startSession(ctx, f, c)
	if err != nil {
		return ownFailure(err)
	}
	code, err := session.child(ctx, path, argv, signals)
	// Once the child has run, its code is ours, whatever else went wrong.
	if closeErr := session.close(ctx); closeErr != nil {
		a.warn("%v", closeErr)
	}
	a.code = code
	if err != nil {
		return ownFailure(err)
	}
	return nil
}

// lookCommand finds the program, with the exit codes that shells use.
func lookCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, syscall.EISDIR):
		return "", &fault{code: "NotExecutable", exit: exitNotExecutable, msg: name + ": is a directory", hint: "name a program", err: err}
	case errors.Is(err, fs.ErrPermission):
		return "", &fault{code: "NotExecutable", exit: exitNotExecutable, msg: name + ": not executable", hint: "check the file's permissions", err: err}
	case errors.Is(err, exec.ErrDot):
		return "", &fault{code: "NotFound", exit: exitNotFound, msg: name + ": found in the current directory only", hint: "write ./" + name, err: err}
	}
	return "", &fault{code: "NotFound", exit: exitNotFound, msg: name + ": command not found", hint: "check the spelling and PATH", err: err}
}

// session is one run: a proxy, its trust files and its listener.
type session struct {
	app     *app
	client  *authsome.Client
	engine  *engine
	id      string
	cell    *cell   // the namespaces of the command, or nil
	dir     *runDir // trust files, removed at the end
	trust   *ca.Trust
	serving chan error
	metrics *http.Server
}

func (a *app) startSession(ctx context.Context, f runFlags, c *cell) (s *session, err error) {
	s = &session{app: a, id: newRunID(), cell: c, serving: make(chan error, 1)}
	defer func() {
		if err != nil && c != nil {
			c.close()
		}
	}()
	if s.client, err = a.openRun(ctx, s.id); err != nil {
		return nil, err
	}
	choose, err := f.choose(ctx, s.client)
	if err != nil {
		return nil, err
	}
	egress, err := parseEgress("run", f.egress, f.allow)
	if err != nil {
		return nil, err
	}
	upstream, err := upstreamProxy(f.upstream, a.getenv)
	if err != nil {
		return nil, err
	}
	cfg := proxy.Config{TrustPeer: proxy.ProcessTree(os.Getpid())}
	if c != nil {
		cfg = isolated(cfg)
	}
	s.engine, err = a.startEngine(context.WithoutCancel(ctx), s.client, engineConfig{grants: f.providers, choose: choose,
		egress: egress, upstream: upstream, proxy: cfg})
	if err != nil {
		return nil, err
	}
	if err := s.open(f.metricsAddr); err != nil {
		s.close(ctx)
		return nil, err
	}
	s.engine.reportTies(a)
	if s.engine.injector.Table().Len() == 0 {
		a.warn("nothing is connected: no credential will be attached (run: authsome login PROVIDER)")
	}
	return s, nil
}

func newRunID() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// open starts listening, writes the trust files and records the start.
func (s *session) open(metricsAddr string) error {
	l, err := s.listen()
	if err != nil {
		return err
	}
	go func() { s.serving <- s.engine.proxy.Serve(l) }()
	if metricsAddr != "" {
		if err := s.serveMetrics(metricsAddr); err != nil {
			return err
		}
	}
	sweepRunDirs()
	if s.dir, err = makeRunDir(); err != nil {
		return temporaryError(err)
	}
	proxyURL := url.URL{Scheme: "http", User: url.UserPassword("run", s.engine.token.Reveal()), Host: l.Addr().String()}
	in := ca.TrustInput{Environ: s.app.getenv, ProxyURL: proxyURL.String()}
	if s.cell == nil { // there is no way around the proxy out of a cell
		in.Intercepted = s.engine.injector.Table().Hosts()
	}
	s.trust, err = ca.WriteTrust(s.dir.path, s.engine.authority.RootPEM(), in)
	if path := (*fs.PathError)(nil); errors.As(err, &path) && !strings.HasPrefix(path.Path, s.dir.path) {
		return &fault{code: "TrustFile", exit: exitOther, msg: err.Error(), err: err, hint: readableFile}
	}
	if err != nil {
		return temporaryError(err)
	}
	for _, w := range s.trust.Warnings {
		s.app.warn("%s", w)
	}
	return s.client.Record("run.start", "", "")
}

// listen opens the proxy's listener: on our loopback, or on the command's.
func (s *session) listen() (net.Listener, error) {
	if s.cell != nil {
		return s.cell.listen(s.engine, s.app.logger())
	}
	// Keep-alive probes say nothing on the loopback that the idle limits do not.
	listen := net.ListenConfig{KeepAlive: -1}
	l, err := listen.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on the loopback: %w", err)
	}
	return l, nil
}

// temporaryError says what to do where temporary files cannot be made.
func temporaryError(err error) error {
	return &fault{code: "TemporaryFiles", exit: exitOther, msg: err.Error(), err: err,
		hint: "free some space in " + os.TempDir() + " and make it writable, or set TMPDIR to another directory"}
}

func (s *session) serveMetrics(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return &fault{code: "Listen", exit: exitOther, msg: fmt.Sprintf("--metrics-addr %s: %v", addr, err), hint: "give a host:port that is free, such as 127.0.0.1:0", err: err}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.engine.registry, promhttp.HandlerOpts{}))
	s.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: drainTime}
	go s.metrics.Serve(l)
	s.app.say("Metrics are at http://%s/metrics", l.Addr())
	return nil
}

// child runs the command and returns its exit code.
func (s *session) child(ctx context.Context, path string, argv []string, signals <-chan os.Signal) (int, error) {
	if err := ctx.Err(); err != nil {
		return exitCancelled, errors.Join(err, s.ended(exitCancelled, audit.Failed))
	}
	p, err := s.start(path, argv)
	if err != nil {
		s.ended(exitNotExecutable, audit.Failed) // nothing ran: what did not start is the error to tell
		return exitNotExecutable, notStarted(argv[0], err)
	}
	s.app.printed = true // stdout is the child's now
	done := make(chan int, 1)
	go func() { done <- p.wait() }()
	for {
		select {
		case sig := <-signals:
			pass(p, sig)
		case code := <-done:
			s.engine.stop(ctx) // what was under way is on record before the end is
			if err := s.ended(code, audit.OK); err != nil {
				s.app.warn("the end of the run is not on record: %v", err)
			}
			return code, nil
		}
	}
}

// process is the command under way.
type process struct {
	pid    int // 0 for a command in namespaces of its own
	signal func(os.Signal)
	wait   func() int // returns the exit code
}

// start starts the command as our child, or in its namespaces.
func (s *session) start(path string, argv []string) (*process, error) {
	env := s.environment(os.Environ())
	if s.cell != nil {
		return s.cell.start(s, path, argv, env)
	}
	cmd := &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{pid: cmd.Process.Pid, signal: func(sig os.Signal) { cmd.Process.Signal(sig) }, wait: func() int { return exitCode(cmd, cmd.Wait()) }}, nil
}

// notStarted is the error of a command that did not start: it cannot be
// executed, or its namespaces cannot be had.
func notStarted(name string, err error) error {
	var own *fault
	if errors.As(err, &own) {
		return own
	}
	f := &fault{code: "NotExecutable", exit: exitNotExecutable, msg: name + ": not executable", hint: "check the file's permissions", err: err}
	if cause := errors.Unwrap(err); cause != nil && !errors.Is(err, fs.ErrPermission) {
		f.msg, f.hint = fmt.Sprintf("%s: %v", name, cause), "is it a program for this machine?"
	}
	return f
}

func (s *session) ended(code int, outcome string) error {
	return s.client.Audit.Write(audit.Event{Event: "run.end", Profile: s.client.Profile, Outcome: outcome, ExitCode: &code})
}

// environment is the parent's with our variables set and our secrets removed.
func (s *session) environment(parent []string) []string {
	set := s.trust.Env()
	held, err := s.client.Broker.List(context.Background())
	if err != nil {
		s.app.logger().Warn("some connections have no placeholder", "error", err)
	}
	for name, l := range held {
		entry, err := s.client.Registry.Lookup(name)
		if err != nil || len(l.Connections) == 0 {
			continue
		}
		maps.Copy(set, entry.Placeholders())
	}
	drop := map[string]bool{}
	for _, name := range secretVariables {
		drop[name] = true
	}
	if s.cell != nil {
		for _, name := range isolate.DropVariables {
			drop[name] = true
		}
	}
	var env []string
	for _, pair := range parent {
		name, _, _ := strings.Cut(pair, "=")
		if _, replaced := set[name]; !replaced && !drop[name] {
			env = append(env, pair)
		}
	}
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	sort.Strings(env)
	return env
}

// close ends the run and leaves nothing behind.
func (s *session) close(ctx context.Context) error {
	s.engine.stop(ctx)
	if s.cell != nil {
		s.cell.close()
	}
	if s.metrics != nil {
		s.metrics.Close()
	}
	if s.dir == nil {
		return nil
	}
	return s.dir.remove()
}
