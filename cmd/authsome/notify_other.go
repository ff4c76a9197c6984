//go:build !linux

package main

// There is no service manager that passes sockets or wants to be told.

func inherited() (sockets, error)               { return sockets{}, nil }
func (s *sidecar) notify(string)                {}
func (s *sidecar) notifyReloading()             {}
func (s *sidecar) startWatchdog() (stop func()) { return func() {} }
