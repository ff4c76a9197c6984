//go:build unix

package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// noFollow makes open fail with ELOOP on a symbolic link; nonBlock keeps it from
// hanging on a named pipe, which is then refused as not regular.
const openFlags = os.O_RDWR | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK

// tryLock takes the exclusive lock of file, and reports whether it got it. The
// lock ends with the descriptor.
func tryLock(file *os.File) bool {
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
