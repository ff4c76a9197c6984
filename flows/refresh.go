package flows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

const (
	// leaseTime is how long one refresh may hold the others up: the call, its
	// storing, and a margin.
	leaseTime = oauth.CallTimeout + 15*time.Second

	// storeRetry is how long a rotated token is tried to be stored: the old one
	// is worth nothing any more.
	storeRetry = 5 * time.Second

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
	return !c.RefreshToken.IsZero() || c.Metadata["flow"] == string(provider.FlowClientCredentials)
}

// Fresh returns a connection whose credential can be used now, renewing it
// first when it is near its end. It reads the vault itself, not the snapshot.
func (b *Broker) Fresh(ctx context.Context, name, connection string) (*Connection, error) {
	c, err := b.Get(ctx, name, connection)
	if err != nil {
		return nil, err
	}
	return b.freshen(ctx, c)
}

// freshen renews a connection if that is due. A renewal that fails while the
// old token is still good is a warning.
func (b *Broker) freshen(ctx context.Context, c *Connection) (*Connection, error) {
	expired := oauth.Expired(c.ExpiresAt, b.clock())
	// A token that expired may have been marked so by somebody who could not
	// renew it; what can be tried again is.
	if c.Status == Expired && c.renewable() {
		again := *c
		again.Status = Connected
		c = &again
	}
	if !b.due(c) {
		return c, b.usable(c)
	}
	renewed, err := c, b.paused(c)
	if err == nil {
		renewed, err = b.renew(ctx, c, "")
	}
	if err == nil {
		return renewed, b.usable(renewed)
	}
	if expired || errors.Is(err, ErrRevoked) || c.AccessToken.IsZero() {
		return nil, err
	}
	b.log.Warn("refresh failed; the token is still valid", "provider", c.Provider, "connection", c.Name, "error", err)
	return c, nil
}

// pause is why a connection is not renewed before a point in time. It keeps a
// dead token endpoint from costing every request a look into the vault.
type pause struct {
	until time.Time
	err   error
}

func (b *Broker) paused(c *Connection) error {
	if p, ok := b.pauses.Load(cacheKey{c.Provider, c.Name}); ok && b.clock().Before(p.(pause).until) {
		return p.(pause).err
	}
	return nil
}

// Refresh replaces a credential that an origin rejected. It returns stale, and
// no error, when there is nothing newer and none can be had.
func (b *Broker) Refresh(ctx context.Context, name, connection string, stale secret.Text) (secret.Text, error) {
	c, err := b.current(name, connection)
	if err != nil {
		return stale, err
	}
	if c.Credential().Reveal() != stale.Reveal() {
		return c.Credential(), nil
	}
	key := cacheKey{name, connection}
	if c.AuthType != provider.AuthOAuth2 || !c.renewable() || !b.mayForce(key) {
		return stale, nil
	}
	renewed, err := b.renew(ctx, c, stale.Reveal())
	if err != nil {
		return stale, err
	}
	return renewed.Credential(), nil
}

// mayForce allows one forced refresh of a connection in forcedEvery.
func (b *Broker) mayForce(key cacheKey) bool {
	b.forcedMu.Lock()
	defer b.forcedMu.Unlock()
	now := b.clock()
	if last, ok := b.forced[key]; ok && now.Sub(last) < forcedEvery {
		return false
	}
	if b.forced == nil {
		b.forced = make(map[cacheKey]time.Time)
	}
	b.forced[key] = now
	return true
}

// renew refreshes a connection once, whoever asks: callers in this process
// share one attempt, and processes take turns by a lease in the vault. stale is
// the access token that must be replaced, "" when it is a matter of time only.
func (b *Broker) renew(ctx context.Context, c *Connection, stale string) (*Connection, error) {
	// The attempt outlives a caller who gives up: the provider may already
	// have rotated the token.
	shared := context.WithoutCancel(ctx)
	result := b.renewals.DoChan(c.Provider+"\x00"+c.Name, func() (any, error) {
		ctx, cancel := context.WithTimeout(shared, 3*leaseTime)
		defer cancel()
		return b.renewAlone(ctx, c.Provider, c.Name, stale)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Connection), nil
	}
}

func (b *Broker) renewAlone(ctx context.Context, name, connection, stale string) (*Connection, error) {
	unlock, err := b.vault.Lock(ctx, "refresh:"+keyOf(b.profile, name, "connection")+":"+connection, leaseTime)
	if err != nil {
		return nil, connectionError(name, connection, fmt.Errorf("%w: %w", ErrRefreshFailed, err))
	}
	defer func() {
		if err := unlock(context.WithoutCancel(ctx)); err != nil {
			b.log.Debug("release refresh lease", "error", err) // it expires
		}
	}()
	// Somebody may have been quicker.
	c, err := b.Get(ctx, name, connection)
	if err != nil {
		return nil, err
	}
	if c.Status == Expired {
		c.Status = Connected
	}
	if c.Status != Connected {
		return nil, b.usable(c)
	}
	if !b.due(c) && (stale == "" || c.AccessToken.Reveal() != stale) {
		return c, nil
	}
	return b.attempt(ctx, c)
}

// attempt calls the token endpoint, unless it failed a moment ago.
func (b *Broker) attempt(ctx context.Context, c *Connection) (*Connection, error) {
	st, err := b.state(ctx, c.Provider)
	if err != nil {
		return nil, err
	}
	mine := st.Connections[c.Name]
	if !mine.Backoff.Ready(b.clock()) {
		err := connectionError(c.Provider, c.Name, fmt.Errorf("%w: %s; the next attempt is at %s", ErrRefreshFailed,
			mine.LastError, mine.Backoff.Until.UTC().Format(time.RFC3339)))
		b.pauses.Store(cacheKey{c.Provider, c.Name}, pause{mine.Backoff.Until, err})
		return nil, err
	}
	tokens, err := b.grant(ctx, c)
	if err != nil {
		return nil, b.refreshFailed(ctx, c, st, err)
	}
	c.apply(tokens)
	return c, b.refreshed(ctx, c, st)
}

// grant asks the pinned token endpoint for new tokens.
func (b *Broker) grant(ctx context.Context, c *Connection) (*oauth.TokenSet, error) {
	cfg, err := b.oauthConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if c.RefreshToken.IsZero() {
		return cfg.ClientCredentials(ctx, c.Scopes...)
	}
	return cfg.Refresh(ctx, c.tokens())
}

// oauthConfig is what talks to the endpoints that a connection pinned.
func (b *Broker) oauthConfig(ctx context.Context, c *Connection) (*oauth.Config, error) {
	entry, err := b.registry.Lookup(c.Provider)
	if err != nil {
		return nil, err
	}
	resolved, err := entry.Resolve(c.BaseURL)
	if err != nil {
		return nil, err
	}
	if resolved.OAuth == nil {
		return nil, fmt.Errorf("%w: the definition of %s no longer says how to get tokens", ErrBadInput, c.Provider)
	}
	stored, err := b.client(ctx, c.Provider)
	if err != nil {
		return nil, err
	}
	return &oauth.Config{OAuth: c.pinned(resolved.OAuth), Client: stored.oauth(), HTTP: b.http, Clock: b.clock}, nil
}

// refreshed stores what a refresh gave before anybody uses it. A store that
// cannot take it now is tried again for a while: without it the login is lost.
func (b *Broker) refreshed(ctx context.Context, c *Connection, st *state) error {
	st.Connections[c.Name] = ConnectionState{LastRefresh: b.Now()}
	rec, err := c.record()
	if err != nil {
		return err
	}
	stateChange, err := st.change(b.profile, c.Provider)
	if err != nil {
		return err
	}
	deadline := b.clock().Add(storeRetry)
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		err = b.vault.Apply(ctx, b.event("refresh", c.Provider, c.Name),
			vault.Change{Key: connectionKey(b.profile, c.Provider, c.Name), Record: rec, Previous: c.entry}, stateChange)
		if err == nil || errors.Is(err, vault.ErrConflict) || b.clock().Add(wait).After(deadline) {
			break
		}
		time.Sleep(wait)
	}
	b.count(c.Provider, err)
	if errors.Is(err, vault.ErrConflict) {
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w: the connection was changed meanwhile: %w", ErrRefreshFailed, err))
	}
	return err
}

// refreshFailed records a failure. A grant that is no longer valid ends the
// connection; an expired token is marked so.
func (b *Broker) refreshFailed(ctx context.Context, c *Connection, st *state, cause error) error {
	b.count(c.Provider, cause)
	mine := st.Connections[c.Name]
	out := connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrRefreshFailed, cause))
	var failure *oauth.Error
	retryAfter := time.Duration(0)
	if errors.As(cause, &failure) {
		retryAfter = failure.RetryAfter
	}
	next := *c
	switch {
	case errors.Is(cause, oauth.ErrInvalidGrant):
		next.Status = Invalid
		out.Err = fmt.Errorf("%w: %w", ErrRevoked, cause)
		if mine.AnswerLost {
			out.Err = fmt.Errorf("%w: the provider's answer to the last refresh was lost, and with it the new token: %w", ErrRevoked, cause)
		}
	case errors.Is(cause, oauth.ErrInvalidClient):
		out.Next = "check the client id and secret, then run: authsome login " + c.Provider + " --reset"
	}
	if next.Status == Connected && oauth.Expired(c.ExpiresAt, b.clock()) {
		next.Status = Expired
	}
	mine.Backoff = mine.Backoff.Failed(b.clock(), retryAfter)
	b.pauses.Store(cacheKey{c.Provider, c.Name}, pause{mine.Backoff.Until, out})
	mine.LastError, mine.LastErrorAt = cause.Error(), b.Now()
	mine.AnswerLost = failure != nil && failure.AnswerLost
	st.Connections[c.Name] = mine
	if err := b.storeFailure(ctx, c, &next, st, cause); err != nil {
		b.log.Warn("record failed refresh", "provider", c.Provider, "connection", c.Name, "error", err)
	}
	return out
}

func (b *Broker) storeFailure(ctx context.Context, c, next *Connection, st *state, cause error) error {
	stateChange, err := st.change(b.profile, c.Provider)
	if err != nil {
		return err
	}
	changes := []vault.Change{stateChange}
	// What is stored may say "expired" already; only a new status is written.
	if stored, err := decodePublic(c.entry); err != nil || stored.Status != next.Status {
		rec, err := next.record()
		if err != nil {
			return err
		}
		changes = append(changes, vault.Change{Key: connectionKey(b.profile, c.Provider, c.Name), Record: rec, Previous: c.entry})
	}
	ev := b.event("refresh", c.Provider, c.Name)
	ev.Outcome = "failed"
	var failure *oauth.Error
	if errors.As(cause, &failure) {
		ev.Code = failure.Code
	}
	return b.vault.Apply(ctx, ev, changes...)
}

func (b *Broker) count(name string, err error) {
	if b.observe == nil {
		return
	}
	outcome := "ok"
	switch {
	case err == nil:
	case errors.Is(err, oauth.ErrInvalidGrant):
		outcome = "invalid_grant"
	default:
		outcome = "failed"
	}
	b.observe(name, outcome)
}
