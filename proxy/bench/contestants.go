package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"authsome/proxy/bench/internal/rig"
)

var (
	//go:embed peers/mitmproxy.py
	mitmproxyAddon []byte
	//go:embed peers/haproxy.cfg
	haproxyConfig string
)

// stage is what every contestant of a run shares.
type stage struct {
	dir      string // of this run
	origin   *process
	originCA string
	starts   int // contestants started, for names of directories
}

func newStage(dir string) (*stage, error) {
	s := &stage{dir: dir, originCA: filepath.Join(dir, "origin.pem")}
	var err error
	s.origin, err = startReady(dir, s.program("origin"), "-ca-out", s.originCA)
	return s, err
}

func (s *stage) program(name string) string { return filepath.Join(s.dir, name) }

// contestant is one running proxy, or the origin itself.
type contestant struct {
	name   string
	proc   *process // nil: the origin, addressed directly
	direct bool     // addressed by its port rather than by CONNECT
	ca     string   // root that its clients trust
	real   bool     // the client has to bring the credential itself
	small  bool     // takes part in small keep-alive requests only
	h2     bool     // speaks HTTP/2 to clients
}

// starters are the contestants, in the order of the report. One that is not
// installed is left out.
var starters = []struct {
	name  string
	needs string
	start func(*stage, string) (*contestant, error)
}{
	{"authsome", "", startGo("authsome")},
	{"goproxy", "", startGo("goproxy")},
	{"martian", "", startGo("martian")},
	{"mitmproxy", "mitmdump", startMitmproxy},
	{"haproxy", "haproxy", startHAProxy},
	{"relay", "", startRelay},
	{"direct", "", startDirect},
}

func (s *stage) start(name string) (*contestant, error) {
	for _, st := range starters {
		if st.name != name {
			continue
		}
		if st.needs != "" {
			if _, err := exec.LookPath(st.needs); err != nil {
				return nil, fmt.Errorf("%s is left out: %w", name, err)
			}
		}
		s.starts++
		dir := filepath.Join(s.dir, fmt.Sprintf("%02d-%s", s.starts, name))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		c, err := st.start(s, dir)
		if err != nil {
			return nil, err
		}
		c.name = name
		return c, nil
	}
	return nil, fmt.Errorf("no contestant %q", name)
}

func (c *contestant) stop() {
	if c.proc != nil {
		c.proc.stop()
	}
}

func startGo(name string) func(*stage, string) (*contestant, error) {
	return func(s *stage, dir string) (*contestant, error) {
		ca, o := filepath.Join(dir, "ca.pem"), s.origin.ready
		p, err := startReady(dir, s.program(name), "-h1", o.H1, "-h2", o.H2, "-raw", o.Raw,
			"-origin-ca", s.originCA, "-ca-out", ca, "-dir", dir)
		return &contestant{proc: p, ca: ca, h2: name == "authsome"}, err
	}
}

func startRelay(s *stage, dir string) (*contestant, error) {
	c, err := startGo("relay")(s, dir)
	if c != nil {
		c.small = true
	}
	return c, err
}

func startDirect(s *stage, _ string) (*contestant, error) {
	return &contestant{direct: true, real: true, ca: s.originCA, h2: true}, nil
}

func startMitmproxy(s *stage, dir string) (*contestant, error) {
	addon := filepath.Join(dir, "addon.py")
	if err := os.WriteFile(addon, mitmproxyAddon, 0o644); err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(addr)
	env := []string{"BENCH_AUTHORIZATION=" + rig.Authorization}
	for name, to := range map[string]string{"API": s.origin.ready.H1, "H2": s.origin.ready.H2, "RAW": s.origin.ready.Raw} {
		_, p, _ := net.SplitHostPort(to)
		env = append(env, "BENCH_"+name+"="+p)
	}
	p, err := startPort(dir, env, []string{addr}, "mitmdump", "-q", "--listen-host", host, "-p", port, "-s", addon,
		"--set", "confdir="+dir, "--set", "ssl_verify_upstream_trusted_ca="+s.originCA,
		"--set", "connection_strategy=lazy", "--ignore-hosts", "^"+strings.ReplaceAll(rig.RawHost, ".", `\.`))
	if err != nil {
		return nil, err
	}
	p.ready.Proxy = addr
	return &contestant{proc: p, ca: filepath.Join(dir, "mitmproxy-ca-cert.pem"), h2: true}, nil
}

func startHAProxy(s *stage, dir string) (*contestant, error) {
	ca, err := rig.NewAuthority("haproxy")
	if err != nil {
		return nil, err
	}
	_, leaf, err := ca.Leaf(rig.H1Host, rig.H2Host)
	if err != nil {
		return nil, err
	}
	front, err := freePort()
	if err != nil {
		return nil, err
	}
	tunnel, err := freePort()
	if err != nil {
		return nil, err
	}
	var config bytes.Buffer
	err = template.Must(template.New("").Parse(haproxyConfig)).Execute(&config, map[string]string{
		"Proxy": front, "Tunnel": tunnel, "Dir": dir, "Authorization": rig.Authorization,
		"OriginCA": s.originCA, "H1Host": rig.H1Host, "H2Host": rig.H2Host,
		"H1": s.origin.ready.H1, "H2": s.origin.ready.H2, "Raw": s.origin.ready.Raw})
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "ca.pem")
	for name, data := range map[string][]byte{root: ca.PEM, filepath.Join(dir, "leaf.pem"): leaf, filepath.Join(dir, "haproxy.cfg"): config.Bytes()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, err
		}
	}
	p, err := startPort(dir, nil, []string{front, tunnel}, "haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	if err != nil {
		return nil, err
	}
	p.ready.Proxy, p.ready.Tunnel = front, tunnel
	return &contestant{proc: p, direct: true, ca: root}, nil
}
