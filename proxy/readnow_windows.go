package proxy

import "syscall"

// readNow has no counterpart: a Windows socket of package net cannot be asked
// for what it has already.
func readNow(uintptr, []byte) (int, error) { return 0, syscall.EAGAIN }
