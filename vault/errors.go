package vault

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of records.
var (
	// ErrNotFound is returned when there is no record under a key.
	ErrNotFound = errors.New("no such record")

	// ErrConflict is returned when a record changed, appeared or went since it
	// was read. Nothing was written: read it again and decide anew.
	ErrConflict = errors.New("record was changed by somebody else")
)

// Errors of keys.
var (
	// ErrKeyMissing is returned when records exist but the key-encryption key
	// does not. A new one is never made in its place: it would open nothing. It
	// is returned as well where a key or passphrase that has to be given is not.
	ErrKeyMissing = errors.New("encryption key is missing")

	// ErrWrongKey is returned when the key-encryption key is not the one that
	// the vault was encrypted with.
	ErrWrongKey = errors.New("encryption key does not fit this vault")
)

// Errors of the store.
var (
	// ErrUnavailable is matched by every error that says that the store cannot
	// be used now: locked, damaged, full, not permitted.
	ErrUnavailable = errors.New("store unavailable")

	// ErrLocked is returned when another process held the store for longer than
	// the timeout. It matches ErrUnavailable.
	ErrLocked = fmt.Errorf("%w: locked by another process", ErrUnavailable)
)

// A StoreError says what could not be done to which file. It matches
// [ErrUnavailable] and its cause.
type StoreError struct {
	Op   string // open, read, write, create, compact, …
	Path string
	Err  error
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("%s store %s: %v%s", e.Op, e.Path, e.Err, advice(e.Err))
}

// Unwrap returns ErrUnavailable and the cause.
func (e *StoreError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// A CorruptError is returned when a store is damaged as a whole: its structure
// does not hold together or records are missing from it. It was not changed. It
// matches [ErrUnavailable]. One damaged record is an [*IntegrityError] instead,
// and leaves the others usable.
type CorruptError struct {
	Path   string
	Detail string
	Err    error // the cause, if there is one

	Intact bool // every record can be read: compacting the store mends it
}

func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "store %s is damaged: %s", e.Path, e.Detail)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Hint returns what to run next.
func (e *CorruptError) Hint() string {
	if e.Intact {
		return "its records are intact; run: authsome vault compact"
	}
	return "nothing was changed; run: authsome vault restore FILE, from a backup, or move the file away and log in again"
}

// Unwrap returns ErrUnavailable and the cause.
func (e *CorruptError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrUnavailable}
	}
	return []error{ErrUnavailable, e.Err}
}

// An IntegrityError is returned when a record, or one secret in it, does not
// authenticate: it was damaged, edited, or moved from another record or field.
type IntegrityError struct {
	Key   string // of the record
	Field string // of the secret; empty for the record as a whole
	Err   error  // the cause, if there is one
}

func (e *IntegrityError) Error() string {
	what := fmt.Sprintf("record %q", e.Key)
	if e.Field != "" {
		what = fmt.Sprintf("field %q of record %q", e.Field, e.Key)
	}
	if e.Err != nil {
		return fmt.Sprintf("%s does not authenticate: %v", what, e.Err)
	}
	return what + " does not authenticate: it was damaged or altered"
}

// Unwrap returns the cause.
func (e *IntegrityError) Unwrap() error { return e.Err }
