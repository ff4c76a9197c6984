package provider

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxNameBytes bounds names, which become file names and vault keys.
const maxNameBytes = 64

// ValidName checks the name of a provider: letters, digits, '.', '_' and '-',
// a letter or digit first, no "..", at most 64 bytes. Names become file names
// and parts of vault keys, so nothing that separates either may occur.
func ValidName(s string) error {
	switch {
	case s == "":
		return errors.New("name is empty")
	case len(s) > maxNameBytes:
		return fmt.Errorf("name is longer than %d bytes", maxNameBytes)
	case strings.Contains(s, ".."):
		return fmt.Errorf("name %s holds two dots in a row", Repeat(s))
	}
	for i, r := range s {
		isFirst := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !isFirst && (i == 0 || r != '.' && r != '_' && r != '-') {
			return fmt.Errorf("name %s: use letters, digits, '.', '_' and '-', a letter or digit first", Repeat(s))
		}
	}
	return nil
}

// Bounds of a word in a name: its letters, those of a number at its start or end (a
// year), and its humps (OpenAI).
const (
	maxWordBytes   = 20
	maxNumberBytes = 4
	maxHumps       = 1
)

// MayBeSecret reports whether what was given for a name may be a secret that was
// put in the wrong place, so that an error must not repeat it. A name is made of
// words, perhaps with a number before or after (oauth2, 1password, team-2026), and
// of short pieces such as k8s; what was drawn at random is not. A password that
// could be a name cannot be told from one.
func MayBeSecret(word string) bool {
	return len(word) > maxNameBytes || slices.ContainsFunc(strings.FieldsFunc(word, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}), isRandom)
}

// isRandom reports whether letters and digits are no word.
func isRandom(piece string) bool {
	if len(piece) <= maxNumberBytes {
		return false
	}
	const digits = "0123456789"
	rest := strings.TrimLeft(piece, digits)
	letters := strings.TrimRight(rest, digits)
	humps := 0
	for i := 1; i < len(letters); i++ {
		if 'a' <= letters[i-1] && letters[i-1] <= 'z' && 'A' <= letters[i] && letters[i] <= 'Z' {
			humps++
		}
	}
	return len(piece)-len(rest) > maxNumberBytes || len(rest)-len(letters) > maxNumberBytes ||
		len(letters) > maxWordBytes || humps > maxHumps || strings.ContainsAny(letters, digits)
}

// Repeat quotes what was given for a name as an error may repeat it, and says
// instead that it does not when it may be a secret.
func Repeat(word string) string {
	if MayBeSecret(word) {
		return "(not repeated: it may be a secret)"
	}
	return strconv.Quote(word)
}
