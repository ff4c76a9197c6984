package pages

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ownedBy reports whether the client's end of a loopback connection is a socket of a
// user (proc(5), /proc/net/tcp). Where the kernel's table cannot be read nobody is
// told apart.
func ownedBy(uid int, client, server string) bool {
	from, err1 := netip.ParseAddrPort(client)
	to, err2 := netip.ParseAddrPort(server)
	if err1 != nil || err2 != nil || !from.Addr().Is4() || !to.Addr().Is4() {
		return false
	}
	readable := false
	for file, prefix := range map[string]string{"/proc/net/tcp": "", "/proc/net/tcp6": "0000000000000000FFFF0000"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		readable = true
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			field := strings.Fields(lines.Text())
			if len(field) > 7 && field[1] == prefix+kernel(from) && field[2] == prefix+kernel(to) {
				return field[7] == strconv.Itoa(uid)
			}
		}
	}
	return !readable
}

// kernel writes an address as the kernel prints it: the 32-bit word in host byte
// order, which is little-endian on what Go runs on under Linux but s390x.
func kernel(a netip.AddrPort) string {
	b := a.Addr().As4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", b[3], b[2], b[1], b[0], a.Port())
}
