package injector

import (
	"net/http"
	"time"
)

// SignAt signs a request at a point in time.
func SignAt(r *http.Request, id, secret string, at time.Time) error {
	s := newSigV4(id, secret)
	s.now = func() time.Time { return at }
	return s.ModifyRequest(r)
}
