// Package xconnect makes net/http's HTTP/2 servers offer extended CONNECT
// (RFC 8441), over which clients open WebSockets.
//
// net/http has it, and switches it on for a process whose GODEBUG says so when
// net/http is initialised: there is no setting in the program's own hands. So
// this package says so, just for that moment. It imports nothing but os, and its
// path comes before net/http's, which the language makes it be initialised
// before (The Go Programming Language Specification, Package initialization).
package xconnect

import "os"

var inherited, given = os.LookupEnv("GODEBUG")

func init() {
	value := "http2xconnect=1"
	if inherited != "" {
		value = inherited + "," + value
	}
	os.Setenv("GODEBUG", value)
}

// Restore gives the process its own GODEBUG back, before a child inherits ours.
// It is to be called once net/http is initialised, by a package that imports it.
func Restore() {
	if given {
		os.Setenv("GODEBUG", inherited)
	} else {
		os.Unsetenv("GODEBUG")
	}
}
