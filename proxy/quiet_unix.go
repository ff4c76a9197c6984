//go:build unix

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// nothingToRead looks at a socket without waiting and without taking anything
// from it.
func nothingToRead(c net.Conn) bool {
	s, ahead := socketOf(c)
	return !ahead && (s == nil || peekSocket(s)) // without a socket the first write will tell
}

func peekSocket(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN || err == unix.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
