package flows

import (
	"context"
	"fmt"
	"time"

	"authsome/vault/secret"
)

// flightKey tells a refresh that is due from one that an origin asks for: the
// first may end without a new token where the second may not.
type flightKey struct {
	connectionID
	forced bool
}

// A flight is one renewal under way in this process.
type flight struct {
	began time.Time
	done  chan struct{} // closed when the rest is set
	c     *Connection
	err   error
}

// errPatience is returned when a renewal takes longer than it is waited for.
var errPatience = fmt.Errorf("%w: no answer yet", ErrRefreshFailed)

// join returns the flight that renews a connection once, whoever asks: callers
// in this process share one attempt, and processes take turns by a lease in the
// vault. stale is the access token that must be replaced, zero when it is a
// matter of time only. A forced flight is nil when there was one lately.
//
// The attempt outlives a caller who gives up: the provider may already have
// rotated the token.
func (b *Broker) join(ctx context.Context, id connectionID, stale secret.Text) *flight {
	key := flightKey{id, !stale.IsZero()}
	b.flightsMu.Lock()
	defer b.flightsMu.Unlock()
	if f := b.flights[key]; f != nil {
		return f
	}
	if key.forced && !b.mayForce(id) {
		return nil
	}
	f := &flight{began: time.Now(), done: make(chan struct{})}
	b.flights[key] = f
	go func() {
		f.c, f.err = b.renewAlone(context.WithoutCancel(ctx), id, stale)
		b.flightsMu.Lock()
		delete(b.flights, key)
		b.flightsMu.Unlock()
		close(f.done)
	}()
	return f
}

// wait returns what the flight came to. It gives up when the flight has taken
// patience, unless that is zero.
func (f *flight) wait(ctx context.Context, patience time.Duration) (*Connection, error) {
	var enough <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(time.Until(f.began.Add(patience)))
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-f.done:
		return f.c, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-enough:
	}
	select {
	case <-f.done:
		return f.c, f.err
	default:
		return nil, errPatience
	}
}

// Drain waits until no renewal is under way: a process that ended in the middle
// of one would take with it a token that the provider has rotated already.
func (b *Broker) Drain(ctx context.Context) error {
	for {
		b.flightsMu.Lock()
		var one *flight
		for _, one = range b.flights {
			break
		}
		b.flightsMu.Unlock()
		if one == nil {
			return nil
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return fmt.Errorf("a refresh is still under way: %w", ctx.Err())
		}
	}
}
