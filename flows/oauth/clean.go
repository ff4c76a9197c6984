package oauth

import (
	"encoding/base64"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"authsome/vault/secret"
)

// maxDescription bounds, in characters, what of a provider's own words reaches an error.
const maxDescription = 300

// maxCode bounds an error code, which is a word.
const maxCode = 64

// secrets are the values that must not appear in a text, because they were sent or received.
type secrets []string

// secretsOf gathers the values of texts, in every spelling in which a server could echo them.
func secretsOf(texts ...secret.Text) secrets {
	var s secrets
	for _, t := range texts {
		s = s.with(t.Reveal())
	}
	return s
}

func (s secrets) with(values ...string) secrets {
	for _, v := range values {
		if v == "" {
			continue
		}
		s = append(s, v)
		for _, spelling := range []string{
			url.QueryEscape(v), url.PathEscape(v), html.EscapeString(v),
			base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)),
		} {
			if spelling != v {
				s = append(s, spelling)
			}
		}
	}
	return s
}

// redact replaces every secret in text. Longer ones go first, so that one that contains another leaves
// no tail behind.
func (s secrets) redact(text string) string {
	ordered := slices.Clone(s)
	slices.SortStableFunc(ordered, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(ordered))
	for _, v := range ordered {
		pairs = append(pairs, v, secret.Redacted)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// clean makes a provider's words fit for an error: one line of visible characters (a control or
// bidirectional character could rewrite what a terminal shows), without secrets, of at most limit
// characters. Secrets go before the cut, which could otherwise leave half of one.
func (s secrets) clean(text string, limit int) string {
	visible := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	line := []rune(s.redact(strings.Join(strings.Fields(visible), " ")))
	if len(line) > limit {
		line = append(line[:limit-1], '…')
	}
	return string(line)
}

// code makes a provider's error code fit for matching and for an error text: the characters of a
// word, else "unknown_error". RFC 6749 allows more, but nobody uses it and a log line would suffer.
func (s secrets) code(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxCode || s.redact(text) != text {
		return "unknown_error"
	}
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:/", r)) {
			return "unknown_error"
		}
	}
	return text
}
