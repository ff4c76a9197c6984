package injector_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"

	"authsome/injector"
	"authsome/provider"
	"authsome/vault/secret"
)

// claim is a route in short: who wants what.
type claim struct {
	connection string // "provider/name" without a slash is provider "p"
	host       string
	never      bool
}

func table(t testing.TB, claims ...claim) *injector.Table {
	t.Helper()
	var routes []*injector.Route
	for _, c := range claims {
		routes = append(routes, route(t, c))
	}
	return injector.NewTable(routes)
}

func route(t testing.TB, c claim) *injector.Route {
	t.Helper()
	pattern, err := provider.ParseHostURL(c.host)
	if err != nil {
		t.Fatal(err)
	}
	return &injector.Route{Provider: "p", Connection: c.connection, Pattern: pattern, Never: c.never,
		Injects: []provider.Inject{{Manner: provider.MannerBearer}}}
}

// match asks a table as the proxy does: with a target that was parsed and a
// request whose path is as the client wrote it.
func match(t testing.TB, table *injector.Table, target, path, pick string) (injector.Match, error) {
	t.Helper()
	to, err := injector.ParseTarget(target, 443)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatalf("path %q: %v", path, err)
	}
	r := &http.Request{Method: "GET", URL: u, Header: http.Header{}}
	if pick != "" {
		r.Header.Set(injector.ConnectionHeader, pick)
	}
	m, err := table.Match(to, r)
	if len(r.Header) != 0 {
		t.Errorf("%s%s: Match left %v", target, path, r.Header)
	}
	return m, err
}

// winner names the connection that a request goes to, or says why it goes to
// none.
func winner(t testing.TB, table *injector.Table, target, path, pick string) string {
	t.Helper()
	m, err := match(t, table, target, path, pick)
	switch {
	case errors.Is(err, injector.ErrAmbiguousPath):
		return "ambiguous"
	case errors.Is(err, injector.ErrNotGranted):
		return "not granted"
	case err != nil:
		return err.Error()
	case len(m.Tied) > 0:
		return "tie"
	case m.Route == nil:
		return ""
	}
	return m.Route.Connection
}

// source is a credential source that a test steers.
type source struct {
	value, next string
	err         error
}

func (s *source) Credential(context.Context, string, string) (secret.Text, error) {
	return secret.New(s.value), s.err
}

func (s *source) Refresh(context.Context, string, string, secret.Text) (secret.Text, error) {
	return secret.New(s.next), s.err
}
