//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// started is a run under way whose child has said that it is ready.
type started struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *bytes.Buffer
}

// start starts authsome and waits for a line from its child.
func (w *world) start(args ...string) *started {
	w.t.Helper()
	return w.startCommand(w.command(nil, args...))
}

func (w *world) startCommand(cmd *exec.Cmd) *started {
	w.t.Helper()
	s := &started{t: w.t, cmd: cmd, stderr: &bytes.Buffer{}}
	s.cmd.Stderr = s.stderr
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	s.out = bufio.NewReader(stdout)
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	if line := s.line(); line != "ready" {
		w.t.Fatalf("the child said %q, want ready; stderr: %s", line, s.stderr)
	}
	return s
}

func (s *started) line() string {
	s.t.Helper()
	line, err := s.out.ReadString('\n')
	if err != nil && line == "" {
		s.t.Fatalf("%v; stderr: %s", err, s.stderr)
	}
	return strings.TrimSuffix(line, "\n")
}

func (s *started) say(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// wait returns the exit code and the rest of the output.
func (s *started) wait() (code int, rest string) {
	s.t.Helper()
	timer := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	b, err := io.ReadAll(s.out)
	if err != nil {
		s.t.Error(err)
	}
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode(), string(b)
}

// traps is a child that says which signal it got, and ends with the code 3 at
// SIGTERM, SIGINT and SIGHUP.
const traps = `
for s in INT TERM HUP; do trap "echo got $s; exit 3" $s; done
for s in USR1 USR2 QUIT; do trap "echo got $s" $s; done
echo ready
while :; do sleep 0.05; done`

// TestSignalsAreForwarded sends signals to authsome. The child gets each once,
// its code is the run's, and nothing is left behind.
func TestSignalsAreForwarded(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, s := range []struct {
		name   string
		signal syscall.Signal
	}{{"INT", syscall.SIGINT}, {"TERM", syscall.SIGTERM}, {"HUP", syscall.SIGHUP}} {
		t.Run(s.name, func(t *testing.T) {
			run := w.start("run", "--", "sh", "-c", traps)
			run.cmd.Process.Signal(syscall.SIGUSR1)
			if got := run.line(); got != "got USR1" {
				t.Errorf("the child said %q", got)
			}
			run.cmd.Process.Signal(syscall.SIGQUIT)
			if got := run.line(); got != "got QUIT" {
				t.Errorf("the child said %q", got)
			}
			run.cmd.Process.Signal(s.signal)
			code, rest := run.wait()
			if code != 3 || rest != "got "+s.name+"\n" {
				t.Errorf("exit %d, the child said %q", code, rest)
			}
			if run.stderr.Len() > 0 {
				t.Errorf("stderr: %s", run.stderr)
			}
			w.leavesNothing()
		})
	}
}

// TestSignalsEndTheChild sends signals to a run whose child does not heed them:
// the child dies of them, and the code is 128+n.
func TestSignalsEndTheChild(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR2} {
		run := w.start("run", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 60")
		run.cmd.Process.Signal(s)
		if code, _ := run.wait(); code != 128+int(s) {
			t.Errorf("%v: exit %d, want %d", s, code, 128+int(s))
		}
	}
	w.leavesNothing()
	if log := w.must("log", "--event", "run.end", "-n", "0").stdout; !strings.Contains(log, "exit 143") {
		t.Errorf("the audit log has no end with code 143:\n%s", log)
	}
}

// TestIgnoredSignalsStayIgnored runs under nohup: what we ignore, the child does.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	cmd := w.command(nil, "run", "--", "grep", "SigIgn", "/proc/self/status")
	cmd.Args = append([]string{"nohup", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = tool(t, "nohup")
	// What started the tests may have others ignored; SIGHUP is the lowest bit.
	r := w.run(cmd, "")
	_, mask, _ := strings.Cut(strings.TrimSpace(r.stdout), ":\t")
	if ignored, err := strconv.ParseUint(mask, 16, 64); err != nil || ignored&1 == 0 {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
}

// TestChildIsInOurGroup checks that the child stays in our process group and
// session: the shell that started us finds the job that it expects.
func TestChildIsInOurGroup(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	cmd := w.command(nil, "run", "--", "/usr/bin/python3", "-c", "import os; print(os.getpgrp() == os.getpgid(os.getppid()), os.getsid(0) == os.getsid(os.getppid()))")
	if r := w.run(cmd, ""); r.stdout != "True True\n" {
		t.Errorf("same group and session: %s", r.stdout)
	}
}

// TestStreamsAreUntouched passes every byte, in both directions, and other
// descriptors besides.
func TestStreamsAreUntouched(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	data := make([]byte, 3<<20)
	rand.Read(data)
	cmd := w.command(nil, "run", "--", "sh", "-c", "tee /dev/stderr <&0; cat <&3 >&4")
	r3, w3, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out4, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out4.Close()
	io.WriteString(w3, "through descriptor 3")
	w3.Close()
	cmd.ExtraFiles = []*os.File{r3, out4}
	cmd.Stdin = bytes.NewReader(data)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %.200s", err, stderr.String())
	}
	if !bytes.Equal(stdout.Bytes(), data) || !bytes.Equal(stderr.Bytes(), data) {
		t.Errorf("%d bytes in, %d on stdout, %d on stderr, or not the same", len(data), stdout.Len(), stderr.Len())
	}
	if b, _ := os.ReadFile(out4.Name()); string(b) != "through descriptor 3" {
		t.Errorf("descriptor 4 got %q", b)
	}
}

// TestClosedStreams starts a run with stdin, stdout or stderr closed.
func TestClosedStreams(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, c := range []struct{ script, want string }{
		{`"$A" run -- sh -c 'cat; echo $?' <&-`, "0\n"},
		{`"$A" run -- sh -c 'exit 5' >&-; echo $?`, "5\n"},
		{`"$A" run -- sh -c 'exit 6' 2>&-; echo $?`, "6\n"},
		{`"$A" run -- sh -c 'exit 7' <&- >&- 2>&-; echo $?`, "7\n"},
		{`"$A" run -- sh -c 'yes' | head -n 1; echo done`, "y\ndone\n"},
		{`"$A" list > /dev/full; echo $?`, "1\n"},
	} {
		cmd := w.command([]string{"A=" + binary})
		cmd.Path, cmd.Args = tool(t, "sh"), []string{"sh", "-c", c.script}
		if r := w.run(cmd, ""); r.stdout != c.want {
			t.Errorf("%s: %q, want %q\n%s", c.script, r.stdout, c.want, r.stderr)
		}
	}
}

// TestKilledRunIsSweptByTheNext kills a run outright. What it leaves, the next
// run removes; what belongs to a run that lives, it does not.
func TestKilledRunIsSweptByTheNext(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	alive := w.start("run", "--", "sh", "-c", `echo ready; read go; curl -sS `+apiURL)
	killed := w.start("run", "--", "sh", "-c", "echo ready; exec cat")
	killed.cmd.Process.Kill()
	killed.in.Close() // ends its child
	killed.cmd.Wait()
	if got := w.leftBehind(); len(got) != 2 {
		t.Fatalf("%d directories, want 2: %q", len(got), got)
	}
	w.must("run", "true")
	if got := w.leftBehind(); len(got) != 1 {
		t.Errorf("%d directories after the next run, want the one of the run that lives: %q", len(got), got)
	}
	alive.say("go")
	if code, rest := alive.wait(); code != 0 || !strings.Contains(rest, "welcome") {
		t.Errorf("the run that lived: exit %d, %s%s", code, rest, alive.stderr)
	}
	w.leavesNothing()

	// What is not a run's directory is not followed, and not emptied.
	outside := t.TempDir()
	kept := file(t, outside, "kept", "")
	if err := os.Symlink(outside, filepath.Join(w.tmp, "authsome-run-1-link")); err != nil {
		t.Fatal(err)
	}
	w.must("run", "true")
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
}

func (w *world) leftBehind() []string {
	w.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.tmp, "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return dirs
}

// TestRoutesFollowTheVault changes the vault while a run is under way: it
// notices within two seconds, on connections that are open as well.
func TestRoutesFollowTheVault(t *testing.T) {
	w := newWorld(t)
	w.register(exampleDefinition)
	// The second host keeps one connection open throughout.
	child := `
import http.client, os, ssl, sys, urllib.parse, base64
p = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
auth = "Basic " + base64.b64encode(f"{p.username}:{p.password}".encode()).decode()
def open():
    c = http.client.HTTPSConnection(p.hostname, p.port, context=ssl.create_default_context())
    c.set_tunnel("api.example.test", 443, {"Proxy-Authorization": auth})
    return c
def ask(c):
    c.request("GET", "/v1/me")
    r = c.getresponse()
    r.read()
    return r.status
kept = None
print("ready", flush=True)
for line in sys.stdin:
    if line == "keep\n":
        kept = open()
        print(ask(kept), flush=True)
    elif line == "kept\n":
        try: print(ask(kept), flush=True)
        except Exception as e: print(type(e).__name__, flush=True); kept = open()
    else:
        print(ask(open()), flush=True)
`
	run := w.start("run", "--", "/usr/bin/python3", "-c", child)
	ask := func(how string) string { run.say(how); return run.line() }
	within := func(what, how, want string) {
		t.Helper()
		from := time.Now()
		got := ask(how)
		for ; got != want && time.Since(from) < patience; got = ask(how) {
			time.Sleep(20 * time.Millisecond)
		}
		if took := time.Since(from); got != want || took > 2*time.Second {
			t.Errorf("%s: %s after %v, want %s within 2 s", what, got, took, want)
		}
	}
	if got := ask("fresh"); got != "401" {
		t.Errorf("before the login: %s", got)
	}
	if got := ask("keep"); got != "401" {
		t.Errorf("before the login, to be kept: %s", got)
	}
	w.login("", "example")
	within("login", "fresh", "200")
	// What was tunnelled is closed when it has been quiet for a second: asking
	// all the time would keep it.
	for from := time.Now(); ask("kept") != "200"; time.Sleep(2 * time.Second) {
		if time.Since(from) > patience {
			t.Fatal("the connection that was open before the login has no credential still")
		}
	}
	if got := ask("keep"); got != "200" {
		t.Errorf("the connection that is kept: %s", got)
	}
	w.must("logout", "example")
	from := time.Now()
	for got := ask("kept"); got == "200"; got = ask("kept") {
		if time.Since(from) > patience {
			t.Fatal("the connection that is kept has the credential still")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(from); took > 2*time.Second {
		t.Errorf("logout took %v to reach a connection that was open", took)
	}
	within("logout", "fresh", "401")
	w.login("", "example")
	within("second login", "fresh", "200")
	run.in.Close()
	if code, rest := run.wait(); code != 0 {
		t.Errorf("exit %d: %s%s", code, rest, run.stderr)
	}
}

// TestTwoRunsAtOnce runs two at the same time on one home, many times over.
func TestTwoRunsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	const runs, requests = 8, 3
	all := make(chan error, runs)
	for range runs {
		go func() {
			cmd := w.command(nil, "run", "--", "sh", "-c", fmt.Sprintf("for i in $(seq %d); do curl -sS %s; done", requests, apiURL))
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "welcome") != requests {
				err = fmt.Errorf("%v: %s", err, out)
			}
			all <- err
		}()
	}
	for range runs {
		if err := <-all; err != nil {
			t.Error(err)
		}
	}
	w.leavesNothing()
	log := w.must("log", "--event", "inject", "-n", "0").stdout
	if got := strings.Count(log, "inject"); got != runs*requests {
		t.Errorf("%d injections are on record, want %d", got, runs*requests)
	}
	ids := map[string]bool{}
	for line := range strings.Lines(log) {
		_, id, _ := strings.Cut(line, "run=")
		ids[strings.TrimSpace(id)] = true
	}
	if len(ids) != runs {
		t.Errorf("%d runs are on record, want %d", len(ids), runs)
	}
}

// TestEarlySignal ends authsome before its child is there: nothing is left.
func TestEarlySignal(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for delay := time.Duration(0); delay < 40*time.Millisecond; delay += 4 * time.Millisecond {
		cmd := w.command(nil, "run", "--", "sleep", "60")
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
		// Before main has begun, the signal ends the process like any other.
		if code := cmd.ProcessState.ExitCode(); code != 8 && code != 143 && status.Signal() != syscall.SIGTERM {
			t.Errorf("after %v: exit %d %v\n%s", delay, code, status.Signal(), cmd.Stderr)
		}
	}
	w.leavesNothing()
}

// TestNoChildOutlivesItsRun checks that a signal to the run leaves no process.
func TestNoChildOutlivesItsRun(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	run := w.start("run", "--", "sh", "-c", "echo ready; echo $$; exec sleep 60")
	pid, err := strconv.Atoi(run.line())
	if err != nil {
		t.Fatal(err)
	}
	run.cmd.Process.Signal(syscall.SIGTERM)
	run.wait()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Errorf("the child %d lives on", pid)
	}
}
