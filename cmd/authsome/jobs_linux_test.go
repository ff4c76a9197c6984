package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// state is the state letter of a process (proc(5)), "" when there is none.
func state(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return after[:1]
}

// TestStopAndContinue sends SIGTSTP and SIGCONT to authsome alone: the child
// stops first, then the proxy, and both go on.
func TestStopAndContinue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	// A process group of its own: in one that no shell looks after, the kernel
	// drops SIGTSTP.
	cmd := w.command(nil, "run", "--", "sh", "-c", `echo ready; echo $$; read go; curl -sS `+apiURL+`; exit 3`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run := w.startCommand(cmd)
	var child int
	if _, err := fmt.Sscan(run.line(), &child); err != nil {
		t.Fatal(err)
	}
	is := func(pid int, want string) func() bool {
		return func() bool { return strings.Contains(want, state(pid)) }
	}
	now := func() string { return fmt.Sprintf("authsome %s, child %s", state(run.cmd.Process.Pid), state(child)) }
	for range 2 {
		run.cmd.Process.Signal(syscall.SIGTSTP)
		eventually(t, "authsome stops", is(run.cmd.Process.Pid, "T"), now)
		if !is(child, "T")() {
			t.Errorf("authsome stopped before its child: %s", now())
		}
		run.cmd.Process.Signal(syscall.SIGCONT)
		eventually(t, "authsome goes on", is(run.cmd.Process.Pid, "SR"), now)
		eventually(t, "the child goes on", is(child, "SR"), now)
	}
	run.say("go")
	if code, rest := run.wait(); code != 3 || !strings.Contains(rest, "welcome") {
		t.Errorf("exit %d: %s%s", code, rest, run.stderr)
	}
	w.leavesNothing()
}

// TestChildThatIgnoresTheStop keeps its proxy.
func TestChildThatIgnoresTheStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	cmd := w.command(nil, "run", "--", "sh", "-c", `trap '' TSTP; echo ready; read go; curl -sS `+apiURL)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run := w.startCommand(cmd)
	run.cmd.Process.Signal(syscall.SIGTSTP)
	run.say("go")
	if code, rest := run.wait(); code != 0 || !strings.Contains(rest, "welcome") {
		t.Errorf("exit %d: %s%s", code, rest, run.stderr)
	}
}

// TestDaemon has the child leave a daemon behind: the run ends with the child,
// and the daemon is left with a proxy that is gone, and with no credential.
func TestDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	dir := t.TempDir()
	daemon := `while ! [ -e go ]; do sleep 0.02; done; curl -s ` + apiURL + ` > answer; echo $? > code.new; mv code.new code`
	run := w.command([]string{"DAEMON=" + daemon}, "run", "--", "sh", "-c", `setsid sh -c "$DAEMON" </dev/null >/dev/null 2>&1 & exit 4`)
	run.Dir = dir
	from := time.Now()
	if r := w.run(run, ""); r.code != 4 || r.stdout+r.stderr != "" {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if took := time.Since(from); took > patience {
		t.Errorf("the run took %v: it waited for the daemon", took)
	}
	w.leavesNothing()
	file(t, dir, "go", "")
	code := filepath.Join(dir, "code")
	exists := func() bool { _, err := os.Stat(code); return err == nil }
	eventually(t, "the daemon ends", exists, func() string { return "" })
	b, err := os.ReadFile(code)
	if err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Errorf("the daemon's curl ended with %s, %v", b, err)
	}
	if len(w.requests()) > 0 {
		t.Errorf("the origin was reached: %v", w.requests())
	}
}

// TestChildThatClosesItsStreams keeps its proxy until it ends.
func TestChildThatClosesItsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	cmd := w.command(nil, "run", "--", "sh", "-c", `exec <&- >&- 2>&-; curl -s -o answer `+apiURL+`; exit 4`)
	cmd.Dir = t.TempDir()
	if r := w.run(cmd, ""); r.code != 4 {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if b, err := os.ReadFile(filepath.Join(cmd.Dir, "answer")); err != nil || string(b) != "welcome GET 0\n" {
		t.Errorf("the child was answered %q, %v", b, err)
	}
}

// TestManyRuns leaves nothing behind, in the home neither.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.must("run", "true")
	sizes := func() string {
		var b strings.Builder
		filepath.Walk(w.home, func(path string, info os.FileInfo, err error) error {
			if err == nil && !strings.HasPrefix(filepath.Base(path), "audit.") { // which grow
				fmt.Fprintln(&b, path, info.Size())
			}
			return err
		})
		return b.String()
	}
	before := sizes()
	const runs = 100
	for range runs {
		w.must("run", "true")
	}
	if after := sizes(); after != before {
		t.Errorf("the home was\n%s\nand is\n%s", before, after)
	}
	w.leavesNothing()
	if ends := strings.Count(w.must("log", "--event", "run.end", "-n", "0").stdout, "exit 0"); ends != runs+1 {
		t.Errorf("%d ends are on record, want %d", ends, runs+1)
	}
}
