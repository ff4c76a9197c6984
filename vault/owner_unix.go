//go:build unix

package vault

import (
	"os"
	"syscall"
)

// keepOwner gives the file at path the owner of the one that it will replace, so
// that a command run as root does not take a user's files away.
func keepOwner(path string, old os.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, int(was.Uid), int(was.Gid))
}
