// Package regular opens files that must be files. To open a pipe waits for a
// writer and to read a device may never end: a program that reads what somebody
// else put there, perhaps again and again, must not be kept waiting by it.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrIrregular is returned for a pipe, a directory, a socket or a device.
var ErrIrregular = errors.New("it is not a regular file")

// Open opens the regular file at path, or where a link of that name leads, for
// reading. Its errors are those of [os.Open], or a [*fs.PathError] with
// [ErrIrregular]. It waits for nobody.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY) }

// OpenFile is [Open] with the flags of [os.OpenFile]. It creates nothing.
func OpenFile(path string, flag int) (*os.File, error) {
	// Looked at first, since to open a device can do something, and to open a pipe
	// frees its writer. What is opened then may be something else, and is what
	// counts.
	if err := Check(path); errors.Is(err, ErrIrregular) {
		return nil, err
	}
	file, err := os.OpenFile(path, flag|noWait, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = check(path, info)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// ReadFile reads the regular file at path, as [Open] opens it.
func ReadFile(path string) ([]byte, error) {
	file, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Check says whether the file at path, or where a link of that name leads, is a
// regular one, without opening it. Its errors are those of [Open].
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return check(path, info)
}

func check(path string, info fs.FileInfo) error {
	var kind string
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	default:
		kind = "a device"
	}
	return &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w but %s", ErrIrregular, kind)}
}
