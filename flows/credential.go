package flows

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// handles are the connections of one snapshot. They are immutable, so that a
// request finds its own by one lookup without allocating.
type handles struct {
	snapshot *vault.Snapshot
	byID     map[connectionID]*handle
}

// A handle is one version of one connection's record.
type handle struct {
	entry  *vault.Entry
	opened atomic.Pointer[opened] // nil until somebody asked
}

// opened is what a record holds, decrypted.
type opened struct {
	connection *Connection
	credential secret.Text
	err        error // the record cannot be read

	// The credential may be handed out without a thought while simple holds,
	// and until the time given, unless that is zero.
	simple bool
	until  time.Time
}

// Credential returns the current credential of a connection for one request,
// renewing it first when that is due. It reads the vault's snapshot and so must
// be preceded by [Broker.Watch]. It fails with ErrNoConnection, ErrExpired,
// ErrRevoked or ErrRefreshFailed. While nothing is due it costs a lookup.
func (b *Broker) Credential(ctx context.Context, name, connection string) (secret.Text, error) {
	o, err := b.current(name, connection)
	if err != nil {
		return secret.Text{}, err
	}
	if o.simple && (o.until.IsZero() || b.clock().Before(o.until)) {
		return o.credential, nil
	}
	c, err := b.freshen(ctx, o.connection, patience)
	if err != nil {
		return secret.Text{}, err
	}
	return c.Credential(), nil
}

// usable reports why a connection's credential cannot be used, nil if it can.
func (b *Broker) usable(c *Connection) error {
	switch status := c.EffectiveStatus(b.clock()); {
	case status == Expired:
		return b.connectionError(c.Provider, c.Name, fmt.Errorf("%w at %s", ErrExpired, c.ExpiresAt.Format(time.RFC3339)))
	case status != Connected:
		return b.connectionError(c.Provider, c.Name, fmt.Errorf("%w: status %s", ErrRevoked, status))
	case c.Credential().IsZero():
		return b.connectionError(c.Provider, c.Name, ErrNoConnection)
	}
	return nil
}

// current returns a connection from the snapshot, opened at most once for each
// version of its record.
func (b *Broker) current(name, connection string) (*opened, error) {
	t := b.handles.Load()
	if s := b.vault.Snapshot(); t == nil || t.snapshot != s {
		t = b.newHandles()
	}
	h := t.byID[connectionID{name, connection}]
	if h == nil {
		return nil, b.connectionError(name, connection, ErrNoConnection)
	}
	o := h.opened.Load()
	if o == nil {
		o = open(h.entry)
		h.opened.Store(o)
	}
	return o, o.err
}

// newHandles makes the handles of the current snapshot. Those of records that
// did not change are kept.
func (b *Broker) newHandles() *handles {
	b.handlesMu.Lock()
	defer b.handlesMu.Unlock()
	old, s := b.handles.Load(), b.vault.Snapshot()
	if old == nil {
		old = &handles{}
	}
	if old.snapshot == s {
		return old
	}
	t := &handles{snapshot: s, byID: map[connectionID]*handle{}}
	for _, e := range s.Prefix(profilePrefix(b.profile)) {
		name, kind, connection := splitKey(b.profile, e.Key)
		if kind != "connection" {
			continue
		}
		id := connectionID{name, connection}
		if h := old.byID[id]; h != nil && h.entry == e {
			t.byID[id] = h
		} else {
			t.byID[id] = &handle{entry: e}
		}
	}
	b.handles.Store(t)
	return t
}

func open(e *vault.Entry) *opened {
	c, err := decodeConnection(e)
	if err != nil {
		return &opened{err: err}
	}
	o := &opened{connection: c, credential: c.Credential()}
	o.simple = c.Status == Connected && !o.credential.IsZero()
	o.until = c.ExpiresAt
	if c.AuthType == provider.AuthOAuth2 && c.renewable() && !c.ExpiresAt.IsZero() {
		o.until = c.ExpiresAt.Add(-window(c))
	}
	return o
}
