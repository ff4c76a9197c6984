package isolate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// cover mounts over what the command may not see. What was mounted before the
// namespaces were made is locked together with this: nobody inside can take it
// apart, in further namespaces neither (mount_namespaces(7)).
func cover(c *Command) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	needed, err := pin(c)
	if err != nil {
		return err
	}
	if err := ownResolver(); err != nil {
		return fmt.Errorf("mount the resolver's configuration: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", quiet, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	all, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	// All are found before the first is hidden, which may hold others.
	paths := all.foreignProcs()
	for _, path := range c.Hide {
		everywhere, err := all.everywhere(path)
		if err != nil {
			return err
		}
		paths = append(paths, everywhere...)
	}
	for _, path := range paths {
		if err := hide(path, needed); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		if err := bindRoot(); err != nil {
			return err
		}
	}
	return needed.check(c)
}

// needs are what must be there after all mounts as it was before.
type needs struct {
	dir, program os.FileInfo
	keep         map[string]*os.File // path → the directory
}

func pin(c *Command) (*needs, error) {
	n := &needs{keep: make(map[string]*os.File)}
	var err error
	if n.dir, err = os.Stat(c.Dir); err != nil {
		return nil, fmt.Errorf("find the working directory: %w", err)
	}
	if n.program, err = os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("find the command: %w", err)
	}
	for _, dir := range c.Keep {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return nil, err
		}
		fd, err := unix.Open(real, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", real, err)
		}
		n.keep[real] = os.NewFile(uintptr(fd), real)
	}
	return n, nil
}

// check finds out what was hidden and may not be, and leaves the working
// directory that we came with: it is the hidden one, if it is hidden.
func (n *needs) check(c *Command) error {
	if info, err := os.Stat(c.Dir); err != nil || !os.SameFile(info, n.dir) {
		return fmt.Errorf("the working directory, %s, is in what --isolate hides from the command: %w", c.Dir, ErrHidden)
	}
	if err := os.Chdir(c.Dir); err != nil {
		return fmt.Errorf("change to the working directory: %w", err)
	}
	if info, err := os.Stat(c.Path); err != nil || !os.SameFile(info, n.program) {
		return fmt.Errorf("the command, %s, is in what --isolate hides from it: %w", c.Path, ErrHidden)
	}
	return nil
}

// ownResolver has the system's resolver ask ours. Without a file it does so
// anyway (resolv.conf(5)).
func ownResolver() error {
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	// For the time that it takes the file lies where /proc will be.
	if err := unix.Mount("tmpfs", "/proc", "tmpfs", quiet, "size=64k,mode=0755"); err != nil {
		return err
	}
	defer unix.Unmount("/proc", unix.MNT_DETACH)
	const file = "/proc/resolv.conf"
	if err := os.WriteFile(file, []byte("# authsome run --isolate\nnameserver 127.0.0.1\n"), 0o444); err != nil {
		return err
	}
	return bindReadOnly(file, target)
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|quiet, "")
}

// everywhere lists the paths at which the same file can be found.
func (all mounts) everywhere(path string) ([]string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, nil // there is none
	}
	if real == "/" {
		return nil, fmt.Errorf("everything, %s, would be hidden from the command: %w", path, ErrHidden)
	}
	return append(all.aliases(real), real), nil
}

// hide mounts nothing over a file or directory.
func hide(path string, needed *needs) error {
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	} else if err == nil {
		err = hideDir(path, needed)
	}
	// What we cannot get at is hidden already: the command can do no more.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hide %s: %w", path, err)
	}
	return nil
}

func hideDir(path string, needed *needs) error {
	if err := unix.Mount("tmpfs", path, "tmpfs", quiet, "size=64k,mode=0755"); err != nil {
		return err
	}
	for kept, dir := range needed.keep {
		if !within(kept, path) {
			continue
		}
		if err := os.MkdirAll(kept, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), kept, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("keep %s: %w", kept, err)
		}
	}
	return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|quiet, "")
}

// bindRoot keeps root's child from the settings of the kernel, which root may
// change without any capability: core_pattern alone runs programs outside.
func bindRoot() error {
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		if err := bindReadOnly(path, path); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE, &attr); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("make /sys read-only: %w", err)
	}
	return nil
}

// within reports whether a path is dir or below it.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
