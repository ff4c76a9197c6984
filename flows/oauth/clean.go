package oauth

import (
	"encoding/base64"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"authsome/vault/secret"
)

// maxDescription bounds, in characters, what of a provider's own words reaches an error.
const maxDescription = 300

// maxCode bounds an error code, which is a word.
const maxCode = 64

// minSecret is the length, in bytes, from which a value is hidden. A shorter one is nobody's secret,
// and hiding "a" would leave nothing to read.
const minSecret = 6

// The work of redaction is bounded: an answer may be a megabyte of message and of tokens.
const (
	maxRawText = 8 << 10 // bytes of a message
	maxSecrets = 100
)

// withheld replaces a text in which a secret is still found after all that redaction knows, or that is
// out of bounds.
const withheld = "the provider's message repeats a secret or is too long, and is withheld"

// secrets are the values that must not appear in a text, because they were sent or received.
type secrets []string

func secretsOf(texts ...secret.Text) secrets {
	var s secrets
	for _, t := range texts {
		s = s.with(t.Reveal())
	}
	return s
}

func (s secrets) with(values ...string) secrets {
	for _, v := range values {
		if len(v) >= minSecret {
			s = append(s, v)
		}
	}
	return s
}

// redact replaces every secret in text, in the spellings in which servers echo what they were sent.
// When one is still there behind further layers of encoding, nothing of the text is kept.
func (s secrets) redact(text string) string {
	if len(text) > maxRawText || len(s) > maxSecrets {
		return withheld
	}
	var spellings []string
	for _, v := range s {
		spellings = append(spellings, v, url.QueryEscape(v), url.PathEscape(v), html.EscapeString(v),
			base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)))
	}
	// Longer ones go first, so that one that contains another leaves no tail behind.
	slices.SortStableFunc(spellings, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(spellings))
	for _, v := range spellings {
		pairs = append(pairs, v, secret.Redacted)
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	if s.survives(text) {
		return withheld
	}
	return text
}

// survives says whether a secret can be read out of text by undoing percent and HTML encoding, or by
// ignoring the case.
func (s secrets) survives(text string) bool {
	const layers = 4
	for range layers {
		lower := strings.ToLower(text)
		for _, v := range s {
			if strings.Contains(lower, strings.ToLower(v)) {
				return true
			}
		}
		text = html.UnescapeString(unescape(text))
	}
	return false
}

// unescape undoes percent encoding wherever there is any; url.QueryUnescape gives up on the first
// stray percent sign.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if v, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
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
	one := strings.Join(strings.Fields(visible), " ")
	if one == "" {
		return ""
	}
	line := []rune(s.redact(one))
	if len(line) > limit {
		line = append(line[:limit-1], '…')
	}
	return string(line)
}

// plain gives a field that is shown, or stored outside of an envelope; "" when a secret is in it.
func (s secrets) plain(text string, limit int) string {
	if s.redact(text) != text {
		return ""
	}
	return s.clean(text, limit)
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
