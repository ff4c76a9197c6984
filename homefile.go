package authsome

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"authsome/vault/regular"
)

// FileError names the file that an error is about, and the way out.
type FileError struct {
	Path string
	Line int // 0 when it is not about a line
	Err  error
	Next string // what to do
}

// Error implements error.
func (e *FileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *FileError) Hint() string { return e.Next }

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		next := "make the directory writable, or set AUTHSOME_HOME to one that is"
		if errors.Is(err, syscall.ENOTDIR) {
			next = "set AUTHSOME_HOME to a directory, or move the file away"
		}
		if nowhere := leadsNowhere(dir); nowhere != nil {
			return nowhere
		}
		return &FileError{Path: dir, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: next}
	}
	return nil
}

// leadsNowhere is the error of a link whose target is missing, nil for anything
// else. What it led to, perhaps a disk that is not mounted, must not be taken
// for something that was never made.
func leadsNowhere(path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &FileError{Path: path, Err: fmt.Errorf("%w: it is a link to %s, which does not exist", ErrHome, target),
		Next: "bring back what it leads to, or remove the link"}
}

// readFile reads a file of the home. Its error matches fs.ErrNotExist, or else is
// a *FileError. Only regular files are opened: a pipe would wait for a writer.
func readFile(path string) ([]byte, error) {
	if err := leadsNowhere(path); err != nil {
		return nil, err
	}
	b, err := regular.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = &FileError{Path: path, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: "make it a file that you can read"}
	}
	return b, err
}

// cause drops the path from a file system error: FileError names it already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// decodeFile parses JSON and names the line of a mistake. A byte order mark,
// with which some editors begin a file, is none.
func decodeFile(path string, b []byte, v any) error {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	fail := &FileError{Path: path, Next: "mend the JSON at that line; the file was left as it is"}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(-1)
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	} else if errors.As(err, &kind) {
		offset = kind.Offset
		article := "a"
		if strings.HasPrefix(kind.Value, "array") || strings.HasPrefix(kind.Value, "object") {
			article = "an"
		}
		err = fmt.Errorf("%s cannot be %s %s", firstOf(kind.Field, "the file"), article, kind.Value)
	}
	fail.Err = fmt.Errorf("%w: %w", ErrConfig, err)
	if offset >= 0 && offset <= int64(len(b)) {
		fail.Line = 1 + bytes.Count(b[:offset], []byte("\n"))
	}
	return fail
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces a file as a whole: a crash leaves the old or the new one.
// What a link leads to is replaced, not the link.
func writeFile(path string, b []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	wrap := func(err error) error {
		return &FileError{Path: path, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)),
			Next: "check the disk's free space and the directory's permissions"}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return wrap(err)
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return wrap(err)
	}
	return nil
}
