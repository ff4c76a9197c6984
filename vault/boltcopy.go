package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Check reads the whole file and checks its structure, the free list included.
func (b *Bolt) Check(ctx context.Context) error {
	img, err := b.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := img.free(); err != nil {
		return b.freelistError(err)
	}
	return nil
}

func (b *Bolt) freelistError(err error) error {
	return &CorruptError{Path: b.path, Detail: err.Error(), Intact: true}
}

// next is the name of the file that is about to take the store's place. It is
// written and removed only under the store's lock, so a left-over, which holds
// ciphertext, is found by the next that writes.
func (b *Bolt) next() string { return b.path + ".next" }

// Compact rewrites the file without the space that is no longer used, and with
// a new free list. It returns the sizes before and after in bytes. Others may use
// the store meanwhile; they wait. A store that does not exist stays so.
func (b *Bolt) Compact(ctx context.Context) (before, after int64, err error) {
	file, err := b.acquire(ctx, true)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer file.Close() // ends the lock
	img, err := b.readImage(file)
	if err != nil {
		return 0, 0, err
	}
	old, err := b.replace(file, img.records)
	if err != nil {
		return 0, 0, &StoreError{Op: "compact", Path: b.path, Err: bare(err)}
	}
	now, err := os.Stat(b.path)
	if err != nil {
		return 0, 0, &StoreError{Op: "compact", Path: b.path, Err: bare(err)}
	}
	return old.Size(), now.Size(), nil
}

// replace puts a new file that holds records in the place of the store's file,
// which is locked. Whoever waits for that lock finds, once it has it, that the
// file lost its name, and opens the new one. It returns what the old one was.
func (b *Bolt) replace(file *os.File, records []item) (os.FileInfo, error) {
	old, err := file.Stat()
	if err != nil {
		return nil, err
	}
	_ = os.Remove(b.next())
	if err := writeStore(b.next(), records); err != nil {
		return nil, err
	}
	if err = keepOwner(b.next(), old); err == nil {
		err = os.Rename(b.next(), b.path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(b.next()))
	}
	return old, syncDir(filepath.Dir(b.path))
}

// withoutLeases drops what means nothing in another place or time.
func withoutLeases(records []item) []item {
	var kept []item
	for _, it := range records {
		if !strings.HasPrefix(string(it.key), lockPrefix) {
			kept = append(kept, it)
		}
	}
	return kept
}

// Backup writes a copy of the store, as it is at one moment, to a new file 0600
// at path; it fails with an error that matches [fs.ErrExist] when there is one.
// Others may use the store meanwhile. The copy holds the data key as it is
// wrapped, so it is worth nothing without the key-encryption key, which should
// be kept somewhere else.
func (b *Bolt) Backup(ctx context.Context, path string) error {
	img, err := b.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return &StoreError{Op: "back up", Path: b.path, Err: err}
	}
	if err != nil {
		return err
	}
	temp, err := tempStore(path, withoutLeases(img.records))
	if err == nil {
		err = errors.Join(publish(temp, path), ignoreMissing(os.Remove(temp)))
	}
	if err != nil {
		return fmt.Errorf("back up store to %s: %w", path, bare(err))
	}
	return nil
}

// tempStore writes a store file beside path, under a name of its own.
func tempStore(path string, records []item) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return "", err
	}
	temp := file.Name()
	if err := errors.Join(file.Close(), os.Remove(temp), writeStore(temp, records)); err != nil {
		return "", errors.Join(err, ignoreMissing(os.Remove(temp)))
	}
	return temp, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Restore replaces the store, even a damaged one, by the copy at path, which
// [Bolt.Backup] made. A copy that is damaged is refused, and the store stays as
// it was. Running processes notice the new contents. That the copy's key is at
// hand should be checked before: open a vault on it, and [Vault.Check] it.
func (b *Bolt) Restore(ctx context.Context, path string) error {
	source, err := OpenBolt(path, BoltConfig{Timeout: b.timeout, Logger: b.log, AsFound: true})
	if err != nil {
		return err
	}
	img, err := source.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return &StoreError{Op: "restore", Path: path, Err: err}
	}
	if err != nil {
		return err
	}
	records := withoutLeases(img.records)
	for {
		file, err := b.acquire(ctx, true)
		if errors.Is(err, fs.ErrNotExist) {
			if err = b.createWith(records); errors.Is(err, fs.ErrExist) {
				continue
			}
		} else if err == nil {
			_, err = b.replace(file, records)
			err = errors.Join(err, file.Close())
		}
		if err != nil && !errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
			err = &StoreError{Op: "restore", Path: b.path, Err: bare(err)}
		}
		return err
	}
}

// createWith makes a store that holds records. It appears under its name when it
// is complete; fs.ErrExist says that another process was first.
func (b *Bolt) createWith(records []item) error {
	if err := makeDir(filepath.Dir(b.path)); err != nil {
		return err
	}
	temp, err := tempStore(b.path, records)
	if err != nil {
		return err
	}
	err = errors.Join(publish(temp, b.path), ignoreMissing(os.Remove(temp)))
	if _, gone := os.Stat(b.path); errors.Is(err, fs.ErrExist) && errors.Is(gone, fs.ErrNotExist) {
		return errors.New("it is a symbolic link to a file that does not exist")
	}
	return err
}
