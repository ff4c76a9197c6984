package proxy

import (
	"errors"
	"io"
	"net/http"

	"authsome/injector"
)

// allKeptBytes is what all bodies together may take that are kept to be signed.
const allKeptBytes = 8 * injector.MaxKept

var errMemory = errors.New("too many bodies wait to be signed")

// keepBody reads the request's body into memory. What it takes there is given back
// by endBody.
func (x *exchange) keepBody() error {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return nil
	}
	from := &countedBody{ReadCloser: x.r.Body, x: x}
	var b []byte
	for {
		if len(b) == cap(b) {
			if len(b) > injector.MaxKept {
				return injector.ErrTooLarge
			}
			grown := int64(min(max(2*cap(b), copyBytes), injector.MaxKept+1))
			if x.p.kept.Add(grown-x.kept) > allKeptBytes {
				x.p.kept.Add(x.kept - grown)
				return errMemory
			}
			x.kept = grown
			b = append(make([]byte, 0, grown), b...)
		}
		n, err := from.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if len(b) > injector.MaxKept {
		return injector.ErrTooLarge
	}
	injector.Keep(x.r, b)
	return nil
}

// endBody gives back the memory of keepBody.
func (x *exchange) endBody() {
	if x.kept > 0 {
		x.p.kept.Add(-x.kept)
	}
}

// bodyRefusal is for a body that could not be kept.
func bodyRefusal(route *injector.Route, err error) *Refusal {
	switch {
	case err == errMemory:
		ref := credentialRefusal(route, err)
		ref.Detail, ref.Hint = "Too many large bodies wait to be signed.", "try again"
		return ref
	case errors.Is(err, injector.ErrTooLarge):
		return credentialRefusal(route, err)
	}
	return upstreamRefusal(err)
}
