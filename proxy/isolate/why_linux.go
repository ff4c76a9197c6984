package isolate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unavailable is the error of a step that the kernel did not let us take, with
// the setting that is the reason, as far as that can be told.
func unavailable(doing string, err error) error {
	e := &Error{Msg: fmt.Sprintf("isolation is not available: %s: %v", doing, err), Err: errors.Join(ErrUnavailable, err)}
	if setting, next := reason(err, os.Geteuid() == 0, readSetting); setting != "" {
		e.Msg, e.Next = fmt.Sprintf("isolation is not available: %s (%s: %v)", setting, doing, err), next
	} else {
		e.Next = "run the command in a container or a virtual machine instead"
	}
	return e
}

// readSetting reads a file below /proc; "" when there is none.
func readSetting(path string) string {
	b, _ := os.ReadFile("/proc/" + path)
	return strings.TrimSpace(string(b))
}

// limits are the settings that bound the namespaces of each kind.
var limits = []string{"user", "net", "mnt", "pid", "ipc"}

// reason finds the setting that forbids what failed with err.
func reason(err error, root bool, read func(string) string) (setting, next string) {
	for _, kind := range limits {
		name := "user.max_" + kind + "_namespaces"
		if read("sys/"+strings.ReplaceAll(name, ".", "/")) == "0" {
			return name + " is 0", "run as root: sysctl " + name + "=10000"
		}
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) {
		return "there are too many namespaces, or too deep in one another", "raise user.max_user_namespaces and its like, or end other programs that use namespaces"
	}
	if !exists("/proc/self/ns/user") {
		return "the kernel has no user namespaces", "use a kernel with CONFIG_USER_NS"
	}
	if read("sys/kernel/unprivileged_userns_clone") == "0" && !root {
		return "kernel.unprivileged_userns_clone is 0", "run as root: sysctl kernel.unprivileged_userns_clone=1"
	}
	if read("sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && !root {
		return "kernel.apparmor_restrict_unprivileged_userns is 1",
			"give authsome an AppArmor profile that has \"userns,\", or run as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	}
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS)
	if denied && root && !effective(read("self/status"), unix.CAP_SETFCAP) {
		return "root lacks CAP_SETFCAP", "run it as an ordinary user, or leave root this capability (user_namespaces(7) says why)"
	}
	if denied && strings.Contains("\n"+read("self/status"), "\nSeccomp:\t2") {
		return "a seccomp filter is in force, as in a container",
			"start the container with a seccomp profile that allows user namespaces and mounts (and /proc unmasked), or let the container be the isolation"
	}
	return "", ""
}

// effective reports whether a capability is among those of a status file.
func effective(status string, capability int) bool {
	_, after, found := strings.Cut(status, "\nCapEff:")
	line, _, _ := strings.Cut(after, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return !found || err != nil || set&(1<<capability) != 0
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
