// Package injector decides which requests get a credential and attaches it.
//
// It has two halves. The route table maps a target host, port and path to at
// most one connection of one provider; it is immutable, swapped whole, and a
// lookup costs the same with ten providers or ten thousand. A manner is how a
// credential is attached: a martian.RequestModifier that sets a header, Basic
// userinfo or a query parameter, built once per credential value.
//
// The package stores nothing and talks to nobody. Credentials come from a
// [Source]. Whatever goes wrong is an error: a request is never left half
// modified on its way out, because the caller must refuse it.
package injector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"authsome/vault/secret"
)

// ConnectionHeader picks among the connections granted to a run. It is for the
// proxy alone and is removed from every request.
const ConnectionHeader = "Authsome-Connection"

var (
	// ErrAmbiguousPath is returned when the encoded and the cleaned form of a
	// request's path would route differently, so that proxy and origin could
	// disagree about what is being asked for.
	ErrAmbiguousPath = errors.New("path routes differently once decoded")

	// ErrNotGranted is returned when the request names a connection that this
	// run was not given.
	ErrNotGranted = errors.New("connection is not granted to this run")

	// ErrCredential wraps whatever a Source failed with.
	ErrCredential = errors.New("get credential")
)

// Source hands out the current credential of a connection. It is called once
// per injected request and must be cheap when nothing has changed.
type Source interface {
	Credential(ctx context.Context, provider, connection string) (secret.Text, error)
}

// Refresher is the optional power of a Source to replace a credential that an
// origin has rejected. stale is the credential that was rejected; a Source that
// already holds a newer one returns that.
type Refresher interface {
	Refresh(ctx context.Context, provider, connection string, stale secret.Text) (secret.Text, error)
}

// Injector is safe for concurrent use. The zero value is not usable; see [New].
type Injector struct {
	source Source
	table  atomic.Pointer[Table]

	mu     sync.Mutex // guards notify
	notify []func()
}

// New returns an Injector with an empty table, which matches nothing.
func New(source Source) *Injector {
	in := &Injector{source: source}
	in.table.Store(NewTable(nil))
	return in
}

// Update swaps the route table. Requests that are already matched keep what
// they have; every later one, on open connections too, sees the new table.
func (in *Injector) Update(t *Table) {
	in.table.Store(t)
	in.mu.Lock()
	notify := in.notify
	in.mu.Unlock()
	for _, f := range notify {
		f()
	}
}

// Notify has f called after every Update from now on, for whoever keeps open
// what an earlier table decided about.
func (in *Injector) Notify(f func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.notify = append(in.notify[:len(in.notify):len(in.notify)], f)
}

// Table returns the table in force.
func (in *Injector) Table() *Table { return in.table.Load() }

// Attach gets the credential of a route and modifies the request with it. It
// returns the credential used, for [Injector.Replace]. After an error the
// request must not be forwarded.
func (in *Injector) Attach(ctx context.Context, route *Route, r *http.Request) (secret.Text, error) {
	cred, err := in.source.Credential(ctx, route.Provider, route.Connection)
	if err != nil {
		return secret.Text{}, fmt.Errorf("%w: %w", ErrCredential, err)
	}
	return cred, route.attach(cred, r)
}

// Replace asks the source for a credential newer than stale and attaches it.
// ok is false when the source cannot refresh or has nothing newer.
func (in *Injector) Replace(ctx context.Context, route *Route, stale secret.Text, r *http.Request) (ok bool, err error) {
	refresher, can := in.source.(Refresher)
	if !can {
		return false, nil
	}
	cred, err := refresher.Refresh(ctx, route.Provider, route.Connection, stale)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrCredential, err)
	}
	if cred.IsZero() || cred.Reveal() == stale.Reveal() {
		return false, nil
	}
	return true, route.attach(cred, r)
}
