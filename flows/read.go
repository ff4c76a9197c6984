package flows

import (
	"context"
	"errors"

	"authsome/vault"
)

// readTries is how often a store is read that others hold, each time for as long
// as the vault waits: on a machine that has more to do than it can, a turn may
// not come at once.
const readTries = 3

// A reading is one look into the vault that several callers share. None of them
// came after it began: what somebody has just stored is what they see.
type reading struct {
	done chan struct{} // closed when the rest is set
	c    *Connection
	err  error
}

// readings are those of one connection: while one is under way, those who come
// wait for the next together. Many goroutines would otherwise keep the store's
// file so busy with reading that nobody gets to write.
type readings struct{ next *reading }

// read is Get for many callers at once. The connection is shared and must not be
// changed.
func (b *Broker) read(ctx context.Context, id connectionID) (*Connection, error) {
	b.readsMu.Lock()
	q, busy := b.reads[id]
	if !busy {
		q = &readings{}
		b.reads[id] = q
		go b.serve(context.WithoutCancel(ctx), id, q)
	}
	if q.next == nil {
		q.next = &reading{done: make(chan struct{})}
	}
	r := q.next
	b.readsMu.Unlock()
	select {
	case <-r.done:
		return r.c, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve reads until nobody waits any more.
func (b *Broker) serve(ctx context.Context, id connectionID, q *readings) {
	for {
		b.readsMu.Lock()
		r := q.next
		q.next = nil
		if r == nil {
			delete(b.reads, id)
			b.readsMu.Unlock()
			return
		}
		b.readsMu.Unlock()
		for try := 1; ; try++ {
			r.c, r.err = b.Get(ctx, id.provider, id.connection)
			if !errors.Is(r.err, vault.ErrLocked) || try == readTries {
				break
			}
		}
		close(r.done)
	}
}
