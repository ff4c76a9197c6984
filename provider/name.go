package provider

import (
	"errors"
	"fmt"
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
		return fmt.Errorf("name %q holds two dots in a row", s)
	}
	for i, r := range s {
		isFirst := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !isFirst && (i == 0 || r != '.' && r != '_' && r != '-') {
			return fmt.Errorf("name %q: use letters, digits, '.', '_' and '-', a letter or digit first", s)
		}
	}
	return nil
}
