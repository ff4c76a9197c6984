package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"authsome/vault/regular"
	"authsome/vault/secret"
)

// A token must take longer to guess than anybody has; ours have 43 characters.
const (
	tokenMinChars  = 16
	tokenFileBytes = 4 << 10
)

// proxyToken reads the token that clients need. "" is none. A file that is not
// there is made, 0600, with a new token.
func (a *app) proxyToken(path string) (secret.Text, error) {
	if path == "" {
		return secret.Text{}, nil
	}
	bad := func(err error, hint string) (secret.Text, error) {
		return secret.Text{}, &fault{code: "TokenFile", exit: exitOther, msg: fmt.Sprintf("token file %s: %v", path, err), hint: hint, err: err}
	}
	f, err := regular.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		token := newToken()
		if err := createPrivate(path, token.Reveal()+"\n"); err != nil {
			return bad(errors.Unwrap(err), "make its directory, writable by this user")
		}
		return token, nil
	}
	if err != nil {
		return bad(bareCause(err), "make it a file that this user can read")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bad(err, "check the disk")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		a.warn("token file %s: every user can read it (mode %04o)", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, tokenFileBytes+1))
	if err != nil {
		return bad(err, "name a file that holds the token alone")
	}
	token := strings.TrimSpace(string(b))
	switch visible := func(r rune) bool { return r > 0x20 && r < 0x7f }; {
	case len(b) > tokenFileBytes, strings.ContainsFunc(token, func(r rune) bool { return !visible(r) }):
		return bad(errors.New("it holds more than one word of visible ASCII"), "name a file that holds the token alone")
	case len(token) < tokenMinChars:
		return bad(fmt.Errorf("the token has %d characters, want at least %d", len(token), tokenMinChars), "remove the file to have one made")
	}
	return secret.New(token), nil
}

// createPrivate makes a file of this user's own. It appears with its content.
func createPrivate(path, content string) error {
	return replaceFile(path, []byte(content), 0o600)
}

// replaceFile writes a file as a whole: a reader sees the old content or the new.
// It puts no file in the place of a pipe or a device, which root could.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if err := regular.Check(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", path, bareCause(err))
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, bareCause(err))
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, bareCause(err))
	}
	return nil
}

// bareCause drops the path from a file system error, for messages that name it.
func bareCause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
