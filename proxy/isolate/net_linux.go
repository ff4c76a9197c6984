package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// anyAddress brings up the loopback and makes every address of IPv4 and IPv6
// one of its own.
func anyAddress() error {
	if err := up("lo"); err != nil {
		return fmt.Errorf("bring up the loopback: %w", err)
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer c.Close()
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		err := addLocalRoute(c, family)
		if family == unix.AF_INET6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue // a kernel without IPv6 has no way out over it
		}
		if err != nil {
			return fmt.Errorf("make every address local: %w", err)
		}
	}
	return nil
}

func up(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// loopbackIndex is the index of lo in every network namespace.
const loopbackIndex = 1

// addLocalRoute is ip route add local default dev lo (rtnetlink(7)).
func addLocalRoute(c *netlink.Conn, family byte) error {
	scope := byte(unix.RT_SCOPE_HOST)
	if family == unix.AF_INET6 {
		scope = unix.RT_SCOPE_UNIVERSE // IPv6 routes have none
	}
	index := make([]byte, 4)
	binary.NativeEndian.PutUint32(index, loopbackIndex)
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.RTA_OIF, Data: index}})
	if err != nil {
		return err
	}
	// struct rtmsg: lengths of 0 stand for the whole of the family.
	message := []byte{family, 0, 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_BOOT, scope, unix.RTN_LOCAL, 0, 0, 0, 0}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWROUTE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace},
		Data:   append(message, attributes...),
	})
	return err
}
