package main

import "golang.org/x/sys/unix"

// stopped reports whether a child has been stopped by a signal, without taking
// its exit from whoever waits for that.
func stopped(child int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, child, &info, unix.WSTOPPED|unix.WNOHANG, nil)
	return err == nil && info.Signo != 0
}
