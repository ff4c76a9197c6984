package main

import (
	"fmt"
	"testing"

	"authsome/flows/pages"
)

// A form that nobody answers ends a login as a browser that does not come back does.
func TestUnansweredForm(t *testing.T) {
	f := describe(fmt.Errorf("ask for key: %w", pages.ErrUnanswered))
	if f.exit != exitAuth || f.code != "AuthenticationFailed" || f.hint == "" {
		t.Errorf("exit %d, %s (%s)", f.exit, f.code, f.hint)
	}
}
