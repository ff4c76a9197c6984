package injector

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// newBasic sets Authorization to HTTP Basic (RFC 7617). A user with a colon is
// refused: the origin would split it elsewhere than we meant.
func newBasic(user, password string) (*header, error) {
	if strings.Contains(user, ":") {
		return nil, fmt.Errorf("%w: a Basic user name has no colon (RFC 7617 section 2)", ErrCredentialShape)
	}
	if strings.ContainsFunc(user+password, isControl) {
		return nil, fmt.Errorf("%w: control character (RFC 7617 section 2)", ErrCredentialShape)
	}
	return newHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
