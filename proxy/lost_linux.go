package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// giveUpAfter has the kernel end a connection with ETIMEDOUT when what was sent is
// not acknowledged for so long (RFC 5482). Zero leaves it to the kernel. It is
// false where it has no effect.
func giveUpAfter(c net.Conn, d time.Duration) bool {
	s, _ := socketOf(c)
	if s == nil {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	if failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	}); failed != nil {
		return false
	}
	return err == nil
}
