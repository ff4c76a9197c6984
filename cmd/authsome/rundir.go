package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// runDirPrefix begins the name of every run's temporary directory; the pid of
// its run follows.
const runDirPrefix = "authsome-run-"

// runDir is a run's temporary directory, 0700. It is held for as long as its
// run lives: whether a pid is alive cannot be told from another container that
// shares the directory for temporary files.
type runDir struct {
	path string
	hold *os.File
}

// makeRunDir makes this run's directory.
func makeRunDir() (*runDir, error) {
	for range 10 {
		path, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", runDirPrefix, os.Getpid()))
		if err != nil {
			return nil, fmt.Errorf("make a temporary directory: %w", err)
		}
		hold, err := holdDir(path, true)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept by another run before it was held
		}
		if err != nil {
			os.Remove(path)
			return nil, fmt.Errorf("hold temporary directory %s: %w", path, err)
		}
		if _, err := os.Lstat(path); err == nil {
			return &runDir{path, hold}, nil
		}
		hold.Close() // swept while we waited for it
	}
	return nil, fmt.Errorf("make a temporary directory in %s: it is removed at once", os.TempDir())
}

// remove removes the directory with all that is in it.
func (d *runDir) remove() error {
	d.hold.Close() // first: Windows removes no file that is open
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("remove trust files: %w", err)
	}
	return nil
}

// sweepRunDirs removes what runs that were killed outright have left. It is
// best effort: what belongs to others cannot be removed, and is not ours to.
func sweepRunDirs() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), runDirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if hold, err := holdDir(dir, false); err == nil {
			os.RemoveAll(dir)
			hold.Close()
		}
	}
}
