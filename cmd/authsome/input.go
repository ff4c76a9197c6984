package main

import (
	"context"
	"io"
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
