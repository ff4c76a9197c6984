package injector

import (
	"fmt"
	"net/http"

	"github.com/google/martian/v3"
	"golang.org/x/net/http/httpguts"
)

// header replaces one header. The value slice is shared by every request that
// carries this credential, so that setting it allocates nothing.
type header struct {
	name  string // canonical
	value []string
}

var _ martian.RequestModifier = (*header)(nil)

func newHeader(name, value string) (*header, error) {
	if !httpguts.ValidHeaderFieldName(name) {
		return nil, fmt.Errorf("header name %q is not a token (RFC 9110 section 5.1)", name)
	}
	// A credential with a line break would add headers of its own.
	if !httpguts.ValidHeaderFieldValue(value) {
		return nil, fmt.Errorf("%w: not a header value (RFC 9110 section 5.5)", ErrCredentialShape)
	}
	return &header{http.CanonicalHeaderKey(name), []string{value}}, nil
}

// ModifyRequest implements martian.RequestModifier. The client's own value of
// the header goes, and so does a userinfo in the URL, which a transport would
// turn into a second Authorization.
func (h *header) ModifyRequest(r *http.Request) error {
	r.URL.User = nil
	r.Header[h.name] = h.value
	return nil
}
