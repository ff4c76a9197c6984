package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"authsome/vault/secret"
)

// canary is what no rendering may contain, whole, reversed by a verb, or in hex.
const canary = "canary-5f1d0c"

// carrier stands for somebody's struct that holds a secret where fmt finds it
// only by reflection.
type carrier struct {
	Name  string
	inner struct{ token secret.Text }
	Open  secret.Text
	Ptr   *secret.Text
	List  []secret.Text
	Map   map[string]secret.Text
}

func newCarrier() carrier {
	t := secret.New(canary)
	c := carrier{Name: "n", Open: t, Ptr: &t, List: []secret.Text{t}, Map: map[string]secret.Text{"k": t}}
	c.inner.token = t
	return c
}

func leaks(s string) bool {
	return strings.Contains(s, canary) ||
		strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", canary)) ||
		strings.Contains(s, fmt.Sprint([]byte(canary)))
}

func TestNoVerbReachesTheSecret(t *testing.T) {
	text := secret.New(canary)
	values := map[string]any{
		"value": text, "pointer": &text, "struct": newCarrier(), "slice": []secret.Text{text},
		"map key": map[any]int{&text: 1}, "error": fmt.Errorf("login: %v", text),
	}
	flags := []string{"", "+", "#", "-", " ", "0", "20", ".3", "+#"}
	for name, value := range values {
		for verb := 'A'; verb <= 'z'; verb++ {
			for _, flag := range flags {
				format := "%" + flag + string(verb)
				if got := fmt.Sprintf(format, value); leaks(got) {
					t.Errorf("%s with %q prints the secret: %s", name, format, got)
				}
			}
		}
	}
	if got := fmt.Sprintf("%s|%v|%q|%#v|%d|%x", text, text, text, text, text, text); got != strings.Repeat(secret.Redacted+"|", 5)+secret.Redacted {
		t.Errorf("a bare Text prints %q", got)
	}
	if got := fmt.Sprint(text, &text) + fmt.Sprintln(text); leaks(got) || !strings.Contains(got, secret.Redacted) {
		t.Errorf("Sprint prints %q", got)
	}
}

func TestNoEncoderReachesTheSecret(t *testing.T) {
	text := secret.New(canary)
	type shown struct {
		A secret.Text
		B *secret.Text
	}
	encoders := map[string]func(any) ([]byte, error){
		"json":        json.Marshal,
		"json indent": func(v any) ([]byte, error) { return json.MarshalIndent(v, "", " ") },
		"xml":         xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
		"slog text": logged(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }),
		"slog json": logged(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }),
	}
	for name, encode := range encoders {
		for _, v := range []any{text, &text, shown{text, &text}, newCarrier(), map[string]secret.Text{"k": text}} {
			out, _ := encode(v) // an encoder may refuse a value; it may not print it
			if leaks(string(out)) {
				t.Errorf("%s of %T prints the secret: %s", name, v, out)
			}
		}
	}
	if got, err := json.Marshal(shown{A: text}); err != nil || string(got) != `{"A":"***REDACTED***","B":null}` {
		t.Errorf("json = %s, %v", got, err)
	}
}

func logged(handler func(*bytes.Buffer) slog.Handler) func(any) ([]byte, error) {
	return func(v any) ([]byte, error) {
		var b bytes.Buffer
		log := slog.New(handler(&b)).With("with", v).WithGroup("g")
		log.Info("message", "value", v, slog.Group("group", "inner", v), "err", fmt.Errorf("x: %v", v))
		return b.Bytes(), nil
	}
}

// holder is an error type that carries a secret beside its text.
type holder struct{ token secret.Text }

func (h *holder) Error() string { return fmt.Sprint("refused: ", h.token) }

func TestErrorsAndPanicsDoNotReachTheSecret(t *testing.T) {
	if os.Getenv("SECRET_TEST_PANIC") != "" {
		panic(newCarrier().inner.token)
	}
	err := errors.Join(fmt.Errorf("a: %w", &holder{secret.New(canary)}), fmt.Errorf("b: %+v", newCarrier()))
	if got := fmt.Sprintf("%v %+v %#v", err, err, err); leaks(got) {
		t.Errorf("an error prints the secret: %s", got)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestErrorsAndPanicsDoNotReachTheSecret$")
	cmd.Env = append(os.Environ(), "SECRET_TEST_PANIC=1")
	out, runErr := cmd.CombinedOutput()
	if runErr == nil || !strings.Contains(string(out), "panic") || leaks(string(out)) {
		t.Errorf("panic output (%v): %s", runErr, out)
	}
}

func TestText(t *testing.T) {
	tests := []struct {
		name string
		text secret.Text
		want string
		zero bool
	}{
		{"zero", secret.Text{}, "", true},
		{"empty", secret.New(""), "", true},
		{"one", secret.New("x"), "x", false},
		{"unicode and NUL", secret.New("é\x00z"), "é\x00z", false},
	}
	for _, tt := range tests {
		if got := tt.text.Reveal(); got != tt.want {
			t.Errorf("%s: Reveal() = %q, want %q", tt.name, got, tt.want)
		}
		if got := tt.text.IsZero(); got != tt.zero {
			t.Errorf("%s: IsZero() = %v, want %v", tt.name, got, tt.zero)
		}
		if !tt.text.Equal(secret.New(tt.want)) || tt.text.Equal(secret.New(tt.want+"!")) {
			t.Errorf("%s: Equal is wrong", tt.name)
		}
	}
}

func TestDecodingIntoATextFails(t *testing.T) {
	var v struct{ A secret.Text }
	if err := json.Unmarshal([]byte(`{"A":"***REDACTED***"}`), &v); err == nil {
		t.Error("a redacted value was read back as if it were a secret")
	}
}
