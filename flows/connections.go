package flows

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"authsome/provider"
	"authsome/vault"
)

// ConnectionNames reads the names of a profile's connections, by provider, from
// a store whose vault need not be open: names are not sealed.
func ConnectionNames(ctx context.Context, store vault.Store, profile string) (map[string][]string, error) {
	records, err := store.Load(ctx, profilePrefix(profile))
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for key := range records {
		if provider, kind, name := splitKey(profile, key); kind == "connection" {
			names[provider] = append(names[provider], name)
		}
	}
	for _, of := range names {
		slices.Sort(of)
	}
	return names, nil
}

// SetDefault makes a connection its provider's default one.
func (b *Broker) SetDefault(ctx context.Context, name, connection string) error {
	return b.commit(ctx, b.event("connection.default", name, connection), func() ([]vault.Change, error) {
		ix, err := b.index(ctx, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ix.Connections, connection) {
			return nil, b.connectionError(name, connection, ErrNoConnection)
		}
		ix.Default = connection
		change, err := ix.change(b.profile, name)
		return []vault.Change{change}, err
	})
}

// Rename gives a connection another name. Its secrets are sealed anew, because
// they are bound to their record's key. A refresh that is under way is waited
// for: its tokens would have nowhere to go.
func (b *Broker) Rename(ctx context.Context, name, from, to string) error {
	if err := provider.ValidName(to); err != nil {
		return fmt.Errorf("%w: connection: %w", ErrBadName, err)
	}
	from, err := b.resolve(ctx, name, from)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	release, err := b.hold(waiting, connectionID{name, from})
	if err != nil {
		return b.connectionError(name, from, err)
	}
	defer release()
	return b.commit(ctx, b.event("connection.rename", name, to), func() ([]vault.Change, error) {
		return b.renamed(ctx, name, from, to)
	})
}

func (b *Broker) renamed(ctx context.Context, name, from, to string) ([]vault.Change, error) {
	c, err := b.Get(ctx, name, from)
	if err != nil {
		return nil, err
	}
	if _, err := b.Get(ctx, name, to); !errors.Is(err, ErrNoConnection) {
		if err == nil {
			err = &ConnectionError{Provider: name, Connection: to, Err: fmt.Errorf("%w: there is one of that name", ErrBadInput), Next: "choose another name"}
		}
		return nil, err
	}
	ix, err := b.index(ctx, name)
	if err != nil {
		return nil, err
	}
	wasDefault := ix.Default == from
	ix.add(to)
	ix.drop(from)
	if wasDefault {
		ix.Default = to
	}
	ixChange, err := ix.change(b.profile, name)
	if err != nil {
		return nil, err
	}
	st, err := b.state(ctx, name)
	if err != nil {
		return nil, err
	}
	changes := []vault.Change{ixChange, {Key: c.entry.Key, Previous: c.entry}}
	if history, ok := st.Connections[from]; ok {
		delete(st.Connections, from)
		st.Connections[to] = history
		change, err := st.changes(b.profile, name)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change...)
	}
	c.Name = to
	rec, err := c.record()
	return append(changes, vault.Change{Key: connectionKey(b.profile, name, to), Record: rec, Create: true}), err
}
