package flows

import (
	"context"
	"fmt"
	"sync"
	"time"

	"authsome/vault"
	"authsome/vault/secret"
)

// credentialCache keeps the opened credential of each stored record. An entry
// of the snapshot is replaced when its record changes, so the entry itself is
// the key and a stale credential cannot be found.
type credentialCache struct {
	opened sync.Map // "provider\x00connection" → *opened
}

type cacheKey struct{ provider, connection string }

type opened struct {
	entry      *vault.Entry
	connection *Connection
}

// Credential returns the current credential of a connection for one request.
// It reads the vault's snapshot and so must be preceded by [Broker.Watch]. It
// fails with ErrNoConnection, ErrExpired, ErrRevoked or ErrRefreshFailed.
func (b *Broker) Credential(ctx context.Context, name, connection string) (secret.Text, error) {
	c, err := b.current(name, connection)
	if err != nil {
		return secret.Text{}, err
	}
	if b.due(c) || c.Status == Expired {
		if c, err = b.freshen(ctx, c); err != nil {
			return secret.Text{}, err
		}
		return c.Credential(), nil
	}
	if err := b.usable(c); err != nil {
		return secret.Text{}, err
	}
	return c.Credential(), nil
}

// usable reports why a connection's credential cannot be used, nil if it can.
func (b *Broker) usable(c *Connection) error {
	switch status := c.EffectiveStatus(b.clock()); {
	case status == Expired:
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w at %s", ErrExpired, c.ExpiresAt.Format(time.RFC3339)))
	case status != Connected:
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w: status %s", ErrRevoked, status))
	case c.Credential().IsZero():
		return connectionError(c.Provider, c.Name, ErrNoConnection)
	}
	return nil
}

// current returns a connection from the snapshot, opened at most once for each
// version of its record.
func (b *Broker) current(name, connection string) (*Connection, error) {
	key := cacheKey{name, connection}
	e, ok := b.vault.Snapshot().Get(connectionKey(b.profile, name, connection))
	if !ok {
		b.cache.opened.Delete(key)
		return nil, connectionError(name, connection, ErrNoConnection)
	}
	if have, ok := b.cache.opened.Load(key); ok && have.(*opened).entry == e {
		return have.(*opened).connection, nil
	}
	c, err := decodeConnection(e)
	if err != nil {
		return nil, err
	}
	b.cache.opened.Store(key, &opened{e, c})
	return c, nil
}
