//go:build unix

package regular_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/vault/regular"
)

// soon fails the test when f waits for what does not come.
func soon(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it waits")
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.Listen("unix", path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, err := range []error{
		os.WriteFile(path("file"), []byte("text"), 0o600), os.Symlink("file", path("link")), os.Mkdir(path("directory"), 0o700),
		syscall.Mkfifo(path("pipe"), 0o600), os.Symlink("pipe", path("link to a pipe")), os.Symlink("absent", path("nowhere")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ path, text, err string }{
		{path("file"), "text", ""},
		{path("link"), "text", ""},
		{path("directory"), "", "it is not a regular file but a directory"},
		{path("pipe"), "", "it is not a regular file but a pipe"},
		{path("link to a pipe"), "", "it is not a regular file but a pipe"},
		{path("socket"), "", "it is not a regular file but a socket"},
		{os.DevNull, "", "it is not a regular file but a device"},
		{path("nowhere"), "", "no such file"},
		{path("absent"), "", "no such file"},
	} {
		soon(t, func() {
			text, err := regular.ReadFile(test.path)
			var at *fs.PathError
			switch {
			case test.err == "" && (err != nil || string(text) != test.text):
				t.Errorf("%s: got %q, %v, want %q", test.path, text, err, test.text)
			case test.err != "" && (!errors.As(err, &at) || at.Path != test.path || !strings.Contains(err.Error(), test.err)):
				t.Errorf("%s: got %v, want %s", test.path, err, test.err)
			case errors.Is(err, regular.ErrIrregular) != strings.Contains(test.err, "regular"):
				t.Errorf("%s: got %v: is it ErrIrregular?", test.path, err)
			}
		})
	}
	// For a writer too: to open a pipe for both never waits, but is no file.
	soon(t, func() {
		if _, err := regular.OpenFile(path("pipe"), os.O_RDWR); !errors.Is(err, regular.ErrIrregular) {
			t.Errorf("a pipe for reading and writing: got %v", err)
		}
	})
}

// What is opened counts, not what was there a moment before: a name that changes
// between a file and a pipe gets nobody to wait, or to take the pipe for a file.
func TestOpenOfWhatChanges(t *testing.T) {
	dir := t.TempDir()
	file, pipe, path := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "name")
	if err := errors.Join(os.WriteFile(file, []byte("text"), 0o600), syscall.Mkfifo(pipe, 0o600), os.Symlink(file, path)); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for next := path + ".next"; ; {
			for _, target := range []string{pipe, file} {
				if err := errors.Join(os.Symlink(target, next), os.Rename(next, path)); err != nil {
					stopped <- err
					return
				}
			}
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
		}
	}()
	soon(t, func() {
		files, pipes := 0, 0
		for i := 0; i < 20_000 || files == 0 || pipes == 0; i++ {
			switch text, err := regular.ReadFile(path); {
			case errors.Is(err, regular.ErrIrregular):
				pipes++
			case err == nil && string(text) == "text":
				files++
			default:
				t.Errorf("got %q, %v", text, err)
				return
			}
		}
	})
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
