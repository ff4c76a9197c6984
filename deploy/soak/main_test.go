//go:build linux

package soak_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	soakFor    = flag.Duration("soak", 0, "load for this long, and let every fault last; 0: a quick run that asserts no flatness")
	reportPath = flag.String("report", "", "write the numbers of the soak to this file, in Markdown")
)

// long reports whether the whole test is asked for.
func long() bool { return *soakFor > 0 }

// How a test finds out that it is inside, and what it is given.
const (
	insideVariable = "AUTHSOME_SOAK_INSIDE"
	binaryVariable = "AUTHSOME_SOAK_BINARY"
)

// binary is the built command.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if binary = os.Getenv(binaryVariable); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "authsome-soak-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "authsome")
	build := exec.Command("go", "build", "-o", binary, "authsome/cmd/authsome")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build authsome: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// inside reports whether the test runs in its own namespaces. When it does not,
// it is run there now, and what it found is reported here.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		prepareNamespace(t)
		return true
	}
	t.Parallel()
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.parallel=8", "-soak=" + soakFor.String(), "-report=" + *reportPath}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(deadline).String())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), insideVariable+"=1", binaryVariable+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		t.Errorf("in its namespaces:\n%s", out.String())
	case err != nil:
		t.Fatalf("make namespaces: %v (it needs root, or user namespaces that anybody can make)", err)
	case testing.Verbose():
		t.Log(out.String())
	}
	return false
}

// Where everything is in the namespace.
const (
	nameServer  = "10.79.0.53"
	plainOrigin = "10.79.0.10" // speaks HTTP/1.1 alone, over TLS and without
	h2Origin    = "10.79.0.11"
	authOrigin  = "10.79.0.12" // the authorization server
	faultOrigin = "10.79.0.13" // what chaos breaks
	faultAuth   = "10.79.0.14"
)

// prepareNamespace makes the internet's addresses and points the system's
// resolver at its name server.
func prepareNamespace(t *testing.T) {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	for _, address := range []string{nameServer, plainOrigin, h2Origin, authOrigin, faultOrigin, faultAuth} {
		ip(t, "addr", "add", address+"/32", "dev", "lo")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	for path, text := range map[string]string{
		"/etc/hosts":       "127.0.0.1 localhost\n",
		"/etc/resolv.conf": "nameserver " + nameServer + "\noptions timeout:1 attempts:1\n",
	} {
		mine := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(mine, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(mine, path, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("mount over %s: %v", path, err)
		}
		t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s (it comes with iproute2)", strings.Join(args, " "), err, out)
	}
}

// eventually waits for a condition. The time is generous: the machine may be
// busy with other things.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Since(began) > within {
			t.Fatalf("within %s it did not come that %s", within, what)
		}
	}
}

// pause waits, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
