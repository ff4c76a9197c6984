package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// disguises are forms in which a secret might leak.
func disguises() [][]byte {
	raw := []byte(canary)
	all := [][]byte{raw, []byte(hex.EncodeToString(raw))}
	// base64 at each of the three places where the secret can begin.
	for _, before := range []string{"", "x", "xy"} {
		text := base64.StdEncoding.EncodeToString([]byte(before + canary))
		all = append(all, []byte(text[4:len(text)-4]))
	}
	return all
}

// searchFor complains when text holds the secret in any form.
func searchFor(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, form := range disguises() {
		if bytes.Contains(text, form) {
			t.Errorf("%s holds the secret", where)
		}
	}
}

// searchFiles searches every regular file below a directory.
func searchFiles(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		searchFor(t, path, b)
		files++
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// descendants returns the processes below one.
func descendants(t *testing.T, pid int) (all []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			t.Error(err)
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			all = append(append(all, child), descendants(t, child)...)
		}
	}
	return all
}

// searchMemory searches all that a process could read of itself, and so all that
// a core file of it would hold.
func searchMemory(t *testing.T, pid int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	placeholder := false // it is there, or the search finds nothing
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perm); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(perm, "rw") {
			continue // text and files, which are searched elsewhere
		}
		text := make([]byte, to-from)
		n, err := mem.ReadAt(text, int64(from))
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EIO) { // pages of devices
			t.Errorf("memory of %d: %v", pid, err)
		}
		placeholder = placeholder || bytes.Contains(text[:n], []byte("authsome-proxy-managed"))
		searchFor(t, fmt.Sprintf("the memory of %d (%s)", pid, strings.TrimSpace(line)), text[:n])
	}
	if !placeholder {
		t.Errorf("the memory of %d holds no placeholder: was it read?", pid)
	}
}

// uses are programs that use the credential and then stay, one below the other.
const uses = `
curl -sS -v -o first ` + apiURL + ` 2> trace
sh -c '
  git ls-remote https://api.example.test/repo.git > refs
  /usr/bin/python3 -c "
import os, sys, urllib.request
kept = urllib.request.urlopen(urllib.request.Request(\"` + apiURL + `\", headers={\"Authorization\": \"Bearer \" + os.environ[\"EXAMPLE_API_KEY\"]}))
text = kept.read()
print(\"ready\", flush=True)
sys.stdin.readline()
"; exit 0'; exit 0`

// TestCanary searches for the secret everywhere that a run could have put it,
// while the run lives and afterwards, with all the logging that there is.
func TestCanary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo = gitRepository(t)
	w.login(exampleDefinition, "example")
	dir := t.TempDir()
	cmd := w.command([]string{"EXAMPLE_API_KEY=" + canary}, "run", "--verbose", "--log-file", filepath.Join(dir, "own.log"), "--", "sh", "-c", uses)
	cmd.Dir = dir
	run := w.startCommand(cmd)

	below := descendants(t, run.cmd.Process.Pid)
	if len(below) < 3 {
		t.Errorf("there are %d processes below the run, want sh, sh and python3", len(below))
	}
	for _, pid := range below {
		for _, name := range []string{"environ", "cmdline"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil || len(b) == 0 {
				t.Errorf("/proc/%d/%s: %d bytes, %v", pid, name, len(b), err)
			}
			searchFor(t, fmt.Sprintf("/proc/%d/%s", pid, name), b)
			if name == "environ" && !bytes.Contains(b, []byte("EXAMPLE_API_KEY=authsome-proxy-managed\x00")) {
				t.Errorf("process %d has no placeholder", pid)
			}
		}
		searchMemory(t, pid)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", run.cmd.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	searchFor(t, "authsome's command line", line)
	w.searchAll(dir)

	run.say("go")
	code, rest := run.wait()
	if code != 0 || len(w.requests()) < 3 {
		t.Errorf("exit %d: %s%s; the origin saw %v", code, rest, run.stderr, w.requests())
	}
	searchFor(t, "stdout", []byte(rest))
	searchFor(t, "stderr", run.stderr.Bytes())
	if !strings.Contains(run.stderr.String(), "level=DEBUG") {
		t.Errorf("--verbose logged nothing:\n%s", run.stderr)
	}
	w.searchAll(dir)
	w.leavesNothing()
	for _, name := range []string{"first", "trace", "refs", "own.log"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v: there was nothing to search", name, err)
		}
	}
}

// searchAll searches the home, the temporary files and dir.
func (w *world) searchAll(dir string) {
	w.t.Helper()
	for _, root := range []string{w.home, w.tmp, dir} {
		if n := searchFiles(w.t, root); n == 0 && root != w.tmp {
			w.t.Errorf("%s holds no file to search", root)
		}
	}
}

// TestMemoryIsOurs runs as a user who is not root: what /proc shows of authsome
// belongs to root then, which says that the kernel lets no other process of the
// user read its memory, and writes no core file of it.
func TestMemoryIsOurs(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if err := os.Chown(dir, sidecarUser, sidecarUser); err != nil {
		t.Fatalf("%v (this test changes users: run it as root)", err)
	}
	w := newWorld(t)
	w.home, w.tmp = filepath.Join(dir, "home"), dir
	user := strconv.Itoa(sidecarUser)
	cmd := w.command([]string{"SSL_CERT_FILE="})
	cmd.Path = tool(t, "setpriv")
	cmd.Args = []string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups", copyProgram(t, binary), "run", "--", "sh", "-c", "echo ready; read go"}
	run := w.startCommand(cmd)
	owner := func(pid int) int {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	if got := owner(run.cmd.Process.Pid); got != 0 {
		t.Errorf("authsome's /proc belongs to user %d", got)
	}
	for _, pid := range descendants(t, run.cmd.Process.Pid) {
		if got := owner(pid); got != sidecarUser {
			t.Errorf("the child's /proc belongs to user %d: it is kept from its own debugger", got)
		}
	}
	run.say("go")
	run.wait()
}
