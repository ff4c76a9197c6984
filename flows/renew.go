package flows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authsome/flows/oauth"
	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

const (
	// leaseTime is how long one refresh may hold the others up: the call, its
	// storing, and a margin.
	leaseTime = oauth.CallTimeout + 15*time.Second

	// leaseWait is how long a refresh waits for its turn: for an owner that
	// hangs until its lease expires, and once more.
	leaseWait = 2 * leaseTime

	// storeRetry is how long a rotated token is tried to be stored: the old one
	// is worth nothing any more.
	storeRetry = 8 * time.Second

	// stuckPause is how long a store that fails is spared.
	stuckPause = time.Second
)

// hold takes a connection's lease, which every change of its tokens at the
// provider needs.
func (b *Broker) hold(ctx context.Context, id connectionID) (release func(), err error) {
	unlock, err := b.vault.Lock(ctx, "refresh:"+connectionKey(b.profile, id.provider, id.connection), leaseTime)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := unlock(context.WithoutCancel(ctx)); err != nil {
			b.log.Debug("release refresh lease", "error", err) // it expires
		}
	}, nil
}

// settled returns the connection as it is stored, and whether it needs no
// renewal any more: somebody may have been quicker.
func (b *Broker) settled(ctx context.Context, id connectionID, stale secret.Text) (c *Connection, ok bool, err error) {
	c, err = b.Get(ctx, id.provider, id.connection)
	if err != nil {
		return nil, false, err
	}
	c = revived(c)
	if c.Status != Connected {
		return nil, false, b.usable(c)
	}
	return c, !b.due(c) && (stale.IsZero() || !c.AccessToken.Equal(stale)), nil
}

// renewAlone renews a connection unless somebody was quicker. A store that is
// busy is no reason to fail: nothing has been asked of the provider yet.
func (b *Broker) renewAlone(ctx context.Context, id connectionID, stale secret.Text) (*Connection, error) {
	waiting, cancel := context.WithTimeout(ctx, leaseWait)
	defer cancel()
	for {
		c, err := b.inTurn(waiting, ctx, id, stale)
		if !errors.Is(err, vault.ErrLocked) || errors.Is(err, errKept) || waiting.Err() != nil {
			return c, err
		}
	}
}

// inTurn renews a connection under its lease, which is waited for while waiting
// lasts.
func (b *Broker) inTurn(waiting, ctx context.Context, id connectionID, stale secret.Text) (*Connection, error) {
	c, ok, err := b.settled(ctx, id, stale)
	if ok || err != nil {
		return c, err
	}
	release, err := b.hold(waiting, id)
	if err != nil {
		return nil, b.stuck(c, err)
	}
	defer release()
	c, ok, err = b.settled(ctx, id, stale)
	if ok || err != nil {
		return c, err
	}
	return b.attempt(ctx, c, !stale.IsZero())
}

// stuck is the error of a renewal that the store or the log stands in the way
// of. Nothing was asked of the provider. It is not tried again for a moment.
func (b *Broker) stuck(c *Connection, cause error) error {
	err := b.connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrRefreshFailed, cause))
	if errors.Is(cause, vault.ErrLocked) && !errors.Is(cause, errKept) {
		return err // it is tried again at once
	}
	b.count(c.Provider, cause)
	b.pauses.Store(c.id(), pause{c.AccessToken, b.clock().Add(stuckPause), err})
	b.goesOn(c, cause)
	return err
}

// goesOn logs the failure of a renewal that nobody is told of, because the token
// is still good.
func (b *Broker) goesOn(c *Connection, cause error) {
	if b.usable(c) == nil {
		b.log.Warn("refresh failed; the token is good until it expires", "provider", c.Provider, "connection", c.Name,
			"expires_at", c.ExpiresAt.Format(time.RFC3339), "error", cause)
	}
}

// errKept is returned when a refresh succeeded and the store did not.
var errKept = errors.New("new tokens wait in memory until they can be stored")

// unsaved is what a provider gave that the store did not take.
type unsaved struct {
	spent  *Connection // what it was had for
	tokens *oauth.TokenSet
}

// attempt calls the token endpoint, unless it failed a moment ago.
func (b *Broker) attempt(ctx context.Context, c *Connection, forced bool) (*Connection, error) {
	if kept, ok := b.unsaved.Load(c.id()); ok && sameGrant(kept.(unsaved).spent, c) {
		return b.keep(ctx, c, kept.(unsaved).tokens)
	}
	st, err := b.state(ctx, c.Provider)
	if err != nil {
		return nil, b.stuck(c, err)
	}
	mine := st.Connections[c.Name]
	switch now := b.clock(); {
	case !mine.Backoff.Ready(now):
		err := b.connectionError(c.Provider, c.Name, fmt.Errorf("%w: %s; the next attempt is at %s", ErrRefreshFailed,
			mine.LastError, mine.Backoff.Until.UTC().Format(time.RFC3339)))
		b.pauses.Store(c.id(), pause{c.AccessToken, mine.Backoff.Until, err})
		return nil, err
	case forced && !mine.LastRefresh.IsZero() && now.Sub(mine.LastRefresh) < forcedEvery:
		return c, nil // another process did it for the same reason
	}
	cfg, err := b.oauthConfig(ctx, c)
	switch {
	case errors.Is(err, vault.ErrUnavailable):
		return nil, b.stuck(c, err)
	case err != nil:
		return nil, b.refreshFailed(ctx, c, mine.Asked, err)
	}
	if err := b.announce(ctx, c); err != nil {
		return nil, b.stuck(c, err)
	}
	tokens, err := grant(ctx, cfg, c)
	if err != nil {
		return nil, b.refreshFailed(ctx, c, mine.Asked, err)
	}
	return b.keep(ctx, c, tokens)
}

// announce records that a refresh token is about to be spent. It shows, before
// that is so, that the log and the store can be written, and tells whoever comes
// after a process that died what happened.
func (b *Broker) announce(ctx context.Context, c *Connection) error {
	return b.commit(ctx, b.event("refresh.start", c.Provider, c.Name), func() ([]vault.Change, error) {
		return b.editState(ctx, c, func(s ConnectionState) ConnectionState {
			s.Asked = b.Now()
			return s
		})
	})
}

// grant asks the token endpoint for new tokens.
func grant(ctx context.Context, cfg *oauth.Config, c *Connection) (*oauth.TokenSet, error) {
	if c.asksAnew() {
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
	client, err := b.clientOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return &oauth.Config{OAuth: c.pinned(resolved.OAuth), Client: client, HTTP: b.http, Clock: b.clock}, nil
}

// sameGrant reports whether two versions of a connection are renewed by the same
// token: nobody has refreshed it or logged in between them.
func sameGrant(a, b *Connection) bool {
	return a.RefreshToken.Equal(b.RefreshToken) && a.AccessToken.Equal(b.AccessToken)
}

// keep stores what a refresh gave before anybody uses it. A store that cannot
// take it now is tried again for a while; then the tokens wait in memory for the
// next attempt. When somebody logged in meanwhile, theirs is returned.
func (b *Broker) keep(ctx context.Context, spent *Connection, tokens *oauth.TokenSet) (*Connection, error) {
	deadline := time.Now().Add(storeRetry)
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		c, err := b.storeTokens(ctx, spent, tokens)
		if err == nil || errors.Is(err, ErrNoConnection) { // removed meanwhile: there is nothing to keep them for
			b.unsaved.Delete(spent.id())
			b.pauses.Delete(spent.id())
			b.count(spent.Provider, err)
			if err == nil {
				err = b.usable(c)
			}
			return c, err
		}
		if time.Now().Add(wait).After(deadline) {
			b.unsaved.Store(spent.id(), unsaved{spent, tokens})
			return nil, b.stuck(spent, fmt.Errorf("%w: %w", errKept, err))
		}
		time.Sleep(wait)
	}
}

// storeTokens makes a refresh's answer the connection's, if it still is what
// was refreshed, and returns the connection that holds now.
func (b *Broker) storeTokens(ctx context.Context, spent *Connection, tokens *oauth.TokenSet) (*Connection, error) {
	var held *Connection
	first := true
	err := b.commit(ctx, b.event("refresh", spent.Provider, spent.Name), func() ([]vault.Change, error) {
		current := spent
		if !first {
			var err error
			if current, err = b.Get(ctx, spent.Provider, spent.Name); err != nil {
				return nil, err
			}
		}
		first = false
		if !sameGrant(current, spent) {
			held = current
			return nil, errSuperseded
		}
		next := *current
		next.apply(tokens)
		rec, err := next.record()
		if err != nil {
			return nil, err
		}
		changes, err := b.editState(ctx, &next, func(ConnectionState) ConnectionState { return ConnectionState{LastRefresh: b.Now()} })
		held = &next
		return append(changes, vault.Change{Key: current.entry.Key, Record: rec, Previous: current.entry}), err
	})
	if errors.Is(err, errSuperseded) {
		b.log.Info("the connection was made anew during its refresh", "provider", spent.Provider, "connection", spent.Name)
		return held, nil
	}
	return held, err
}

// errSuperseded ends the storing of tokens that nobody needs any more.
var errSuperseded = errors.New("superseded")

// refreshFailed records a failure. A grant that is no longer valid ends the
// connection; an expired token is marked so. lost is when an earlier attempt was
// begun whose answer never arrived.
func (b *Broker) refreshFailed(ctx context.Context, c *Connection, lost time.Time, cause error) error {
	b.count(c.Provider, cause)
	var failure *oauth.Error
	errors.As(cause, &failure)
	next, out := *c, b.connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrRefreshFailed, cause))
	switch {
	case errors.Is(cause, oauth.ErrInvalidGrant):
		next.Status = Invalid
		out.Err = fmt.Errorf("%w: %w: %w", ErrRefreshFailed, ErrRevoked, cause)
		if !lost.IsZero() {
			out.Err = fmt.Errorf("%w: %w: the answer to the refresh of %s was lost, and the new token with it: %w", ErrRefreshFailed, ErrRevoked, lost.Format(time.RFC3339), cause)
		}
	case oauth.Expired(c.ExpiresAt, b.clock()):
		next.Status = Expired
	}
	if errors.Is(cause, oauth.ErrInvalidClient) {
		out.Next = "check the client id and secret, then " + out.Next + " --reset"
	}
	var held ConnectionState
	err := b.storeFailure(ctx, c, &next, cause, func(s ConnectionState) ConnectionState {
		retryAfter := time.Duration(0)
		if failure != nil {
			retryAfter = failure.RetryAfter
		}
		s.Backoff = s.Backoff.Failed(b.clock(), retryAfter)
		s.LastError, s.LastErrorAt = cause.Error(), b.Now()
		s.ClientRejected = errors.Is(cause, oauth.ErrInvalidClient)
		if failure == nil || !failure.AnswerLost {
			s.Asked = lost
		}
		if errors.Is(cause, oauth.ErrInvalidGrant) {
			s.Asked = time.Time{}
		}
		held = s
		return s
	})
	if err != nil {
		b.log.Warn("record failed refresh", "provider", c.Provider, "connection", c.Name, "error", err)
	}
	if held.Backoff.Until.IsZero() {
		held.Backoff = held.Backoff.Failed(b.clock(), 0)
	}
	b.pauses.Store(c.id(), pause{c.AccessToken, held.Backoff.Until, out})
	b.goesOn(&next, cause)
	return out
}

func (b *Broker) storeFailure(ctx context.Context, c, next *Connection, cause error, edit func(ConnectionState) ConnectionState) error {
	ev := b.event("refresh", c.Provider, c.Name)
	ev.Outcome = audit.Failed
	var failure *oauth.Error
	if errors.As(cause, &failure) {
		ev.Code = failure.Code
	}
	return b.commit(ctx, ev, func() ([]vault.Change, error) {
		current, err := b.Get(ctx, c.Provider, c.Name)
		if err != nil || !sameGrant(current, c) { // it is gone, or another by now: nobody's failure
			return nil, err
		}
		changes, err := b.editState(ctx, c, edit)
		if err != nil || current.Status == next.Status {
			return changes, err
		}
		current.Status = next.Status
		rec, err := current.record()
		return append(changes, vault.Change{Key: current.entry.Key, Record: rec, Previous: current.entry}), err
	})
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
