package authsome

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"authsome/injector"
)

// keepBody reads the body into memory, where a signature needs it.
func (x *exchange) keepBody() error {
	if x.out.Body == nil || !x.route.WantsBody(x.out) {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(x.out.Body, injector.MaxKept+1))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if len(b) > injector.MaxKept {
		return injector.ErrTooLarge
	}
	x.closeBody()
	injector.Keep(x.out, b)
	x.out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	return nil
}

func (x *exchange) countBody() {
	if x.out.Body != nil && x.out.Body != http.NoBody {
		x.out.Body = &countedBody{ReadCloser: x.out.Body, n: &x.up}
	}
}

// closeBody is what a RoundTripper owes also for a request that it does not
// send.
func (x *exchange) closeBody() {
	if x.asked.Body != nil {
		x.asked.Body.Close()
	}
}

// countedBody counts what is sent.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// recordedBody records the exchange once its answer was read or given up.
type recordedBody struct {
	io.ReadCloser
	x    *exchange
	once sync.Once
}

// Read implements io.Reader.
func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.down.Add(int64(n))
	if err != nil {
		b.once.Do(b.x.record)
	}
	return n, err
}

// Close implements io.Closer.
func (b *recordedBody) Close() error {
	b.once.Do(b.x.record)
	return b.ReadCloser.Close()
}
