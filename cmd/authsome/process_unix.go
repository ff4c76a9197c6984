//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that a run passes on to its child. To be stopped is
// left to the terminal when the child is in a pid namespace: it cannot be seen
// from outside whether it has stopped.
func forwarded(isolated bool) []os.Signal {
	signals := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT}
	if !isolated {
		signals = append(signals, syscall.SIGTSTP)
	}
	return signals
}

// fromTerminal reports whether a signal was sent by the terminal to its whole
// foreground process group, and so to the child already. Passing it on would
// make one Ctrl-C two. To be stopped or continued twice is the same as once, so
// those signals are always passed on.
//
// Go does not tell who sent a signal (si_code), so one that another process sends
// to us alone, while we are in the foreground, is taken for the terminal's. To
// pass it on would be worse: many programs quit at the second Ctrl-C without
// tidying up. Whoever means the command can signal the group, as the terminal
// does, or send SIGTERM.
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal
	}
	defer tty.Close()
	return inForeground(tty)
}

// inForeground reports whether our process group is the terminal's foreground.
func inForeground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// keepForeground returns what gives the terminal back to our process group, if
// it has it now. A shell with job control does so itself when it ends, unless it
// is in another pid namespace, where our group has no number.
func keepForeground() (restore func()) {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return func() {}
	}
	if !inForeground(tty) {
		tty.Close()
		return func() {}
	}
	return func() {
		defer tty.Close()
		if inForeground(tty) {
			return
		}
		signal.Ignore(syscall.SIGTTOU) // which would stop us for asking from the background
		defer signal.Reset(syscall.SIGTTOU)
		unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPGRP, syscall.Getpgrp())
	}
}

// pass sends a signal on to the child, which may just have ended.
func pass(child *process, sig os.Signal) {
	if !fromTerminal(sig) {
		child.signal(sig)
	}
	if sig == syscall.SIGTSTP {
		suspend(child.pid)
	}
}

// suspendTime is how long a child may take to restore the terminal before it
// stops.
const suspendTime = time.Second

// suspend stops us once the child has stopped, so that the shell takes the
// terminal back. A child that does not stop keeps its proxy.
func suspend(child int) {
	for from := time.Now(); time.Since(from) < suspendTime; time.Sleep(5 * time.Millisecond) {
		if stopped(child) {
			syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
			return
		}
	}
}

// exitCode is the child's code, or 128+n when signal n ended it.
func exitCode(cmd *exec.Cmd, err error) int {
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return exitOwn
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// holdDir holds a directory until the file is closed, by whatever end of the
// process. It fails when somebody else holds it, unless it is to wait, and for
// what is no directory: a link may lead anywhere.
func holdDir(dir string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
