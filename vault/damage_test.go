package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authsome/vault"
)

// ramDir returns a directory where syncing is cheap, if there is one.
func ramDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "vault-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// smallVault makes a vault of a few connections in dir, with some history in
// its file, and returns what its records must be.
func smallVault(t testing.TB, dir string) map[string]string {
	t.Helper()
	v, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := range 12 {
		key := fmt.Sprintf("profile:default:provider%d:connection:default", i)
		want[key] = fmt.Sprintf("secret-%d", i)
		for _, token := range []string{"old", want[key]} {
			if err := v.Apply(t.Context(), login, vault.Change{Key: key, Record: record("api.example.com", token)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return want
}

// inspect reads every record of the store in dir and says what is wrong with
// the answers, if anything: it must be the truth, or an error that names what
// is damaged.
func inspect(dir string, want map[string]string) string {
	v, err := openIn(dir)
	if err != nil {
		return unnamed(err, dir)
	}
	entries, err := v.List(context.Background(), "")
	if err != nil {
		return unnamed(err, dir)
	}
	found := 0
	for _, e := range entries {
		got, err := e.Record()
		if err != nil {
			var bad *vault.IntegrityError
			if !errors.As(err, &bad) || bad.Key != e.Key {
				return fmt.Sprintf("error does not name the record %q: %v", e.Key, err)
			}
			found++
			continue
		}
		if _, ok := want[e.Key]; !ok {
			return fmt.Sprintf("a record %q appeared", e.Key)
		}
		if s := got.Secrets["access_token"].Reveal(); s != want[e.Key] || string(got.Fields["host_url"]) != `"api.example.com"` {
			return fmt.Sprintf("record %q became %s, %s", e.Key, s, got.Fields["host_url"])
		}
		found++
	}
	if found != len(want) {
		return fmt.Sprintf("%d of %d records", found, len(want))
	}
	return ""
}

// unnamed complains unless err names the store, or the key document in it.
func unnamed(err error, dir string) string {
	var corrupt *vault.CorruptError
	var integrity *vault.IntegrityError
	switch {
	case errors.As(err, &corrupt) && errors.Is(err, vault.ErrUnavailable) && strings.Contains(err.Error(), filepath.Join(dir, "store.db")):
		return ""
	case errors.As(err, &integrity) && integrity.Key == vault.KeysKey:
		return ""
	}
	return "unexpected error: " + oneLine(err)
}

// TestEveryByteFlipped damages each byte of a store in turn (of the zeros between
// its records, every thirteenth). What comes back is the truth or an error, and
// a write to the damaged file either fails or leaves everything else as it was.
func TestEveryByteFlipped(t *testing.T) {
	base := ramDir(t)
	want := smallVault(t, base)
	intact, err := os.ReadFile(filepath.Join(base, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(intact))
	workers := runtime.NumCPU()
	var wg sync.WaitGroup
	for w := range workers {
		dir := filepath.Join(base, fmt.Sprint(w))
		cloneVault(t, base, dir)
		wg.Go(func() {
			for i := w; i < len(intact) && !t.Failed(); i += workers {
				if !slack(intact, i) || i%13 == 0 {
					flip(t, dir, intact, i, byte(1<<rand.N(8)), want)
				}
				if !slack(intact, i) && i%9 == 0 {
					flip(t, dir, intact, i, 0xFF, want)
				}
			}
		})
	}
	wg.Wait()
}

// slack reports whether byte i lies well within a run of zeros.
func slack(content []byte, i int) bool {
	around := content[max(0, i-16):min(len(content), i+16)]
	return bytes.Equal(around, make([]byte, len(around)))
}

func cloneVault(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store.db", "master.key"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// flip damages byte i of the store in dir, looks, writes, looks again, and
// restores the file.
func flip(t *testing.T, dir string, intact []byte, i int, mask byte, want map[string]string) {
	path := filepath.Join(dir, "store.db")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{intact[i] ^ mask}, int64(i)); err != nil {
		t.Error(err)
	}
	defer func() { // what the damage did, and what the write did
		if _, err := file.WriteAt(intact, 0); err != nil {
			t.Error(err)
		}
	}()
	if wrong := inspect(dir, want); wrong != "" {
		t.Errorf("byte %d ^ %#x: %s", i, mask, wrong)
	}
	if i%3 != 0 {
		return
	}
	store, _ := vault.OpenBolt(path, vault.BoltConfig{})
	before, loadErr := store.Load(t.Context(), "")
	err = store.Commit(t.Context(), vault.Batch{Erase: true, Ops: []vault.Op{{Key: "new", Value: bytes.Repeat([]byte("x"), 3000)}}})
	if err != nil {
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("byte %d ^ %#x: Commit = %v", i, mask, err)
		}
		return
	}
	after, err := store.Load(t.Context(), "")
	if loadErr != nil || err != nil || len(after) != len(before)+1 {
		t.Errorf("byte %d ^ %#x: a write to a store that read as %v led to %d records, %v", i, mask, loadErr, len(after), err)
		return
	}
	for key, value := range before {
		if !bytes.Equal(after[key], value) {
			t.Errorf("byte %d ^ %#x: a write changed another record, %q", i, mask, key)
		}
	}
}

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
	// The test binary lies where only its owner can reach it.
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(nobodysDir(t), "vault.test")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
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
	if got := contents(t, s, ""); got["a"] != "1" {
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
