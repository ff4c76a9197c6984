package main

import "os"

// notifyHangup returns a channel that never yields: there is no such signal.
func notifyHangup() (c chan os.Signal, stop func()) { return nil, func() {} }
