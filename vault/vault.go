package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"authsome/vault/audit"
)

// Config says what a vault is made of.
type Config struct {
	Store   Store      // required
	Wrapper KeyWrapper // required: finds the key-encryption key

	// Audit is required: a vault that cannot record a change does not make it.
	Audit *audit.Log

	Clock  func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means none
}

// A Vault holds encrypted records. It is safe for concurrent use, by several
// processes too.
type Vault struct {
	store Store
	audit *audit.Log
	clock func() time.Time
	log   *slog.Logger

	keysMu   sync.Mutex // held while keys are unwrapped; guards wrapper, vanished and writes to keys
	wrapper  KeyWrapper
	keys     atomic.Pointer[keyset]
	vanished int // loads in a row that found the store gone

	snapshot atomic.Pointer[Snapshot]
	snapMu   sync.Mutex // guards applied and writes to snapshot
	applied  uint64     // commits by this process

	reloadOK, reloadFailed atomic.Uint64
}

// Open returns the vault in a store. It unwraps the data key of a store that
// has one, and fails with [ErrKeyMissing] or [ErrWrongKey] when it cannot. An
// empty store is left alone: its data key is made by the first write, or by
// [Vault.Init].
func Open(ctx context.Context, cfg Config) (*Vault, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("open vault: no store")
	case cfg.Wrapper == nil:
		return nil, errors.New("open vault: no key wrapper")
	case cfg.Audit == nil:
		return nil, errors.New("open vault: no audit log")
	}
	v := &Vault{store: cfg.Store, wrapper: cfg.Wrapper, audit: cfg.Audit, clock: cfg.Clock, log: cfg.Logger}
	if v.clock == nil {
		v.clock = time.Now
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	v.snapshot.Store(&Snapshot{})
	if err := v.refreshKeys(ctx); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	return v, nil
}

// Init makes the data key, and with it the store, unless they exist.
func (v *Vault) Init(ctx context.Context) error {
	_, err := v.activeKeys(ctx)
	return err
}

// refreshKeys reads the key document.
func (v *Vault) refreshKeys(ctx context.Context) error {
	values, err := v.store.Load(ctx, keysKey)
	if err != nil {
		return err
	}
	if _, ok := values[keysKey]; !ok {
		// Is it a new store, or has it lost its key?
		if values, err = v.store.Load(ctx, ""); err != nil {
			return err
		}
	}
	_, err = v.keysIn(ctx, values)
	if errors.Is(err, errVanished) {
		_, err = v.keysIn(ctx, values)
	}
	return err
}

// activeKeys returns the keyset, and makes one for a new vault.
func (v *Vault) activeKeys(ctx context.Context) (*keyset, error) {
	for {
		if keys := v.keys.Load(); keys != nil && keys.active != nil {
			return keys, nil
		}
		v.keysMu.Lock()
		wrapper := v.wrapper
		v.keysMu.Unlock()
		fresh, err := newKeyset(ctx, wrapper, v.clock())
		if err != nil {
			return nil, err
		}
		err = v.store.Commit(ctx, Batch{Ops: []Op{{Key: keysKey, Value: fresh.raw, If: absent()}}})
		if errors.Is(err, ErrConflict) {
			v.forget(ctx, wrapper, fresh)
		} else if err != nil {
			return nil, err
		}
		// Whoever was first, everybody uses what is in the store.
		if err := v.refreshKeys(ctx); err != nil {
			return nil, err
		}
	}
}

// Get returns the record under key, or an error that matches [ErrNotFound].
func (v *Vault) Get(ctx context.Context, key string) (*Entry, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	values, err := v.store.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	raw, ok := values[key]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	keys, err := v.keysFor(ctx, raw)
	if err != nil {
		return nil, err
	}
	return &Entry{Key: key, raw: raw, keys: keys}, nil
}

// List returns the records whose keys begin with prefix, sorted by key. A
// damaged record is listed too, and says so when it is decoded.
func (v *Vault) List(ctx context.Context, prefix string) ([]*Entry, error) {
	values, err := v.store.Load(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var entries []*Entry
	for key, raw := range values {
		if strings.HasPrefix(key, reserved) {
			continue
		}
		keys, err := v.keysFor(ctx, raw)
		if err != nil {
			return nil, err
		}
		entries = append(entries, &Entry{Key: key, raw: raw, keys: keys})
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, nil
}

// keysFor returns a keyset that opens raw, which another process may have
// sealed under a key that is new to this one.
func (v *Vault) keysFor(ctx context.Context, raw []byte) (*keyset, error) {
	keys := v.keys.Load()
	if keys != nil && keys.knows(raw) {
		return keys, nil
	}
	if err := v.refreshKeys(ctx); err != nil {
		return nil, err
	}
	if keys = v.keys.Load(); keys == nil {
		keys = &keyset{} // nothing opens; decoding says so
	}
	return keys, nil
}

// checkKey refuses keys that would collide with the vault's own, or with the
// zero byte that separates a key from a field in the associated data.
func checkKey(key string) error {
	if key == "" || strings.HasPrefix(key, reserved) || strings.ContainsRune(key, 0) {
		return fmt.Errorf("record key %q is not allowed", key)
	}
	return nil
}

// name returns how the store is called in messages.
func (v *Vault) name() string {
	if named, ok := v.store.(interface{ Path() string }); ok {
		return named.Path()
	}
	return "(unnamed)"
}
