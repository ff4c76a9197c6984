package pages

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"authsome/vault/secret"
)

const (
	fieldKey     = "key"
	fieldBaseURL = "base_url"

	maxSecretBytes = 16 << 10
	maxURLBytes    = 2 << 10
)

// KeyForm describes the form that asks for an API key. The zero value takes any
// key of one line.
type KeyForm struct {
	// Hosts is where the key will be sent, spelled as in a definition's
	// host_url.
	Hosts []string

	// Pattern is what the whole key must match (RE2); "" is anything.
	Pattern string

	// Hint says the pattern in words. It is shown below the field and repeated
	// when a key does not match.
	Hint string

	// AskBaseURL asks for the base URL as well. BaseURL is its default.
	AskBaseURL bool
	BaseURL    string

	// Check may refuse a key that matches. What its error says is shown, unless
	// it holds the key. nil: nothing more is checked.
	Check func(secret.Text) error
}

// KeyAnswer is what the user entered.
type KeyAnswer struct {
	Key     secret.Text // one line, without the white space around it
	BaseURL string      // https, no trailing slash; "" when it was not asked for
}

// keyView is what the key page shows.
type keyView struct {
	Hosts      []hostView
	Hint       string
	AskBaseURL bool
	BaseURL    string
}

// AskKey asks for an API key and waits for it. It fails with [ErrCancelled],
// [ErrClosed], [ErrBadForm] or the cause of ctx's end.
func (s *Server) AskKey(ctx context.Context, k KeyForm) (KeyAnswer, error) {
	expression := k.Pattern
	if expression == "" {
		expression = ".*"
	}
	pattern, err := regexp.Compile(`^(?:` + expression + `)$`)
	if err != nil {
		return KeyAnswer{}, fmt.Errorf("ask for key: %w: key pattern: %w", ErrBadForm, err)
	}
	var answer KeyAnswer
	err = s.ask(ctx, &form{
		secrets: []string{fieldKey},
		draw:    func(typed url.Values, wrong problems) view { return s.drawKey(k, typed, wrong) },
		read: func(values url.Values) (wrong problems) {
			key := values.Get(fieldKey)
			if text := k.problem(pattern, key); text != "" {
				wrong = append(wrong, problem{fieldKey, text})
			}
			base, text := readBaseURL(k.AskBaseURL, values)
			if text != "" {
				wrong = append(wrong, problem{fieldBaseURL, text})
			}
			if wrong == nil {
				answer = KeyAnswer{Key: secret.New(key), BaseURL: base}
			}
			return wrong
		},
	})
	if err != nil {
		return KeyAnswer{}, fmt.Errorf("ask for key: %w", err)
	}
	return answer, nil
}

func (s *Server) drawKey(k KeyForm, typed url.Values, wrong problems) view {
	v := s.view("key", "Add your "+clip(s.cfg.DisplayName, maxName)+" API key")
	v.Wrong = wrong
	hint := clip(k.Hint, maxText)
	if hint != "" && strings.HasSuffix(wrong.Of(fieldKey), sentence(hint)) {
		hint = "" // said already
	}
	v.Key = &keyView{
		Hosts: hostViews(k.Hosts), Hint: hint,
		AskBaseURL: k.AskBaseURL, BaseURL: again(typed, fieldBaseURL, k.BaseURL),
	}
	return v
}

// problem says what is wrong with a key; "" when nothing is. It never quotes
// the key.
func (k KeyForm) problem(pattern *regexp.Regexp, key string) string {
	switch {
	case key == "":
		return "Enter the key."
	case len(key) > maxSecretBytes:
		return "That is too long for a key: more than 16 KiB."
	case !plain(key):
		return "The key holds a line break or another control character."
	case !pattern.MatchString(key):
		if k.Hint != "" {
			return "This does not look like the right key. " + sentence(k.Hint)
		}
		return "This does not look like the right key: it must match " + clip(k.Pattern, maxText) + "."
	case k.Check == nil:
		return ""
	}
	if err := k.Check(secret.New(key)); err != nil {
		text := clip(err.Error(), maxText)
		if strings.Contains(err.Error(), key) || text == "" {
			text = "the key was refused"
		}
		return sentence(text)
	}
	return ""
}

// readBaseURL reads the address of an instance; the scheme may be left out.
func readBaseURL(asked bool, values url.Values) (base, wrong string) {
	if !asked {
		return "", ""
	}
	base = values.Get(fieldBaseURL)
	if base == "" {
		return "", "Enter the base URL."
	}
	if !strings.Contains(base, "://") {
		base = "https://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery ||
		u.Fragment != "" || len(base) > maxURLBytes || !plain(base) || strings.Contains(base, " ") {
		return "", "Enter an address like https://host, with an optional port and path, and nothing after it."
	}
	return strings.TrimRight(base, "/"), ""
}

// again is what a field holds: what was typed, when the form was sent before,
// else its default.
func again(typed url.Values, field, fallback string) string {
	if typed.Has(field) {
		return typed.Get(field)
	}
	return fallback
}

// sentence gives a text a capital letter and a full stop.
func sentence(s string) string {
	s = clip(s, maxText)
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ""
	}
	s = strings.ToUpper(string(r)) + s[size:]
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "…") {
		s += "."
	}
	return s
}
