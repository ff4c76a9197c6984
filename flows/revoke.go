package flows

import (
	"context"
	"errors"
	"fmt"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
)

// RevokeRemote asks the provider to take a connection's tokens back. done is
// false, without an error, when there is nothing that could be asked: an API
// key, or a provider without a revocation endpoint.
func (b *Broker) RevokeRemote(ctx context.Context, c *Connection) (done bool, err error) {
	if c.AuthType != provider.AuthOAuth2 {
		return false, nil
	}
	cfg, err := b.oauthConfig(ctx, c)
	if err != nil {
		return false, connectionError(c.Provider, c.Name, err)
	}
	if cfg.OAuth.RevocationURL == "" {
		return false, nil
	}
	if err := cfg.Revoke(ctx, c.tokens()); err != nil {
		if errors.Is(err, oauth.ErrUnsupported) {
			return false, nil
		}
		return false, connectionError(c.Provider, c.Name, fmt.Errorf("revoke at the provider: %w", err))
	}
	return true, nil
}

// Revocation is what became of one connection.
type Revocation struct {
	Connection string
	Remote     bool  // the provider took the tokens back
	Err        error // why it did not, nil when there was nothing to ask
}

// Revoke takes back, at the provider, the tokens of one connection or of all of
// them (connection ""), and then deletes everything that the profile holds for
// the provider; with a connection named, that connection alone. What is local
// is deleted though the provider could not be reached: the result says so.
func (b *Broker) Revoke(ctx context.Context, name, connection string) ([]Revocation, error) {
	var targets []*Connection
	if connection != "" {
		c, err := b.Get(ctx, name, connection)
		if err != nil {
			return nil, err
		}
		targets = append(targets, c)
	} else {
		entries, err := b.vault.List(ctx, connectionPrefix(b.profile, name))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			c, err := decodeConnection(e)
			if err != nil {
				return nil, err
			}
			targets = append(targets, c)
		}
	}
	if len(targets) == 0 {
		return nil, connectionError(name, connection, ErrNoConnection)
	}
	var out []Revocation
	for _, c := range targets {
		done, err := b.RevokeRemote(ctx, c)
		out = append(out, Revocation{Connection: c.Name, Remote: done, Err: err})
	}
	if connection != "" {
		return out, b.drop(ctx, "revoke", targets[0])
	}
	_, err := b.removeAll(ctx, "revoke", name)
	return out, err
}

// drop deletes one connection and its place in the index.
func (b *Broker) drop(ctx context.Context, event string, c *Connection) error {
	changes := []vault.Change{{Key: connectionKey(b.profile, c.Provider, c.Name), Previous: c.entry}}
	ix, err := b.index(ctx, c.Provider)
	if err != nil {
		return err
	}
	if ix.entry != nil {
		ix.drop(c.Name)
		change, err := ix.change(b.profile, c.Provider)
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	return b.vault.Apply(ctx, b.event(event, c.Provider, c.Name), changes...)
}
