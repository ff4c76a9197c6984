//go:build unix

package regular

import "golang.org/x/sys/unix"

// noWait keeps open from waiting for a pipe's other end, and a terminal from
// becoming ours. Reads of regular files are as they were.
const noWait = unix.O_NONBLOCK | unix.O_NOCTTY
