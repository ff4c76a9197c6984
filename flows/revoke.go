package flows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
)

// turnWait is how long a logout waits for a refresh to end, so that what is
// revoked is the token that the refresh was given.
const turnWait = 10 * time.Second

// RevokeRemote asks the provider to take a connection's tokens back. done is
// false, without an error, when there is nothing that could be asked: an API
// key, or a provider without a revocation endpoint.
func (b *Broker) RevokeRemote(ctx context.Context, c *Connection) (done bool, err error) {
	if c.AuthType != provider.AuthOAuth2 {
		return false, nil
	}
	cfg, err := b.oauthConfig(ctx, c)
	if err != nil {
		return false, b.connectionError(c.Provider, c.Name, fmt.Errorf("revoke at the provider: %w", err))
	}
	if cfg.OAuth.RevocationURL == "" {
		return false, nil
	}
	if err := cfg.Revoke(ctx, c.tokens()); err != nil {
		if errors.Is(err, oauth.ErrUnsupported) {
			return false, nil
		}
		return false, b.connectionError(c.Provider, c.Name, fmt.Errorf("revoke at the provider: %w", err))
	}
	return true, nil
}

// Revocation is what became of one connection.
type Revocation struct {
	Connection string
	Remote     bool  // the provider took the tokens back
	Err        error // why it did not, nil when there was nothing to ask
}

// revokeNow revokes a connection as it is when its refresh, if there is one, has
// ended.
func (b *Broker) revokeNow(ctx context.Context, name, connection string) (*Connection, Revocation, error) {
	waiting, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if release, err := b.hold(waiting, connectionID{name, connection}); err == nil {
		defer release()
	} else if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return nil, Revocation{}, err
	}
	c, err := b.Get(ctx, name, connection)
	if err != nil {
		return nil, Revocation{}, err
	}
	done, err := b.RevokeRemote(ctx, c)
	return c, Revocation{Connection: c.Name, Remote: done, Err: err}, nil
}

// Logout removes a connection, after asking the provider to take its tokens
// back. That the provider could not be asked is told by the result and does not
// keep the connection. Client credentials stay.
func (b *Broker) Logout(ctx context.Context, name, connection string) (*Connection, Revocation, error) {
	connection, err := b.resolve(ctx, name, connection)
	if err != nil {
		return nil, Revocation{}, err
	}
	c, r, err := b.revokeNow(ctx, name, connection)
	if err != nil {
		return nil, r, err
	}
	return c, r, b.drop(ctx, "logout", c)
}

// Revoke takes back, at the provider, the tokens of one connection or of all of
// them (connection ""), and then deletes everything that the profile holds for
// the provider; with a connection named, that connection alone. What is local
// is deleted though the provider could not be reached: the result says so.
func (b *Broker) Revoke(ctx context.Context, name, connection string) ([]Revocation, error) {
	if connection != "" {
		c, r, err := b.revokeNow(ctx, name, connection)
		if err != nil {
			return nil, err
		}
		return []Revocation{r}, b.drop(ctx, "revoke", c)
	}
	entries, err := b.vault.List(ctx, profilePrefix(b.profile)+name+":")
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, b.connectionError(name, "", ErrNoConnection)
	}
	out := []Revocation{}
	for _, e := range entries {
		_, kind, connection := splitKey(b.profile, e.Key)
		if kind != "connection" {
			continue
		}
		_, r, err := b.revokeNow(ctx, name, connection)
		switch {
		case errors.Is(err, ErrNoConnection): // logged out meanwhile
			continue
		case ctx.Err() != nil:
			return out, ctx.Err()
		case err != nil: // a damaged record is deleted all the same
			r = Revocation{Connection: connection, Err: err}
		}
		out = append(out, r)
	}
	_, err = b.removeAll(ctx, "revoke", name)
	return out, err
}

// Remove deletes everything the profile holds for a provider. It contacts
// nobody. removed is the number of connections that were deleted.
func (b *Broker) Remove(ctx context.Context, name string) (removed int, err error) {
	return b.removeAll(ctx, "remove", name)
}

func (b *Broker) removeAll(ctx context.Context, event, name string) (removed int, err error) {
	err = b.commit(ctx, b.event(event, name, ""), func() ([]vault.Change, error) {
		removed = 0
		entries, err := b.vault.List(ctx, profilePrefix(b.profile)+name+":")
		var changes []vault.Change
		for _, e := range entries {
			changes = append(changes, vault.Change{Key: e.Key, Previous: e})
			if _, kind, connection := splitKey(b.profile, e.Key); kind == "connection" {
				removed++
				b.forget(connectionID{name, connection})
			}
		}
		return changes, err
	})
	return removed, err
}

// drop deletes one connection, its place in the index and its history. When
// somebody has logged in anew meanwhile it fails with vault.ErrConflict: those
// tokens have not been revoked.
func (b *Broker) drop(ctx context.Context, event string, c *Connection) error {
	defer b.forget(c.id())
	return b.commit(ctx, b.event(event, c.Provider, c.Name), func() ([]vault.Change, error) {
		current, err := b.Get(ctx, c.Provider, c.Name)
		if err != nil {
			return nil, err
		}
		if !sameGrant(current, c) || !current.APIKey.Equal(c.APIKey) {
			return nil, b.connectionError(c.Provider, c.Name, vault.ErrConflict)
		}
		changes, err := b.editState(ctx, c, forgetState)
		if err != nil {
			return nil, err
		}
		ix, err := b.index(ctx, c.Provider)
		if err != nil {
			return nil, err
		}
		if ix.entry != nil {
			ix.drop(c.Name)
			change, err := ix.change(b.profile, c.Provider)
			if err != nil {
				return nil, err
			}
			changes = append(changes, change)
		}
		return append(changes, vault.Change{Key: current.entry.Key, Previous: current.entry}), nil
	})
}
