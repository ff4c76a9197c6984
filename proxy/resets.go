package proxy

import (
	"errors"

	"golang.org/x/net/http2"
)

// originReset returns the reset that an origin ended a stream with. net/http's
// error converts itself to this type; a reset of its own has another cause.
func originReset(err error) (reset http2.StreamError, ok bool) {
	if !errors.As(err, &reset) {
		return reset, false
	}
	return reset, reset.Cause != nil && reset.Cause.Error() == "received from peer"
}
