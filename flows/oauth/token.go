package oauth

import (
	"time"

	"authsome/vault/secret"
)

// TokenSet is what a grant gave. It holds secrets only as [secret.Text].
type TokenSet struct {
	AccessToken  secret.Text
	RefreshToken secret.Text // zero when the provider gave none, and none was held before
	IDToken      secret.Text // OpenID Connect; zero when the provider gave none
	TokenType    string      // as the provider spells it; "Bearer" when it says nothing
	Scopes       []string    // granted; what was asked for when the answer does not say (RFC 6749 section 5.1)
	ExpiresAt    time.Time   // zero: the provider named no end
	ObtainedAt   time.Time   // when the answer was read
	Account      Account     // whose token it is, when the answer tells
	// Extra holds a few plain fields of the answer that say where the token is good for, such as
	// instance_url or workspace_name. Only names known to be harmless are kept.
	Extra map[string]string
}

// Account is whose token it is, as far as the answer or its ID token tells. It is for showing: the ID
// token's signature is not verified, its only warrant is the TLS connection it came over (OpenID
// Connect Core section 3.1.3.7).
type Account struct {
	ID    string // stable identifier
	Label string // what a person recognises: an e-mail address, a login, a workspace
}

// NeedsRefresh says whether the token is within window of its expiry; see the function of that name.
func (t *TokenSet) NeedsRefresh(now time.Time, window time.Duration) bool {
	return NeedsRefresh(t.ExpiresAt, now, window)
}
