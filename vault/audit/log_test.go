package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/vault/audit"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("AUDIT_TEST_CHILD") != "" {
		if err := writeMany(os.Args[1], os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const linesPerChild = 400

// writeMany is what a child process does: it writes numbered events into a log
// that rotates all the time.
func writeMany(path, name string) error {
	log, err := audit.Open(path, audit.Config{Profile: name, MaxBytes: 64 << 10, Keep: 99})
	if err != nil {
		return err
	}
	for i := range linesPerChild {
		ticket, err := log.Reserve()
		if err != nil {
			return err
		}
		if err := ticket.Commit(audit.Event{Event: "inject", Detail: strconv.Itoa(i) + strings.Repeat("x", i%300)}); err != nil {
			return err
		}
	}
	return log.Close()
}

func openLog(t testing.TB, path string, cfg audit.Config) *audit.Log {
	t.Helper()
	log, err := audit.Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func newLog(t testing.TB, cfg audit.Config) (*audit.Log, string) {
	path := filepath.Join(t.TempDir(), "audit.log")
	return openLog(t, path, cfg), path
}

func record(t testing.TB, log *audit.Log, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := log.Write(audit.Event{Event: name, Provider: "github"}); err != nil {
			t.Fatal(err)
		}
	}
}

// events returns the names of the events in r, and "!" for a damaged line.
func events(r io.Reader, f audit.Filter) []string {
	var all []string
	for e, err := range audit.Read(r, f) {
		if err != nil {
			e.Event = "!"
		}
		all = append(all, e.Event)
	}
	return all
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	all, err := audit.OpenAll(path)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	content, err := io.ReadAll(all)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestOpenWriteRead(t *testing.T) {
	log, path := newLog(t, audit.Config{Profile: "default"})
	record(t, log, "login", "export", "logout")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := log.Write(audit.Event{Event: "late"}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Write after Close = %v, want ErrUnavailable", err)
	}
	if _, err := log.Reserve(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Reserve after Close = %v, want ErrUnavailable", err)
	}
	content := readAll(t, path)
	if got := events(bytes.NewReader(content), audit.Filter{}); !slices.Equal(got, []string{"login", "export", "logout"}) {
		t.Errorf("events = %v", got)
	}
	for e := range audit.Read(bytes.NewReader(content), audit.Filter{}) {
		if e.Profile != "default" || e.Outcome != audit.OK || e.Actor.PID != os.Getpid() || e.Actor.UID != os.Getuid() || time.Since(e.Time) > time.Minute {
			t.Errorf("event = %+v", e)
		}
	}
	if err := audit.Verify(bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
}

func TestOpenFiles(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		make func(path string) error
		ok   bool
	}{
		{"new", func(string) error { return nil }, true},
		{"too open", func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Chmod(p, 0o666)) }, true},
		{"symbolic link", func(p string) error { return os.Symlink(filepath.Join(dir, "elsewhere"), p) }, false},
		{"directory", func(p string) error { return os.Mkdir(p, 0o700) }, false},
		{"named pipe", func(p string) error { return syscall.Mkfifo(p, 0o600) }, false},
		{"device", func(p string) error { return os.Symlink("/dev/null", p) }, false},
		{"no directory", func(p string) error { return os.Symlink("/nonexistent/x", p) }, false},
	}
	for _, tt := range tests {
		path := filepath.Join(dir, tt.name)
		if err := tt.make(path); err != nil {
			t.Fatal(err)
		}
		log, err := audit.Open(path, audit.Config{})
		if (err == nil) != tt.ok || err != nil && (!errors.Is(err, audit.ErrUnavailable) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: Open = %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", tt.name, info.Mode())
		}
		_ = log.Close()
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a link was followed")
	}
}

func TestFilters(t *testing.T) {
	log, path := newLog(t, audit.Config{})
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	for _, e := range []audit.Event{
		{Event: "login", Provider: "github", Time: at(1)}, {Event: "login", Provider: "slack", Time: at(2)}, {Event: "logout", Provider: "github", Time: at(3)},
	} {
		if err := log.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		filter audit.Filter
		want   int
	}{
		{audit.Filter{}, 3}, {audit.Filter{Since: at(2)}, 2}, {audit.Filter{Provider: "github"}, 2}, {audit.Filter{Event: "login"}, 2},
		{audit.Filter{Since: at(2), Provider: "github", Event: "logout"}, 1}, {audit.Filter{Provider: "x"}, 0},
	}
	for _, tt := range tests {
		if got := events(bytes.NewReader(readAll(t, path)), tt.filter); len(got) != tt.want {
			t.Errorf("%+v: %v, want %d", tt.filter, got, tt.want)
		}
	}
}

// A damaged line costs itself, not its neighbours.
func TestReadDamaged(t *testing.T) {
	log, path := newLog(t, audit.Config{})
	record(t, log, "a", "b", "c")
	lines := bytes.SplitAfter(readAll(t, path), []byte("\n"))
	half := lines[0][:60]
	tests := map[string]struct {
		content []byte
		want    []string
	}{
		"half a line, then a whole":   {slices.Concat(lines[0], half, lines[1]), []string{"a", "!", "b"}},
		"half a line and a newline":   {slices.Concat(half, []byte("\n"), lines[1]), []string{"!", "b"}},
		"half a line at the end":      {slices.Concat(lines[0], half), []string{"a", "!"}},
		"no newline at the end":       {bytes.TrimSpace(lines[0]), []string{"a"}},
		"blank lines":                 {slices.Concat([]byte("\n\n"), lines[0], []byte("\n")), []string{"a"}},
		"junk":                        {slices.Concat([]byte("\x00\xff\n"), lines[0]), []string{"!", "a"}},
		"a line too long for any log": {slices.Concat(bytes.Repeat([]byte("x"), 1<<20), []byte("\n"), lines[0]), []string{"!", "a"}},
		"unknown fields":              {[]byte(`{"time":"2026-01-01T00:00:00Z","event":"future","new":{"x":[1]}}` + "\n"), []string{"future"}},
		"empty":                       {nil, nil},
	}
	for name, tt := range tests {
		if got := events(bytes.NewReader(tt.content), audit.Filter{}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestRotationKeepsSoManyFiles(t *testing.T) {
	log, path := newLog(t, audit.Config{MaxBytes: 5000, Keep: 2})
	for range 200 {
		record(t, log, "login")
	}
	files, _ := filepath.Glob(path + "*")
	if want := []string{path, path + ".1", path + ".2"}; !slices.Equal(files, want) {
		t.Errorf("files %v, want %v", files, want)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 5500 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, %v, %v", name, info.Size(), info.Mode(), err)
		}
	}
	if err := audit.Verify(bytes.NewReader(readAll(t, path))); err != nil {
		t.Errorf("what is left does not verify: %v", err)
	}
}

// A log that was moved or deleted under a process is begun anew.
func TestReplacedFile(t *testing.T) {
	log, path := newLog(t, audit.Config{})
	record(t, log, "a")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(audit.LookEvery + 10*time.Millisecond)
	record(t, log, "b")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := events(bytes.NewReader(content), audit.Filter{}); !slices.Equal(got, []string{"b"}) {
		t.Errorf("new file holds %v", got)
	}
}

// A file that was moved away and cannot be made anew takes no more lines, at any
// call: they would be where nobody reads them.
func TestReplacedByNoFile(t *testing.T) {
	log, path := newLog(t, audit.Config{})
	record(t, log, "a")
	promised, err := log.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	time.Sleep(audit.LookEvery + 10*time.Millisecond)
	for i := range 3 {
		if err := log.Write(audit.Event{Event: "lost"}); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("write %d: got %v, want it refused", i, err)
		}
		if _, err := log.Reserve(); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("reservation %d: got %v, want it refused", i, err)
		}
	}
	if err := promised.Commit(audit.Event{Event: "promised"}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("commit: got %v, want it said that the line waits", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record(t, log, "b")
	if got := events(bytes.NewReader(readAll(t, path)), audit.Filter{}); !slices.Equal(got, []string{"promised", "b"}) {
		t.Errorf("new file holds %v", got)
	}
	if got := events(bytes.NewReader(readAll(t, path+".moved")), audit.Filter{}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("old file holds %v", got)
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log := openLog(t, path, audit.Config{MaxBytes: 3000, Keep: 50})
	record(t, log, "before")
	got := make(chan string, 100)
	go func() {
		for e, err := range audit.Follow(t.Context(), path, audit.Filter{Provider: "github"}) {
			if err != nil {
				e.Event = err.Error()
			}
			got <- e.Event
		}
		close(got)
	}()
	time.Sleep(100 * time.Millisecond) // it begins at the end
	const n = 40                       // several rotations
	for i := range n {
		record(t, log, fmt.Sprint(i))
		time.Sleep(15 * time.Millisecond)
	}
	for i := range n {
		select {
		case name := <-got:
			if name != fmt.Sprint(i) {
				t.Fatalf("event %d is %q", i, name)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("event %d was not seen", i)
		}
	}
}

func TestTickets(t *testing.T) {
	log, path := newLog(t, audit.Config{})
	used, err := log.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	unused, err := log.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time is nothing
		if err := used.Commit(audit.Event{Event: "inject"}); err != nil {
			t.Fatal(err)
		}
		unused.Release()
	}
	if err := unused.Commit(audit.Event{Event: "released"}); err != nil {
		t.Fatal(err)
	}
	used.Release()
	(audit.Ticket{}).Release()
	if err := (audit.Ticket{}).Commit(audit.Event{}); err != nil {
		t.Error(err)
	}
	if got := events(bytes.NewReader(readAll(t, path)), audit.Filter{}); !slices.Equal(got, []string{"inject"}) {
		t.Errorf("events = %v", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 1000 {
		t.Errorf("room that was set aside shows: %d bytes, %v", info.Size(), err)
	}
}

func BenchmarkWrite(b *testing.B) {
	log, _ := newLog(b, audit.Config{MaxBytes: -1})
	b.ReportAllocs()
	for b.Loop() {
		if err := log.Write(injected); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReserveCommit(b *testing.B) {
	log, _ := newLog(b, audit.Config{MaxBytes: -1})
	b.ReportAllocs()
	for b.Loop() {
		ticket, err := log.Reserve()
		if err != nil {
			b.Fatal(err)
		}
		if err := ticket.Commit(injected); err != nil {
			b.Fatal(err)
		}
	}
}

var injected = audit.Event{Event: "inject", Profile: "default", Provider: "github", Connection: "default", Method: "GET", Scheme: "https",
	Host: "api.github.com", Port: 443, Path: "/repos/a/b/issues", Status: 200, BytesOut: 1234, Duration: 81 * time.Millisecond, Protocol: "h2"}
