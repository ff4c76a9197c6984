package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// runDirPrefix begins the name of every run's temporary directory; the pid of
// its run follows.
const runDirPrefix = "authsome-run-"

// makeRunDir makes this run's directory, 0700 and of its own.
func makeRunDir() (string, error) {
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", runDirPrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make a temporary directory: %w", err)
	}
	return dir, nil
}

// sweepRunDirs removes what runs that were killed outright have left. It is
// best effort: what belongs to others cannot be removed, and is not ours to.
func sweepRunDirs() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), runDirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		field, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), runDirPrefix), "-")
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !processAlive(pid) {
			os.RemoveAll(dir)
		}
	}
}
