//go:build !linux

package main

import "errors"

var errRedirectHere = errors.New("connections are redirected on Linux only")

func isPermission(error) bool { return false }

func redirectUp(redirection) error   { return errRedirectHere }
func redirectDown() error            { return errRedirectHere }
func redirectShow() (ruleset, error) { return ruleset{}, errRedirectHere }
