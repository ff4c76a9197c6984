package provider

import (
	"errors"
	"strconv"
	"strings"
)

var (
	// ErrNotFound is returned, as a [*NotFoundError], when no provider has the
	// name asked for.
	ErrNotFound = errors.New("provider not found")
	// ErrExists is returned when a definition would replace one of the user's
	// own without being told to.
	ErrExists = errors.New("provider exists")
)

// Error is one thing that is wrong with a definition.
type Error struct {
	File   string // "" when the definition did not come from a file
	Path   string // JSON path such as oauth.token_url; "" is the whole document
	Line   int    // from 1; 0 is unknown
	Column int    // from 1, in bytes; 0 is unknown
	Msg    string
	Fix    string // what to write instead
}

// Error says where, what and how to mend it, on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	if e.Line > 0 {
		if e.File == "" {
			b.WriteString("line ")
		}
		b.WriteString(strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column) + ":")
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	if e.Fix != "" {
		b.WriteString("; " + e.Fix)
	}
	return b.String()
}

// Hint says what to do after the definition has been mended.
func (e *Error) Hint() string {
	if e.File != "" {
		return "edit " + e.File + ", or move it away"
	}
	return "mend the definition and run the command again"
}

// Errors is everything that is wrong with a definition, in the order of the
// document. It is never empty.
type Errors []*Error

// Error joins the errors by newlines.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first [*Error].
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// NotFoundError is returned for a name that no definition has. It matches
// [ErrNotFound].
type NotFoundError struct {
	Name        string
	Suggestions []string // names that are spelled alike, nearest first
}

// Error names what was asked for, unless that may be a secret.
func (e *NotFoundError) Error() string { return "provider " + Repeat(e.Name) + " not found" }

// Is matches [ErrNotFound].
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Hint offers the names that are spelled alike.
func (e *NotFoundError) Hint() string {
	switch {
	case MayBeSecret(e.Name):
		return "run: authsome list; a secret is never an argument, since every user can read it there: authsome login takes it with --secret-file"
	case len(e.Suggestions) == 0:
		return "run: authsome list"
	}
	return "did you mean " + strings.Join(e.Suggestions, ", ") + "? run: authsome list"
}
