package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Other processes of the same user can read neither the memory of authsome nor
// its environment, and so cannot trace it, whatever it was started as. Root can
// do all that, so the test becomes somebody else where it runs as root.
func TestOtherProcessesCannotReadUs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base, err := os.MkdirTemp("", "authsome-harden-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	program := filepath.Join(base, "authsome")
	roots := filepath.Join(base, "roots.pem")
	for from, to := range map[string]string{binary: program, w.roots: roots} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	who := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		const nobody = 65534
		who.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := os.Chown(base, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.SysProcAttr, cmd.Dir = who, base
		cmd.Env = []string{"HOME=" + base, "AUTHSOME_HOME=" + filepath.Join(base, "home"), "TMPDIR=" + base, "PATH=" + os.Getenv("PATH"),
			"SSL_CERT_FILE=" + roots, "TERM=dumb"}
		return cmd
	}
	const peek = `for f in environ mem maps; do cat /proc/%[1]s/$f >/dev/null 2>"$TMPDIR/err.$$" || grep -q Input "$TMPDIR/err.$$" && echo $f
done; for f in root/ fd/; do ls /proc/%[1]s/$f >/dev/null 2>&1 && echo $f; done; true` // an address that is not mapped is an input/output error
	// Who is not protected is read: the test sees something.
	sleeper := command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleeper.Process.Kill(); sleeper.Wait() })
	out, err := command("sh", "-c", fmt.Sprintf(peek, fmt.Sprint(sleeper.Process.Pid))).CombinedOutput()
	if err != nil || string(out) != "environ\nmem\nmaps\nroot/\nfd/\n" {
		t.Fatalf("of an ordinary process: got %q, %v", out, err)
	}
	if out, err := command(program, "init").CombinedOutput(); err != nil {
		t.Fatalf("init: %v: %s", err, out)
	}

	out, err = command(program, "run", "--", "sh", "-c", fmt.Sprintf(peek, "$PPID")+"; echo done").Output()
	if err != nil || string(out) != "done\n" {
		t.Errorf("run: its child can read %q, %v", out, err)
	}
	for _, args := range [][]string{
		{"proxy", "--listen", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"},
		{"log", "--follow"},
	} {
		cmd := command(program, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := fmt.Sprint(cmd.Process.Pid)
		var out []byte
		for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) { // it has to get as far as that
			if out, err = command("sh", "-c", fmt.Sprintf(peek, pid)).Output(); err == nil && len(out) == 0 {
				break
			}
		}
		if cmd.ProcessState != nil || cmd.Process.Signal(syscall.Signal(0)) != nil {
			t.Errorf("%v has ended", args)
		}
		if len(out) > 0 || err != nil {
			t.Errorf("%v: others can read %q, %v", args, out, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}
