package main

import (
	"context"
	"io"
	"os"
)

// input is stdin whose reads end with the context. A read that waits for a
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

// openFile opens a file that is read as stdin is, so that a pipe that nobody writes
// to does not outwait a signal: it waits when it is opened as well.
func (a *app) openFile(path string) (r io.Reader, stop func() error, err error) {
	ctx := context.Background()
	if in, ok := a.stdin.(*input); ok {
		ctx = in.ctx
	}
	type answer struct {
		f   *os.File
		err error
	}
	done := make(chan answer, 1)
	go func() {
		f, err := os.Open(path)
		done <- answer{f, err}
	}()
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case got := <-done:
		if got.err != nil {
			return nil, nil, got.err
		}
		return &input{ctx, got.f}, got.f.Close, nil
	}
}
