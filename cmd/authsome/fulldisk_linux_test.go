package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fullDisk is a small file system with a home on it.
type fullDisk struct {
	t   *testing.T
	dir string
}

func newFullDisk(t *testing.T, w *world) *fullDisk {
	t.Helper()
	d := &fullDisk{t: t, dir: t.TempDir()}
	mountFS(t, "none", d.dir, 0)
	w.home = filepath.Join(d.dir, "home")
	return d
}

func (d *fullDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no byte free.
func (d *fullDisk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d *fullDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

// noRoom runs a command that the full disk keeps from its work.
func (d *fullDisk) noRoom(w *world, args ...string) {
	d.t.Helper()
	for _, args := range [][]string{args, append([]string{"--json"}, args...)} {
		r := w.authsome(args...)
		if r.code != 7 || !strings.Contains(r.stdout+r.stderr, "no space left on device") {
			d.t.Errorf("%v: exit %d, want 7\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		for _, problem := range checkOutput(args, r.code, r.stdout, r.stderr) {
			d.t.Errorf("%v: %s", args, problem)
		}
	}
}

// TestFullDisk fills the disk before each command that writes. It says so, and
// once there is room all is as it was, and the command works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := newFullDisk(t, w)
	definition := file(t, t.TempDir(), "example.json", exampleDefinition)
	key := file(t, t.TempDir(), "key", canary)
	other := file(t, t.TempDir(), "other", "another-key")

	d.fill()
	d.noRoom(w, "init")
	d.free()
	w.must("init")
	d.fill()
	d.noRoom(w, "register", definition, "--yes")
	d.free()
	w.must("register", definition, "--yes")
	d.fill()
	d.noRoom(w, "login", "example", "--secret-file", key)
	d.free()
	if r := w.authsome("get", "example"); r.code != 5 {
		t.Errorf("get after a login that failed: exit %d", r.code)
	}
	w.must("login", "example", "--secret-file", key)

	holds := func() {
		t.Helper()
		if got := w.must("get", "example", "--field", "api_key", "--show-secret").stdout; got != canary+"\n" {
			t.Errorf("the key is %q", got)
		}
	}
	d.fill()
	d.noRoom(w, "login", "example", "--force", "--secret-file", other)
	d.noRoom(w, "logout", "example")
	d.noRoom(w, "connection", "rename", "example", "default", "work")
	d.noRoom(w, "register", definition, "--force")
	d.noRoom(w, "profile", "create", "work")
	holds() // what has room in the audit log goes on
	d.free()
	holds()
	if list := w.must("list", "--connected").stdout; !strings.Contains(list, "1 connected") {
		t.Errorf("afterwards:\n%s", list)
	}
	w.must("connection", "rename", "example", "default", "work")
	w.must("logout", "example")
	w.private()
}

// TestInitOnAFullDisk runs out of space at each step of an init. Once there is room
// another one makes the rest, says so, and it is on record once.
func TestInitOnAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := newFullDisk(t, w)
	failed, unfinished := 0, 0
	for pages := int64(0); ; pages++ {
		w.home = filepath.Join(d.dir, fmt.Sprint("home", pages))
		d.fill()
		info, err := os.Stat(d.ballast())
		if err == nil {
			err = os.Truncate(d.ballast(), info.Size()-pages*4096)
		}
		if err != nil {
			t.Fatal(err)
		}
		first := w.authsome("init")
		d.free()
		if first.code != 0 {
			failed++
			if _, err := os.Stat(filepath.Join(w.home, "version")); err == nil {
				unfinished++
			}
			if again := w.must("init"); !strings.Contains(again.stderr, "Created "+w.home) {
				t.Errorf("after %d pages: %s", pages, again.stderr)
			}
		}
		if again := w.must("init"); !strings.Contains(again.stderr, "exists already") {
			t.Errorf("after %d pages, once more: %s", pages, again.stderr)
		}
		if got := strings.Count(w.must("log", "--event", "init").stdout, " init "); got != 1 {
			t.Errorf("after %d pages it is on record %d times", pages, got)
		}
		if err := os.RemoveAll(w.home); err != nil {
			t.Fatal(err)
		}
		if first.code == 0 {
			break
		}
	}
	if failed < 4 || unfinished < 2 {
		t.Errorf("%d inits failed, %d of them after something was made: not at each step", failed, unfinished)
	}
}

// asks asks the API again and again, on one connection: "full" until it is
// refused, and then once for each line.
const asks = `
import http.client, os, ssl, sys, urllib.parse, base64
p = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
auth = "Basic " + base64.b64encode(f"{p.username}:{p.password}".encode()).decode()
c = http.client.HTTPSConnection(p.hostname, p.port, context=ssl.create_default_context())
c.set_tunnel("api.example.test", 443, {"Proxy-Authorization": auth})
def ask():
    c.request("GET", "/v1/me")
    r = c.getresponse()
    r.read()
    return r.status, r.getheader("Authsome-Error")
print("ready", flush=True)
for line in sys.stdin:
    n = 0
    while (a := ask())[0] == 200 and line == "full\n" and n < 100000: n += 1
    print(n + (a[0] == 200), *a, flush=True)
`

// TestDiskFillsUpInMidRun refuses requests that cannot be put on record, from
// the first on, and attaches the credential again once they can be.
func TestDiskFillsUpInMidRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := newFullDisk(t, w)
	w.login(exampleDefinition, "example")
	run := w.start("run", "--", "/usr/bin/python3", "-c", asks)
	run.say("once")
	if got := run.line(); got != "1 200 None" {
		t.Fatalf("before: %s", got)
	}
	d.fill()
	run.say("full")
	var served, status int
	var code string
	if line := run.line(); true {
		if _, err := fmt.Sscan(line, &served, &status, &code); err != nil || status != 503 || code != "audit_unavailable" {
			t.Fatalf("when the disk was full: %s", line)
		}
	}
	if reached := len(w.requests()); reached != served+1 {
		t.Errorf("%d requests were answered, the origin has seen %d", served+1, reached)
	}
	d.free()
	run.say("once")
	if got := run.line(); got != "1 200 None" {
		t.Errorf("once there was room: %s", got)
	}
	run.in.Close()
	if code, rest := run.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, rest)
	}
	log := w.must("log", "--event", "inject", "-n", "0").stdout
	if got := strings.Count(log, "200"); got < served+2 || strings.Count(log, "\n") != served+2 {
		t.Errorf("%d requests are on record, want %d", strings.Count(log, "\n"), served+2)
	}
	if r := w.authsome("log", "verify"); r.code != 0 {
		t.Errorf("log verify: exit %d: %s", r.code, r.stderr)
	}
}

// TestNoRoomForTrustFiles starts a run whose directory for temporary files is
// full, or is not there.
func TestNoRoomForTrustFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.tmp = t.TempDir()
	mountFS(t, "none", w.tmp, 0)
	d := &fullDisk{t, w.tmp}
	d.fill()
	try := func(why string) {
		t.Helper()
		for _, args := range [][]string{{"run", "--", "true"}, {"--json", "run", "--", "true"}} {
			r := w.authsome(args...)
			if r.code != 125 || !strings.Contains(r.stdout+r.stderr, why) || !strings.Contains(r.stdout+r.stderr, "or set TMPDIR to another directory") {
				t.Errorf("%v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
			}
			for _, problem := range checkOutput(args, r.code, r.stdout, r.stderr) {
				t.Errorf("%v: %s", args, problem)
			}
		}
	}
	try("no space left on device")
	d.free()
	w.leavesNothing()
	w.tmp = filepath.Join(w.tmp, "nowhere")
	try("no such file or directory")
}
