package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"authsome/proxy"
	"authsome/proxy/isolate"

	"github.com/spf13/cobra"
)

// isolateInside is the hidden command that is pid 1 of a run's namespaces.
const isolateInside = "inside"

func newIsolateInside(a *app) *cobra.Command {
	return &cobra.Command{Use: isolateInside, Hidden: true, DisableFlagParsing: true, RunE: func(_ *cobra.Command, args []string) error {
		a.code = isolate.Main(args)
		return nil
	}}
}

// cell is a run's namespaces, and what serves them.
type cell struct {
	*isolate.Namespace
	*isolate.Listeners
	keys []string // files that open the vault
}

// openCell makes the namespaces, before there is a secret in memory and while
// the environment still says where it will come from.
func (a *app) openCell() (*cell, error) {
	n, err := isolate.Open(isolateInside)
	if err != nil {
		return nil, isolationFault(err)
	}
	c := &cell{Namespace: n}
	for _, name := range []string{"AUTHSOME_MASTER_KEY_FILE", "AUTHSOME_PASSPHRASE_FILE"} {
		path, err := filepath.Abs(a.getenv(name))
		if err == nil && a.getenv(name) != "" {
			c.keys = append(c.keys, path)
		}
	}
	return c, nil
}

// isolationFault gives an error of isolation its class.
func isolationFault(err error) error {
	var e *isolate.Error
	if !errors.As(err, &e) {
		return err
	}
	code := "IsolationUnavailable"
	if errors.Is(err, isolate.ErrHidden) {
		code = "IsolationHides"
	}
	return &fault{code: code, exit: exitOwn, msg: e.Msg, hint: e.Next, err: err}
}

// listen has the namespace's sockets made and serves all but the proxy's own,
// which it returns. Clients that use no proxy are found on the ports of plain
// and of secure HTTP, and on those that credentials are routed to.
func (c *cell) listen(e *engine, log *slog.Logger) (net.Listener, error) {
	ports := e.injector.Table().Ports()
	for _, port := range []uint16{80, 443} {
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	ports = slices.DeleteFunc(ports, func(port uint16) bool { return port == 53 }) // the resolver's
	var err error
	if c.Listeners, err = c.Listen(ports); err != nil {
		return nil, isolationFault(err)
	}
	for _, l := range c.AnyIP {
		go e.proxy.ServeAnyIP(l)
	}
	resolver := &isolate.Resolver{
		Logger:  log,
		Allowed: func(host string) bool { admitted, _ := e.proxy.Admits(host, ports); return admitted },
		ByName:  func(host string) bool { _, byName := e.proxy.Admits(host, ports); return byName },
	}
	go resolver.ServeTCP(c.DNS)
	go resolver.ServeUDP(c.Query)
	return c.Proxy, nil
}

// close ends what is inside, and the resolver.
func (c *cell) close() {
	c.Namespace.Close()
	if c.Listeners != nil {
		c.DNS.Close()
		c.Query.Close()
	}
}

// hidden are what the command may not see of ours.
func (s *session) hidden() []string {
	hide := append([]string{s.client.Home.Dir}, s.cell.keys...)
	if s.app.logFile != "" {
		hide = append(hide, s.app.logFile)
	}
	return hide
}

// start starts the command in the namespaces.
func (c *cell) start(s *session, path string, argv, env []string) (*process, error) {
	command, err := c.command(s, path, argv, env)
	if err != nil {
		return nil, ownFailure(err)
	}
	restore := keepForeground()
	err = c.Start(command)
	var exe *exec.Error
	if errors.As(err, &exe) {
		return nil, &os.PathError{Op: "fork/exec", Path: path, Err: exe.Err} // what os/exec says of a child of ours
	}
	if err != nil {
		return nil, ownFailure(isolationFault(err))
	}
	return &process{signal: c.Signal, wait: func() int { defer restore(); return c.wait() }}, nil
}

// wait returns the command's exit code, or 128+n when signal n ended it.
func (c *cell) wait() int {
	status, err := c.Wait()
	switch {
	case err != nil:
		return exitOwn
	case status.Signal != 0:
		return 128 + status.Signal
	}
	return status.Code
}

func (c *cell) command(s *session, path string, argv, env []string) (isolate.Command, error) {
	wd, err := os.Getwd()
	if err != nil {
		return isolate.Command{}, fmt.Errorf("find the working directory: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return isolate.Command{}, err
	}
	return isolate.Command{Path: path, Args: argv, Env: env, Dir: wd, Hide: s.hidden(), Keep: []string{s.dir.path}}, nil
}

// isolated is the policy of a proxy whose clients are alone in a network
// namespace. The listener itself authenticates: nobody else can connect to it,
// so that a client which sends no token is as welcome as one that does.
func isolated(cfg proxy.Config) proxy.Config {
	cfg.TrustPeer, cfg.OpenLoopback, cfg.Forbid = nil, true, proxy.ThisMachine
	return cfg
}

// checkIsolation is doctor's: does run --isolate work here?
func (a *app) checkIsolation() check {
	c := check{Name: "isolation", OK: true, Detail: "run --isolate works here"}
	if os.Geteuid() == 0 {
		c.Detail += "; an isolated command of root can still change root's files: run it as an ordinary user"
	}
	err := a.tryIsolation()
	if err == nil {
		return c
	}
	// Nothing is broken: a container may well forbid it, and be one itself.
	f := describe(isolationFault(err))
	c.Detail = "run --isolate does not work here: " + f.msg
	if f.hint != "" {
		c.Detail += " (" + f.hint + ")"
	}
	return c
}

func (a *app) tryIsolation() error {
	c, err := a.openCell()
	if err != nil {
		return err
	}
	defer c.close()
	if c.Listeners, err = c.Listen(nil); err != nil {
		return err
	}
	defer c.Proxy.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return c.Start(isolate.Command{Path: self, Dir: "/", Check: true})
}
