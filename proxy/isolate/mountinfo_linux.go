package isolate

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	device string // major:minor, one for each file system
	root   string // the directory of the file system that is mounted
	point  string // where
	kind   string // the file system's type
}

type mounts []mount

// readMounts reads the mounts, in the order in which they were made.
func readMounts(file string) (mounts, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	defer f.Close()
	var all mounts
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		field, kind := strings.Fields(before), strings.Fields(after)
		if len(field) < 6 || len(kind) == 0 {
			return nil, fmt.Errorf("read the mounts: unknown line %q", lines.Text())
		}
		all = append(all, mount{device: field[2], root: unescape(field[3]), point: unescape(field[4]), kind: kind[0]})
	}
	return all, lines.Err()
}

var octal = regexp.MustCompile(`\\[0-7]{3}`)

// unescape undoes what the kernel does to spaces and the like.
func unescape(s string) string {
	return octal.ReplaceAllStringFunc(s, func(code string) string {
		n, err := strconv.ParseUint(code[1:], 8, 8)
		if err != nil {
			return code
		}
		return string([]byte{byte(n)})
	})
}

// foreignProcs are where else a /proc is mounted: it shows processes of other
// pid namespaces.
func (all mounts) foreignProcs() (points []string) {
	for _, m := range all {
		if m.kind == "proc" && !within(m.point, "/proc") {
			points = append(points, m.point)
		}
	}
	return points
}

// aliases are the other paths at which a file or directory, or a part of it,
// can be found: a file system may be mounted more than once, whole or in part.
func (all mounts) aliases(real string) (paths []string) {
	var holds mount
	for _, m := range all { // the longest, and of those the topmost
		if within(real, m.point) && len(m.point) >= len(holds.point) {
			holds = m
		}
	}
	inside := path.Join(holds.root, strings.TrimPrefix(real, strings.TrimSuffix(holds.point, "/")))
	for _, m := range all {
		switch {
		case m.device != holds.device:
		case within(inside, m.root):
			other := path.Join(m.point, strings.TrimPrefix(inside, strings.TrimSuffix(m.root, "/")))
			if other != real && sameFile(other, real) {
				paths = append(paths, other)
			}
		case within(m.root, inside):
			paths = append(paths, m.point)
		}
	}
	return paths
}

func sameFile(a, b string) bool {
	first, err1 := os.Stat(a)
	second, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(first, second)
}
