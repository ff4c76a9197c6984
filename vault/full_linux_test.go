package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"authsome/vault"
	"authsome/vault/audit"
)

func init() {
	children["fill"] = func(args []string) error { return fill(args[0]) }
	children["fill limited"] = func(args []string) error {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 128 << 10, Max: 128 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		return fill(args[0])
	}
}

// fill writes until the disk is full, and prints how far it got, what the error
// was, and whether the vault is still all there.
func fill(dir string) error {
	v, err := openIn(dir)
	if err != nil {
		return err
	}
	n := 0
	for ; n < 2000; n++ {
		if err = v.Apply(context.Background(), login, vault.Change{Key: fmt.Sprintf("k%04d", n), Record: numbered(n)}); err != nil {
			break
		}
	}
	fmt.Println(n, errors.Is(err, vault.ErrUnavailable) || errors.Is(err, audit.ErrUnavailable), oneLine(err))
	entries, err := v.List(context.Background(), "k")
	for _, e := range entries {
		if _, bad := number(e); bad != nil {
			err = bad
		}
	}
	fmt.Println(len(entries), err)
	return nil
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	how, prepare := "fill limited", func() {}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=768k"); err == nil {
		how = "fill"
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		prepare = func() { _ = os.Remove(filepath.Join(dir, "ballast")) }
		write(t, filepath.Join(dir, "ballast"), make([]byte, 64<<10))
	}
	t.Log(how)
	var written int
	var refused bool
	c := start(t, nil, how, dir)
	if line := c.line(t); true {
		if _, err := fmt.Sscan(line, &written, &refused); err != nil || !refused || written == 0 {
			t.Fatalf("filled: %s", line)
		}
		t.Log(line)
	}
	if got, want := c.line(t), fmt.Sprint(written, " <nil>"); got != want {
		t.Errorf("when the disk was full: %s, want %s", got, want)
	}
	_ = c.Wait()
	// With some room it goes on, and nothing is missing.
	prepare()
	v, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := v.List(t.Context(), "k")
	if err != nil || len(entries) != written {
		t.Errorf("afterwards %d records, %v; want %d", len(entries), err, written)
	}
	if err := v.Apply(t.Context(), login, vault.Change{Key: "after", Record: numbered(1)}); err != nil {
		t.Errorf("write after space was freed: %v", err)
	}
}
