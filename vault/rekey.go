package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"authsome/vault/audit"
)

// Forgetter is what a KeyWrapper implements when it keeps something outside of
// the vault for every blob that it makes.
type Forgetter interface {
	// Forget removes what blob depends on. The blob no longer unwraps.
	Forget(ctx context.Context, blob []byte) error
}

var _ Forgetter = osKeyring{}

// rekeyRetries is how often Rekey starts over because others wrote meanwhile.
const rekeyRetries = 100

// RekeyOptions say what goes with a new wrapping. The zero value is for a vault
// whose earlier backups shall open.
type RekeyOptions struct {
	// NewDataKey replaces the data key as well: every record is encrypted anew, and
	// the old key and all that it encrypted is erased from the store.
	NewDataKey bool

	// ForgetOldKey removes what the old wrapper keeps outside of the vault (see
	// [Forgetter]), for good: no copy of the store that was made before opens then.
	ForgetOldKey bool
}

// Rekey wraps the data key by to, which the vault uses from then on. It is one
// commit: a process that dies at any moment leaves the vault as it was or as it
// should be.
//
// Other processes follow if they can unwrap the new key. If the wrapper changed
// and the data key did not, they go on with the key that they have. If both
// changed they keep what they last read, and fail to write, until restarted.
//
// With a new data key a damaged record stops it, with an [*IntegrityError]: it could
// not be carried over. Remove it first.
func (v *Vault) Rekey(ctx context.Context, ev audit.Event, to KeyWrapper, o RekeyOptions) error {
	for range keyRetries {
		keys, err := v.activeKeys(ctx)
		if err != nil {
			return err
		}
		next, err := v.nextKeys(ctx, keys, to, o.NewDataKey)
		if err != nil {
			return err
		}
		err = v.replaceKeys(ctx, ev, keys, next)
		if err == nil {
			v.keysMu.Lock()
			old := v.wrapper
			v.wrapper = to
			v.keys.Store(next)
			v.keysMu.Unlock()
			if o.ForgetOldKey {
				v.forget(ctx, old, keys)
			}
			return v.reloadIfLoaded(ctx)
		}
		if !errors.Is(err, ErrConflict) {
			return err // and next may be in use: whether it was committed is not known
		}
		v.forget(ctx, to, next)
		if err := v.refreshKeys(ctx); err != nil { // somebody else re-keyed first
			return err
		}
	}
	return fmt.Errorf("rekey: %w", ErrConflict)
}

// nextKeys makes the keyset that is to replace keys.
func (v *Vault) nextKeys(ctx context.Context, keys *keyset, to KeyWrapper, newDataKey bool) (*keyset, error) {
	active := keys.active
	var others []*dataKey
	if newDataKey {
		active = generateDataKey(keys.vault)
	} else {
		for _, k := range keys.keys {
			if k.kid != active.kid {
				others = append(others, k)
			}
		}
	}
	return sealKeyset(ctx, keys.vault, active, others, to, v.clock())
}

// replaceKeys commits next in place of keys, and every record under it. It
// fails with ErrConflict when keys are no longer the vault's.
func (v *Vault) replaceKeys(ctx context.Context, ev audit.Event, keys, next *keyset) error {
	recorded := false
	for try := 1; ; try++ {
		values, err := v.store.Load(ctx, "")
		if err != nil {
			return err
		}
		if !bytes.Equal(values[keysKey], keys.raw) {
			return ErrConflict
		}
		ops, err := carryOver(values, keys, next)
		if err != nil {
			return err
		}
		if !recorded {
			if err := v.audit.Write(ev); err != nil {
				return err
			}
			recorded = true
		}
		// All: a record that somebody adds meanwhile would be left behind under
		// the key that goes.
		err = v.store.Commit(ctx, Batch{Ops: ops, All: true, Erase: true})
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) || try == rekeyRetries {
			ev.Outcome, ev.Code = audit.Failed, failureCode(err)
			return errors.Join(err, v.audit.Write(ev))
		}
	}
}

// carryOver returns the ops that put next in place of keys, and encrypt what
// next could not open.
func carryOver(values map[string][]byte, keys, next *keyset) ([]Op, error) {
	ops := []Op{{Key: keysKey, Value: next.raw, If: &keys.raw}}
	for key, raw := range values {
		if key == keysKey {
			continue
		}
		if strings.HasPrefix(key, reserved) || next.get(sealKey(raw)) != nil {
			ops = append(ops, Op{Key: key, If: &raw, Check: true})
			continue
		}
		r, err := keys.decode(key, raw)
		if err != nil {
			return nil, err
		}
		fresh, err := next.active.encode(key, &r)
		if err != nil {
			return nil, err
		}
		ops = append(ops, Op{Key: key, Value: fresh, If: &raw})
	}
	return ops, nil
}

// forget removes what a wrapper keeps for keys that are no longer used. What
// cannot be removed is only untidy.
func (v *Vault) forget(ctx context.Context, w KeyWrapper, keys *keyset) {
	f, ok := w.(Forgetter)
	if !ok {
		return
	}
	for kid, k := range keys.keys {
		if k.record.Mode != w.Mode() {
			continue
		}
		if err := f.Forget(ctx, k.record.Wrapped); err != nil {
			v.log.Warn("a key that is no longer used could not be removed", "mode", w.Mode(), "kid", kid, "err", err)
		}
	}
}

// reloadIfLoaded brings the snapshot, if there is one, under the new keys.
func (v *Vault) reloadIfLoaded(ctx context.Context) error {
	if v.Snapshot().generation == 0 {
		return nil
	}
	return v.Reload(ctx)
}

// Mode returns the mode of encryption of the vault in store, or "" for a store
// without one. It needs no key.
func Mode(ctx context.Context, store Store) (string, error) {
	values, err := store.Load(ctx, keysKey)
	if err != nil {
		return "", err
	}
	raw, ok := values[keysKey]
	if !ok {
		return "", nil
	}
	d, err := parseKeyDocument(raw)
	if err != nil {
		return "", err
	}
	return d.Keys[d.Active].Mode, nil
}

// A Report is what [Vault.Check] found.
type Report struct {
	Mode    string  // of encryption; empty for a store without a vault
	Records int     // how many there are
	Damaged []error // an *IntegrityError for each record that does not open
}

// Check reads and decrypts everything. A store that is damaged as a whole is an
// error; damaged records are in the report.
func (v *Vault) Check(ctx context.Context) (Report, error) {
	var r Report
	if deep, ok := v.store.(interface{ Check(context.Context) error }); ok {
		if err := deep.Check(ctx); err != nil {
			return r, err
		}
	}
	var err error
	if r.Mode, err = Mode(ctx, v.store); err != nil {
		return r, err
	}
	entries, err := v.List(ctx, "")
	if err != nil {
		return r, err
	}
	r.Records = len(entries)
	for _, e := range entries {
		if _, err := e.Record(); err != nil {
			r.Damaged = append(r.Damaged, err)
		}
	}
	return r, nil
}
