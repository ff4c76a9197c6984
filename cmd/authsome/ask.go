package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault/secret"

	"golang.org/x/term"
)

// ask reads one visible line from the terminal.
func (a *app) ask(ctx context.Context, question, def string) (string, error) {
	if def != "" {
		question += " [" + def + "]"
	}
	fmt.Fprintf(a.stderr, "%s: ", question)
	type answer struct {
		line string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		line, err := readLine(a.stdin)
		done <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Canceled
	case got := <-done:
		line := strings.TrimSpace(got.line)
		if got.err != nil {
			a.endLine()
		}
		if line == "" && got.err != nil {
			return "", &fault{code: "Cancelled", exit: exitCancelled, msg: "nothing was entered", hint: "run the command again when ready"}
		}
		if line == "" {
			line = def
		}
		return line, nil
	}
}

// endLine ends the line of a question where nobody typed a line end.
func (a *app) endLine() {
	a.plain("")
	a.ended = true
}

// askFor is ask until the answer will do. What is wrong with one is said at once: a
// secret that is typed after it would have been typed for nothing.
func (a *app) askFor(ctx context.Context, question, def string, check func(answer string) error) (string, error) {
	for {
		answer, err := a.ask(ctx, question, def)
		if err != nil {
			return "", err
		}
		if err = check(answer); err == nil {
			return answer, nil
		}
		a.warn("%v", err)
	}
}

// needed is the check of an answer that there is none without.
func needed(answer string) error {
	if answer == "" {
		return errors.New("it is needed; Ctrl-C ends the login")
	}
	return nil
}

// readLine reads up to a line's end and no further: what is pasted after it is
// the answer to the next question.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[:n]...)
		if err != nil {
			return string(line), err
		}
	}
}

// promptSecret asks for an API key that must be given. base is the base URL of the
// login, where there is one.
func (a *app) promptSecret(ctx context.Context, in *os.File, entry *provider.Entry, base string) (secret.Text, error) {
	if entry.Docs != "" {
		a.say("Make a key at %s", entry.Docs)
	}
	text, err := a.readMasked(ctx, in, fmt.Sprintf("%s key for %s: ", entry.DisplayName, whereTo(entry.Definition, base)))
	if err == nil && text.IsZero() {
		err = &fault{code: "Cancelled", exit: exitCancelled, msg: "no key was entered", hint: "run: authsome login " + entry.Name}
	}
	return text, err
}

// promptedHosts is how many hosts a prompt names.
const promptedHosts = 3

// whereTo names the hosts that a key will go to.
func whereTo(def *provider.Definition, base string) string {
	hosts := def.HostURL
	if def.NeedsBaseURL() {
		if base, err := flows.BaseURL(def, base); err == nil {
			if routes, err := def.Routes(base); err == nil {
				hosts = routes
			}
		}
	}
	text := strings.Join(hosts[:min(len(hosts), promptedHosts)], ", ")
	if more := len(hosts) - promptedHosts; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// typedRunes is where x/term stops to take what is typed, without a word.
const typedRunes = 4096

// readMasked reads a line without showing what is typed. It reads key by key:
// of the kernel's own lines nobody can tell whether they were cut, and they do
// not end with Ctrl-D.
func (a *app) readMasked(ctx context.Context, in *os.File, prompt string) (secret.Text, error) {
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return secret.Text{}, err
	}
	defer term.Restore(int(in.Fd()), state)
	type answer struct {
		line string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		screen := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{in, a.stderr}, "")
		line, err := screen.ReadPassword(prompt)
		done <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return secret.Text{}, context.Canceled
	case got := <-done:
		if got.err != nil { // Ctrl-C, Ctrl-D
			fmt.Fprint(a.stderr, "\r\n")
			return secret.Text{}, &fault{code: "Cancelled", exit: exitCancelled, msg: "nothing was entered", hint: "run the command again when ready"}
		}
		if utf8.RuneCountInString(got.line) >= typedRunes {
			return secret.Text{}, &fault{code: "InvalidSecret", exit: exitAuth, msg: fmt.Sprintf("what was entered is longer than the %d characters that can be typed", typedRunes-1),
				hint: "put it into a file and add --secret-file FILE"}
		}
		text := strings.TrimSpace(got.line)
		if text == "" {
			return secret.Text{}, nil
		}
		return secret.New(text), nil
	}
}
