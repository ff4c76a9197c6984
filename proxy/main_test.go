package proxy_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain has every proxy of every test end without a goroutine left, of the
// proxy's or of the test's.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := leaked(10 * time.Second); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines outlive the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// leaked waits until nothing is left, for longer than goleak does by itself: the
// machine may be busy.
func leaked(patience time.Duration) (err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}
