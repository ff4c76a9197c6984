package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// openAppend opens the regular file at path for appending.
func openAppend(path string) (*os.File, error) {
	// Lstat first for the message, and for systems without O_NOFOLLOW.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	}
	file, err := os.OpenFile(path, openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = file.Chmod(0o600)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lastLineHash returns the hash of the last complete line of file, or nil when
// there is none within reach.
func lastLineHash(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	size := min(info.Size(), 4*MaxLineBytes)
	tail := make([]byte, size)
	n, err := file.ReadAt(tail, info.Size()-size)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	tail = tail[:n]
	last := bytes.LastIndexByte(tail, '\n')
	if last < 0 {
		return nil, nil
	}
	tail = tail[:last]
	start := bytes.LastIndexByte(tail, '\n') + 1
	if start == 0 && size < info.Size() {
		return nil, nil
	}
	hash := hashLine(tail[start:])
	return hash[:], nil
}
