package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"authsome/vault/regular"
)

const (
	// lockTimeout is how long an operation waits for another process. One holds
	// the store for a millisecond, so by then something is wrong.
	lockTimeout = 3 * time.Second
	// maxStoreBytes bounds the file, which is read into memory. It is room for
	// more than 100 000 connections.
	maxStoreBytes = 256 << 20
)

// BoltConfig says how a [Bolt] behaves. The zero value is usable.
type BoltConfig struct {
	// Timeout is how long to wait for another process that holds the file.
	// Zero means 3 s.
	Timeout time.Duration
	// Logger receives what was mended without being asked, such as permissions
	// that were too wide. Nil means none.
	Logger *slog.Logger
	// AsFound leaves the file's permissions as they are. It is for a file that is
	// only read and is not the vault's own: a backup, or what was taken for one.
	AsFound bool
}

// A Bolt is a store in one bbolt file. It holds no lock and no descriptor
// between operations, so any number of processes may use the same file.
type Bolt struct {
	path    string
	timeout time.Duration
	log     *slog.Logger
	asFound bool
}

var _ Store = (*Bolt)(nil)

// OpenBolt returns the store at path. Nothing is opened or created yet: the
// first write creates the file, 0600, and its directory, 0700. A path that is a
// symbolic link means the file that it leads to.
func OpenBolt(path string, cfg BoltConfig) (*Bolt, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	// Replacing the file must not replace a link to it.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	b := &Bolt{path: path, timeout: cfg.Timeout, log: cfg.Logger, asFound: cfg.AsFound}
	if b.timeout <= 0 {
		b.timeout = lockTimeout
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	return b, nil
}

// Path returns the absolute path of the file.
func (b *Bolt) Path() string { return b.path }

// Load implements Store. The file is read whole, and checked whole: what it
// returns is never a part of a damaged store without saying so.
func (b *Bolt) Load(ctx context.Context, prefix string) (map[string][]byte, error) {
	img, err := b.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string][]byte{}, nil
	}
	if err != nil {
		return nil, err
	}
	items := img.prefix(prefix)
	found := make(map[string][]byte, len(items))
	for _, it := range items {
		// A copy: one value must not keep the whole file in memory.
		found[string(it.key)] = append(make([]byte, 0, len(it.value)), it.value...)
	}
	return found, nil
}

// read returns the contents of the file under the shared lock, or an error that
// matches fs.ErrNotExist.
func (b *Bolt) read(ctx context.Context) (*image, error) {
	file, err := b.acquire(ctx, false)
	if err != nil {
		return nil, err
	}
	defer file.Close() // ends the lock
	return b.readImage(file)
}

func (b *Bolt) readImage(file *os.File) (img *image, err error) {
	err = b.guarded(func() error {
		info, err := file.Stat()
		if err == nil {
			img, err = readImage(file, info.Size())
		}
		return err
	})
	if err == nil || errors.Is(err, ErrUnavailable) {
		return img, err
	}
	var damage *damageError
	if errors.As(err, &damage) {
		return nil, &CorruptError{Path: b.path, Detail: damage.detail}
	}
	return nil, &StoreError{Op: "read", Path: b.path, Err: bare(err)}
}

// guarded calls f and turns a panic, or a fault in mapped memory, into a
// CorruptError. bbolt trusts the file it maps; the file is checked before it
// gets to see it, and this is what remains.
func (b *Bolt) guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &CorruptError{Path: b.path, Detail: fmt.Sprint(r)}
		}
	}()
	return f()
}

// acquire opens and locks the file. It fails with fs.ErrNotExist when there is
// none, and with ErrLocked when somebody holds it for too long.
func (b *Bolt) acquire(ctx context.Context, write bool) (*os.File, error) {
	op, flags := "read", os.O_RDONLY
	if write {
		op, flags = "write", os.O_RDWR
	}
	deadline := time.Now().Add(b.timeout)
	for {
		file, err := b.openFile(flags)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fs.ErrNotExist
			}
			return nil, &StoreError{Op: op, Path: b.path, Err: bare(err)}
		}
		if err := lockFile(ctx, file, write, deadline); err != nil {
			_ = file.Close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &StoreError{Op: op, Path: b.path, Err: err}
		}
		// While this process waited, a compaction or a restore may have put
		// another file in place: what is locked now would be a file without a
		// name, and a write to it would be lost.
		if b.leadsTo(file) {
			return file, nil
		}
		_ = file.Close()
	}
}

// openFile opens the regular file at the path and narrows its permissions, unless
// they are somebody else's affair.
func (b *Bolt) openFile(flags int) (*os.File, error) {
	file, err := regular.OpenFile(b.path, flags)
	if errors.Is(err, fs.ErrNotExist) {
		// A link that leads nowhere, to a disk that is not mounted perhaps, is no
		// store that was never made.
		if target, linkErr := os.Readlink(b.path); linkErr == nil {
			return nil, fmt.Errorf("it is a link to %s, which does not exist", target)
		}
	}
	if err != nil {
		return nil, bare(err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, bare(err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && !b.asFound {
		// Narrowed rather than refused: a refusal would leave it exposed.
		err := file.Chmod(perm &^ 0o077)
		b.log.Warn("the store could be used by others, its permissions were narrowed",
			"store", b.path, "mode", perm.String(), "err", err)
	}
	return file, nil
}

// leadsTo reports whether the path is still the name of file.
func (b *Bolt) leadsTo(file *os.File) bool {
	here, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(b.path)
	return err == nil && os.SameFile(here, there)
}
