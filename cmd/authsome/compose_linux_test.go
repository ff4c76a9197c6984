package main_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composeFile is what is understood of a Compose file. A key that is not here is
// an error: it would not be tried.
type composeFile struct {
	dir      string
	Name     string
	Services map[string]composeService
	Networks map[string]struct{ Internal bool }
	Volumes  map[string]struct {
		Driver     string
		DriverOpts map[string]string `yaml:"driver_opts"`
	}
	Configs, Secrets map[string]struct{ File string }
}

type composeService struct {
	Image, Build, User  string
	Entrypoint, Command []string
	ReadOnly            bool     `yaml:"read_only"`
	CapDrop             []string `yaml:"cap_drop"`
	SecurityOpt         []string `yaml:"security_opt"`
	GroupAdd            []string `yaml:"group_add"`
	Networks            []string
	Configs             []struct{ Source, Target string }
	Secrets             []string
	Volumes, Tmpfs      []string
	Healthcheck         struct {
		Test              []string
		Interval, Timeout string
		Retries           int
		StartPeriod       string `yaml:"start_period"`
		StartInterval     string `yaml:"start_interval"`
	}
	DependsOn       map[string]map[string]string `yaml:"depends_on"`
	Restart         string
	StopGracePeriod string `yaml:"stop_grace_period"`
	MemLimit        string `yaml:"mem_limit"`
	PidsLimit       int    `yaml:"pids_limit"`
}

// readCompose copies the Compose file to a directory of its own, puts the secret
// where its comment says, and reads it.
func readCompose(t *testing.T) composeFile {
	t.Helper()
	f := composeFile{dir: openDir(t)}
	for _, name := range []string{"compose.yaml", "compose.proxy.yaml"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(readFile(t, filepath.Join("..", "..", "deploy", name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(f.dir, "secrets", "openai_api_key")
	for _, err := range []error{os.Mkdir(filepath.Dir(secret), 0o700), os.WriteFile(secret, []byte(openaiKey), 0o600),
		os.Chown(secret, -1, sidecarUser), os.Chmod(secret, 0o640)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	dec := yaml.NewDecoder(strings.NewReader(readFile(t, filepath.Join(f.dir, "compose.yaml"))))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// container is what a container engine makes of a service. Volumes are the
// named volumes' directories; those that are missing are made.
func (f composeFile) container(t *testing.T, name, rootfs string, image []string, volumes map[string]string) *container {
	t.Helper()
	s := f.Services[name]
	c := &container{t: t, rootfs: rootfs, args: append(append([]string{}, image...), s.Command...), writable: !s.ReadOnly, env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}}
	if s.Entrypoint != nil {
		c.args = append(append([]string{}, s.Entrypoint...), s.Command...)
	}
	for i, arg := range c.args {
		c.args[i] = strings.ReplaceAll(arg, "$$", "$")
	}
	if n, err := fmt.Sscanf(s.User, "%d:%d", &c.user, &c.group); n != 2 {
		t.Fatalf("user of %s: %v", name, err)
	}
	for _, g := range s.GroupAdd {
		c.groups = append(c.groups, atoi(t, g))
	}
	if strings.Join(s.CapDrop, " ") != "ALL" || strings.Join(s.SecurityOpt, " ") != "no-new-privileges:true" {
		t.Errorf("service %s keeps rights that it does not need", name)
	}
	for _, m := range s.Configs {
		c.mounts = append(c.mounts, mount{filepath.Join(f.dir, f.Configs[m.Source].File), m.Target, []string{"ro"}})
	}
	for _, secret := range s.Secrets {
		c.mounts = append(c.mounts, mount{filepath.Join(f.dir, f.Secrets[secret].File), "/run/secrets/" + secret, []string{"ro"}})
	}
	for _, m := range s.Volumes {
		part := strings.Split(m, ":")
		if volumes[part[0]] == "" {
			volumes[part[0]] = f.volume(t, part[0], filepath.Join(rootfs, part[1]))
		}
		c.mounts = append(c.mounts, mount{volumes[part[0]], part[1], part[2:]})
	}
	for _, m := range s.Tmpfs {
		target, options, _ := strings.Cut(m, ":")
		c.mounts = append(c.mounts, mount{"tmpfs", target, strings.Split(options, ",")})
	}
	return c
}

// volume makes a named volume. Unless it says whose it is, it is as the
// directory in the first image that uses it.
func (f composeFile) volume(t *testing.T, name, inImage string) string {
	t.Helper()
	options := map[string]string{}
	for _, o := range strings.Split(f.Volumes[name].DriverOpts["o"], ",") {
		key, value, _ := strings.Cut(o, "=")
		options[key] = value
	}
	if options["uid"] != "" {
		mode, err := strconv.ParseUint(options["mode"], 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		return volume(t, atoi(t, options["uid"]), atoi(t, options["gid"]), os.FileMode(mode))
	}
	info, err := os.Stat(inImage)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	return volume(t, int(owner.Uid), int(owner.Gid), info.Mode())
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// trust has a container of the image trust the test's origins, in place of the
// roots that it came with.
func (c *container) trust(i *internet) *container {
	c.mounts = append(c.mounts, mount{i.roots, "/etc/ssl/certs/ca-certificates.crt", []string{"ro"}})
	return c
}

// output runs a container of the agent's to its end. Its programs are this
// machine's.
func (c *container) output(stdin io.Reader) (string, error) {
	c.t.Helper()
	c.mounts = append(c.mounts, mount{"/usr", "/usr", []string{"ro"}})
	cmd := c.command()
	defer c.remove()
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	err := cmd.Run()
	if strings.Contains(out.String(), canary) {
		c.t.Errorf("%q: the agent holds the secret", c.args)
	}
	return out.String(), err
}

// runCompose does what docker compose up does with the Compose file.
func runCompose(t *testing.T, image, agentImage string) {
	f := readCompose(t)
	world := newInternet(t)
	outside := newPod(t, world) // with a route to the internet
	inside := newNetns(t, "agents")
	join(inside, "eth0", []string{"10.78.0.2/24"}, outside.netns, "agents0", []string{"10.78.0.1/24"})
	inside.addHost("10.78.0.1 authsome")
	volumes := map[string]string{}

	sidecar := f.container(t, "authsome", image, []string{"/usr/bin/authsome"}, volumes).trust(world)
	sidecar.network, sidecar.env = outside.netns, append(sidecar.env, "AUTHSOME_HOME=/var/lib/authsome")
	s := sidecar.serve(volumes["state"])
	check := f.Services["authsome"].Healthcheck.Test
	s.eventually("the health check passes", func() bool {
		if s.hasEnded() {
			t.Fatalf("the proxy ended:\n%s", s.stderr.String())
		}
		_, err := sidecar.exec(check[1:]...)
		return err == nil
	})
	agent := func(command ...string) *container {
		c := f.container(t, "agent", agentImage, nil, volumes)
		c.network = inside
		if command != nil {
			c.args = append(c.args[:len(f.Services["agent"].Entrypoint)], command...)
		}
		return c
	}
	t.Run("the agent as it is", func(t *testing.T) {
		if out, err := agent().output(nil); err != nil || !strings.Contains(out, "welcome api.openai.com") {
			t.Errorf("got %v: %s\nwant the origin's welcome", err, out)
		}
	})
	t.Run("what the agent holds", func(t *testing.T) {
		out, err := agent("sh", "-c", "env; ls /run/secrets /var/lib/authsome; cat /run/authsome/*.env").output(nil)
		if err != nil || !strings.Contains(out, "OPENAI_API_KEY=sk-authsome-proxy-managed") || strings.Count(out, "No such file") != 2 {
			t.Errorf("got %v: %s", err, out)
		}
	})
	t.Run("no way round", func(t *testing.T) {
		if out, err := agent("curl", "-sS", "--noproxy", "*", "--max-time", "5", "https://"+apiAddr4+"/").output(nil); err == nil || !strings.Contains(out, "curl: (7)") {
			t.Errorf("without the proxy: got %v: %s, want no connection", err, out)
		}
		if out, err := agent("curl", "-sS", "https://www.elsewhere.example.test/").output(nil); err == nil || !strings.Contains(out, "403") {
			t.Errorf("another host: got %v: %s, want 403", err, out)
		}
	})
	t.Run("another user", func(t *testing.T) {
		stranger := agent()
		stranger.groups = nil
		if out, err := stranger.output(nil); err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("got %v: %s, want the token to be out of reach", err, out)
		}
	})
	t.Run("the end", func(t *testing.T) { checkDrain(t, s, sidecar, world, agent, check[1:]) })
}

// checkDrain stops the sidecar while a request is under way.
func checkDrain(t *testing.T, s *service, sidecar *container, world *internet, agent func(...string) *container, check []string) {
	stdin, goOn := io.Pipe()
	defer goOn.Close()
	slow := agent("python3", "-c", `
import sys, urllib.request as u
def body():
    yield b"one"
    sys.stdin.readline()
    yield b"two"
print(u.urlopen(u.Request("https://api.openai.com/slow", data=body(), headers={"Transfer-Encoding": "chunked"})).read().decode())`)
	var out string
	var err error
	done := make(chan struct{})
	go func() { defer close(done); out, err = slow.output(stdin) }()
	s.eventually("the slow request arrives", func() bool { return strings.Contains(world.seen(), "/slow") })
	s.signal(syscall.SIGTERM)
	s.eventually("the sidecar is no longer ready", func() bool {
		out, err := sidecar.exec(check...)
		return err != nil && strings.Contains(out, "stopping")
	})
	fmt.Fprintln(goOn)
	goOn.Close()
	<-done
	if err != nil || !strings.Contains(out, "welcome") {
		t.Errorf("the request that was under way: got %v: %s, want the origin's welcome", err, out)
	}
	<-s.done
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if kinds := s.w.events(); !strings.HasSuffix(kinds, " run.end ") || strings.Count(kinds, " inject ") != 2 {
		t.Errorf("audit: got%s, want two injections and the end", kinds)
	}
	s.w.noSecret()
}

// The configurations that are there to be copied are understood: what is missing
// is the proxy to ask.
func TestDeployedConfigurations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"compose.proxy.yaml", "systemd/proxy.yaml"} {
		if r := w.authsome("proxy", "--healthcheck", "--json", "--config", filepath.Join("..", "..", "deploy", name)); !strings.Contains(r.stdout, `"NotReady"`) {
			t.Errorf("%s: got %s", name, r.stdout)
		}
	}
}

// addHost gives the namespace one more name.
func (n *netns) addHost(line string) {
	n.t.Helper()
	f, err := os.OpenFile("/etc/netns/"+n.name+"/hosts", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintln(f, line)
		f.Close()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}
