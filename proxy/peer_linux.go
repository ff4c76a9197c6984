package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ProcessTree returns a TrustPeer that admits sockets held by a descendant of
// root. It reads /proc and is only asked about clients that did not
// authenticate, such as a JVM, which cannot.
func ProcessTree(root int) func(client, proxy net.Addr) bool {
	return (&processTree{root: root, user: os.Geteuid(), holds: heldBelow}).admits
}

// processTree admits what the processes below root connect.
type processTree struct {
	root  int
	user  int                               // whose descriptors we can look at; 0 is everybody's
	holds func(root int, inode string) bool // looks through all descriptors below root
}

// admits asks the socket's user first: what another user has opened costs no look
// at every process, however often they try.
func (t *processTree) admits(client, proxy net.Addr) bool {
	s, err := lookUpSocket(client, proxy)
	if err != nil || t.user != 0 && s.user != t.user {
		return false
	}
	return t.holds(t.root, s.inode)
}

// socket is an entry of the kernel's socket table.
type socket struct {
	inode string
	user  int // who made it
}

// lookUpSocket finds the client's end of a loopback connection in the kernel's
// socket table (proc(5), /proc/net/tcp).
func lookUpSocket(client, proxy net.Addr) (socket, error) {
	c, ok1 := client.(*net.TCPAddr)
	s, ok2 := proxy.(*net.TCPAddr)
	if !ok1 || !ok2 {
		return socket{}, fmt.Errorf("not TCP")
	}
	for _, table := range []struct {
		file string
		enc  func(*net.TCPAddr) string
	}{{"/proc/net/tcp", encode4}, {"/proc/net/tcp6", encode6}} {
		local, remote := table.enc(c), table.enc(s)
		if local == "" || remote == "" {
			continue
		}
		if found, ok := findSocket(table.file, local, remote); ok {
			return found, nil
		}
	}
	return socket{}, os.ErrNotExist
}

func findSocket(file, local, remote string) (found socket, ok bool) {
	f, err := os.Open(file)
	if err != nil {
		return socket{}, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(local)) { // most lines, without taking them apart
			continue
		}
		field := strings.Fields(lines.Text())
		if len(field) > 9 && field[1] == local && field[2] == remote && field[9] != "0" {
			user, err := strconv.Atoi(field[7])
			return socket{field[9], user}, err == nil
		}
	}
	return socket{}, false
}

// encode4 writes an address as the kernel prints it: the 32-bit word in host
// byte order, which is little-endian on what Go runs on under Linux but s390x;
// there nothing is found and nobody is admitted.
func encode4(a *net.TCPAddr) string {
	ip := a.IP.To4()
	if ip == nil {
		return ""
	}
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}

// encode6 does the same for IPv6, and for the IPv4-mapped address that a
// dual-stack client socket has.
func encode6(a *net.TCPAddr) string {
	ip := a.IP.To16()
	if ip == nil {
		return ""
	}
	var b strings.Builder
	for i := 0; i < 16; i += 4 {
		fmt.Fprintf(&b, "%02X%02X%02X%02X", ip[i+3], ip[i+2], ip[i+1], ip[i])
	}
	return fmt.Sprintf("%s:%04X", b.String(), a.Port)
}

// heldBelow reports whether a descendant of root has the socket open. Sockets
// of root itself do not count: it is the proxy.
func heldBelow(root int, inode string) bool {
	want := "socket:[" + inode + "]"
	for _, pid := range descendants(root) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			continue // another user's, or gone
		}
		for _, fd := range fds {
			if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())); err == nil && link == want {
				return true
			}
		}
	}
	return false
}

// descendants lists the processes below root.
func descendants(root int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := make(map[int][]int, len(stats))
	for _, file := range stats {
		if pid, parent, ok := parentOf(file); ok {
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	for queue := children[root]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// parentOf reads pid and parent from a stat file. The command name is in
// parentheses and may hold anything, so what follows the last one counts.
func parentOf(file string) (pid, parent int, ok bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, false
	}
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, 0, false
	}
	field := strings.Fields(string(b[end+1:]))
	if len(field) < 2 {
		return 0, 0, false
	}
	pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(file)))
	parent, err2 := strconv.Atoi(field[1])
	return pid, parent, err1 == nil && err2 == nil
}
