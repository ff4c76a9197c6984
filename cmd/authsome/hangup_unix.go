//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup returns the channel of requests to reload. One that comes while
// another waits is the same one.
func notifyHangup() (c chan os.Signal, stop func()) {
	c = make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
