package isolate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is a set of namespaces and the process that is pid 1 in it.
type Namespace struct {
	conn   *os.File // to pid 1; it ends when this is closed
	cmd    *exec.Cmd
	done   chan error // receives how pid 1 ended
	once   sync.Once
	closed error
}

// setup are the rights, in its own namespaces alone, that pid 1 has until it
// has made them: to mount, to set up the network, to listen on port 443, and to
// give up rights.
var setup = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_SETPCAP}

// Open makes the namespaces. The arguments have this program call [Main] when
// they are its command line.
//
// It is to be called before there is a secret in memory: while the namespaces
// are made, other processes of the user can read it (see dumpable).
func Open(args ...string) (*Namespace, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	n := &Namespace{conn: os.NewFile(uintptr(pair[0]), "isolation"), done: make(chan error, 1)}
	inside := os.NewFile(uintptr(pair[1]), "isolation")
	defer inside.Close()
	n.cmd = &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{os.Args[0]}, args...), Env: []string{"GOTRACEBACK=none"},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{inside}}
	uid, gid := os.Geteuid(), os.Getegid()
	n.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: setup,
		Pdeathsig:   syscall.SIGKILL,
	}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that made a process for the
		// end of its parent (PR_SET_PDEATHSIG(2const)).
		runtime.LockOSThread()
		err := dumpable(n.cmd.Start)
		started <- err
		if err == nil {
			n.done <- n.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		n.conn.Close()
		return nil, unavailable("make namespaces", err)
	}
	return n, nil
}

// dumpable calls f while this process belongs to its user. One that cannot be
// dumped belongs to root, in /proc, and so does the id map of a child that it
// clones, which we then could not write.
func dumpable(f func() error) error {
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || was == 1 {
		return f()
	}
	unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	defer unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	return f()
}

// Listen has the sockets made: the proxy's, the resolver's, and one for each
// port on every address.
func (n *Namespace) Listen(ports []uint16) (*Listeners, error) {
	if err := send(n.conn, request{Ports: ports}); err != nil {
		return nil, n.gone(err)
	}
	var r reply
	files, err := receiveFiles(n.conn, &r)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, n.gone(err)
	}
	if r.Failed != nil {
		return nil, r.Failed.error()
	}
	if len(files) != len(ports)+3 {
		return nil, fmt.Errorf("%d sockets came out of the namespace, not %d", len(files), len(ports)+3)
	}
	return listeners(files)
}

// listeners are in the order in which Main's listen makes them.
func listeners(files []*os.File) (_ *Listeners, err error) {
	l := &Listeners{}
	if l.Query, err = net.FilePacketConn(files[0]); err != nil {
		return nil, err
	}
	all := make([]net.Listener, len(files)-1)
	for i, f := range files[1:] {
		if all[i], err = net.FileListener(f); err != nil {
			return nil, err
		}
	}
	l.DNS, l.Proxy, l.AnyIP = all[0], all[1], all[2:]
	return l, nil
}

// Start starts the command. An error that is a *exec.Error says that it could
// not be executed.
func (n *Namespace) Start(c Command) error {
	ways, err := waysOut()
	if err != nil {
		return err
	}
	c.Hide = append(ways, c.Hide...)
	if err := send(n.conn, request{Command: &c}); err != nil {
		return n.gone(err)
	}
	var r reply
	if err := receive(n.conn, &r); err != nil {
		return n.gone(err)
	}
	if r.Failed != nil {
		return r.Failed.error()
	}
	return nil
}

// Signal sends a signal to the command, once it was started.
func (n *Namespace) Signal(s os.Signal) {
	if number, ok := s.(syscall.Signal); ok {
		send(n.conn, request{Signal: int(number)}) // it may just have ended
	}
}

// Wait waits for the command's end. Then nothing of it is left.
func (n *Namespace) Wait() (Status, error) {
	var r reply
	err := receive(n.conn, &r)
	n.Close()
	if err == nil && r.Status != nil {
		return *r.Status, nil
	}
	// Killed from outside, or for want of memory.
	if s, ok := n.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return Status{Signal: int(s.Signal())}, nil
	}
	return Status{}, n.gone(err)
}

// Close ends all that runs inside.
func (n *Namespace) Close() {
	n.once.Do(func() {
		n.conn.Close()
		n.closed = <-n.done
	})
}

// gone is the error of a conversation that ended early.
func (n *Namespace) gone(err error) error {
	n.Close()
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		err = n.closed
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("isolation ended early: %w", err)
}

func (f *failure) error() error {
	var cause error = errors.New(f.Msg)
	if f.Errno != 0 {
		cause = &remoteError{f.Msg, f.Errno}
	}
	switch {
	case f.Hidden:
		return &Error{Msg: f.Msg, Next: "move one of the two, or run without --isolate", Err: ErrHidden}
	case f.Exec:
		return &exec.Error{Name: f.Doing, Err: f.Errno}
	}
	return unavailable(f.Doing, cause)
}

// remoteError is an error from inside.
type remoteError struct {
	msg   string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.msg }
func (e *remoteError) Unwrap() error { return e.errno }
