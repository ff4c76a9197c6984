package flows

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"authsome/provider"
	"authsome/vault"
)

// SetDefault makes a connection its provider's default one.
func (b *Broker) SetDefault(ctx context.Context, name, connection string) error {
	ix, err := b.index(ctx, name)
	if err != nil {
		return err
	}
	if !slices.Contains(ix.Connections, connection) {
		return connectionError(name, connection, ErrNoConnection)
	}
	ix.Default = connection
	change, err := ix.change(b.profile, name)
	if err != nil {
		return err
	}
	return b.vault.Apply(ctx, b.event("connection.default", name, connection), change)
}

// Rename gives a connection another name. Its secrets are sealed anew, because
// they are bound to their record's key.
func (b *Broker) Rename(ctx context.Context, name, from, to string) error {
	if err := provider.ValidName(to); err != nil {
		return fmt.Errorf("%w: connection: %w", ErrBadName, err)
	}
	c, err := b.Get(ctx, name, from)
	if err != nil {
		return err
	}
	if _, err := b.Get(ctx, name, to); !errors.Is(err, ErrNoConnection) {
		if err == nil {
			err = connectionError(name, to, fmt.Errorf("%w: there is one of that name", ErrBadInput))
		}
		return err
	}
	ix, err := b.index(ctx, name)
	if err != nil {
		return err
	}
	wasDefault := ix.Default == c.Name
	ix.add(to)
	ix.drop(c.Name)
	if wasDefault {
		ix.Default = to
	}
	ixChange, err := ix.change(b.profile, name)
	if err != nil {
		return err
	}
	old := vault.Change{Key: connectionKey(b.profile, name, c.Name), Previous: c.entry}
	c.Name = to
	rec, err := c.record()
	if err != nil {
		return err
	}
	return b.vault.Apply(ctx, b.event("connection.rename", name, to), old,
		vault.Change{Key: connectionKey(b.profile, name, to), Record: rec, Create: true}, ixChange)
}
