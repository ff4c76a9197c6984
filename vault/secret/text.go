// Package secret holds strings that must not be printed.
//
// A Text keeps its value inside a closure. Package fmt walks structs by
// reflection, unexported fields included, but it can only print the address of
// a function, so a Text buried in a struct that forgot to redact itself is
// still not disclosed. The one exit is [Text.Reveal], which makes every place
// where a secret leaves the type easy to search for.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what stands in for a secret wherever one is printed, logged or
// marshalled.
const Redacted = "***REDACTED***"

// A Text is a secret string. The zero Text holds no secret. A Text is immutable
// and safe for concurrent use.
type Text struct{ reveal func() string }

// New returns a Text that holds s. New("") is a Text that holds the empty
// string; see [Text.IsZero].
func New(s string) Text {
	return Text{reveal: func() string { return s }}
}

// Reveal returns the secret, or "" for the zero Text.
func (t Text) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero reports whether t holds no secret: it is the zero Text, or holds the
// empty string.
func (t Text) IsZero() bool { return t.Reveal() == "" }

// Equal reports whether t and u hold the same string, in time that depends
// only on their lengths.
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(u.Reveal())) == 1
}

// String returns [Redacted].
func (Text) String() string { return Redacted }

// GoString returns [Redacted], for %#v.
func (Text) GoString() string { return Redacted }

// Format writes [Redacted] whatever the verb and flags are: %d, %x and %q
// would otherwise reach the struct below.
func (Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns [Redacted], for slog handlers.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON returns [Redacted] as a JSON string. There is no UnmarshalJSON:
// what was redacted cannot be read back, and decoding into a Text fails.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText returns [Redacted], for XML, map keys and text encoders.
func (Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
