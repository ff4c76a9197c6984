//go:build unix

package authsome

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a home that another user owns or can write to: they could put
// a key, a definition or a log of theirs in place of ours. What only the group can
// write to is narrowed, since a umask or a volume's driver may have made it so. To
// anybody but root, a directory of root's is as open as root made it, such as a
// volume's; see [Home.OpenToOthers].
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return &FileError{Path: dir, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: "make it a directory that you can read"}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	mode, owner, user := info.Mode(), int(stat.Uid), os.Geteuid()
	switch {
	case user != 0 && owner == 0:
		return nil
	case user != 0 && owner != user:
		return &FileError{Path: dir, Err: fmt.Errorf("%w: it belongs to another user (uid %d)", ErrHome, owner),
			Next: "set AUTHSOME_HOME to a directory of your own"}
	case mode.Perm()&0o002 != 0:
		return &FileError{Path: dir, Err: fmt.Errorf("%w: other users can write to it (mode %04o)", ErrHome, stat.Mode&0o7777),
			Next: "look at what is in it, then run: chmod -R go= " + dir}
	case mode.Perm()&0o020 != 0:
		if err := os.Chmod(dir, mode&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky)&^0o020); err != nil {
			return &FileError{Path: dir, Err: fmt.Errorf("%w: its group can write to it, and that cannot be changed: %w", ErrHome, cause(err)),
				Next: "run: chmod -R go= " + dir}
		}
	}
	return nil
}

// OpenToOthers reports whether every user can write to the home: a directory of
// root's, such as a volume's, which is not refused. What others put there is used.
func (h *Home) OpenToOthers() bool {
	info, err := os.Stat(h.Dir)
	return err == nil && info.Mode().Perm()&0o002 != 0
}
