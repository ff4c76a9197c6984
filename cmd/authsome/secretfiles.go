package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// secretFilesEvery is how often the files with secrets in them are looked at.
// Whoever replaces a mounted secret, as the kubelet does, sends no signal.
const secretFilesEvery = 2 * time.Second

// secretFiles notices that one of the files has been replaced.
type secretFiles struct{ known, last string }

// changed reports a change once, when the files have stayed as they are from one
// look to the next: nobody is still writing to them. That one is missing is no
// change: the secret that it held is kept.
func (f *secretFiles) changed(now string) bool {
	settled := now == f.last
	f.last = now
	if !settled || now == "" || now == f.known {
		return false
	}
	f.known = now
	return true
}

// secretState tells the configured files with secrets apart from what replaces
// them, without reading them. It is "" when there are none, or one is missing.
func (s *sidecar) secretState() string {
	s.mu.Lock()
	paths := []string{s.cfg.TokenFile}
	for _, c := range s.cfg.Credentials {
		paths = append(paths, c.SecretFile, c.ClientIDFile)
	}
	s.mu.Unlock()
	var state strings.Builder
	for _, path := range paths {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return ""
		}
		fmt.Fprintf(&state, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	return state.String()
}
