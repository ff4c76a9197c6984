package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"authsome/vault/regular"
)

// CutEvent is the event of the line with which a process goes on that found the
// end of the log gone. [Verify] takes it for what it is.
const CutEvent = "log.cut"

// headEvery is after how many lines a process that goes on writes the head anew,
// unless it did so less than lookEvery ago: a busy one would do little else.
const headEvery = 256

// A head is a line that the log once had, kept in a file beside it: what is cut
// off the end of the log up to that line is missed. It is no newer than the log,
// since it is written after the line. What it does not cover are the lines of
// processes that were killed, and of those that are running up to headEvery and
// what they wrote within lookEvery.
type head struct {
	at, size int64 // where the line is in its file, without its newline
	hash     digest
}

// headPath returns the file that holds the head of the log at path.
func headPath(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) + ".head" }

// readHead returns the head of the log at path. ok is false when there is none
// that can be read: a head is evidence, and the lack of one is not.
func readHead(path string) (h head, ok bool) {
	file, err := regular.Open(headPath(path))
	if err != nil {
		return h, false
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 256))
	if err != nil {
		return h, false
	}
	var hash string
	_, err = fmt.Sscanf(string(text), "%d %d %s\n", &h.at, &h.size, &hash)
	ok = err == nil && h.at >= 0 && h.size > 0 && h.size <= 4*MaxLineBytes && len(hash) == len(h.hash)
	copy(h.hash[:], hash)
	return h, ok
}

// in reports whether file has the line where it was.
func (h head) in(file *os.File) bool {
	line := make([]byte, h.size)
	_, err := file.ReadAt(line, h.at)
	return err == nil && hashLine(line) == h.hash
}

// whole reports whether the log at path still has its head, in current or in a
// rotated file.
func (h head) whole(path string, current *os.File) bool {
	if h.in(current) {
		return true
	}
	for i := 1; ; i++ {
		file, err := regular.Open(path + "." + strconv.Itoa(i))
		if err != nil {
			return false
		}
		found := h.in(file)
		file.Close()
		if found {
			return true
		}
	}
}

// keepHead writes down the last line of this Log, unless what is written down is
// newer. That it cannot be written takes nothing from the log. The caller holds
// mu.
func (l *Log) keepHead() {
	end, err := l.file.Seek(0, io.SeekCurrent) // where the last write ended
	h := head{at: end - 1 - l.size, size: l.size, hash: l.prev}
	if err != nil || l.seq == 0 || h.at < 0 || !h.in(l.file) { // the line went into a file that was rotated
		return
	}
	if old, ok := readHead(l.path); ok && old.at > h.at && old.in(l.file) {
		return
	}
	l.writeHead(h)
	l.headed = time.Now()
}

func (l *Log) writeHead(h head) {
	path := headPath(l.path)
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return
	}
	_, err = fmt.Fprintf(file, "%d %d %s\n", h.at, h.size, h.hash[:])
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
}

// VerifyAll is [Verify] for the log at path with its rotated files. It also
// misses a file among them, and what was cut off the end.
func VerifyAll(path string) error {
	kept, ok := readHead(path) // before the log, which only grows
	all, err := OpenAll(path)
	if err != nil {
		return err
	}
	defer all.Close()
	if err := Verify(all); err != nil {
		return err
	}
	if missing := missingFile(path); missing != "" {
		return &TamperError{Reason: missing + " is gone"}
	}
	current, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer current.Close()
	if ok && !kept.whole(path, current) {
		return &TamperError{Reason: "lines at the end are gone"}
	}
	return nil
}

// missingFile names a rotated file that is gone while an older one is there.
func missingFile(path string) string {
	files, _ := filepath.Glob(path + ".*") // the pattern is sound, or nothing matches
	for _, file := range files {
		n, err := strconv.Atoi(strings.TrimPrefix(file, path+"."))
		if err != nil {
			continue
		}
		for i := 1; i < n; i++ {
			before := path + "." + strconv.Itoa(i)
			if _, err := os.Lstat(before); errors.Is(err, os.ErrNotExist) {
				return before
			}
		}
	}
	return ""
}
