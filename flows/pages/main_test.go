package pages_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// update writes docs/screenshots: go test ./flows/pages -run '^TestPages$' -update
var update = flag.Bool("update", false, "write the screenshots of the pages to docs/screenshots")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	chromium.stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines outlive the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}
