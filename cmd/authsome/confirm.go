package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
)

// sure asks before something that cannot be taken back, or that credentials depend
// on. undone says what has not happened when the answer is no. A script that
// gives none, and a program that reads JSON, have to say --yes: that nobody said
// no is no answer.
func (a *app) sure(question, undone string) error {
	if a.json {
		return a.unasked(undone)
	}
	yes, err := a.confirm(question)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return a.unasked(undone)
	case !yes:
		return &fault{code: "Cancelled", exit: exitCancelled, msg: undone, hint: "add --yes to go ahead without being asked"}
	}
	return nil
}

// unasked is the error of what has to be asked for and cannot.
func (a *app) unasked(undone string) error {
	return &fault{code: "Usage", exit: exitUsage, msg: undone + ": there was nobody to ask", hint: "add --yes to go ahead without being asked"}
}

// confirm asks a yes-or-no question; anything but yes is no, and so is Ctrl-D on a
// terminal. It fails when there was no answer.
func (a *app) confirm(question string) (yes bool, err error) {
	return a.confirmBy(bufio.NewReader(a.stdin), question)
}

// confirmBy is confirm for one of several questions, whose answers may be there
// already.
func (a *app) confirmBy(answers *bufio.Reader, question string) (yes bool, err error) {
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := answers.ReadString('\n')
	_, typed := a.terminal()
	if !typed || err != nil {
		a.endLine()
	}
	if err != nil && line == "" && (!typed || errors.Is(err, context.Canceled)) {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
