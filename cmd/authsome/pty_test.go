//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with a program in its foreground.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File
	read   chan struct{} // closed when nothing comes any more

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// onTerminal starts a command on a terminal of its own, as its session's leader.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	return onTerminalOf(t, 0, cmd)
}

// onTerminalOf is onTerminal on one that is so many columns wide; 0 is one that
// does not know.
func onTerminalOf(t *testing.T, columns uint16, cmd *exec.Cmd) *terminal {
	t.Helper()
	term := &terminal{t: t, cmd: cmd, read: make(chan struct{})}
	term.master, term.slave = openPTY(t)
	if err := unix.IoctlSetWinsize(int(term.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: 24}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		term.slave.Close()
		term.master.Close()
		<-term.read
	})
	go func() {
		defer close(term.read)
		buf := make([]byte, 4096)
		for {
			n, err := term.master.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("open a pseudo-terminal: %v", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func (term *terminal) output() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.out.String(), "\r\n", "\n")
}

// expect waits for a text on the screen.
func (term *terminal) expect(text string) {
	term.t.Helper()
	eventually(term.t, fmt.Sprintf("the terminal shows %q", text), func() bool { return strings.Contains(term.output(), text) },
		func() string { return term.output() })
}

// typed is what a person types.
func (term *terminal) typed(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// echoes reports whether the terminal shows what is typed.
func (term *terminal) echoes() bool {
	raw, err := term.master.SyscallConn()
	if err != nil {
		term.t.Fatal(err)
	}
	var state *unix.Termios
	raw.Control(func(fd uintptr) { state, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	if err != nil {
		term.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// wait returns the exit code, when all that was written has been read.
func (term *terminal) wait() int {
	term.t.Helper()
	done := make(chan error, 1)
	go func() { done <- term.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(patience):
		term.cmd.Process.Kill()
		term.t.Fatalf("%v did not end; the terminal shows:\n%s", term.cmd.Args, term.output())
	}
	term.slave.Close()
	<-term.read
	return term.cmd.ProcessState.ExitCode()
}

// patience is how long anything may take on a loaded machine.
const patience = 10 * time.Second

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool, context func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s\n%s", what, context())
		}
	}
}

// TestMaskedPrompt enters a key on a terminal: it is not shown, and the
// terminal is as it was.
func TestMaskedPrompt(t *testing.T) {
	w := newWorld(t)
	w.register(exampleDefinition)
	term := onTerminal(t, w.command(nil, "login", "example"))
	term.expect("Example key for api.example.test: ")
	eventually(t, "the terminal stops to echo", func() bool { return !term.echoes() }, term.output)
	term.typed(canary + "\r")
	term.expect("Logged in to example")
	if code := term.wait(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if strings.Contains(term.output(), canary) {
		t.Errorf("the key is on the screen:\n%s", term.output())
	}
	if !term.echoes() {
		t.Error("the terminal does not echo any more")
	}
	if got := w.must("get", "example", "--field", "api_key", "--show-secret").stdout; got != canary+"\n" {
		t.Errorf("stored %q", got)
	}
}

// TestLongKey pastes keys as long as can be typed, and longer: a key is never
// stored by half.
func TestLongKey(t *testing.T) {
	w := newWorld(t)
	w.register(exampleDefinition)
	for _, c := range []struct {
		length, code int
		stored       int
	}{{4095, 0, 4095}, {4096, 4, 4095}, {8000, 4, 4095}} {
		key := strings.Repeat("0123456789abcdef", 500)[:c.length]
		term := onTerminal(t, w.command([]string{"NO_COLOR=1"}, "login", "example", "--force"))
		term.expect("Example key for api.example.test: ")
		eventually(t, "the terminal stops to echo", func() bool { return !term.echoes() }, term.output)
		for part := range slices.Chunk([]byte(key), 1000) { // what a terminal takes at once
			term.typed(string(part))
			time.Sleep(20 * time.Millisecond)
		}
		term.typed("\r")
		if code := term.wait(); code != c.code {
			t.Errorf("%d bytes: exit %d, want %d\n%s", c.length, code, c.code, term.output())
		}
		if got := w.must("get", "example", "--field", "api_key", "--show-secret").stdout; len(got)-1 != c.stored {
			t.Errorf("%d bytes: stored %d, want %d", c.length, len(got)-1, c.stored)
		}
	}
}

// TestPromptCalledOff ends a prompt in all the ways there are. Nothing is
// stored, and the terminal is as it was.
func TestPromptCalledOff(t *testing.T) {
	w := newWorld(t)
	w.register(exampleDefinition)
	for name, end := range map[string]func(*terminal){
		"Ctrl-C":  func(term *terminal) { term.typed("half a ke\x03") },
		"SIGINT":  func(term *terminal) { term.cmd.Process.Signal(syscall.SIGINT) },
		"SIGQUIT": func(term *terminal) { term.cmd.Process.Signal(syscall.SIGQUIT) },
		"Ctrl-D":  func(term *terminal) { term.typed("\x04") },
		"nothing": func(term *terminal) { term.typed("\r") },
		"SIGTERM": func(term *terminal) { term.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGHUP":  func(term *terminal) { term.cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			term := onTerminal(t, w.command([]string{"NO_COLOR=1"}, "login", "example"))
			term.expect("Example key for api.example.test: ")
			eventually(t, "the terminal stops to echo", func() bool { return !term.echoes() }, term.output)
			end(term)
			if code := term.wait(); code != 8 {
				t.Errorf("exit %d, want 8", code)
			}
			if !term.echoes() {
				t.Error("the terminal does not echo any more")
			}
			term.expect("error: ")
			if out := term.output(); strings.Contains(out, "goroutine") || strings.Count(out, "error:") != 1 {
				t.Errorf("the terminal shows:\n%s", out)
			}
			if r := w.authsome("get", "example"); r.code != 5 {
				t.Errorf("something was stored: exit %d", r.code)
			}
		})
	}
}

// TestQuestionsOnATerminal answers register's question, and calls it off.
func TestQuestionsOnATerminal(t *testing.T) {
	w := newWorld(t)
	path := file(t, t.TempDir(), "example.json", exampleDefinition)
	for _, c := range []struct {
		keys string
		code int
	}{{"\x03", 8}, {"\r", 8}, {"maybe\r", 8}, {"\x04", 8}, {"YES\r", 0}} {
		term := onTerminal(t, w.command(nil, "register", path))
		term.expect("Register example? [y/N] ")
		term.typed(c.keys)
		if code := term.wait(); code != c.code {
			t.Errorf("%q: exit %d, want %d\n%s", c.keys, code, c.code, term.output())
		}
	}
	w.must("inspect", "example")
}

// An answer that will not do is said to be so before a secret is typed after it.
func TestAnswersThatWillNotDo(t *testing.T) {
	w := newWorld(t)
	w.register(`{"schema_version": 1, "name": "site", "display_name": "Site", "auth_type": "api_key", "flow": "api_key",
		"host_url": "{base_url}/rest", "api_key": {"env_var": "SITE_KEY"}}`)
	w.register(`{"schema_version": 1, "name": "app", "display_name": "App", "auth_type": "oauth2", "flow": "pkce", "host_url": "api.example.test",
		"oauth": {"authorization_url": "https://auth.example.test/authorize", "token_url": "https://auth.example.test/token"}}`)
	term := onTerminal(t, w.command([]string{"NO_COLOR=1"}, "login", "site"))
	for _, c := range []struct{ keys, then string }{
		{"\r", "it is self-hosted or per site"},
		{"ftp://site.example.test\r", "want https://host"},
		{"Site.example.test\r", "Site key for https://site.example.test/rest: "},
	} {
		term.expect("Base URL: ")
		term.typed(c.keys)
		term.expect(c.then)
	}
	term.typed("\x03")
	if code := term.wait(); code != 8 {
		t.Errorf("exit %d, want 8", code)
	}
	term = onTerminal(t, w.command([]string{"NO_COLOR=1"}, "login", "site", "--base-url", "ftp://site.example.test"))
	if code := term.wait(); code != 2 || strings.Contains(term.output(), "Site key") {
		t.Errorf("exit %d, want 2\n%s", code, term.output())
	}
	term = onTerminal(t, w.command([]string{"NO_COLOR=1"}, "login", "app"))
	term.expect("Client id: ")
	term.typed("\r")
	term.expect("it is needed; Ctrl-C ends the login")
	term.typed("id\r")
	term.expect("App client secret")
	term.typed("\r")
	term.expect("https://auth.example.test/authorize")
	term.typed("\x03")
	if code := term.wait(); code != 8 || !strings.Contains(term.output(), "^C\nerror: cancelled") {
		t.Errorf("exit %d, want 8\n%s", code, term.output())
	}
}

// Ctrl-C at one of import's questions is an answer to none of them: what was
// imported before it stays, and is said.
func TestImportCalledOff(t *testing.T) {
	w := newWorld(t)
	w.register(exampleDefinition)
	env := file(t, t.TempDir(), "env", "EXAMPLE_API_KEY="+canary+"\nGITHUB_TOKEN="+canary+"\nGITLAB_TOKEN="+canary+"\n")
	term := onTerminal(t, w.command(nil, "import", env))
	term.expect("as example/default? [y/N] ")
	term.typed("y\r")
	term.expect("as github/default? [y/N] ")
	term.typed("\x03")
	if code := term.wait(); code != 8 {
		t.Errorf("exit %d, want 8", code)
	}
	if out := term.output(); strings.Contains(out, "gitlab") || strings.Contains(out, "not wanted") || !strings.Contains(out, "[y/N] ^C\nimported  example/default") {
		t.Errorf("the terminal shows:\n%s", out)
	}
	w.must("get", "example")
	if r := w.authsome("get", "github"); r.code != 5 {
		t.Errorf("github: exit %d", r.code)
	}
	w.noSecret()
}

// TestColours finds colours on a terminal, and none where they are not wanted.
func TestColours(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want bool
	}{
		{"list", nil, []string{"list"}, true},
		{"an error", nil, []string{"get", "nobody"}, true},
		{"NO_COLOR", []string{"NO_COLOR=1"}, []string{"list"}, false},
		{"NO_COLOR, an error", []string{"NO_COLOR=1"}, []string{"get", "nobody"}, false},
		{"--no-color", nil, []string{"list", "--no-color"}, false},
		{"a dumb terminal", []string{"TERM=dumb"}, []string{"list"}, false},
		{"JSON", nil, []string{"list", "--json"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			term := onTerminal(t, w.command(append([]string{"TERM=xterm"}, c.env...), c.args...))
			term.wait()
			if got := strings.Contains(term.output(), "\x1b["); got != c.want {
				t.Errorf("colours: got %t, want %t\n%q", got, c.want, term.output())
			}
		})
	}
}

// counts counts the signals that it gets, and ends half a second after the
// first. It is written in Python for os.tcgetpgrp.
const counts = `
import os, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(time.time()))
print("ready", "foreground" if os.tcgetpgrp(0) == os.getpgrp() else "background", flush=True)
while not got or time.time() < got[0] + 0.5:
    time.sleep(0.02)
print("interrupts:", len(got), flush=True)
sys.exit(9)`

// TestCtrlCOnce types Ctrl-C at a run on a terminal: the child, which is in the
// foreground like without us, gets one SIGINT, and its exit code is the run's.
func TestCtrlCOnce(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, run := range [][]string{{"run", "--"}, {"run", "--isolate", "--"}} {
		term := onTerminal(t, w.command(nil, append(run, "/usr/bin/python3", "-c", counts)...))
		term.expect("ready foreground")
		term.typed("\x03")
		term.expect("interrupts: ")
		if code := term.wait(); code != 9 {
			t.Errorf("%v: exit %d, want the child's 9", run, code)
		}
		if !strings.Contains(term.output(), "interrupts: 1\n") {
			t.Errorf("%v: the terminal shows:\n%s", run, term.output())
		}
	}
	w.leavesNothing()
}

// TestRunAtATerminal checks that the child has the terminal as it is: a shell
// with job control works, and is stopped and continued.
func TestRunAtATerminal(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, run := range []string{"run", "run --isolate"} {
		t.Run(run, func(t *testing.T) { runAtATerminal(t, w, run) })
	}
}

func runAtATerminal(t *testing.T, w *world, run string) {
	shell := exec.Command(tool(t, "bash"), "--norc", "--noprofile", "-i")
	shell.Env = w.env("PS1=$ ", "TERM=dumb", "A="+binary)
	term := onTerminal(t, shell)
	term.expect("$ ")
	term.typed("$A " + run + " -- sh -c 'echo started; read line; echo got $line; [ -t 0 ] && [ -t 1 ] && exit 33'\r")
	term.expect("\nstarted\n")
	term.typed("\x1a") // Ctrl-Z
	term.expect("Stopped")
	term.typed("fg\r")
	eventually(t, "the job goes on", func() bool { return strings.Count(term.output(), "read line") > 1 }, term.output)
	term.typed("something\r")
	term.expect("got something")
	term.typed("echo code=$?\r")
	term.expect("code=33")
	term.typed("exit\r")
	term.wait()
	w.leavesNothing()
}

// TestShellInARun has a shell with job control in a run take the terminal and
// leave it. What comes next can read from it.
func TestShellInARun(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, run := range []string{"run", "run --isolate"} {
		script := `"$A" ` + run + ` -- bash --norc --noprofile -i; echo code=$?; read line; echo got $line`
		cmd := exec.Command(tool(t, "sh"), "-c", script)
		cmd.Env = w.env("PS1=inner ", "TERM=dumb", "A="+binary)
		term := onTerminal(t, cmd)
		term.expect("inner ")
		term.typed("sh -c 'echo started; exec sleep 100'\r")
		term.expect("\nstarted\n") // before that the shell itself would be sent what follows
		term.typed("\x1a")
		term.expect("Stopped")
		term.typed("fg\r")
		eventually(t, "the job goes on", func() bool { return strings.Count(term.output(), "sleep 100") > 2 }, term.output)
		term.typed("\x03exit 21\r")
		term.expect("code=21")
		term.typed("something\r")
		term.expect("got something")
		term.wait()
	}
	w.leavesNothing()
}
