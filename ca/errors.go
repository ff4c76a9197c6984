package ca

import (
	"errors"
	"fmt"
)

// Errors of issuing.
var (
	// ErrNotPermitted is returned when a host is not canonical or lies outside
	// the authority's name constraints. Nothing was signed.
	ErrNotPermitted = errors.New("host is outside the authority's name constraints")

	// ErrExpired is returned when the root has reached its end: no leaf could
	// be valid. A new authority, and a new bundle for the clients, is the cure.
	ErrExpired = errors.New("authority has expired")
)

// A TargetMismatchError is returned by a handshake whose server name differs
// from the host that the connection was opened for.
type TargetMismatchError struct {
	Target     string // the host the configuration is pinned to
	ServerName string // what the ClientHello asked for: client-chosen text
}

func (e *TargetMismatchError) Error() string {
	return fmt.Sprintf("server name %q differs from the connection's target %q", e.ServerName, e.Target)
}
