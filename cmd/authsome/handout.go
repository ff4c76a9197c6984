package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"authsome/ca"
	"authsome/flows/environ"
)

// handout is what was last written for the agents.
type handout struct {
	roots, env []byte
	in         string // the proxy URL that the trust files were written for
	trust      *ca.Trust
}

// publish writes the bundle and the variables for the agents, if what they
// should hold has changed.
func (s *sidecar) publish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.BundleOut == "" && s.cfg.EnvOut == "" {
		return nil
	}
	if err := s.publishTrust(); err != nil {
		return fmt.Errorf("write the agents' trust files: %w", err)
	}
	if s.cfg.EnvOut == "" {
		return nil
	}
	env, err := s.agentEnv()
	if err != nil {
		return err
	}
	if bytes.Equal(env, s.written.env) && isThere(s.cfg.EnvOut) {
		return nil
	}
	// With a token in it, it is for the owner's group at most.
	mode := fs.FileMode(0o644)
	if !s.token.IsZero() {
		mode = 0o640
	}
	if err := replaceFile(s.cfg.EnvOut, env, mode); err != nil {
		return err
	}
	s.written.env = env
	return nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// publishTrust writes the bundle and what stands beside it. The caller holds
// s.mu.
func (s *sidecar) publishTrust() error {
	roots := s.engine.authority.RootPEM()
	in, err := s.trustInput()
	if err != nil {
		return err
	}
	if s.written.trust != nil && s.written.in == in.ProxyURL && bytes.Equal(roots, s.written.roots) && isThere(s.bundlePath()) {
		return nil
	}
	if err := os.MkdirAll(s.cfg.trustDir(), 0o755); err != nil {
		return err
	}
	trust, err := ca.WriteTrust(s.cfg.trustDir(), roots, in)
	if err != nil {
		return err
	}
	if trust.Bundle != s.bundlePath() {
		bundle, err := os.ReadFile(trust.Bundle)
		if err == nil {
			err = replaceFile(s.bundlePath(), bundle, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if s.written.trust == nil {
		for _, w := range trust.Warnings {
			s.app.warn("%s", w)
		}
	}
	s.written.trust, s.written.roots, s.written.in = trust, roots, in.ProxyURL
	return nil
}

// trustDir is where the trust files go: where the bundle is asked for.
func (cfg *sidecarConfig) trustDir() string {
	if cfg.BundleOut != "" {
		return filepath.Dir(cfg.BundleOut)
	}
	return filepath.Dir(cfg.EnvOut)
}

func (s *sidecar) bundlePath() string {
	if s.cfg.BundleOut != "" {
		return s.cfg.BundleOut
	}
	return filepath.Join(s.cfg.trustDir(), "bundle.pem")
}

func (s *sidecar) trustInput() (ca.TrustInput, error) {
	in := ca.TrustInput{Environ: s.app.getenv, ChildDir: s.cfg.AgentDir, AllowOtherReaders: true}
	if len(s.sockets.proxy) == 0 {
		return in, nil // redirected: no variable names the proxy
	}
	at := s.cfg.Advertise
	if at == "" {
		at = s.sockets.proxy[0].Addr().String()
		host, _, err := net.SplitHostPort(at)
		if ip := net.ParseIP(host); err != nil || s.cfg.EnvOut != "" && (ip == nil || ip.IsUnspecified()) {
			return in, &fault{code: "Usage", exit: exitUsage, msg: "--env-out: under which address do agents reach " + at + "?", hint: "give --advertise HOST:PORT"}
		}
	}
	u := url.URL{Scheme: "http", Host: at}
	if !s.token.IsZero() {
		u.User = url.UserPassword("agent", s.token.Reveal())
	}
	in.ProxyURL, in.Intercepted = u.String(), s.engine.injector.Table().Hosts()
	return in, nil
}

// agentEnv renders the variables: the proxy, the trust, and a placeholder for
// each credential. The caller holds s.mu.
func (s *sidecar) agentEnv() ([]byte, error) {
	env := s.written.trust.Env()
	dir := s.cfg.AgentDir
	if dir == "" {
		var err error
		if dir, err = filepath.Abs(s.cfg.trustDir()); err != nil {
			return nil, err
		}
	}
	for name, value := range env {
		if value == filepath.Join(dir, filepath.Base(s.written.trust.Bundle)) {
			env[name] = filepath.Join(dir, filepath.Base(s.bundlePath()))
		}
	}
	held, err := s.client.Broker.List(context.Background())
	if err != nil && held == nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	granted := s.engine.granted.Load()
	for name, l := range held {
		entry, err := s.client.Registry.Lookup(name)
		if err != nil || len(l.Connections) == 0 || !granted.includes(name) {
			continue
		}
		maps.Copy(env, entry.Placeholders())
	}
	text, err := environ.Format(environ.Dotenv).Render(env)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", s.cfg.EnvOut, err)
	}
	return text, nil
}

func (g *granted) includes(provider string) bool {
	return len(g.providers) == 0 || slices.Contains(g.providers, provider) || g.choose[provider] != nil
}
