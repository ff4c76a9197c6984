package pages

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// The fields that every form has.
const (
	fieldToken  = "csrf"
	fieldAction = "action"

	actionCancel = "cancel"
)

// What a submission came to.
const (
	formTaken = iota // it decided the form
	formWrong        // it is to be corrected
	formSpent        // the form had been decided before
)

// A form is one question. Its token is drawn into its page and has to come back
// with the answer: a page of another origin can neither read nor guess it.
type form struct {
	token   string
	version uint64   // of its page
	waits   bool     // its page goes on by itself
	secrets []string // fields that are never drawn again
	// draw gives the page, with what was typed and what is wrong with it.
	draw func(typed url.Values, wrong problems) view
	// read keeps an answer, or says what is wrong with it. It is not called
	// again once it has found nothing wrong.
	read func(url.Values) problems

	mu      sync.Mutex
	spent   bool       // guarded by mu
	outcome chan error // holds one: how the form was decided
}

// problems are what is wrong with an answer, in the order of the form's fields.
type problems []problem

// A problem is one sentence about one field.
type problem struct{ Field, Text string }

// Of returns what is wrong with a field; "" when nothing is.
func (p problems) Of(field string) string {
	for _, one := range p {
		if one.Field == field {
			return one.Text
		}
	}
	return ""
}

// First returns the first field that is wrong; "" when none is.
func (p problems) First() string {
	if len(p) == 0 {
		return ""
	}
	return p[0].Field
}

// ask shows a form and waits until it is decided.
func (s *Server) ask(ctx context.Context, f *form) error {
	limited, cancel := context.WithTimeoutCause(ctx, s.answer, ErrUnanswered)
	defer cancel()
	err := s.pose(f)
	if err == nil {
		err = s.await(limited, f)
	}
	// The end of the context closes the server as well, and may be second to be seen.
	if errors.Is(err, ErrClosed) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pose makes a form's page the current one.
func (s *Server) pose(f *form) error {
	f.token, f.outcome = rand.Text(), make(chan error, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.put(&page{waits: f.waits, draw: func() view { return s.drawn(f, url.Values{}, nil) }})
	f.version = s.current.version
	s.forms = append(s.forms, f)
	s.mu.Unlock()
	s.launch()
	return nil
}

// await waits until a form is decided and takes its page away.
func (s *Server) await(ctx context.Context, f *form) error {
	var err error
	select {
	case err = <-f.outcome:
	case <-ctx.Done():
		f.end(context.Cause(ctx))
		err = <-f.outcome // an answer that came in the same moment counts
	}
	switch {
	case err == nil:
		s.swap(f.version, s.waiting())
	case errors.Is(err, ErrCancelled):
		s.swap(f.version, s.cancelled())
	default:
		s.swap(f.version, s.ended())
	}
	return err
}

// drawn is a form's page with what makes it a form of ours.
func (s *Server) drawn(f *form, typed url.Values, wrong problems) view {
	v := f.draw(typed, wrong)
	v.Action, v.Token = s.base(), f.token
	return v
}

// end decides a form that nobody has decided.
func (f *form) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide(err)
}

// decide settles the form; the first decision stays. The caller holds mu.
func (f *form) decide(err error) {
	if !f.spent {
		f.spent = true
		f.outcome <- err
	}
}

// submit takes what a browser sent. The view is that of a form to be corrected.
func (s *Server) submit(f *form, values url.Values) (state int, v view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spent {
		return formSpent, view{}
	}
	if values.Get(fieldAction) == actionCancel {
		f.decide(ErrCancelled)
		return formTaken, view{}
	}
	for name, v := range values {
		values.Set(name, strings.TrimSpace(v[0])) // pasting brings line ends along
	}
	if wrong := f.read(values); len(wrong) > 0 {
		for _, name := range f.secrets {
			values.Del(name)
		}
		return formWrong, s.drawn(f, values, wrong)
	}
	f.decide(nil)
	return formTaken, view{}
}

// formOf finds the form that a token belongs to, spent ones included. All are
// compared, so that timing tells nothing about any.
func (s *Server) formOf(token string) (found *form) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.forms {
		if subtle.ConstantTimeCompare([]byte(f.token), []byte(token)) == 1 {
			found = f
		}
	}
	return found
}

// follow sends the browser from a decided form to the page that comes next. It
// is another request, so that reloading that page sends nothing twice.
//
// The cookie means nothing to us. Chromium keeps pages for its back button,
// no-store or not, with what was typed into them, and drops such a page when a
// cookie of its address has changed that scripts cannot see.
func (s *Server) follow(w http.ResponseWriter, f *form) {
	s.expect(0)
	http.SetCookie(w, &http.Cookie{
		Name: "sent", Value: strconv.FormatUint(f.version, 10), Path: s.base(),
		MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	w.Header().Set("Location", s.waitPath(f.version))
	w.WriteHeader(http.StatusSeeOther)
}

// readBody reads what the limit lets through.
func readBody(body io.Reader) (string, *refusal) {
	b, err := io.ReadAll(body)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return "", refuseSize
	case err != nil:
		return "", refuseShape
	}
	return string(b), nil
}

// plain says whether a value is one line of text: no control characters, and
// valid UTF-8. It does not quote what it rejects.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 })
}

// words splits a list that was typed, at white space and at the separator, and
// drops what comes twice.
func words(s, separator string) []string {
	if strings.TrimSpace(separator) != "" {
		s = strings.ReplaceAll(s, separator, " ")
	}
	var list []string
	for _, word := range strings.Fields(s) {
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}
