package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"authsome/vault/audit"
)

func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	first := openLog(t, path, audit.Config{})
	record(t, first, "a", "b")
	second := openLog(t, path, audit.Config{}) // its chain begins after b
	record(t, second, "c")
	record(t, first, "d", "e")
	record(t, second, "f", "g")
	lines := bytes.SplitAfter(readAll(t, path), []byte("\n"))
	if err := audit.Verify(bytes.NewReader(readAll(t, path))); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	without := func(i int) []byte { return slices.Concat(slices.Delete(slices.Clone(lines), i, i+1)...) }
	edited := func(i int) []byte {
		c := slices.Clone(lines)
		c[i] = bytes.Replace(c[i], []byte("github"), []byte("gitlab"), 1)
		return slices.Concat(c...)
	}
	swapped := func(i, j int) []byte {
		c := slices.Clone(lines)
		c[i], c[j] = c[j], c[i]
		return slices.Concat(c...)
	}
	var tamper *audit.TamperError
	for i := range 4 { // the last line of each chain, e and g, has no witness
		if err := audit.Verify(bytes.NewReader(without(i))); !errors.As(err, &tamper) {
			t.Errorf("without line %d: %v", i+1, err)
		}
		if err := audit.Verify(bytes.NewReader(edited(i))); !errors.As(err, &tamper) {
			t.Errorf("with line %d edited: %v", i+1, err)
		}
	}
	for name, content := range map[string][]byte{
		"two lines of a chain swapped": swapped(0, 1), "a line repeated": slices.Concat(lines[0], lines[0]),
		"a line added": slices.Concat(lines[0], []byte(`{"time":"2026-01-01T00:00:00Z","event":"x"}`+"\n")), "junk added": slices.Concat(lines[0], []byte("junk\n")),
	} {
		if err := audit.Verify(bytes.NewReader(content)); !errors.As(err, &tamper) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A later log is a witness of the last line.
	third := openLog(t, path, audit.Config{})
	record(t, third, "h")
	lines = bytes.SplitAfter(readAll(t, path), []byte("\n"))
	for name, content := range map[string][]byte{"without": without(6), "edited": edited(6)} {
		if err := audit.Verify(bytes.NewReader(content)); !errors.As(err, &tamper) || tamper.Line == 0 {
			t.Errorf("last line before a new chain, %s: %v", name, err)
		}
	}
}

// Several processes append to one log and rotate it under each other: every line
// is there once, whole, and every chain holds.
func TestManyProcessesRotating(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	var wg sync.WaitGroup
	const processes = 4
	for p := range processes {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], path, fmt.Sprint("p", p))
			cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	content := readAll(t, path)
	if err := audit.Verify(bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	next := map[string]int{}
	rotations := 0
	for e, err := range audit.Read(bytes.NewReader(content), audit.Filter{}) {
		switch {
		case err != nil:
			t.Error(err)
		case e.Event == audit.RotateEvent:
			rotations++
		default:
			n := next[e.Profile]
			if !strings.HasPrefix(e.Detail, strconv.Itoa(n)) {
				t.Errorf("%s: line %d is %q", e.Profile, n, e.Detail)
			}
			next[e.Profile]++
		}
	}
	for p := range processes {
		if n := next[fmt.Sprint("p", p)]; n != linesPerChild {
			t.Errorf("process %d: %d lines of %d", p, n, linesPerChild)
		}
	}
	if files, _ := filepath.Glob(path + ".*"); len(files) != rotations || rotations == 0 {
		t.Errorf("%d rotations, files %v", rotations, files)
	}
}
