// Package isolate runs a command in namespaces of its own, without privileges:
// user, network, mount, pid and IPC namespaces (namespaces(7)).
//
// The network namespace has a loopback and nothing else. Every address in the
// world is local there (the kernel calls this AnyIP), so that a client that
// knows no proxy finds ours at whatever address it connects to. The listeners
// are made inside and served from outside: their descriptors are handed over,
// and the process that serves them keeps its own network.
//
//	outside                                inside, pid 1
//	Open ──── clone(NEWUSER|NEWNET|…) ───► brings up the loopback
//	Listen ─────────── ports ────────────►
//	       ◄────── descriptors ──────────  listens
//	Start ──────────── command ──────────► mounts over what is hidden,
//	                                       gives up every right, starts the command
//	Signal ───────────────────────────────► passes it on
//	Wait  ◄─────────── status ───────────  reaps, and ends everything
//
// When either side dies, however it dies, all that runs inside dies with it.
package isolate

import (
	"errors"
	"net"
)

// ErrUnavailable is returned where the system or the kernel's settings do not
// let a command be isolated.
var ErrUnavailable = errors.New("isolation is not available")

// ErrHidden is returned when what the command needs lies in what is hidden.
var ErrHidden = errors.New("hidden by isolation")

// Error says why isolation failed and what can be done.
type Error struct {
	Msg  string
	Next string // what to do
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Msg }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Hint is what to do.
func (e *Error) Hint() string { return e.Next }

// Listeners are sockets of the namespace, to be served from outside. Nobody but
// what runs inside can connect to them.
type Listeners struct {
	Proxy net.Listener   // on the namespace's loopback, any port
	AnyIP []net.Listener // on every address there is, one for each port
	DNS   net.Listener   // on the namespace's loopback, port 53
	Query net.PacketConn // the same for UDP
}

// Command is what to run, and what it may not see.
type Command struct {
	Path string   // the program
	Args []string // with the program's name first
	Env  []string
	Dir  string // the working directory

	// Hide names files and directories that the command finds empty, by
	// whatever path they can be reached. Those that do not exist are none.
	Hide []string
	// Keep names directories that stay visible inside those.
	Keep []string

	// Check stops short of starting the command: everything else is done.
	Check bool
}

// Status is how the command ended.
type Status struct {
	Code   int // the exit code
	Signal int // the signal that ended it, or 0
}

// DropVariables name ways out that are closed: a program that finds one set
// would only try.
var DropVariables = []string{"DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO",
	"GNOME_KEYRING_CONTROL", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "DOCKER_HOST", "CONTAINER_HOST", "TMUX", "STY", "WSL_INTEROP",
	"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "VSCODE_IPC_HOOK_CLI", "VSCODE_GIT_IPC_HANDLE"}
