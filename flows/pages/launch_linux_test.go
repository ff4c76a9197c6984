package pages_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"authsome/flows/pages"
)

// Another user of the machine who reads the arguments is not let in, not with a
// socket of IPv6 that speaks IPv4 either.
func TestLaunchedByOwnUser(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	server := ln.Addr().(*net.TCPAddr)
	for family, to := range map[int]syscall.Sockaddr{
		syscall.AF_INET:  &syscall.SockaddrInet4{Port: server.Port, Addr: [4]byte(server.IP.To4())},
		syscall.AF_INET6: &syscall.SockaddrInet6{Port: server.Port, Addr: [16]byte(server.IP.To16())},
	} {
		fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if err := syscall.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		client := accepted.RemoteAddr().String()
		if !pages.OwnedBy(os.Getuid(), client, server.String()) || pages.OwnedBy(os.Getuid()+1, client, server.String()) {
			t.Errorf("family %d: the user of a connection is not told", family)
		}
	}
	if pages.OwnedBy(os.Getuid(), "127.0.0.1:1", server.String()) {
		t.Error("a connection that does not exist is ours")
	}
}
