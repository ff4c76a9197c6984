package injector

import (
	"bytes"
	"net/http"
)

// MaxKept is the largest request body that is kept in memory to be signed, in
// bytes. AWS takes less from those who sign it whole.
const MaxKept = 32 << 20

// Kept is a request body in memory, for what has to know it before it is sent.
type Kept struct {
	*bytes.Reader
	b []byte
}

// Keep makes b the body of a request.
func Keep(r *http.Request, b []byte) {
	r.Body = &Kept{bytes.NewReader(b), b}
	if len(r.Trailer) == 0 { // which need chunks
		r.ContentLength = int64(len(b))
	}
}

// Close implements io.Closer.
func (k *Kept) Close() error { return nil }

// keptOf returns the body of a request, nil when it has none. ok is false when it
// is not in memory.
func keptOf(r *http.Request) (b []byte, ok bool) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, true
	}
	k, ok := r.Body.(*Kept)
	if !ok {
		return nil, false
	}
	return k.b, true
}

// ErrTooLarge is for a body of more than [MaxKept].
var ErrTooLarge error = &SigningError{"The body is too large to be signed.", "send at most 32 MiB, or the body's hash in " + amzPayload}
