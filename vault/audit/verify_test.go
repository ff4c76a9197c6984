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

// TestVerifyAll alters the files of a log that was closed, one way after the
// other.
func TestVerifyAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	for i := range 24 {
		log := openLog(t, path, audit.Config{MaxBytes: 3000, Keep: 50})
		for j := range 3 {
			record(t, log, fmt.Sprintf("%d.%d", i, j))
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := audit.VerifyAll(path); err != nil {
		t.Fatalf("untouched: %v", err)
	}
	file := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	swap := func(copied, a, b string) {
		for from, to := range map[string]string{a: b, b: a} {
			if err := os.WriteFile(filepath.Join(copied, to), file(from), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	cutBy := func(lines int) func(string) {
		return func(copied string) {
			all := bytes.SplitAfter(file("audit.log"), []byte("\n")) // and nothing after the last
			if err := os.WriteFile(filepath.Join(copied, "audit.log"), slices.Concat(all[:len(all)-1-lines]...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(string) {
		return func(copied string) {
			if err := os.Remove(filepath.Join(copied, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, alter := range map[string]func(dir string){
		"the last line cut off": cutBy(1), "two lines cut off": cutBy(2),
		"emptied":                func(copied string) { os.Truncate(filepath.Join(copied, "audit.log"), 0) },
		"half a line cut off":    func(copied string) { os.Truncate(filepath.Join(copied, "audit.log"), int64(len(file("audit.log"))-9)) },
		"a rotated file removed": remove("audit.log.2"),
		"the last one removed":   remove("audit.log.1"),
		"two rotated files swap": func(copied string) { swap(copied, "audit.log.1", "audit.log.2") },
		"the newest swapped":     func(copied string) { swap(copied, "audit.log", "audit.log.1") },
		"the newest put back by 1": func(copied string) {
			os.Rename(filepath.Join(copied, "audit.log.1"), filepath.Join(copied, "audit.log"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			alter(copied)
			path := filepath.Join(copied, "audit.log")
			var tamper *audit.TamperError
			if err := audit.VerifyAll(path); !errors.As(err, &tamper) {
				t.Fatalf("got %v", err)
			}
			// A process that goes on does not cover it up.
			for range 2 {
				log := openLog(t, path, audit.Config{})
				record(t, log, "more")
				if err := log.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := audit.VerifyAll(path); !errors.As(err, &tamper) {
				t.Errorf("after more lines: %v", err)
			}
		})
	}
}

// TestHeadOfADeadProcess holds that a process that was killed, and a head that
// is lost or was never written, are no alarm.
func TestHeadOfADeadProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	dead := openLog(t, path, audit.Config{}) // never closed
	for i := range 600 {
		record(t, dead, fmt.Sprint(i))
	}
	head := filepath.Join(filepath.Dir(path), "audit.head")
	for _, text := range []string{"", "0 0 0\n", "junk", "-1 5 aa\n", "5 99999999999 " + strings.Repeat("a", 64)} {
		if err := audit.VerifyAll(path); err != nil {
			t.Errorf("head %q: %v", text, err)
		}
		if err := os.WriteFile(head, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := openLog(t, path, audit.Config{})
	record(t, log, "more")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := audit.VerifyAll(path); err != nil || bytes.Contains(readAll(t, path), []byte(audit.CutEvent)) {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
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
	if err := audit.VerifyAll(path); err != nil {
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
