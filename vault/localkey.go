package vault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"authsome/vault/regular"
)

// localKey is the wrapper whose key lies in a file.
type localKey struct {
	path   string
	stores []string
}

// LocalKey returns the wrapper for mode "local_key": the key-encryption key is
// the file at path, 32 random bytes in base64. It is created 0600, complete or
// not at all, when a vault is first written. A file that others could read is
// tightened to 0600: refusing to work would leave it exposed for longer, and
// what was read before cannot be unread either way.
//
// stores are patterns (see [filepath.Glob]) of the stores that may depend on
// the key. While one does, a missing key is [ErrKeyMissing] and is not made
// anew, even for a store that does not exist yet.
func LocalKey(path string, stores ...string) KeyWrapper {
	return &localKey{path: path, stores: stores}
}

func (*localKey) Mode() string { return ModeLocalKey }

func (w *localKey) Wrap(ctx context.Context, dataKey []byte) ([]byte, error) {
	keys, err := w.read()
	if errors.Is(err, ErrKeyMissing) && !w.needed(ctx) {
		if err = w.create(); err == nil {
			keys, err = w.read()
		}
	}
	if err != nil {
		return nil, err
	}
	return wrapUnder(keys[0], ModeLocalKey, dataKey, nil)
}

func (w *localKey) Unwrap(_ context.Context, blob []byte) ([]byte, error) {
	b, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	keys, err := w.read()
	if err != nil {
		return nil, err
	}
	for _, kek := range keys {
		if kekID(kek) == b.KEK {
			return b.open(kek, ModeLocalKey)
		}
	}
	return nil, fmt.Errorf("%w: %s holds key %s, the vault needs %s; put the right key file back",
		ErrWrongKey, w.path, kekID(keys[0]), b.KEK)
}

// needed reports whether a store exists that was encrypted under the key. One
// that cannot be read may be.
func (w *localKey) needed(ctx context.Context) bool {
	for _, pattern := range w.stores {
		found, _ := filepath.Glob(pattern) // fails only for a bad pattern
		for _, path := range found {
			store, err := OpenBolt(path, BoltConfig{})
			if err != nil {
				return true
			}
			if mode, err := Mode(ctx, store); err != nil || mode == ModeLocalKey {
				return true
			}
		}
	}
	return false
}

// read returns the keys in the file, the one in use first.
func (w *localKey) read() ([][]byte, error) {
	file, err := regular.Open(w.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s does not exist; put it back from a backup", ErrKeyMissing, w.path)
	case errors.Is(err, regular.ErrIrregular):
		return nil, fmt.Errorf("%w: key file %s: %w", ErrWrongKey, w.path, bare(err))
	case err != nil:
		return nil, w.unavailable("read", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, w.unavailable("read", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := file.Chmod(0o600); err != nil {
			return nil, fmt.Errorf("%w: key file %s can be read by others, and that cannot be changed (%w); run chmod 600 as its owner",
				ErrUnavailable, w.path, bare(err))
		}
	}
	text := make([]byte, maxKeyFileBytes)
	n, _ := file.Read(text)
	keys, err := splitKeys(text[:n])
	if err != nil {
		return nil, fmt.Errorf("%w: key file %s is malformed: %w; put it back from a backup", ErrWrongKey, w.path, err)
	}
	return keys, nil
}

// maxKeyFileBytes is room for dozens of keys and comments.
const maxKeyFileBytes = 16 << 10

// create makes a key file unless there is one. Of several processes that do so
// at once, all end up with the same key.
func (w *localKey) create() error {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails; see crypto/rand
	text := base64.StdEncoding.EncodeToString(key) + "\n"
	if err := createFile(w.path, []byte(text)); err != nil && !errors.Is(err, fs.ErrExist) {
		return w.unavailable("create", err)
	}
	return nil
}

// unavailable says what could not be done to the key file.
func (w *localKey) unavailable(op string, err error) error {
	return fmt.Errorf("%w: %s key file %s: %w%s", ErrUnavailable, op, w.path, bare(err), advice(err))
}

// RotateLocalKey puts a new key in front of those in the key file at path.
// [LocalKey] wraps with the first and unwraps with any, so the file serves every
// store while they are re-keyed one after the other, however that is interrupted.
// [PruneLocalKey] ends it.
func RotateLocalKey(ctx context.Context, path string) error {
	return rewriteKeys(ctx, path, func(keys [][]byte) [][]byte {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails; see crypto/rand
		return slices.Insert(keys, 0, key)
	})
}

// PruneLocalKey removes the keys from the key file at path that no store needs,
// but never the first. stores are patterns as for [LocalKey]. When one of the
// stores cannot be read nothing is removed.
func PruneLocalKey(ctx context.Context, path string, stores ...string) error {
	needed := map[string]bool{}
	for _, pattern := range stores {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, store := range found {
			if err := neededKeys(ctx, store, needed); err != nil {
				return fmt.Errorf("prune keys: %w", err)
			}
		}
	}
	return rewriteKeys(ctx, path, func(keys [][]byte) [][]byte {
		kept := keys[:1]
		for _, key := range keys[1:] {
			if needed[kekID(key)] {
				kept = append(kept, key)
			}
		}
		return kept
	})
}

// neededKeys adds the names of the keys that the store at path is wrapped with.
func neededKeys(ctx context.Context, path string, needed map[string]bool) error {
	store, err := OpenBolt(path, BoltConfig{})
	if err != nil {
		return err
	}
	values, err := store.Load(ctx, keysKey)
	if err != nil || values[keysKey] == nil {
		return err
	}
	d, err := parseKeyDocument(values[keysKey])
	if err != nil {
		return err
	}
	for _, wrapped := range d.Keys {
		if b, err := parseBlob(wrapped.Wrapped); err == nil {
			needed[b.KEK] = true
		}
	}
	return nil
}

// rewriteKeys replaces the key file's keys, one process at a time.
func rewriteKeys(ctx context.Context, path string, change func([][]byte) [][]byte) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("rewrite key file: %w", err)
	}
	defer dir.Close() // ends the lock
	if err := lockFile(ctx, dir, true, time.Now().Add(lockTimeout)); err != nil {
		return fmt.Errorf("rewrite key file %s: %w", path, err)
	}
	keys, err := (&localKey{path: path}).read()
	if err != nil {
		return err
	}
	var text []byte
	for _, key := range change(keys) {
		text = append(base64.StdEncoding.AppendEncode(text, key), '\n')
	}
	if err := replaceFile(path, text); err != nil {
		return fmt.Errorf("rewrite key file: %w", err)
	}
	return nil
}
