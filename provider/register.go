package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Register validates a definition and writes it to dir/<name>.json, mode 0600,
// all or nothing. The directory is made when it is missing. Fields that this
// program does not know are kept.
//
// It fails with what [Parse] fails with, and with [ErrExists] when the user has
// a definition of that name already and force is not set. A bundled definition
// of the name is no obstacle: the user's wins from then on.
func Register(dir string, data []byte, force bool) (*Entry, error) {
	def, err := Parse(data)
	if err != nil {
		return nil, err
	}
	text, err := def.Indented()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("register provider %s: %w", def.Name, err)
	}
	path := filepath.Join(dir, def.Name+extension)
	err = writeFile(path, text, force)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("register provider %s: %w in %s", def.Name, ErrExists, path)
	}
	if err != nil {
		return nil, fmt.Errorf("register provider %s: %w", def.Name, err)
	}
	_, overrides := bundledNames()[def.Name]
	return &Entry{Definition: def, Source: SourceCustom, Path: path, Overrides: overrides}, nil
}

// writeFile puts a complete file at path or leaves path as it is, whatever
// fails and whoever writes there at the same time. Without replace an existing
// path is fs.ErrExist.
func writeFile(path string, data []byte, replace bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	temporary := f.Name()
	defer func() {
		if err != nil || !replace {
			err = errors.Join(err, removeIfThere(temporary))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync())
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	if replace {
		err = os.Rename(temporary, path)
	} else {
		err = linkNew(temporary, path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// linkNew gives a file a second name that must be new. Unlike a rename, a link
// fails when the name is taken. Not every filesystem has links; without them two
// programs that register one name at the same instant may both succeed.
func linkNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, statErr := os.Lstat(to); !errors.Is(statErr, fs.ErrNotExist) {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes the new name survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
