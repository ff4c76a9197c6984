package isolate_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"authsome/proxy/isolate"

	"golang.org/x/sys/unix"
)

// The reasons that a test cannot bring about; the others are tried for real by
// the command's tests.
func TestReasons(t *testing.T) {
	for _, test := range []struct {
		name     string
		err      error
		root     bool
		settings map[string]string
		want     string // in the setting
		next     string
	}{
		{"Debian", unix.EPERM, false, map[string]string{"sys/kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone is 0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"Debian, as root", unix.EPERM, true, map[string]string{"sys/kernel/unprivileged_userns_clone": "0"}, "", ""},
		{"Ubuntu", fmt.Errorf("mount: %w", unix.EACCES), false, map[string]string{"sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns is 1", "AppArmor profile"},
		{"a container", unix.EPERM, true, map[string]string{"self/status": "Name:\tauthsome\nSeccomp:\t2\nSeccomp_filters:\t1"}, "seccomp filter", "profile that allows user namespaces"},
		{"root in part", unix.EPERM, true, map[string]string{"self/status": "Name:\tauthsome\nCapEff:\t0000000000000000\nSeccomp:\t2\n"}, "CAP_SETFCAP", "ordinary user"},
		{"a container, with it", unix.EPERM, true, map[string]string{"self/status": "Name:\tauthsome\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n"}, "seccomp filter", ""},
		{"a filter, and another error", unix.EIO, true, map[string]string{"self/status": "Name:\tauthsome\nSeccomp:\t2"}, "", ""},
		{"a limit of 0", unix.ENOSPC, true, map[string]string{"sys/user/max_net_namespaces": "0"}, "user.max_net_namespaces is 0", "sysctl user.max_net_namespaces="},
		{"a limit reached", unix.ENOSPC, false, map[string]string{"sys/user/max_user_namespaces": "7"}, "too many namespaces", "raise user.max_user_namespaces"},
		{"something else", errors.New("x"), false, nil, "", ""},
	} {
		setting, next := isolate.Reason(test.err, test.root, func(path string) string { return test.settings[path] })
		if !strings.Contains(setting, test.want) || (test.want == "") != (setting == "") || !strings.Contains(next, test.next) {
			t.Errorf("%s: got %q, %q, want %q, %q", test.name, setting, next, test.want, test.next)
		}
	}
}

// The home is found wherever it, what holds it, or a part of it is mounted.
func TestAliases(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "user one", ".authsome")
	twice := filepath.Join(dir, "twice", "user one", ".authsome")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	// A link stands for the second mount: it is the same directory.
	if err := os.Symlink(dir, filepath.Join(dir, "twice")); err != nil {
		t.Fatal(err)
	}
	escaped := strings.ReplaceAll(dir, " ", `\040`)
	mountinfo := filepath.Join(dir, "mountinfo")
	lines := []string{
		`21 1 254:1 / / rw - ext4 /dev/vda1 rw`,
		`22 21 254:2 /sub ` + escaped + ` rw shared:1 - ext4 /dev/vda2 rw`,
		`23 21 254:2 /sub ` + escaped + `/twice rw shared:1 master:2 - ext4 /dev/vda2 rw`,
		`24 21 254:2 /sub/user\040one/.authsome/profiles /elsewhere\040too rw - ext4 /dev/vda2 rw`,
		`25 21 254:2 /other /mnt rw - ext4 /dev/vda2 rw`,
		`26 21 254:3 /sub /other-device rw - ext4 /dev/vda3 rw`,
		`27 21 0:4 / /proc rw - proc proc rw`,
		`28 27 0:5 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw`,
		`29 21 0:6 / /srv/root/proc rw - proc proc rw`,
	}
	if err := os.WriteFile(mountinfo, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := isolate.Aliases(mountinfo, home)
	if want := []string{twice, "/elsewhere too"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("aliases: got %q, %v, want %q", got, err, want)
	}
	procs, err := isolate.ForeignProcs(mountinfo)
	if want := []string{"/srv/root/proc"}; err != nil || !slices.Equal(procs, want) {
		t.Errorf("other /proc: got %q, %v, want %q", procs, err, want)
	}
	if err := os.WriteFile(mountinfo, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := isolate.Aliases(mountinfo, home); err == nil {
		t.Error("a line that cannot be read is passed over")
	}
}

// Sockets with a path are found if one can connect to them.
func TestListening(t *testing.T) {
	dir := t.TempDir()
	stream, datagram := filepath.Join(dir, "a  stream"), filepath.Join(dir, "datagram")
	l, err := net.Listen("unix", stream)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.ListenPacket("unixgram", datagram)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client, err := net.Dial("unix", stream) // has the name of neither end
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got, err := isolate.Listening("/proc/net/unix")
	if err != nil || !slices.Contains(got, stream) || !slices.Contains(got, datagram) {
		t.Errorf("got %q, %v, want %s and %s among them", got, err, stream, datagram)
	}
	ways, err := isolate.WaysOut()
	if err != nil || !slices.Contains(ways, stream) || slices.Contains(ways, "/dev/null") || slices.Contains(ways, "/dev/tty") {
		t.Errorf("ways out: got %q, %v", ways, err)
	}
}
