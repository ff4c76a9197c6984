package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate sets aside blocks for file from offset on without changing its size,
// so that readers see nothing and an append cannot run out of space. The error
// matches errors.ErrUnsupported where the file system cannot.
func allocate(file *os.File, offset, length int64) error {
	for {
		err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, length)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err
	}
}

// freeBytes returns the space that an unprivileged process may still use.
func freeBytes(file *os.File) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
