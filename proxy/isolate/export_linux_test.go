package isolate

// Reason finds the setting that forbids what failed with err.
func Reason(err error, root bool, read func(string) string) (setting, next string) {
	return reason(err, root, read)
}

// Aliases lists where else a path is, by a mountinfo file.
func Aliases(mountinfo, real string) ([]string, error) {
	all, err := readMounts(mountinfo)
	return all.aliases(real), err
}

// ForeignProcs lists where else a /proc is mounted, by a mountinfo file.
func ForeignProcs(mountinfo string) ([]string, error) {
	all, err := readMounts(mountinfo)
	return all.foreignProcs(), err
}

// Listening lists the sockets of a /proc/net/unix, as far as they exist.
func Listening(file string) ([]string, error) { return listening(file) }

// WaysOut lists what is hidden.
func WaysOut() ([]string, error) { return waysOut() }
