package provider

import "strings"

// The keys of an [Export] for the halves of a key that is written
// "first:second", where each has a variable of its own.
const (
	FirstOfKey  = "api_key.1"
	SecondOfKey = "api_key.2"
)

// HalfOf returns the half of a key that an [Export] names, and the key itself
// for any other name. ok is false when the key has no halves.
func HalfOf(field, key string) (half string, ok bool) {
	if field != FirstOfKey && field != SecondOfKey {
		return key, true
	}
	first, second, ok := strings.Cut(key, ":")
	if field == FirstOfKey {
		return first, ok
	}
	return second, ok
}

// Placeholders are the variables of a child of run, and what it sees in them.
func (d *Definition) Placeholders() map[string]string {
	whole := d.Placeholder()
	out := make(map[string]string, len(d.Export.Env))
	for field, variable := range d.Export.Env {
		out[variable] = whole
		if half, ok := HalfOf(field, whole); ok {
			out[variable] = recognisable(half)
		}
	}
	return out
}

// recognisable replaces what is too short to be seen as fake, unless it is so all
// the same. A pattern is of the whole key: it says little about a half.
func recognisable(half string) string {
	end := half[max(0, len(half)-longRun):]
	if len(half) >= len(DefaultPlaceholder) || len(end) == longRun && strings.Trim(end, end[:1]) == "" {
		return half
	}
	return DefaultPlaceholder
}

// longRun is how many times no key repeats a character.
const longRun = 16
