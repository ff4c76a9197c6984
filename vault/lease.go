package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// How long a waiter sleeps between two looks at a lease. A look reads the store
// once, without writing.
const (
	leaseFirstWait = 5 * time.Millisecond
	leaseLastWait  = 100 * time.Millisecond
)

// lease is the value of a lock while it is held. It is plain: there is nothing
// secret in it, and a damaged one is only ever waited out.
type lease struct {
	Owner   string    `json:"owner"` // random
	Expires time.Time `json:"expires"`
	TTL     int64     `json:"ttl_ms"`
	Process process   `json:"process"`
}

// Lock takes the lease called name, for at most ttl, and waits for it until ctx
// ends. It excludes goroutines and processes alike. unlock gives it back; it
// fails with an error that matches [ErrConflict] when the lease had expired and
// somebody else took it, whose lease it leaves alone.
//
// A lease whose owner died is taken over at once where that can be told (same
// machine, same process namespace), and otherwise when it expires: by its own
// time, or when it did not change for its ttl, lest a clock that was set back
// hold everybody up. Nothing stops an owner that outlives its ttl, so what it
// then writes must be conditional ([Change].Previous).
func (v *Vault) Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(context.Context) error, err error) {
	if name == "" || ttl <= 0 {
		return nil, fmt.Errorf("lock %q for %v: want a name and a positive duration", name, ttl)
	}
	key := lockPrefix + name
	var id [16]byte
	_, _ = rand.Read(id[:])
	mine := lease{Owner: hex.EncodeToString(id[:]), TTL: ttl.Milliseconds(), Process: thisProcess()}
	wait := &backoff.ExponentialBackOff{
		InitialInterval: leaseFirstWait, MaxInterval: leaseLastWait,
		Multiplier: 1.5, RandomizationFactor: 0.5,
	}
	wait.Reset()
	var seen observation
	for {
		raw, err := v.tryLock(ctx, key, &mine, ttl, &seen)
		if err == nil {
			return func(ctx context.Context) error { return v.unlock(ctx, name, raw) }, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", name, ctx.Err())
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// tryLock takes the lease if it is free, or fails with ErrConflict.
func (v *Vault) tryLock(ctx context.Context, key string, mine *lease, ttl time.Duration, seen *observation) ([]byte, error) {
	values, err := v.store.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	current, held := values[key]
	if held && !seen.free(current, v.clock(), ttl) {
		return nil, ErrConflict
	}
	mine.Expires = v.clock().Add(ttl).UTC()
	raw, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	condition := absent()
	if held {
		condition = &current
	}
	return raw, v.store.Commit(ctx, Batch{Ops: []Op{{Key: key, Value: raw, If: condition}}})
}

func (v *Vault) unlock(ctx context.Context, name string, raw []byte) error {
	err := v.store.Commit(ctx, Batch{Ops: []Op{{Key: lockPrefix + name, If: &raw}}})
	if err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	return nil
}

// observation is what a waiter remembers of the lease that it waits for.
type observation struct {
	raw   string
	since time.Time // monotonic
}

// free reports whether the lease in raw may be taken over.
func (o *observation) free(raw []byte, now time.Time, ttl time.Duration) bool {
	var l lease
	if err := json.Unmarshal(raw, &l); err == nil && l.TTL > 0 {
		if !now.Before(l.Expires) || l.Process.dead() {
			return true
		}
		ttl = time.Duration(l.TTL) * time.Millisecond
	}
	if o.since.IsZero() || o.raw != string(raw) {
		o.raw, o.since = string(raw), time.Now()
	}
	return time.Since(o.since) >= ttl
}
