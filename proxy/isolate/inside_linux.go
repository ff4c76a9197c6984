package isolate

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// connFD is where the inside finds its end of the socket pair.
const connFD = 3

// exitOwn is the exit code of what fails before there is a command.
const exitOwn = 125

// Main is pid 1 of the namespaces: what [Open] starts. Without arguments it sets
// them up and becomes what it is with them: a process without any right that
// starts the command that the arguments are, and reaps.
func Main(args []string) int {
	// Rights belong to threads. On this one they are given up, and the program
	// that follows has them from it.
	runtime.LockOSThread()
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "authsome: this command is for authsome run --isolate alone")
		return exitOwn
	}
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	if err := closeOnExec(); err != nil {
		return exitOwn
	}
	conn := os.NewFile(connFD, "isolation")
	if len(args) > 1 {
		return reap(conn, args[0], args[1:])
	}
	if f := setUp(conn); f != nil {
		send(conn, reply{Failed: f})
	}
	return exitOwn
}

// closeOnExec has no descriptor but the standard ones survive: whoever started
// us may have left some open.
func closeOnExec() error {
	err := unix.CloseRange(connFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= connFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// setUp does what it is asked to. It returns when that fails only.
func setUp(conn *os.File) *failure {
	var q request
	if err := receive(conn, &q); err != nil {
		return fail("receive", err)
	}
	files, err := network(q.Ports)
	if err != nil {
		return fail("set up the network", err)
	}
	if err := sendFiles(conn, reply{}, files); err != nil {
		return fail("hand over the sockets", err)
	}
	for _, f := range files {
		f.Close()
	}
	if err := receive(conn, &q); err != nil || q.Command == nil {
		return fail("receive", errors.Join(err, errors.New("no command")))
	}
	return become(conn, q.Command)
}

// become closes all ways out and becomes the process that starts the command.
func become(conn *os.File, c *Command) *failure {
	// By descriptor: the program may be about to be hidden.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fail("find the program", err)
	}
	if err := cover(c); err != nil {
		return fail("set up the mounts", err)
	}
	// The kernel's keyrings may hold tickets. Where a filter forbids the call,
	// the command cannot read them either.
	_, err = unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fail("leave the session's keyring", err)
	}
	if err := dropRights(); err != nil {
		return fail("give up rights", err)
	}
	if err := filterCalls(); err != nil {
		return fail("set the system call filter", err)
	}
	if c.Check {
		send(conn, reply{})
		os.Exit(0)
	}
	if _, err := unix.FcntlInt(conn.Fd(), unix.F_SETFD, 0); err != nil {
		return fail("keep the connection", err)
	}
	argv := append([]string{os.Args[0], os.Args[1], c.Path}, c.Args...)
	err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", self.Fd()), argv, c.Env)
	return fail("start again", err)
}

// network brings up the loopback and makes the sockets: datagrams and streams
// of the resolver, the proxy, and then the ports.
func network(ports []uint16) (files []*os.File, err error) {
	if err := anyAddress(); err != nil {
		return nil, err
	}
	query, err := net.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	f, err := query.(*net.UDPConn).File()
	if err != nil {
		return nil, err
	}
	query.Close()
	files = append(files, f)
	addresses := []string{"127.0.0.1:53", "127.0.0.1:0"}
	for _, port := range ports {
		addresses = append(addresses, fmt.Sprintf(":%d", port))
	}
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		l.Close()
		files = append(files, f)
	}
	return files, nil
}
