//go:build !linux

package isolate

import (
	"errors"
	"os"
)

// Namespace is a set of namespaces. There is none on this system.
type Namespace struct{}

// Open fails: namespaces are Linux's.
func Open(...string) (*Namespace, error) {
	return nil, &Error{Msg: "isolation needs Linux", Next: "run the command in a container or a virtual machine with Linux", Err: ErrUnavailable}
}

// Main is the program inside. There is none on this system.
func Main([]string) int { return 125 }

var errNone = errors.New("isolation needs Linux")

// Listen fails on this system.
func (*Namespace) Listen([]uint16) (*Listeners, error) { return nil, errNone }

// Start fails on this system.
func (*Namespace) Start(Command) error { return errNone }

// Signal does nothing on this system.
func (*Namespace) Signal(os.Signal) {}

// Wait fails on this system.
func (*Namespace) Wait() (Status, error) { return Status{}, errNone }

// Close does nothing on this system.
func (*Namespace) Close() {}
