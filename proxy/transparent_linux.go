package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ListenRedirected opens a listener for redirected connections: by an nftables
// redirect, or by TPROXY, which needs CAP_NET_ADMIN when the listener is made.
func ListenRedirected(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// Without the capability TPROXY finds no socket, and a redirect works.
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			if network != "tcp4" {
				unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
			}
		})
	}}
	return config.Listen(ctx, "tcp", address)
}

// soOriginalDst is SO_ORIGINAL_DST of <linux/netfilter_ipv4.h>, and
// IP6T_SO_ORIGINAL_DST, which has the same number.
const soOriginalDst = 80

// originalDestination returns where the client of a redirected connection was
// going. It fails with ErrNotRedirected when that is our listener.
func originalDestination(nc net.Conn, self *net.TCPAddr) (netip.AddrPort, error) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%w: not TCP", ErrNotRedirected)
	}
	local := unmap(tc.LocalAddr().(*net.TCPAddr).AddrPort())
	raw, err := tc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var dst netip.AddrPort
	var sockErr error
	if err := raw.Control(func(fd uintptr) { dst, sockErr = natDestination(int(fd), local.Addr().Is4()) }); err != nil {
		return netip.AddrPort{}, err
	}
	// A connection that was not translated has its own address for the original
	// one, or no entry in the kernel's table at all.
	if sockErr == nil && dst != local {
		return dst, nil
	}
	// TPROXY leaves the address as it was: the socket is bound to it.
	if int(local.Port()) != self.Port {
		return local, nil
	}
	return netip.AddrPort{}, ErrNotRedirected
}

// natDestination asks connection tracking. The option fills in a sockaddr, for
// which the structures of other options of the right size are borrowed.
func natDestination(fd int, v4 bool) (netip.AddrPort, error) {
	if v4 {
		mreq, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
		if err != nil {
			return netip.AddrPort{}, err
		}
		in := mreq.Multiaddr // struct sockaddr_in: family, port, address
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(in[4:8])), binary.BigEndian.Uint16(in[2:4])), nil
	}
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := make([]byte, 2)
	binary.NativeEndian.PutUint16(port, info.Addr.Port) // which is in network order
	return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}
