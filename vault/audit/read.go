package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"authsome/vault/regular"
)

// A Filter chooses events. A zero field admits all.
type Filter struct {
	Since    time.Time // at or after
	Profile  string
	Provider string
	Event    string
}

func (f Filter) admits(e *Event) bool {
	return (f.Since.IsZero() || !e.Time.Before(f.Since)) &&
		(f.Profile == "" || f.Profile == e.Profile) &&
		(f.Provider == "" || f.Provider == e.Provider) &&
		(f.Event == "" || f.Event == e.Event)
}

// A LineError is yielded for a line that is not an event: half a line left by
// a full disk, or one that was damaged. Reading goes on after it.
type LineError struct {
	Line int // counted from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("audit log line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Read yields the events of r that f admits, in order. A line that cannot be
// read is yielded as a [*LineError], and reading goes on; an error of r itself
// is yielded last.
func Read(r io.Reader, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		lines := newLineReader(r)
		for n := 1; ; n++ {
			line, err := lines.next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Event{}, err)
				}
				return
			}
			if !yieldLine(line, n, f, yield) {
				return
			}
		}
	}
}

// yieldLine decodes one line and yields it if f admits it. It reports whether
// to go on.
func yieldLine(line []byte, n int, f Filter, yield func(Event, error) bool) bool {
	line, damaged := intactPart(line)
	if len(line) == 0 && !damaged {
		return true
	}
	var e Event
	err := errors.New("half a line")
	if len(line) > 0 {
		err = json.Unmarshal(line, &e)
	}
	if err != nil {
		return yield(Event{}, &LineError{Line: n, Err: err})
	}
	if damaged && !yield(Event{}, &LineError{Line: n, Err: errors.New("begins with half a line")}) {
		return false
	}
	return !f.admits(&e) || yield(e, nil)
}

// intactPart drops half a line in front of a whole one: what another process
// wrote right behind a write that a full disk cut short.
func intactPart(line []byte) (intact []byte, damaged bool) {
	if at := bytes.LastIndex(line, []byte(lineStart)); at > 0 && !json.Valid(line) {
		return line[at:], true
	}
	return line, false
}

// lineReader splits a stream into lines of bounded length.
type lineReader struct{ r *bufio.Reader }

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{bufio.NewReaderSize(r, 16*MaxLineBytes)}
}

// next returns a line without its newline, valid until the next call. A line
// longer than the buffer, which Log never writes, is cut. A last line without a
// newline is returned like any other.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		head := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
		if err == nil || errors.Is(err, io.EOF) {
			return head, nil
		}
		return nil, err
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		return line, nil
	}
	return nil, err
}

// followEvery is how often a followed log is looked at.
const followEvery = 200 * time.Millisecond

// Follow yields the events that are recorded from now on, across rotations,
// until ctx ends. A log that does not exist yet is waited for.
func Follow(ctx context.Context, path string, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		t := &tail{path: path}
		defer t.close()
		if err := t.open(io.SeekEnd); err != nil && !errors.Is(err, os.ErrNotExist) {
			yield(Event{}, err)
			return
		}
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			if !t.drain(f, yield) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// tail reads a growing file that may be replaced.
type tail struct {
	path string
	file *os.File // nil until the file exists
	held []byte   // a line of which only the beginning was read
	line int
}

func (t *tail) open(whence int) error {
	file, err := regular.Open(t.path)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, whence); err != nil {
		return errors.Join(err, file.Close())
	}
	t.close()
	t.file, t.held, t.line = file, nil, 0
	return nil
}

func (t *tail) close() {
	if t.file != nil {
		_ = t.file.Close() // read only
		t.file = nil
	}
}

// drain yields everything that is there, of the file and of its successor, and
// reports whether to go on.
func (t *tail) drain(f Filter, yield func(Event, error) bool) bool {
	for {
		replaced := t.replaced() // before reading: what the old file got since is still read
		if t.file != nil && !t.read(f, yield) {
			return false
		}
		if !replaced {
			return true
		}
		if err := t.open(io.SeekStart); err != nil {
			return errors.Is(err, os.ErrNotExist) || yield(Event{}, err)
		}
	}
}

func (t *tail) replaced() bool {
	there, err := os.Lstat(t.path)
	if err != nil {
		return false
	}
	if t.file == nil {
		return true
	}
	here, err := t.file.Stat()
	return err == nil && !os.SameFile(here, there)
}

func (t *tail) read(f Filter, yield func(Event, error) bool) bool {
	buf := make([]byte, 16*MaxLineBytes)
	for {
		n, err := t.file.Read(buf)
		t.held = append(t.held, buf[:n]...)
		for {
			at := bytes.IndexByte(t.held, '\n')
			if at < 0 {
				break
			}
			t.line++
			line := t.held[:at]
			t.held = t.held[at+1:]
			if !yieldLine(line, t.line, f, yield) {
				return false
			}
		}
		if len(t.held) > 16*MaxLineBytes { // no line of ours: do not grow for ever
			t.held = nil
		}
		if errors.Is(err, io.EOF) || n == 0 {
			return true
		}
		if err != nil {
			return yield(Event{}, err)
		}
	}
}
