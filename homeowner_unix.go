//go:build unix

package authsome

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkOwner refuses a home that another user owns or that every user can write to,
// whoever owns it: they could put a key, a definition or a log of theirs in place
// of ours. What only the group can write to is narrowed, since a umask or a
// volume's driver may have made it so; a directory of root's, such as a volume's,
// stays open to the group that root gave it.
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
	case user != 0 && owner != 0 && owner != user:
		return &FileError{Path: dir, Err: fmt.Errorf("%w: it belongs to another user (uid %d)", ErrHome, owner),
			Next: "set AUTHSOME_HOME to a directory of your own"}
	case mode.Perm()&0o002 != 0:
		next := "look at what is in it, then run: chmod -R go= " + dir
		if user != 0 && owner == 0 {
			next = "set AUTHSOME_HOME to a directory in it, such as " + filepath.Join(dir, "home") + ", which is made for you alone"
		}
		return &FileError{Path: dir, Err: fmt.Errorf("%w: other users can write to it (mode %04o)", ErrHome, stat.Mode&0o7777), Next: next}
	case user != 0 && owner == 0:
		return nil
	case mode.Perm()&0o020 != 0:
		if err := os.Chmod(dir, mode&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky)&^0o020); err != nil {
			return &FileError{Path: dir, Err: fmt.Errorf("%w: its group can write to it, and that cannot be changed: %w", ErrHome, cause(err)),
				Next: "run: chmod -R go= " + dir}
		}
	}
	return nil
}
