package vault

// process identifies the owner of a lease, so that others can tell whether it
// is still alive. Empty fields mean that it cannot be told.
type process struct {
	PID int `json:"pid"`
	// Space names the machine's boot and the namespace in which PID counts: two
	// containers on one machine share the first and not the second.
	Space string `json:"space,omitempty"`
	// Start is when the process started, in the system's own unit: a PID is
	// used again.
	Start string `json:"start,omitempty"`
}

// dead reports whether p is certainly no longer running.
func (p process) dead() bool {
	if p.PID <= 0 || p.Space == "" || p.Start == "" || p.Space != thisProcess().Space {
		return false
	}
	start, known := startOf(p.PID)
	return known && start != p.Start
}
