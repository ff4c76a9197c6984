package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/vault/audit"
)

// smallDisk mounts a file system of so many bytes, and returns a function that
// fills it and one that makes room again. Without the privilege to mount, the
// process limit on file sizes stands in for the disk; a write that reaches it
// leaves half a line.
func smallDisk(t *testing.T, size int) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		return limitedDisk(t, dir)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		file, err := os.OpenFile(ballast, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for err == nil {
			_, err = file.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return dir, fill, func() { _ = os.Remove(ballast) }
}

func limitedDisk(t *testing.T, dir string) (string, func(), func()) {
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	set := func(limit uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
	}
	free := func() { set(old.Cur) }
	t.Cleanup(free)
	return dir, func() {
		info, err := os.Stat(filepath.Join(dir, "audit.log"))
		if err != nil {
			t.Fatal(err)
		}
		set(uint64(info.Size()) + promised*audit.MaxLineBytes)
	}, free
}

// promised is how many tickets are out when the disk fills up.
const promised = 100

// What was promised is written though the disk fills up; nothing more is
// promised; and with room it goes on.
func TestFullDisk(t *testing.T) {
	dir, fill, free := smallDisk(t, 2<<20)
	path := filepath.Join(dir, "audit.log")
	log := openLog(t, path, audit.Config{})
	record(t, log, "before")
	var tickets []audit.Ticket
	for range promised {
		ticket, err := log.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	fill()
	want := []string{"before"}
	long := strings.Repeat("\x01", 5000) // as long as a line can be
	for i, ticket := range tickets {
		name := fmt.Sprint("promised", i)
		if err := ticket.Commit(audit.Event{Event: name, Detail: long, Path: long, Host: long}); err != nil {
			t.Fatalf("ticket %d: %v", i, err)
		}
		want = append(want, name)
	}
	// Now use up what was set aside beyond the promises.
	refused := false
	for i := 0; i < 5000 && !refused; i++ {
		name := fmt.Sprint("more", i)
		switch err := log.Write(audit.Event{Event: name, Detail: long, Path: long}); {
		case err == nil:
			want = append(want, name)
		case errors.Is(err, audit.ErrUnavailable) && strings.Contains(err.Error(), path):
			refused = true
		default:
			t.Fatal(err)
		}
	}
	if !refused {
		t.Error("a full disk refused nothing")
	}
	if _, err := log.Reserve(); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Reserve on a full disk = %v, want ErrUnavailable", err)
	}
	free()
	time.Sleep(audit.LookEvery)
	if ticket, err := log.Reserve(); err != nil {
		t.Errorf("Reserve with room again: %v", err)
	} else if err := ticket.Commit(audit.Event{Event: "after"}); err != nil {
		t.Errorf("Commit with room again: %v", err)
	}
	content := readAll(t, path)
	got := events(bytes.NewReader(content), audit.Filter{})
	torn := slices.Contains(got, "!")
	got = slices.DeleteFunc(got, func(name string) bool { return name == "!" || name == "log.resume" })
	if !slices.Equal(got, append(want, "after")) {
		t.Errorf("%d events, want %d", len(got), len(want)+1)
	}
	if err := audit.Verify(bytes.NewReader(content)); err != nil && !torn {
		t.Error(err)
	}
}
