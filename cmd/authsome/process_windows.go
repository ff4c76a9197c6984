package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// forwarded are the signals that a run passes on to its child. The console
// sends Ctrl-C to every process that it has.
func forwarded(bool) []os.Signal { return []os.Signal{os.Interrupt} }

func pass(*process, os.Signal) {}

// keepForeground does nothing: the console has no foreground group.
func keepForeground() (restore func()) { return func() {} }

func exitCode(cmd *exec.Cmd, _ error) int {
	if cmd.ProcessState == nil {
		return exitOwn
	}
	return cmd.ProcessState.ExitCode()
}

// holdFile is open in a directory for as long as it is held. Windows removes no
// file that is open.
const holdFile = "held"

// holdDir holds a directory until the file is closed, by whatever end of the
// process. It fails when somebody else holds it.
func holdDir(dir string, _ bool) (*os.File, error) {
	name := filepath.Join(dir, holdFile)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}
