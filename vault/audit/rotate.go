package audit

import (
	"errors"
	"io"
	"os"
	"strconv"

	"authsome/vault/regular"
)

// RotateEvent is the event of the first line of every file but the first. It
// tells [Verify] that chains may go on from a file that is no longer kept.
const RotateEvent = "log.rotate"

// rotate moves the full file out of the way. The caller holds mu. A rotation
// that fails, or that another process is about to do, leaves the log as it is:
// a large log is better than a refused request.
func (l *Log) rotate(here os.FileInfo) error {
	l.room.stuck = true // until reopen
	if !tryLock(l.file) {
		return nil
	}
	// Whoever held the lock before may have rotated.
	if there, err := os.Lstat(l.path); err != nil || !os.SameFile(here, there) {
		return l.reopen()
	}
	seq, prev, size := l.seq, l.prev, l.size
	next, err := l.startNext(here)
	if err != nil {
		l.seq, l.prev, l.size = seq, prev, size
		return nil
	}
	l.shift()
	// The old file gets its second name before it loses its first, so that the
	// path leads to a log at every moment.
	// Some file systems have no links; there the path is gone for a moment.
	linked := os.Link(l.path, l.numbered(1)) == nil
	if !linked {
		err = os.Rename(l.path, l.numbered(1))
	}
	if err == nil {
		err = os.Rename(next, l.path)
	}
	if err != nil {
		l.seq, l.prev, l.size = seq, prev, size
		_ = os.Remove(next)
		if linked { // one file would be read twice
			_ = os.Remove(l.numbered(1))
		}
	} else {
		l.writeHead(head{size: l.size, hash: l.prev}) // older ones would be dropped with their files
	}
	return l.reopen() // ends the lock with the old descriptor
}

// startNext writes the first line of the next file to a file beside it.
func (l *Log) startNext(here os.FileInfo) (string, error) {
	next := l.path + ".next"
	_ = os.Remove(next) // left by a process that died here; the lock is ours
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	old := l.file
	l.file, l.torn = file, false
	err = l.append(&Event{Event: RotateEvent})
	l.file = old
	if err = errors.Join(err, file.Close(), keepOwner(next, here)); err != nil {
		_ = os.Remove(next)
		return "", err
	}
	return next, nil
}

// shift renames .1 to .2 and so on, and drops what is past Keep.
func (l *Log) shift() {
	_ = os.Remove(l.numbered(l.cfg.Keep))
	for i := l.cfg.Keep - 1; i >= 1; i-- {
		_ = os.Rename(l.numbered(i), l.numbered(i+1))
	}
}

func (l *Log) numbered(i int) string { return l.path + "." + strconv.Itoa(i) }

// OpenAll opens the log at path with its rotated files before it, oldest first,
// as one stream. It fails when there is no log at path.
func OpenAll(path string) (io.ReadCloser, error) {
	all := &allFiles{}
	newest, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	all.files = append(all.files, newest)
	for i := 1; ; i++ {
		file, err := regular.Open(path + "." + strconv.Itoa(i))
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all.files = append(all.files, file)
	}
	readers := make([]io.Reader, 0, len(all.files))
	for i := len(all.files) - 1; i >= 0; i-- {
		readers = append(readers, all.files[i])
	}
	all.Reader = io.MultiReader(readers...)
	return all, nil
}

type allFiles struct {
	io.Reader
	files []*os.File
}

func (a *allFiles) Close() error {
	var errs []error
	for _, f := range a.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
