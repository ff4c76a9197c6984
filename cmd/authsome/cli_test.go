//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// TestExitCodes names each exit code, and ends a command with it, for a person
// and for a program.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	d := newGoldenDesk(t)
	for _, s := range []invocation{register, login, {run: "register oauth.json --yes"}} {
		d.prepare(s)
	}
	d.expire("dead")
	noHome := []string{"AUTHSOME_HOME=$DIR/no-home"}
	codes := []struct {
		code  int
		means string
		error string // with --json
		run   string
		env   []string
	}{
		{0, "success", "", "list --connected", nil},
		{1, "any other failure", "AlreadyConnected", "login example --secret-file key", nil},
		{2, "wrong usage", "Usage", "list --no-such-flag", nil},
		{3, "no such provider", "ProviderNotFound", "get nobody", nil},
		{4, "authentication failed", "InvalidSecret", "login openai --secret-file key", nil},
		{5, "credential missing", "CredentialMissing", "export openai", nil},
		{6, "refresh failed", "RefreshFailed", "export oauth", nil}, // for the first who asks
		{7, "store unavailable", "StoreUnavailable", "list", noHome},
		{8, "cancelled", "Cancelled", "vault restore backup.db", nil},
		{125, "run: authsome itself failed", "Listen", "run --metrics-addr nowhere:nothing true", nil},
		{126, "run: not executable", "NotExecutable", "run ./key", nil},
		{127, "run: not found", "NotFound", "run no-such-program", nil},
		{3, "run: no such provider", "ProviderNotFound", "run --provider nobody true", nil},
		{5, "run: credential missing", "CredentialMissing", "run --provider openai true", nil},
		{7, "run: store unavailable", "StoreUnavailable", "run true", noHome},
		{42, "run: the command's own", "", "run ./ends 42", nil},
		{129, "run: SIGHUP ended it", "", "run ./ends -1", nil},
		{130, "run: SIGINT ended it", "", "run ./ends -2", nil},
		{137, "run: SIGKILL ended it", "", "run ./ends -9", nil},
		{143, "run: SIGTERM ended it", "", "run ./ends -15", nil},
	}
	d.prepare(invocation{run: "vault backup backup.db"})
	ends := file(t, d.dir, "ends", "#!/bin/sh\ncase $1 in -*) kill $1 $$;; *) exit $1;; esac\n")
	if err := os.Chmod(ends, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range codes {
		s := invocation{run: c.run, env: c.env, code: c.code, stdin: "no\n"}
		if r := d.do(s, strings.Fields(s.run)); r.code != c.code {
			t.Errorf("%s: authsome %s: exit %d, want %d\n%s", c.means, c.run, r.code, c.code, r.stderr)
		} else if c.error != "" && checkErrorLine(r.stderr) != nil {
			t.Errorf("%s: stderr is %q", c.means, r.stderr)
		}
		if c.code == 6 || c.code == 8 { // the second who asks is told 5, and with --json nobody is asked
			continue
		}
		var fault struct{ Error string }
		r := d.do(s, s.with("--json"))
		if c.error != "" && (json.Unmarshal([]byte(r.stdout), &fault) != nil || fault.Error != c.error) || r.code != c.code {
			t.Errorf("%s: authsome %s --json: exit %d and %s, want %d and %s", c.means, c.run, r.code, r.stdout, c.code, c.error)
		}
	}
}

// TestCancelledByASignal interrupts a command that waits: exit code 8, in JSON
// too.
func TestCancelledByASignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		cmd := w.command(nil, "login", "example", "--secret-file", "-", "--json")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		begun := w.begin(cmd)
		// Once it has the audit log open it is past where a signal kills.
		eventually(t, "the command reads", func() bool { return opened(cmd, "audit.log") }, func() string { return "" })
		cmd.Process.Signal(sig)
		if r := begun.end(); r.code != 8 || !strings.Contains(r.stdout, `"error": "Cancelled"`) {
			t.Errorf("%v: exit %d: %s%s", sig, r.code, r.stdout, r.stderr)
		}
		in.Close()
	}
}

// begun is a run that goes on beside the test.
type begun struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func (w *world) begin(cmd *exec.Cmd) *begun {
	w.t.Helper()
	b := &begun{t: w.t, cmd: cmd}
	cmd.Stdout, cmd.Stderr = &b.stdout, &b.stderr
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cmd.Process.Kill() })
	return b
}

// end waits for it, but not for ever.
func (b *begun) end() result {
	b.t.Helper()
	timer := time.AfterFunc(patience, func() { b.cmd.Process.Kill() })
	defer timer.Stop()
	b.cmd.Wait() // what counts is the code
	return result{b.cmd.ProcessState.ExitCode(), b.stdout.String(), b.stderr.String()}
}

// opened reports whether a process has a file open.
func opened(cmd *exec.Cmd, name string) bool {
	links, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "fd", "*"))
	return slices.ContainsFunc(links, func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && filepath.Base(target) == name
	})
}

// TestQuiet runs what succeeds of every command twice, side by side: --quiet
// prints the same data, and of the rest warnings alone.
func TestQuiet(t *testing.T) {
	t.Parallel()
	for name, c := range scenarios {
		if name == "login with OAuth" || name == "doctor" { // a second's wait, and a list of this machine's clients
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, quiet := newGoldenDesk(t), newGoldenDesk(t)
			for _, s := range c {
				if s.code != 0 || strings.HasPrefix(s.run, "proxy") {
					continue
				}
				if s.command() == "register" || s.command() == "profile-delete" {
					s.run += " --yes" // for a person would be asked
				}
				want := plain.do(s, strings.Fields(s.run))
				got := quiet.do(s, s.with("--quiet"))
				if want.code != got.code {
					t.Fatalf("authsome %s: exit %d, with --quiet %d: %s", s.run, want.code, got.code, want.stderr+got.stderr)
				}
				if a, b := plain.normal(want.stdout), quiet.normal(got.stdout); a != b {
					t.Errorf("authsome %s prints\n%s\nand with --quiet\n%s", s.run, a, b)
				}
				for line := range strings.Lines(got.stderr) {
					question := strings.Contains(line, "[y/N]") // what one cannot go on without
					if want.code == 0 && !strings.HasPrefix(line, "warning: ") && !question {
						t.Errorf("authsome %s --quiet says %q", s.run, line)
					}
				}
			}
		})
	}
}

var escape = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestWidths prints tables on terminals of several widths: a row is a line, and
// what is cut ends in …; in a pipe nothing is cut.
func TestWidths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := "a-connection-whose-name-is-rather-long-as-names-go"
	w.login(strings.Replace(exampleDefinition, `"Example"`, `"Example 例え話"`, 1), "example")
	if r := w.run(w.command(nil, "login", "example", "--connection", long, "--secret-file", "-"), canary); r.code != 0 {
		t.Fatal(r.stderr)
	}
	w.must("profile", "create", "described", "--description", "the day job, with \x1b[31ma description\x1b[0m 説明 that goes on and on and on and on")
	path := "/a/path/that/is/so/long/that/it/fits/no/terminal/which/anybody/would/use/for/this/kind/of/thing"
	w.must("run", "--", "curl", "-sSg", "https://api.example.test"+path+"/%1b[31m%c2%9b31m?key=none")
	commands := []struct {
		args []string
		full string // what a pipe gets
	}{
		{[]string{"list", "--connected"}, long}, {[]string{"connection", "list"}, long},
		{[]string{"profile", "list"}, "goes on and on and on and on"}, {[]string{"log"}, path},
	}
	for _, c := range commands {
		if out := w.must(c.args...).stdout; !strings.Contains(out, c.full) || strings.Contains(out, "…") || strings.ContainsAny(out, "\x1b\u009b") {
			t.Errorf("%v in a pipe:\n%q", c.args, out)
		}
		for _, columns := range []int{40, 72, 300} {
			term := onTerminalOf(t, uint16(columns), w.command([]string{"TERM=xterm"}, c.args...))
			if code := term.wait(); code != 0 {
				t.Fatalf("%v: exit %d", c.args, code)
			}
			out := escape.ReplaceAllString(term.output(), "")
			if strings.ContainsAny(out, "\x1b\u009b") {
				t.Errorf("%v: somebody else's escape sequence: %q", c.args, out)
			}
			if c.args[0] == "list" && !strings.Contains(out, "[example]") && !strings.Contains(out, "example") {
				t.Errorf("at %d columns the provider has no name:\n%s", columns, out)
			}
			if cut := strings.Contains(out, "…"); cut != (columns < 100) {
				t.Errorf("%v at %d columns: cut is %t\n%s", c.args, columns, cut, out)
			}
			for line := range strings.Lines(out) {
				// A CJK character takes three bytes and two cells: none here takes more cells than that.
				wide := utf8.RuneCountInString(line) + strings.Count(line, "例") + strings.Count(line, "え") + strings.Count(line, "話") +
					strings.Count(line, "説") + strings.Count(line, "明") - 1
				if wide > columns {
					t.Errorf("%v at %d columns: a line of %d: %s", c.args, columns, wide, line)
				}
			}
		}
	}
}

// TestHelpOfEverything compares "authsome help X" with "authsome X --help", and
// tries a slip in every name: what was meant is offered.
func TestHelpOfEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range commandNames {
		words := strings.Fields(name)
		help := w.must(append([]string{"help"}, words...)...).stdout
		if flag := w.must(append(words, "--help")...).stdout; help != flag {
			t.Errorf("help %s and %s --help differ:\n%s\n%s", name, name, help, flag)
		}
		if !strings.Contains(help, "\nExamples:\n") || !strings.Contains(help, "Usage:\n  authsome "+name) {
			t.Errorf("help %s:\n%s", name, help)
		}
		last := len(words) - 1
		slip := slices.Clone(words)
		slip[last] = swapped(words[last])
		for _, args := range [][]string{slip, append([]string{"help"}, slip...)} {
			r := w.authsome(args...)
			if r.code != 2 || !strings.Contains(r.stderr, "did you mean ") || !strings.Contains(r.stderr, words[last]) || !strings.Contains(r.stderr, " --help)") {
				t.Errorf("authsome %v: exit %d: %s", args, r.code, r.stderr)
			}
		}
	}
	if _, err := os.Stat(w.home); !errors.Is(err, os.ErrNotExist) {
		t.Error("help made a home")
	}
}

// swapped swaps two letters of a word, or doubles one of a short one.
func swapped(word string) string {
	if len(word) < 4 {
		return word + word[len(word)-1:]
	}
	return word[:1] + word[2:3] + word[1:2] + word[3:]
}
