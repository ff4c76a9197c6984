package main

import (
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeBytes is the largest pipe that anybody may have.
const pipeBytes = 1 << 20

// join moves bytes both ways as the kernel can at best: a thread for each
// direction that does nothing but splice, and waits in the system call.
func join(client, origin net.Conn) error {
	a, err := client.(*net.TCPConn).File() // which blocks
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := origin.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer b.Close()
	up := make(chan error, 1)
	go func() { up <- splice(b, a) }()
	err = splice(a, b)
	syscall.Shutdown(int(a.Fd()), syscall.SHUT_RDWR)
	<-up
	return err
}

func splice(to, from *os.File) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	unix.FcntlInt(uintptr(pipe[0]), unix.F_SETPIPE_SZ, pipeBytes)
	for {
		n, err := unix.Splice(int(from.Fd()), nil, pipe[1], nil, pipeBytes, unix.SPLICE_F_MOVE)
		if err != nil || n == 0 {
			syscall.Shutdown(int(to.Fd()), syscall.SHUT_WR)
			return err
		}
		for n > 0 {
			m, err := unix.Splice(pipe[0], nil, int(to.Fd()), nil, int(n), unix.SPLICE_F_MOVE)
			if err != nil {
				return err
			}
			n -= m
		}
	}
}
