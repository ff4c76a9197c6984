// Package environ writes variables so that other programs read back exactly the
// values: shells and the readers of env files. It knows what neither can carry.
package environ

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrUnfit is returned for a value that a format cannot carry. The error names
// the variable and never the value.
var ErrUnfit = errors.New("cannot carry the value")

// A Format renders one variable as a line without its end, or returns
// [ErrUnfit].
type Format func(name, value string) (string, error)

// Render renders variables, sorted by name, a line each. Those that do not fit
// are left out; err joins an error for each of them.
func (f Format) Render(vars map[string]string) (text []byte, err error) {
	var unfit []error
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		line, err := f(name, vars[name])
		if err != nil {
			unfit = append(unfit, fmt.Errorf("%s: %w", name, err))
			continue
		}
		text = append(append(text, line...), '\n')
	}
	return text, errors.Join(unfit...)
}

// bare are the characters that mean themselves to every shell and every reader
// of env files, so that "export $(authsome export P)" works with them.
const bare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=+@,%"

// Dotenv writes NAME=value, bare while no character needs quoting. A quoted
// value is one on which python-dotenv, Node's --env-file and a POSIX shell that
// sources the file agree, although they disagree about escapes: so it has none.
// A value that would need one does not fit.
func Dotenv(name, value string) (string, error) {
	switch {
	case Bare(value):
		return name + "=" + value, nil
	case !utf8.ValidString(value), strings.ContainsAny(value, "\x00\r"): // Node drops a CR, Python makes it an LF
	case strings.Contains(value, "${"): // python-dotenv fills it in even between single quotes
	case !strings.Contains(value, "'") && !escapes(value):
		return name + "='" + value + "'", nil
	case !strings.ContainsAny(value, "\"\\$`!"):
		return name + `="` + value + `"`, nil
	}
	return "", fmt.Errorf("an env file %w", ErrUnfit)
}

// Bare reports whether a value needs no quoting anywhere. The bare characters do
// not, but for zsh's =NAME, at the beginning or after a colon, which is the path
// of a command.
func Bare(value string) bool {
	return value != "" && strings.Trim(value, bare) == "" && value[0] != '=' && !strings.Contains(value, ":=")
}

// escapes reports whether python-dotenv takes a backslash between single quotes
// for the beginning of an escape: before another one, or before the quote that
// ends the value.
func escapes(value string) bool {
	return strings.Contains(value, `\\`) || strings.HasSuffix(value, `\`)
}

// Shell writes an export statement that is safe to eval in every POSIX shell, in
// zsh and in fish. Only fish's export cannot take a value of several lines.
func Shell(name, value string) (string, error) {
	if strings.Contains(value, "\x00") { // the end of every variable's value
		return "", fmt.Errorf("a shell %w", ErrUnfit)
	}
	return "export " + name + "=" + Quote(value), nil
}

// Quote quotes a value for POSIX shells, zsh and fish. Fish has escapes between
// single quotes, so that quotes and backslashes stand outside of them.
func Quote(value string) string {
	if value == "" {
		return "''"
	}
	var b strings.Builder
	quoted := false
	quote := func(want bool) {
		if quoted != want {
			b.WriteByte('\'')
			quoted = want
		}
	}
	for i := range len(value) {
		special := value[i] == '\'' || value[i] == '\\'
		quote(!special)
		if special {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	quote(false)
	return b.String()
}
