package isolate

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// waysOut lists what in the file system leads to processes outside: sockets
// that somebody listens on, the directories where such sockets appear, and
// devices.
func waysOut() ([]string, error) {
	ways := wellKnown(os.Getenv, os.Getuid())
	sockets, err := listening("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("list the sockets to hide: %w", err)
	}
	// Those of other network namespaces are in no list, as where a container
	// has its host's mounted.
	for dir, depth := range map[string]int{"/run": 3, "/tmp": 2} {
		sockets = append(sockets, below(dir, depth)...)
	}
	slices.Sort(sockets)
	devices, err := devices("/dev")
	if err != nil {
		return nil, fmt.Errorf("list the devices to hide: %w", err)
	}
	return slices.Concat(ways, slices.Compact(sockets), devices), nil
}

// wellKnown are directories that are for sockets: whole, so that a socket that
// appears there later is hidden too.
func wellKnown(getenv func(string) string, uid int) []string {
	ways := []string{"/tmp/.X11-unix", "/tmp/.ICE-unix", fmt.Sprintf("/tmp/tmux-%d", uid), fmt.Sprintf("/run/user/%d", uid)}
	for _, name := range []string{"dbus", "docker", "docker.sock", "containerd", "podman", "crio", "buildkit", "libvirt", "screen", "screens",
		"snapd.socket", "systemd/private", "WSL"} {
		ways = append(ways, filepath.Join("/run", name))
	}
	for _, name := range []string{"XDG_RUNTIME_DIR", "TMUX_TMPDIR", "SCREENDIR"} {
		if dir := getenv(name); filepath.IsAbs(dir) {
			if name == "TMUX_TMPDIR" {
				dir = filepath.Join(dir, fmt.Sprintf("tmux-%d", uid))
			}
			ways = append(ways, dir)
		}
	}
	for _, name := range []string{"SSH_AUTH_SOCK", "VSCODE_IPC_HOOK_CLI"} {
		if path := getenv(name); filepath.IsAbs(path) {
			ways = append(ways, path)
		}
	}
	return ways
}

// Fields of /proc/net/unix (proc(5)).
const (
	unixFlags = 3
	unixType  = 4
	unixPath  = 7
)

// listening lists the Unix sockets with a path that one can connect to.
func listening(file string) ([]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without Unix sockets
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var paths []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.SplitN(strings.Join(strings.Fields(lines.Text()), " "), " ", unixPath+1)
		if len(field) <= unixPath || !filepath.IsAbs(field[unixPath]) {
			continue // has no name, or an abstract one
		}
		flags, err1 := strconv.ParseUint(field[unixFlags], 16, 32)
		kind, err2 := strconv.ParseUint(field[unixType], 16, 16)
		const accepts = 1 << 16 // __SO_ACCEPTCON
		if err1 != nil || err2 != nil || flags&accepts == 0 && kind != unix.SOCK_DGRAM {
			continue
		}
		_, path, _ := strings.Cut(lines.Text(), " /") // as it is, spaces included
		if info, err := os.Stat("/" + path); err == nil && info.Mode()&fs.ModeSocket != 0 {
			paths = append(paths, "/"+path)
		}
	}
	return paths, lines.Err()
}

// below lists the sockets in a directory, so many levels deep, as far as we may
// list it.
func below(dir string, depth int) (paths []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Type()&fs.ModeSocket != 0:
			paths = append(paths, path)
		case e.IsDir() && depth > 1:
			paths = append(paths, below(path, depth-1)...)
		}
	}
	return paths
}

// harmless are devices that lead nowhere: the kernel's own, terminals that one
// opens oneself, and what computes.
var harmless = []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx", "fuse", "kvm", "kfd", "net/tun", "dri/", "accel/", "nvidia"}

// devices lists the others that we may open: disks hold every file that is
// hidden, and other terminals what is typed there.
func devices(dir string) ([]string, error) {
	ours := ourTerminals()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // not ours to look into
		}
		name := strings.TrimPrefix(path, dir+"/")
		if d.Type()&fs.ModeDevice == 0 || slices.ContainsFunc(harmless, func(h string) bool {
			return name == h || strings.HasPrefix(name, h) && (strings.HasSuffix(h, "/") || h == "nvidia")
		}) {
			return nil
		}
		var st unix.Stat_t
		reachable := unix.Access(path, unix.R_OK) == nil || unix.Access(path, unix.W_OK) == nil
		if reachable && unix.Stat(path, &st) == nil && !slices.Contains(ours, st.Rdev) {
			paths = append(paths, path)
		}
		return nil
	})
	return paths, err
}

// ourTerminals are the device numbers of the standard streams and of the
// controlling terminal.
func ourTerminals() []uint64 {
	var ours []uint64
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			ours = append(ours, st.Rdev)
		}
	}
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return ours
	}
	const ttyNumber = 4 // after the name, which ends with the last parenthesis
	field := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(field) > ttyNumber {
		if n, err := strconv.ParseUint(field[ttyNumber], 10, 32); err == nil && n != 0 {
			ours = append(ours, n) // the kernel's encoding is stat's, for numbers this small
		}
	}
	return ours
}
