// Package imports finds credentials where other programs keep them: in env
// files, in the files of other command-line tools, and in the home of the
// Python authsome.
//
// It reads and tells; it stores nothing, and talks to nobody. No error and no
// description that it returns holds a secret.
package imports

import (
	"errors"
	"time"

	"authsome/flows"
	"authsome/vault/secret"
)

var (
	// ErrFormat is returned for a file that is not of its format.
	ErrFormat = errors.New("cannot be read")

	// ErrNothing is returned when a source holds no credential of a provider
	// that is known.
	ErrNothing = errors.New("no credential of a known provider")
)

// A Found is one credential and where it was.
type Found struct {
	Provider   string
	Connection string // suggested name; "" is the provider's default one
	Where      string // "NAME, line 3" or "github.com, account ada": for people
	Line       int    // in the file; 0 when it has no lines
	Variable   string // of an env file

	APIKey       secret.Text
	AccessToken  secret.Text
	RefreshToken secret.Text
	IDToken      secret.Text
	TokenType    string
	Scopes       []string
	ExpiresAt    time.Time // zero: never, or unknown
	ObtainedAt   time.Time // zero: unknown
	Account      flows.Account
	BaseURL      string // "" is the definition's

	ClientID     string // that the tokens were issued to; "" when unknown
	ClientSecret secret.Text
	KeepClient   bool // it is the user's own, for later logins too
}

// A Skipped is what looks like a credential and cannot be taken over.
type Skipped struct {
	Provider string // "" when unknown
	Where    string
	Line     int
	Variable string
	Reason   string
}
