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
// the key. While one exists, a missing key is [ErrKeyMissing] and is not made
// anew, even for a store that does not exist yet.
func LocalKey(path string, stores ...string) KeyWrapper {
	return &localKey{path: path, stores: stores}
}

func (*localKey) Mode() string { return ModeLocalKey }

func (w *localKey) Wrap(_ context.Context, dataKey []byte) ([]byte, error) {
	keys, err := w.read()
	if errors.Is(err, ErrKeyMissing) && !w.needed() {
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

// needed reports whether a store exists that was encrypted under the key.
func (w *localKey) needed() bool {
	for _, pattern := range w.stores {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

// read returns the keys in the file, the one in use first.
func (w *localKey) read() ([][]byte, error) {
	file, err := os.Open(w.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist; put it back from a backup", ErrKeyMissing, w.path)
	}
	if err != nil {
		return nil, &StoreError{Op: "open key of", Path: w.path, Err: bare(err)}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, &StoreError{Op: "open key of", Path: w.path, Err: bare(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: key file %s is not a regular file", ErrWrongKey, w.path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := file.Chmod(0o600); err != nil {
			return nil, fmt.Errorf("key file %s can be read by others, and that cannot be changed (%w); run chmod 600 as its owner",
				w.path, bare(err))
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
		return fmt.Errorf("create key file: %w", err)
	}
	return nil
}
