package vault

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// makeDir creates a directory 0700, with its parents, unless it exists.
func makeDir(dir string) error { return os.MkdirAll(dir, 0o700) }

// createFile creates path with content, 0600, durably, complete or not at all.
// It fails with fs.ErrExist when path exists.
func createFile(path string, content []byte) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	return publish(temp, path)
}

// replaceFile is createFile for a path that exists.
func replaceFile(path string, content []byte) error {
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	if err = keepOwner(temp, old); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes content to a new file beside path and syncs it.
func writeTemp(path string, content []byte) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*") // 0600
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// publish gives the finished file temp the name path, unless that is taken:
// then it fails with fs.ErrExist.
func publish(temp, path string) error {
	err := os.Link(temp, path)
	if err != nil && !errors.Is(err, os.ErrExist) && noLinks(err) {
		// Here two processes may both succeed; the last one wins, and both
		// read back what is there.
		if _, err = os.Lstat(path); err == nil {
			return os.ErrExist
		}
		err = os.Rename(temp, path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// noLinks reports whether err says that the file system has no hard links.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM)
}

// syncDir makes a rename in dir durable. File systems that cannot sync a
// directory need no sync.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}

// bare strips the path that a *PathError or *LinkError would repeat.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

// advice says what to do about the cause of a StoreError, if that is known.
func advice(err error) string {
	switch {
	case errors.Is(err, ErrLocked):
		return "; wait for the other authsome command to end, then retry"
	case errors.Is(err, syscall.ENOSPC):
		return "; free some space and retry, nothing was lost"
	case errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS):
		return "; check owner and permissions of the file and its directory"
	}
	return ""
}
