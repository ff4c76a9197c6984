//go:build unix && !solaris && !aix

package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How long to sleep between two tries for the file lock, which is held for less
// than a millisecond. bbolt would sleep 50 ms: under several busy writers that
// is too seldom to ever meet the lock free.
const (
	lockFirstWait = 100 * time.Microsecond
	lockLastWait  = 2 * time.Millisecond
)

// lockFile takes the advisory lock of file, shared or exclusive, the same that
// bbolt takes, which then finds it taken by its own descriptor. It fails with
// ErrLocked at the deadline. Closing the file ends the lock.
func lockFile(ctx context.Context, file *os.File, exclusive bool, deadline time.Time) error {
	how := unix.LOCK_SH | unix.LOCK_NB
	if exclusive {
		how = unix.LOCK_EX | unix.LOCK_NB
	}
	for wait := lockFirstWait; ; wait = min(wait*3/2, lockLastWait) {
		err := unix.Flock(int(file.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(deadline):
			return ErrLocked
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}
