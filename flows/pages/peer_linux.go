package pages

import (
	"bufio"
	"encoding/binary"
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
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		encode := kernel4
		if file == "/proc/net/tcp6" { // of IPv4 addresses, mapped
			encode = kernel6
		}
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		defer f.Close()
		readable = true
		for lines := bufio.NewScanner(f); lines.Scan(); {
			field := strings.Fields(lines.Text())
			if len(field) > 7 && field[1] == encode(from) && field[2] == encode(to) {
				return field[7] == strconv.Itoa(uid)
			}
		}
	}
	return !readable
}

func kernel4(a netip.AddrPort) string {
	ip := a.Addr().As4()
	return fmt.Sprintf("%s:%04X", wordsOf(ip[:]), a.Port())
}

func kernel6(a netip.AddrPort) string {
	ip := a.Addr().As16()
	return fmt.Sprintf("%s:%04X", wordsOf(ip[:]), a.Port())
}

// wordsOf writes an address as the kernel prints it: in words of 32 bits, each read in
// the byte order of the machine.
func wordsOf(ip []byte) (text string) {
	for ; len(ip) > 0; ip = ip[4:] {
		text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(ip))
	}
	return text
}
