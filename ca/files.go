package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"authsome/vault/regular"
)

// readNamed reads a file that a variable of the parent names. It must be a
// regular one, or the null device, which is how one names none.
func readNamed(path string) ([]byte, error) {
	if path == os.DevNull {
		return nil, nil
	}
	return regular.ReadFile(path)
}

// privateDir makes dir, or checks that an existing one is its owner's alone.
// Group access is taken away, since some volume drivers add it by themselves.
func privateDir(dir string) error {
	info, err := makeDir(dir, 0o700)
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if runtime.GOOS == "windows" || mode&0o077 == 0 {
		return nil
	}
	if mode&0o007 == 0 && os.Chmod(dir, mode&0o700) == nil {
		return nil
	}
	return fmt.Errorf("use directory %s: mode %04o lets other users in; name a new directory, or chmod 700 this one", dir, mode)
}

// makeDir makes dir unless it exists, and refuses anything but a directory.
func makeDir(dir string, mode os.FileMode) (fs.FileInfo, error) {
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("use directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("use directory %s: not a directory", dir)
	}
	return info, nil
}

// writeFile replaces path as a whole: a reader sees the old content or the new.
func writeFile(path string, data []byte, mode os.FileMode) error {
	return replaceFile(path, data, mode, false)
}

// writeDurable is writeFile for what must survive a crash of the machine.
func writeDurable(path string, data []byte, mode os.FileMode) error {
	if err := replaceFile(path, data, mode, true); err != nil {
		return err
	}
	// The rename is durable once its directory is. Not every system lets a
	// directory be synced, and the file is in place: no failure.
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

func replaceFile(path string, data []byte, mode os.FileMode, sync bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode))
	if sync && err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
