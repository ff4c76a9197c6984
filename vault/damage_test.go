package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/vault"
)

func TestDamagedFiles(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, path string, content []byte)
		want   string // in the message
	}{
		{"empty", func(t *testing.T, path string, _ []byte) { write(t, path, nil) }, "it is empty"},
		{"one byte", func(t *testing.T, path string, c []byte) { write(t, path, c[:1]) }, "it is not a store"},
		{"first page only", func(t *testing.T, path string, c []byte) { write(t, path, c[:os.Getpagesize()]) }, "cut short"},
		{"half", func(t *testing.T, path string, c []byte) { write(t, path, c[:len(c)/2]) }, "cut short"},
		{"junk", func(t *testing.T, path string, c []byte) {
			junk := bytes.Clone(c)
			rand.NewChaCha8([32]byte{}).Read(junk)
			write(t, path, junk)
		}, "it is not a store"},
		{"text", func(t *testing.T, path string, _ []byte) { write(t, path, bytes.Repeat([]byte("hello\n"), 9999)) }, "it is not a store"},
		{"zeros", func(t *testing.T, path string, c []byte) { write(t, path, make([]byte, len(c))) }, "it is not a store"},
		{"directory", func(t *testing.T, path string, _ []byte) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"named pipe", func(t *testing.T, path string, _ []byte) {
			if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"key document gone", func(t *testing.T, path string, _ []byte) {
			commit(t, openBolt(t, path), vault.Op{Key: vault.KeysKey})
		}, "its data key is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			smallVault(t, dir)
			path := filepath.Join(dir, "store.db")
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tt.damage(t, path, content)
			_, err = openIn(dir)
			if !errors.Is(err, vault.ErrUnavailable) {
				t.Fatalf("Open = %v, want ErrUnavailable", err)
			}
			for _, part := range []string{path, tt.want} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
			if tt.name == "named pipe" { // reading it here would hang
				return
			}
			before, _ := os.ReadFile(path)
			if err := openBolt(t, path).Commit(t.Context(), vault.Batch{Ops: []vault.Op{put("a", "1")}}); tt.name != "key document gone" && !errors.Is(err, vault.ErrUnavailable) {
				t.Errorf("Commit = %v, want ErrUnavailable", err)
			}
			if after, _ := os.ReadFile(path); tt.name != "key document gone" && !bytes.Equal(before, after) {
				t.Error("a write changed the damaged file")
			}
		})
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An older state must not be served in place of a damaged newer one: the write
// that it lacks was acknowledged.
func TestNoSilentReturnToAnOlderState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	s := openBolt(t, path)
	for i := range 4 {
		commit(t, s, put("a", fmt.Sprint(i)))
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for page := range 2 { // damage the checksum of one meta page, then of the other
			damaged := bytes.Clone(content)
			damaged[page*os.Getpagesize()+16+56] ^= 1
			write(t, path, damaged)
			values, err := s.Load(t.Context(), "")
			switch {
			case err != nil && errors.Is(err, vault.ErrUnavailable):
				failures++
			case err != nil || string(values["a"]) != fmt.Sprint(i):
				t.Errorf("write %d, meta page %d: Load = %s, %v", i, page, values["a"], err)
			}
		}
		if failures != 1 {
			t.Errorf("write %d: %d of 2 meta pages are essential, want 1", i, failures)
		}
		write(t, path, content)
	}
}

// asNobody runs the child as an unprivileged user when the test is privileged,
// for whom permissions mean nothing.
func asNobody(t *testing.T) func(*exec.Cmd) {
	if os.Getuid() != 0 {
		return nil
	}
	// The test binary lies where only its owner can reach it. Another process
	// copies it: a child forked meanwhile would hold the copy open for writing,
	// and nobody could execute it.
	path := filepath.Join(nobodysDir(t), "vault.test")
	if out, err := exec.Command("install", "-m", "755", os.Args[0], path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func(cmd *exec.Cmd) {
		cmd.Path = path
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}

func init() {
	children["use"] = func(args []string) error {
		s, err := vault.OpenBolt(args[0], vault.BoltConfig{})
		if err != nil {
			return err
		}
		values, err := s.Load(context.Background(), "")
		fmt.Println(len(values), oneLine(err), errors.Is(err, vault.ErrUnavailable))
		err = s.Commit(context.Background(), vault.Batch{Ops: []vault.Op{put("new", "1")}})
		fmt.Println(oneLine(err), errors.Is(err, vault.ErrUnavailable))
		return nil
	}
	children["hold"] = func(args []string) error {
		file, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			return err
		}
		fmt.Println("held")
		waitForInput()
		return nil
	}
}

func TestNotPermitted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		mode    os.FileMode // of the file
		dirMode os.FileMode
		load    string
		commit  string
	}{
		{"read-only file", 0o400, 0o700, "2 <nil> false", "permission denied"},
		{"unreadable file", 0o000, 0o700, "0 read store", "permission denied"},
		{"read-only directory", 0o600, 0o500, "2 <nil> false", "<nil> false"}, // bbolt writes in place
		{"unreadable directory", 0o600, 0o000, "0 read store", "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := nobodysDir(t)
			path := filepath.Join(dir, "store.db")
			commit(t, openBolt(t, path), put("a", "1"), put("b", "2"))
			chmod(t, path, tt.mode)
			chmod(t, dir, tt.dirMode)
			c := start(t, asNobody(t), "use", path)
			if got := c.line(t); !strings.HasPrefix(got, tt.load) {
				t.Errorf("Load: %s, want %s", got, tt.load)
			}
			if got := c.line(t); !strings.Contains(got, tt.commit) || strings.HasPrefix(got, "<nil>") == strings.HasSuffix(got, "true") {
				t.Errorf("Commit: %s, want %s", got, tt.commit)
			}
		})
	}
}

func TestCreateInReadOnlyDirectory(t *testing.T) {
	dir := nobodysDir(t)
	chmod(t, dir, 0o500)
	c := start(t, asNobody(t), "use", filepath.Join(dir, "p", "store.db"))
	if got := c.line(t); got != "0 <nil> false" {
		t.Errorf("Load: %s", got)
	}
	if got := c.line(t); !strings.Contains(got, "permission denied") || !strings.HasSuffix(got, "true") {
		t.Errorf("Commit: %s", got)
	}
}

// nobodysDir returns a directory that the user of asNobody owns and can reach.
func nobodysDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vault-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(dir, 0o700)
		_ = os.RemoveAll(dir)
	})
	chmod(t, dir, 0o700)
	return dir
}

// chmod sets the mode of path, and makes the user of asNobody its owner.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if os.Getuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	commit(t, openBolt(t, path), put("a", "1"))
	holder := start(t, nil, "hold", path)
	if got := holder.line(t); got != "held" {
		t.Fatal(got)
	}
	s, err := vault.OpenBolt(path, vault.BoltConfig{Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, loadErr := s.Load(t.Context(), "")
	commitErr := s.Commit(t.Context(), vault.Batch{Ops: []vault.Op{put("a", "2")}})
	for name, err := range map[string]error{"Load": loadErr, "Commit": commitErr} {
		if !errors.Is(err, vault.ErrLocked) || !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s = %v, want ErrLocked that names the file", name, err)
		}
	}
	if took := time.Since(begin); took < 400*time.Millisecond || took > 3*time.Second {
		t.Errorf("gave up after %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Load(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load with a deadline = %v", err)
	}
	_ = holder.in.Close()
	if got := contents(t, openBolt(t, path), ""); got["a"] != "1" {
		t.Errorf("contents = %v", got)
	}
}

// A panic, and a fault in memory whose file was cut short, are errors.
func TestGuarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	write(t, path, make([]byte, 1<<16))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mapped, err := syscall.Mmap(int(file.Fd()), 0, 1<<16, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(mapped) }()
	if err := file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	b := openBolt(t, path)
	var sum byte
	for name, f := range map[string]func() error{
		"panic": func() error { panic("assertion failed") },
		"fault": func() error { sum += mapped[1<<15]; return nil },
	} {
		var corrupt *vault.CorruptError
		if err := b.Guarded(f); !errors.As(err, &corrupt) || corrupt.Path != path {
			t.Errorf("%s: %v, want *CorruptError that names the file", name, err)
		}
	}
	if err := b.Guarded(func() error { return fs.ErrClosed }); err != fs.ErrClosed {
		t.Errorf("an error became %v", err)
	}
}

func TestSymbolicLinks(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target.db"), filepath.Join(dir, "store.db")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := openBolt(t, link).Commit(t.Context(), vault.Batch{Ops: []vault.Op{put("a", "1")}}); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("Commit to a link to nothing = %v", err)
	}
	commit(t, openBolt(t, target), put("a", "1"))
	s := openBolt(t, link)
	commit(t, s, put("b", "2"))
	if _, _, err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(link); err != nil || got != target {
		t.Errorf("the link was replaced: %v", err)
	}
	if got := contents(t, openBolt(t, target), ""); len(got) != 2 {
		t.Errorf("contents = %v", got)
	}
}

// FuzzReadImage holds that no file panics or hangs the reader.
func FuzzReadImage(f *testing.F) {
	dir := ramDir(f)
	smallVault(f, dir)
	content, err := os.ReadFile(filepath.Join(dir, "store.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content, 0, byte(0))
	for at := 0; at < len(content); at += 997 {
		f.Add(content, at, byte(1))
	}
	f.Add([]byte{}, 0, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at int, mask byte) {
		if at >= 0 && at < len(data) {
			data = bytes.Clone(data)
			data[at] ^= mask
		}
		records, err := vault.ReadImage(data)
		if err == nil && len(records) == 0 && len(data) == 0 {
			t.Error("an empty file was accepted")
		}
	})
}
