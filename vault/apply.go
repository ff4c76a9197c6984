package vault

import (
	"context"
	"errors"
	"fmt"

	"authsome/vault/audit"
)

// A Change writes or deletes one record.
type Change struct {
	Key    string
	Record *Record // nil deletes

	// Previous, when not nil, is the version that must still be current.
	Previous *Entry
	// Create demands that there be no record under Key.
	Create bool
}

// keyRetries is how often Apply starts over because the data key was replaced.
const keyRetries = 20

// Apply records ev and then makes all changes or none. When the event cannot be
// recorded nothing is changed and the error matches [audit.ErrUnavailable].
// When the changes cannot be made a second line says so, with outcome "failed".
// It fails with [ErrConflict] when a Previous is not current or a Create exists.
// The changes are in this process's snapshot when Apply returns.
func (v *Vault) Apply(ctx context.Context, ev audit.Event, changes ...Change) error {
	if err := checkChanges(changes); err != nil {
		return err
	}
	keys, err := v.activeKeys(ctx)
	if err != nil {
		return err
	}
	ops, err := encodeChanges(keys, changes)
	if err != nil {
		return err
	}
	if err := v.audit.Write(ev); err != nil {
		return err
	}
	for try := 1; ; try++ {
		if err = v.commit(ctx, keys, ops); err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) || try == keyRetries {
			break
		}
		// Was it a record that changed, or the data key?
		fresh, keyErr := v.freshKeys(ctx)
		if keyErr != nil {
			err = keyErr
			break
		}
		if string(fresh.raw) == string(keys.raw) {
			break
		}
		keys = fresh
		if ops, err = encodeChanges(keys, changes); err != nil {
			break
		}
	}
	ev.Outcome, ev.Code = audit.Failed, failureCode(err)
	return errors.Join(err, v.audit.Write(ev))
}

// commit makes ops under the condition that keys are still the vault's.
func (v *Vault) commit(ctx context.Context, keys *keyset, ops []Op) error {
	batch := Batch{Erase: true, Ops: append([]Op{{Key: keysKey, If: &keys.raw, Check: true}}, ops...)}
	if len(ops) == 0 {
		return nil
	}
	if err := v.store.Commit(ctx, batch); err != nil {
		return err
	}
	v.snapMu.Lock()
	defer v.snapMu.Unlock()
	v.applied++
	if s := v.snapshot.Load(); s.generation > 0 {
		v.snapshot.Store(s.with(ops, keys))
	}
	return nil
}

// freshKeys reads the key document again.
func (v *Vault) freshKeys(ctx context.Context) (*keyset, error) {
	if err := v.refreshKeys(ctx); err != nil {
		return nil, err
	}
	return v.activeKeys(ctx)
}

func checkChanges(changes []Change) error {
	seen := map[string]bool{}
	for _, c := range changes {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		switch {
		case seen[c.Key]:
			return fmt.Errorf("record %q is changed twice", c.Key)
		case c.Previous != nil && c.Previous.Key != c.Key:
			return fmt.Errorf("record %q: previous version is of %q", c.Key, c.Previous.Key)
		case c.Create && (c.Previous != nil || c.Record == nil):
			return fmt.Errorf("record %q: create needs a record and no previous version", c.Key)
		}
		seen[c.Key] = true
	}
	return nil
}

func encodeChanges(keys *keyset, changes []Change) ([]Op, error) {
	ops := make([]Op, 0, len(changes))
	for _, c := range changes {
		op := Op{Key: c.Key}
		switch {
		case c.Previous != nil:
			op.If = &c.Previous.raw
		case c.Create:
			op.If = absent()
		}
		if c.Record != nil {
			raw, err := keys.active.encode(c.Key, c.Record)
			if err != nil {
				return nil, err
			}
			op.Value = raw
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// failureCode is the audit code for err.
func failureCode(err error) string {
	var corrupt *CorruptError
	switch {
	case errors.Is(err, ErrConflict):
		return "conflict"
	case errors.Is(err, ErrLocked):
		return "store_locked"
	case errors.As(err, &corrupt):
		return "store_corrupt"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	}
	return "store_unavailable"
}
