package vault

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// Commit implements Store. A commit is one bbolt transaction, synced to disk
// before Commit returns; a process that dies in the middle has written nothing.
func (b *Bolt) Commit(ctx context.Context, batch Batch) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := b.acquire(ctx, true)
		switch {
		case err == nil:
			return b.commit(file, batch)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		var none *image
		if err := batch.conflict(0, none.get); err != nil || !changes(batch.Ops, none) {
			return err
		}
		if err := b.createWith(nil); err != nil && !errors.Is(err, fs.ErrExist) {
			return &StoreError{Op: "create", Path: b.path, Err: bare(err)}
		}
	}
}

// commit does the batch in the locked file, and closes it.
func (b *Bolt) commit(file *os.File, batch Batch) error {
	img, err := b.readImage(file)
	if err == nil {
		err = batch.conflict(len(img.records), img.get)
	}
	if err == nil && changes(batch.Ops, img) {
		if _, freeErr := img.free(); freeErr != nil {
			err = b.freelistError(freeErr)
		} else {
			return b.write(file, img, batch)
		}
	}
	return errors.Join(err, file.Close())
}

// changes reports whether ops leave anything different.
func changes(ops []Op, img *image) bool {
	for _, op := range ops {
		current, exists := img.get(op.Key)
		if !op.Check && (op.Value == nil && exists || op.Value != nil && !(exists && bytes.Equal(current, op.Value))) {
			return true
		}
	}
	return false
}

// write does the batch by way of bbolt, and closes the file.
func (b *Bolt) write(file *os.File, img *image, batch Batch) (err error) {
	var db *bbolt.DB
	closed := false
	err = b.guarded(func() error {
		// bbolt closes the file itself, also when it fails to open it.
		db, err = openBBolt(b.path, file)
		if err != nil {
			closed = true
			return err
		}
		d := img.digest
		err = db.Update(func(tx *bbolt.Tx) error { return put(tx, batch.Ops, img, &d) })
		if err == nil && batch.Erase {
			_ = os.Remove(b.next()) // left by a compaction that was killed
			if err := erase(db, file); err != nil {
				b.log.Warn("what was replaced could not be erased from the store", "store", b.path, "err", err)
			}
		}
		closed = true
		return errors.Join(err, db.Close())
	})
	if !closed { // bbolt panicked, and holds locks of its own: end at least the file's
		_ = file.Close()
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return &StoreError{Op: "write", Path: b.path, Err: bare(err)}
	}
	return err
}

// openBBolt lets bbolt work on a file that is open and locked.
func openBBolt(path string, file *os.File) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      time.Second, // the lock is ours already
		MaxSize:      maxStoreBytes,
		NoStatistics: true,
		OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
}

// put does ops, and keeps the digest of the keys in step.
func put(tx *bbolt.Tx, ops []Op, img *image, d *digest) error {
	bucket := tx.Bucket(recordsBucket)
	for _, op := range ops {
		if op.Check {
			continue
		}
		key := []byte(op.Key)
		_, exists := img.get(op.Key)
		if op.Value == nil {
			if !exists {
				continue
			}
			d.toggle(key)
			d.count--
			if err := bucket.Delete(key); err != nil {
				return err
			}
			continue
		}
		if !exists {
			d.toggle(key)
			d.count++
		}
		if err := bucket.Put(key, op.Value); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(digestName, d.marshal())
}

// erase overwrites with zeros whatever pages of the file belong to no record:
// bbolt copies what it changes and leaves the old page as it was. It is not
// synced: the data is safe already, and the next write does it again.
func erase(db *bbolt.DB, file *os.File) error {
	pageSize := db.Info().PageSize
	stale, err := stalePages(db, file, pageSize)
	if err != nil {
		return err
	}
	buf, zeros := make([]byte, pageSize), make([]byte, pageSize)
	for _, id := range stale {
		at := int64(id) * int64(pageSize)
		if _, err := file.ReadAt(buf, at); err != nil {
			return err
		}
		if bytes.Equal(buf, zeros) {
			continue
		}
		if _, err := file.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	return nil
}

// stalePages returns the pages that belong to nothing: the free ones, and those
// beyond the last, where the remains of unfinished writes lie.
func stalePages(db *bbolt.DB, file *os.File, pageSize int) ([]int, error) {
	var stale []int
	next := 2 // behind the meta pages
	err := db.View(func(tx *bbolt.Tx) error {
		for {
			info, err := tx.Page(next)
			if err != nil || info == nil {
				return err
			}
			if info.Type == "free" {
				stale = append(stale, next)
				next++
				continue
			}
			next += 1 + info.OverflowCount
		}
	})
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	for ; int64(next+1)*int64(pageSize) <= info.Size(); next++ {
		stale = append(stale, next)
	}
	return stale, nil
}

// writeStore writes a new store file, 0600, that holds records.
func writeStore(path string, records []item) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	db, err := openBBolt(path, file)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{recordsBucket, metaBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		ops := make([]Op, 0, len(records))
		for _, it := range records {
			ops = append(ops, Op{Key: string(it.key), Value: it.value})
		}
		return put(tx, ops, nil, &digest{})
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
