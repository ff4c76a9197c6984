package isolate

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// reap starts the command, passes on what signals it is told to, and returns
// when the command has ended. The kernel then ends everything else in the pid
// namespace (pid_namespaces(7)).
func reap(conn *os.File, path string, argv []string) int {
	outlive()
	// Rights are gone and nothing here needs the thread any more.
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		f := fail(argv[0], err)
		f.Exec = true
		send(conn, reply{Failed: f})
		return exitOwn
	}
	if err := send(conn, reply{}); err != nil {
		return exitOwn
	}
	go obey(conn, p.Pid)
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) || err == nil && pid != p.Pid {
			continue
		}
		if err != nil {
			return exitOwn
		}
		ended := Status{Code: status.ExitStatus()}
		if status.Signaled() {
			ended = Status{Signal: int(status.Signal())}
		}
		send(conn, reply{Status: &ended})
		return 0
	}
}

// outlive has pid 1 heed no signal: those that the terminal sends to the whole
// process group are for the command, and others come over the connection. What
// whoever started us had us ignore stays so, for the command too.
func outlive() {
	drained := make(chan os.Signal, 1) // a full channel drops
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE:
			continue // cannot be heeded, or are the runtime's
		}
		if !signal.Ignored(s) {
			signal.Notify(drained, s)
		}
	}
}

// obey sends signals to the command, and ends all when the outside is gone.
func obey(conn *os.File, pid int) {
	for {
		var q request
		if err := receive(conn, &q); err != nil {
			os.Exit(exitOwn)
		}
		unix.Kill(pid, syscall.Signal(q.Signal)) // once it was reaped, we are about to end
	}
}
