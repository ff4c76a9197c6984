package vault

import (
	"context"
	"time"
)

// retryReload is the pause before a failed reload is tried again.
const retryReload = time.Second

// Watch loads the snapshot, calls onChange with it, and returns; it fails if
// that first load does. From then on, until ctx ends, a goroutine reloads the
// snapshot after every change by any process and calls onChange, never twice at
// once, when a record is different. onChange may be nil.
//
// A reload that fails leaves the snapshot as it was, is logged and counted, and
// is tried again every second. A store that was deleted makes the snapshot
// empty once two reloads in a row found it gone.
func (v *Vault) Watch(ctx context.Context, onChange func(*Snapshot)) error {
	if onChange == nil {
		onChange = func(*Snapshot) {}
	}
	// First the tokens, then the load: a change in between is not missed.
	tokens, err := v.store.Watch(ctx)
	if err != nil {
		return err
	}
	if err := v.Reload(ctx); err != nil {
		return err
	}
	first := v.Snapshot()
	onChange(first)
	go v.follow(ctx, tokens, first, onChange)
	return nil
}

func (v *Vault) follow(ctx context.Context, tokens <-chan struct{}, last *Snapshot, onChange func(*Snapshot)) {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tokens:
		case <-retry.C:
		}
		if err := v.Reload(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			if !failing { // once per outage
				v.log.Error("cannot reload the vault, going on with what was last read", "err", err)
			}
			failing = true
			retry.Reset(retryReload)
			continue
		}
		if failing {
			v.log.Info("the vault is readable again")
			failing = false
		}
		if s := v.Snapshot(); s != last {
			last = s
			onChange(s)
		}
	}
}
