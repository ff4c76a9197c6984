package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"authsome/provider"
	"authsome/vault/regular"
)

// readInput reads at most limit bytes of a file that the user named; "-" is
// stdin. It ends with the context: to open a pipe waits for a writer, and to
// read one for its end. A server, which reads its files again for each reload and
// must not be kept from the next, takes regular files alone.
func (a *app) readInput(ctx context.Context, path string, limit int64) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, limit))
	}
	if a.server {
		file, err := regular.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return io.ReadAll(io.LimitReader(file, limit))
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.Open(path)
		done <- opened{file, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-done:
		if got.err != nil {
			return nil, got.err
		}
		defer got.file.Close()
		return io.ReadAll(io.LimitReader(&input{ctx, got.file}, limit))
	}
}

// repeatedPath is a path as an error names it. A secret may have been given where
// a file that holds one belongs.
func repeatedPath(path string) string {
	if provider.MayBeSecret(path) && filepath.Base(path) == path {
		return provider.Repeat(path)
	}
	return path
}

// input is a stream whose reads end with the context. A read that waits for a
// person, or for a pipe that nobody writes to, ends for no signal otherwise.
type input struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	type answer struct {
		n   int
		err error
	}
	buf := make([]byte, len(p)) // p is the caller's again once we return
	done := make(chan answer, 1)
	go func() {
		n, err := i.r.Read(buf)
		done <- answer{n, err}
	}()
	select {
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	case got := <-done:
		return copy(p, buf[:got.n]), got.err
	}
}
