package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrUnavailable is returned when an event cannot be recorded: the disk is full,
// the file cannot be written, or the log is closed. What was to be recorded must
// then be refused.
var ErrUnavailable = errors.New("audit log unavailable")

const (
	// DefaultMaxBytes is where a log rotates unless Config says otherwise:
	// about 100 000 requests.
	DefaultMaxBytes = 32 << 20
	// DefaultKeep is how many rotated files are kept.
	DefaultKeep = 5
)

// Config describes a log. The zero Config is usable.
type Config struct {
	// Actor is recorded with every event. A zero PID means this process and
	// its user.
	Actor Actor
	// Profile is recorded with events that name none.
	Profile string
	// Clock gives the time of an event; nil means time.Now.
	Clock func() time.Time
	// MaxBytes is the size at which the file is rotated. Zero means
	// DefaultMaxBytes; negative means never.
	MaxBytes int64
	// Keep is how many rotated files are kept; zero means DefaultKeep.
	Keep int
}

// A Log appends events to a file. Its methods may be called concurrently, and
// several processes may have the same file open.
type Log struct {
	path string
	cfg  Config

	mu   sync.Mutex // guards everything below
	file *os.File   // nil once closed
	line []byte     // the line being built; kept for its capacity
	room room       // what is known about space beyond the end of file
	torn bool       // the last write left part of a line

	chain  string    // identifies this Log's lines
	seq    uint64    // of the last line written
	prev   digest    // of the last line written, if seq is not 0
	size   int64     // of that line, without its newline
	cut    bool      // the end of the log was gone when it was opened
	headed time.Time // when the head was last written (monotonic)
	after  []byte    // hash of the line that was last when the file was opened, if any

	backlog []Event // promised by a Ticket, and not yet written
}

// Open opens the log at path for appending, and creates it 0600 when there is
// none. Its directory must exist. A log that others could read is tightened to
// 0600. A symbolic link, or anything but a regular file, is refused: a link
// would let somebody else choose where the record goes. Errors match
// [ErrUnavailable].
func Open(path string, cfg Config) (*Log, error) {
	if cfg.Actor.PID == 0 {
		cfg.Actor.PID, cfg.Actor.UID = os.Getpid(), os.Getuid()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails; see crypto/rand
	l := &Log{path: path, cfg: cfg, chain: hex.EncodeToString(id[:]), line: make([]byte, 0, MaxLineBytes)}
	file, err := openAppend(path)
	if err != nil {
		return nil, unavailable("open", path, err)
	}
	l.file = file
	l.after, err = lastLineHash(file)
	if err != nil {
		return nil, errors.Join(unavailable("read", path, err), file.Close())
	}
	if kept, ok := readHead(path); ok {
		l.cut = !kept.whole(path, file)
	}
	return l, nil
}

// Path returns the path that the log was opened with.
func (l *Log) Path() string { return l.path }

// Write records e. When it fails, with an error that matches [ErrUnavailable],
// nothing was recorded and e must not happen.
func (l *Log) Write(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(1); err != nil {
		return err
	}
	if err := l.flushBacklog(); err != nil {
		return err
	}
	if l.cut {
		if err := l.append(&Event{Event: CutEvent, Outcome: Failed}); err != nil {
			return err
		}
		l.cut = false
	}
	return l.append(&e)
}

// Close flushes what is owed and closes the file. Later calls of Write and
// Reserve fail. It returns an error when a promised line could not be written.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.flushBacklog()
	l.keepHead()
	err = errors.Join(err, l.file.Close())
	l.file = nil
	return err
}

// append writes one line. The caller holds mu and made room.
func (l *Log) append(e *Event) error {
	if l.file == nil {
		return unavailable("write", l.path, os.ErrClosed)
	}
	if e.Time.IsZero() {
		e.Time = l.cfg.Clock()
	}
	if e.Profile == "" {
		e.Profile = l.cfg.Profile
	}
	e.Actor = l.cfg.Actor
	var prev []byte
	after := l.after
	if l.seq > 0 {
		prev, after = l.prev[:], nil
	}
	b := l.line[:0]
	if l.torn { // end the half line that a failed write left, so that ours stands alone
		b = append(b, '\n')
	}
	start := len(b)
	b = appendEvent(b, e)
	b = appendChain(b, l.chain, l.seq+1, prev, after)
	l.line = b
	n, err := l.file.Write(b)
	l.room.end += int64(n)
	if err != nil {
		l.torn = l.torn || n > 0
		l.room.failed = true
		return unavailable("write", l.path, err)
	}
	l.torn, l.room.failed = false, false
	l.seq++
	l.prev, l.size = hashLine(b[start:len(b)-1]), int64(len(b)-1-start)
	if l.seq%headEvery == 0 && e.Event != RotateEvent && // which is not in the log yet
		time.Since(l.headed) >= lookEvery {
		l.keepHead()
	}
	return nil
}

// digest is the SHA-256, in hex, of a line without its newline.
type digest [2 * sha256.Size]byte

func hashLine(line []byte) (d digest) {
	sum := sha256.Sum256(line)
	hex.Encode(d[:], sum[:])
	return d
}

func unavailable(verb, path string, err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s %s: %w", ErrUnavailable, verb, path, bare(err))
}

// bare strips the path that a *PathError would repeat.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
