package oauthtest

import (
	"os"
	"testing"
	"time"
)

// lock keeps other test processes from preparing the same server. A process that is killed
// leaves the file behind, and whoever waits for it says which one to delete.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	for end := time.Now().Add(startTimeout); ; time.Sleep(100 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err == nil {
			return func() { f.Close(); os.Remove(path) }
		}
		if time.Now().After(end) {
			t.Fatalf("another test has been preparing the server for long; if there is none, delete the lock: %v", err)
		}
	}
}
