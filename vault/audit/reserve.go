package audit

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

const (
	// chunkBytes is set aside at once, so that most lines cost no fallocate.
	chunkBytes = 256 << 10
	// slackBytes is kept free beyond what is promised, for the lines that other
	// processes append before this one looks at the file again.
	slackBytes = 64 << 10
	// lookEvery is how long what is known about the file is believed: its size,
	// which others change, and whether the path still leads to it.
	lookEvery = 100 * time.Millisecond
	// maxBacklog bounds the lines kept in memory while the disk is full.
	maxBacklog = 4096
)

// errNoRoom is the cause where no system call supplies one.
var errNoRoom = errors.New("no space left for the record")

// room is what a Log knows about the space behind its file.
type room struct {
	tickets   int64     // outstanding
	end       int64     // size of the file: when last looked at, plus own lines
	allocated int64     // blocks exist up to this offset
	looked    time.Time // when the file was last looked at (monotonic)
	blind     bool      // the file system has no fallocate
	failed    bool      // the last write failed
	stuck     bool      // the last rotation failed, or somebody else is at it
}

// A Ticket is room for one line. It must be used once: by Commit or Release.
// Further calls do nothing.
type Ticket struct {
	log  *Log
	used *atomic.Bool
}

// Reserve promises room for one line, before the thing that the line will
// record is done. It fails with an error that matches [ErrUnavailable] when the
// line could not be written.
func (l *Log) Reserve() (Ticket, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(1); err != nil {
		return Ticket{}, err
	}
	if l.room.failed || len(l.backlog) > 0 {
		if err := l.flushBacklog(); err != nil {
			return Ticket{}, err
		}
	}
	if l.room.failed { // nothing owed, but nothing known to work either: try
		if err := l.append(&Event{Event: "log.resume"}); err != nil {
			return Ticket{}, err
		}
	}
	l.room.tickets++
	return Ticket{log: l, used: new(atomic.Bool)}, nil
}

// Commit records e in the reserved room. Should that fail all the same, the
// event is kept in memory, written as soon as there is room, and no further
// ticket or write is granted until then; the error says so.
func (t Ticket) Commit(e Event) error {
	if t.log == nil || t.used.Swap(true) {
		return nil
	}
	l := t.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room.tickets--
	if e.Time.IsZero() {
		e.Time = l.cfg.Clock()
	}
	err := l.refreshFile()
	if err == nil {
		err = l.flushBacklog()
	}
	if err == nil {
		err = l.append(&e)
	}
	if err != nil && len(l.backlog) < maxBacklog {
		l.backlog = append(l.backlog, e)
	}
	return err
}

// Release gives the room back. It is for what turned out not to happen.
func (t Ticket) Release() {
	if t.log == nil || t.used.Swap(true) {
		return
	}
	t.log.mu.Lock()
	t.log.room.tickets--
	t.log.mu.Unlock()
}

// flushBacklog writes what was promised and failed. The caller holds mu.
func (l *Log) flushBacklog() error {
	for len(l.backlog) > 0 {
		if err := l.append(&l.backlog[0]); err != nil {
			return err
		}
		l.backlog = l.backlog[1:]
	}
	return nil
}

// makeRoom sees to it that n more lines, beside those promised, can be
// appended. The caller holds mu.
func (l *Log) makeRoom(n int64) error {
	if err := l.refreshFile(); err != nil {
		return err
	}
	r := &l.room
	need := (r.tickets + n + int64(len(l.backlog))) * MaxLineBytes
	if r.end+need <= r.allocated {
		return nil
	}
	if r.blind {
		return l.checkFree(need)
	}
	err := allocate(l.file, r.end, need+slackBytes+chunkBytes)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) { // nearly full, or a quota: what is needed may still fit
		if err = allocate(l.file, r.end, need); err == nil {
			r.allocated = r.end + need
			return nil
		}
	}
	switch {
	case err == nil:
		// The slack is not counted as ours.
		r.allocated = r.end + need + chunkBytes
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		r.blind = true
		return l.checkFree(need)
	}
	return unavailable("reserve", l.path, err)
}

// checkFree is makeRoom without fallocate: the file system must have twice the
// room that is needed, looked at as often as the file is.
func (l *Log) checkFree(need int64) error {
	free, err := freeBytes(l.file)
	if err == nil && free < 2*need {
		return unavailable("reserve", l.path, errNoRoom)
	}
	if err == nil {
		l.room.allocated = l.room.end + min(free/2, need+chunkBytes)
	}
	return nil
}

// refreshFile looks, every lookEvery, at what others did to the file: they
// append to it, rotate it or remove it. The caller holds mu.
func (l *Log) refreshFile() error {
	if l.file == nil {
		return unavailable("write", l.path, os.ErrClosed)
	}
	r := &l.room
	full := l.cfg.MaxBytes > 0 && r.end >= l.cfg.MaxBytes
	if (!full || r.stuck) && !r.looked.IsZero() && time.Since(r.looked) < lookEvery {
		return nil
	}
	here, err := l.file.Stat()
	if err != nil {
		return unavailable("stat", l.path, err)
	}
	r.looked = time.Now()
	if there, err := os.Lstat(l.path); err != nil || !os.SameFile(here, there) {
		return l.reopen()
	}
	if here.Size() < r.end { // truncated by somebody: blocks beyond the end went with it
		r.allocated = 0
	}
	r.end = here.Size()
	if l.cfg.MaxBytes > 0 && r.end >= l.cfg.MaxBytes {
		return l.rotate(here)
	}
	if r.blind || r.allocated-r.end < (r.tickets+1)*MaxLineBytes+slackBytes {
		r.allocated = 0 // top up now rather than when it is too late
	}
	return nil
}

// reopen opens the path anew after the file behind it was replaced. The caller
// holds mu.
func (l *Log) reopen() error {
	l.room.looked = time.Time{} // while it fails, every call looks: none may go on with the old file
	file, err := openAppend(l.path)
	if err != nil {
		return unavailable("open", l.path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(unavailable("stat", l.path, err), file.Close())
	}
	_ = l.file.Close() // nothing is buffered
	l.file, l.torn = file, false
	l.room = room{tickets: l.room.tickets, end: info.Size(), looked: time.Now(), failed: l.room.failed}
	return nil
}
