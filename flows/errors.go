package flows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
)

// Sentinels, matched with errors.Is.
var (
	// ErrAlreadyConnected is returned by a login when the connection is valid.
	ErrAlreadyConnected = errors.New("already connected")

	// ErrNoConnection is returned when there is no such connection.
	ErrNoConnection = errors.New("no such connection")

	// ErrExpired is returned when the credential has expired and nothing can
	// renew it.
	ErrExpired = errors.New("credential has expired")

	// ErrRevoked is returned when the provider no longer accepts the
	// connection; only a new login helps.
	ErrRevoked = errors.New("connection is no longer valid")

	// ErrRefreshFailed is returned when the credential has expired and
	// renewing it failed.
	ErrRefreshFailed = errors.New("refresh failed")

	// ErrLoginFailed is returned when the provider, or the way to it, did not
	// let a login succeed.
	ErrLoginFailed = errors.New("login failed")

	// ErrBadSecret is returned when a secret does not have its provider's
	// shape.
	ErrBadSecret = errors.New("secret does not have the expected shape")

	// ErrNoVariable is returned by an export of a connection whose definition names
	// no variable for what it holds.
	ErrNoVariable = errors.New("no variable to export to")

	// ErrSameVariable is returned by an export of several connections for those
	// whose variables would have one name.
	ErrSameVariable = errors.New("another connection has the same variable")

	// ErrBadName is returned for a name that cannot be a key.
	ErrBadName = errors.New("bad name")

	// ErrBadInput is returned for an input that a flow cannot use.
	ErrBadInput = errors.New("bad input")
)

// ConnectionError says which connection an error is about and what to do.
type ConnectionError struct {
	Provider   string
	Connection string
	Err        error
	Next       string // the command to run next
}

// Error implements error.
func (e *ConnectionError) Error() string {
	if e.Connection == "" {
		return fmt.Sprintf("%s: %v", e.Provider, e.Err)
	}
	return fmt.Sprintf("%s/%s: %v", e.Provider, e.Connection, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

// Hint returns what to run next.
func (e *ConnectionError) Hint() string { return e.Next }

// RefusalCode returns the proxy's code for a request that this error stops.
func (e *ConnectionError) RefusalCode() string {
	if errors.Is(e.Err, ErrRefreshFailed) {
		return "refresh_failed"
	}
	return "credential_missing"
}

func connectionError(provider, connection string, err error) *ConnectionError {
	return advised(provider, connection, named(connection, func() string { return DefaultConnection }), err)
}

// connectionError names in its advice a connection that is called "default" as well
// when another one is the provider's default: a login without a name is to that.
func (b *Broker) connectionError(provider, connection string, err error) *ConnectionError {
	return advised(provider, connection, named(connection, func() string { return b.defaultOf(provider) }), err)
}

// named reports whether a login has to name a connection to be to it.
func named(connection string, byDefault func() string) bool {
	return connection != "" && (connection != DefaultConnection || byDefault() != DefaultConnection)
}

func advised(of, connection string, named bool, err error) *ConnectionError {
	if errors.Is(err, vault.ErrUnavailable) || errors.Is(err, audit.ErrUnavailable) {
		return &ConnectionError{Provider: of, Connection: connection, Err: err} // no login mends a disk
	}
	if errors.Is(err, ErrNoConnection) && provider.MayBeSecret(connection) {
		connection, named = "", false // nobody's name, and not to be repeated
	}
	next := loginAgain(of, connection, named)
	if errors.Is(err, ErrAlreadyConnected) {
		next += " --force"
	}
	return &ConnectionError{Provider: of, Connection: connection, Err: err, Next: next}
}

// loginAgain is the advice to log in.
func loginAgain(provider, connection string, named bool) string {
	next := "run: authsome login " + provider
	if named {
		next += " --connection " + connection
	}
	return next
}

// defaultWait bounds the look for what only makes an advice shorter.
const defaultWait = 200 * time.Millisecond

// defaultOf returns the name of a provider's default connection, DefaultConnection
// when it has none or that cannot be read.
func (b *Broker) defaultOf(provider string) string {
	var ix *index
	var err error
	if s := b.vault.Snapshot(); s.Generation() != 0 {
		if e, ok := s.Get(metadataKey(b.profile, provider)); ok {
			ix, err = decodeIndex(e)
		}
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), defaultWait)
		defer cancel()
		ix, err = b.index(ctx, provider)
	}
	if err != nil || ix == nil || ix.Default == "" {
		return DefaultConnection
	}
	return ix.Default
}
