//go:build linux

package main_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// huge is how large the bodies of TestHugeBodies are. More than a 32-bit number
// counts takes a minute or two: -huge 5368709120.
var huge = flag.Int64("huge", 256<<20, "bytes of the bodies in TestHugeBodies")

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Bodies of any size go up and down in the same memory. The child reads the
// most that authsome has ever held from /proc.
func TestHugeBodies(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	body := filepath.Join(t.TempDir(), "body") // a hole
	f, err := os.Create(body)
	if err == nil {
		err = f.Truncate(*huge)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	const peak = 128 << 10 // KiB
	for _, version := range []string{"--http1.1", "--http2"} {
		script := fmt.Sprintf(`set -e
curl -sS %[1]s -o /dev/null -w '%%{http_version} %%{http_code} %%{size_download}\n' 'https://api.example.test/?size=%[2]d'
curl -sS %[1]s -H Expect: -T '%[3]s' https://api.example.test/put
cat '%[3]s' | curl -sS %[1]s -H Expect: -T - https://api.example.test/put
awk '/VmHWM/ { print ($2 < %[4]d) ? "little memory" : "peak " $2 }' /proc/$PPID/status`, version, *huge, body, peak)
		r := w.authsome("run", "--", "sh", "-c", script)
		want := fmt.Sprintf("%s 200 %[2]d\nwelcome PUT %[2]d\nwelcome PUT %[2]d\nlittle memory\n",
			strings.TrimPrefix(version, "--http"), *huge)
		if r.code != 0 || r.stdout != want {
			t.Errorf("%s: exit %d\n%s%s, want\n%s", version, r.code, r.stdout, r.stderr, want)
		}
	}
}
