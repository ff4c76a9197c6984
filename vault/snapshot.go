package vault

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
)

// A Snapshot is an immutable view of all records, still encrypted. Reading it
// touches no disk and takes no lock.
type Snapshot struct {
	entries    []*Entry // sorted by key
	generation uint64
}

// Get returns the record under key.
func (s *Snapshot) Get(key string) (*Entry, bool) {
	i, ok := s.find(key)
	if !ok {
		return nil, false
	}
	return s.entries[i], true
}

// Prefix returns the records whose keys begin with prefix, sorted by key. The
// slice is shared and must not be changed.
func (s *Snapshot) Prefix(prefix string) []*Entry {
	from, _ := s.find(prefix)
	to := from
	for to < len(s.entries) && strings.HasPrefix(s.entries[to].Key, prefix) {
		to++
	}
	return s.entries[from:to:to]
}

// Len returns the number of records.
func (s *Snapshot) Len() int { return len(s.entries) }

// Generation grows by at least one with every change of any record. It is 0
// until something was loaded, and has no meaning across processes.
func (s *Snapshot) Generation() uint64 { return s.generation }

func (s *Snapshot) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.entries, key, func(e *Entry, key string) int {
		return strings.Compare(e.Key, key)
	})
}

// replace returns the snapshot that holds values. Entries that did not change
// are kept, so that what was derived from them can be found by pointer.
func (s *Snapshot) replace(values map[string][]byte, keys *keyset) *Snapshot {
	next := &Snapshot{entries: make([]*Entry, 0, len(values)), generation: s.generation}
	same := 0
	for key, raw := range values {
		if strings.HasPrefix(key, reserved) {
			continue
		}
		entry, ok := s.Get(key)
		if ok && bytes.Equal(entry.raw, raw) && keys.get(sealKey(raw)) == entry.keys.get(sealKey(raw)) {
			same++
		} else {
			entry = &Entry{Key: key, raw: raw, keys: keys}
		}
		next.entries = append(next.entries, entry)
	}
	if same == len(next.entries) && same == len(s.entries) && s.generation > 0 {
		return s
	}
	slices.SortFunc(next.entries, func(a, b *Entry) int { return strings.Compare(a.Key, b.Key) })
	next.generation++
	return next
}

// with returns the snapshot after ops.
func (s *Snapshot) with(ops []Op, keys *keyset) *Snapshot {
	next := &Snapshot{entries: slices.Clone(s.entries), generation: s.generation + 1}
	for _, op := range ops {
		if op.Check || strings.HasPrefix(op.Key, reserved) {
			continue
		}
		i, found := next.find(op.Key)
		switch {
		case op.Value == nil && found:
			next.entries = slices.Delete(next.entries, i, i+1)
		case op.Value == nil:
		case found:
			next.entries[i] = &Entry{Key: op.Key, raw: op.Value, keys: keys}
		default:
			next.entries = slices.Insert(next.entries, i, &Entry{Key: op.Key, raw: op.Value, keys: keys})
		}
	}
	return next
}

// Snapshot returns the latest view. It is empty, with generation 0, until
// [Vault.Reload] or [Vault.Watch] succeeded once.
func (v *Vault) Snapshot() *Snapshot { return v.snapshot.Load() }

// errVanished is returned when the records and the key that were there are gone.
var errVanished = errors.New("the store is gone")

// Reload reads the store into the snapshot. After an error the snapshot is the
// one that was there before.
func (v *Vault) Reload(ctx context.Context) error {
	err := v.reload(ctx)
	if err != nil {
		v.reloadFailed.Add(1)
		return err
	}
	v.reloadOK.Add(1)
	return nil
}

// ReloadStats returns how many reloads of the snapshot succeeded and failed.
func (v *Vault) ReloadStats() (ok, failed uint64) {
	return v.reloadOK.Load(), v.reloadFailed.Load()
}

func (v *Vault) reload(ctx context.Context) error {
	for {
		v.snapMu.Lock()
		before := v.applied
		v.snapMu.Unlock()
		values, err := v.store.Load(ctx, "")
		if err != nil {
			return err
		}
		keys, err := v.keysIn(ctx, values)
		if err != nil {
			return err
		}
		v.snapMu.Lock()
		if v.applied == before { // else this process wrote meanwhile: values may be older than the snapshot
			v.snapshot.Store(v.snapshot.Load().replace(values, keys))
			v.snapMu.Unlock()
			return nil
		}
		v.snapMu.Unlock()
	}
}

// keysIn returns the keyset for values, a load of everything.
func (v *Vault) keysIn(ctx context.Context, values map[string][]byte) (*keyset, error) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	raw, ok := values[keysKey]
	known := v.keys.Load()
	switch {
	case ok && known != nil && bytes.Equal(raw, known.raw):
		v.vanished = 0
		return known, nil
	case ok:
		v.vanished = 0
		keys, err := unwrapKeys(ctx, raw, v.wrapper, known)
		if err == nil {
			v.keys.Store(keys)
		}
		return keys, err
	case hasRecords(values):
		return nil, &CorruptError{Path: v.name(), Detail: "its data key is missing"}
	case known != nil && known.raw != nil:
		// Seen once, this may be a moment between two steps of somebody's
		// replacing the file.
		if v.vanished++; v.vanished < 2 {
			return nil, errVanished
		}
		v.log.Warn("the store is gone, all connections with it", "store", v.name())
		empty := &keyset{}
		v.keys.Store(empty)
		return empty, nil
	}
	return known, nil
}

// hasRecords reports whether there is anything that a key is needed for.
func hasRecords(values map[string][]byte) bool {
	for key := range values {
		if !strings.HasPrefix(key, reserved) {
			return true
		}
	}
	return false
}

// sealKey returns the kid that a record is sealed under, or "".
func sealKey(raw []byte) string {
	_, kid, _, _, _ := split(raw)
	return kid
}
