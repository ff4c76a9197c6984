package flows

import (
	"context"
	"errors"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

const (
	// patience is how long a request waits for a refresh while the old token is
	// still good: an endpoint that does not answer shall not hold up work that
	// could go on. The refresh itself goes on beside it.
	patience = 5 * time.Second

	// forcedEvery is the least time between two refreshes that an origin's 401
	// asks for: an API that answers 401 for want of a scope would otherwise
	// have every request refresh.
	forcedEvery = time.Minute
)

// window is how long before its expiry a token is renewed. A token that lives
// for minutes only is not renewed before every request.
func window(c *Connection) time.Duration {
	w := oauth.RefreshWindow
	if life := c.ExpiresAt.Sub(c.ObtainedAt); life > 0 && life/2 < w {
		w = life / 2
	}
	return w
}

// due reports whether a credential should be renewed before it is used.
func (b *Broker) due(c *Connection) bool {
	return c.AuthType == provider.AuthOAuth2 && c.Status == Connected && c.renewable() && oauth.NeedsRefresh(c.ExpiresAt, b.clock(), window(c))
}

// renewable reports whether there is a way to a new token without the user.
func (c *Connection) renewable() bool {
	return !c.RefreshToken.IsZero() || c.asksAnew()
}

// asksAnew reports whether a token is had by asking for one, not by refreshing.
func (c *Connection) asksAnew() bool {
	return c.Metadata[metaFlow] == string(provider.FlowClientCredentials)
}

// Fresh returns a connection whose credential can be used now, renewing it
// first when it is near its end. It reads the vault itself, not the snapshot.
func (b *Broker) Fresh(ctx context.Context, name, connection string) (*Connection, error) {
	c, err := b.read(ctx, connectionID{name, connection})
	if err != nil {
		return nil, err
	}
	if c, err = b.freshen(ctx, c, 0); err != nil {
		return nil, err
	}
	mine := *c // others may have been given it as well
	return &mine, nil
}

// freshen renews a connection if that is due. While the old token is good, a
// renewal that fails is no error, and one that takes longer than patience (zero:
// for ever) is not waited for.
func (b *Broker) freshen(ctx context.Context, c *Connection, patience time.Duration) (*Connection, error) {
	// A token that expired may have been marked so by somebody who could not
	// renew it; what can be tried again is.
	c = revived(c)
	if !b.due(c) {
		return c, b.usable(c)
	}
	if oauth.Expired(c.ExpiresAt, b.clock().Add(patience)) || c.AccessToken.IsZero() {
		patience = 0 // nothing else will do
	}
	renewed, err := c, b.paused(c)
	if err == nil {
		renewed, err = b.join(ctx, c.id(), secret.Text{}).wait(ctx, patience)
	}
	if err == nil {
		return renewed, b.usable(renewed)
	}
	if errors.Is(err, ErrRevoked) || errors.Is(err, ErrNoConnection) || ctx.Err() != nil || b.usable(c) != nil {
		return nil, err
	}
	return c, nil
}

// revived is a connection of which only the token's time is over, as one that
// can be renewed.
func revived(c *Connection) *Connection {
	if c.Status != Expired || !c.renewable() {
		return c
	}
	again := *c
	again.Status = Connected
	return &again
}

// pause is why a connection is not renewed before a point in time. It keeps a
// dead token endpoint from costing every request a look into the vault.
type pause struct {
	token secret.Text // the one that is not renewed; another is another login's
	until time.Time
	err   error
}

func (b *Broker) paused(c *Connection) error {
	p, ok := b.pauses.Load(c.id())
	if ok && b.clock().Before(p.(pause).until) && c.AccessToken.Equal(p.(pause).token) {
		return p.(pause).err
	}
	return nil
}

// forget drops what is remembered about a connection's renewals.
func (b *Broker) forget(id connectionID) {
	b.pauses.Delete(id)
	b.unsaved.Delete(id)
	b.flightsMu.Lock()
	defer b.flightsMu.Unlock()
	delete(b.forced, id)
}

// Refresh replaces a credential that an origin rejected. It returns stale, and
// no error, when there is nothing newer and none can be had.
func (b *Broker) Refresh(ctx context.Context, name, connection string, stale secret.Text) (secret.Text, error) {
	o, err := b.current(name, connection)
	if err != nil {
		return stale, err
	}
	if !o.credential.Equal(stale) {
		return o.credential, nil
	}
	c := revived(o.connection)
	if c.AuthType != provider.AuthOAuth2 || c.Status != Connected || !c.renewable() || b.paused(c) != nil {
		return stale, nil
	}
	f := b.join(ctx, c.id(), stale)
	if f == nil { // it was done, perhaps a moment ago
		if o, err := b.current(name, connection); err == nil && o.simple {
			return o.credential, nil
		}
		return stale, nil
	}
	renewed, err := f.wait(ctx, 0)
	if err != nil {
		return stale, err
	}
	return renewed.Credential(), nil
}

// mayForce allows one forced refresh of a connection in forcedEvery. The caller
// holds flightsMu.
func (b *Broker) mayForce(id connectionID) bool {
	now := b.clock()
	if last, ok := b.forced[id]; ok && now.Sub(last) < forcedEvery {
		return false
	}
	b.forced[id] = now
	return true
}
