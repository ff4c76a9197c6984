package vault

import (
	"bytes"
	"context"
	"strings"
	"sync"
)

// A Memory is a Store that forgets everything when the process ends.
type Memory struct {
	mu       sync.Mutex // guards both
	values   map[string][]byte
	watchers map[chan struct{}]struct{}
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{values: map[string][]byte{}, watchers: map[chan struct{}]struct{}{}}
}

// Load implements Store.
func (m *Memory) Load(ctx context.Context, prefix string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string][]byte{}
	for key, value := range m.values {
		if strings.HasPrefix(key, prefix) {
			found[key] = bytes.Clone(value)
		}
	}
	return found, ctx.Err()
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, b Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := b.conflict(len(m.values), func(key string) ([]byte, bool) {
		value, exists := m.values[key]
		return value, exists
	})
	if err != nil {
		return err
	}
	for _, op := range b.Ops {
		switch {
		case op.Check:
		case op.Value == nil:
			delete(m.values, op.Key)
		default:
			m.values[op.Key] = bytes.Clone(op.Value)
		}
	}
	for watcher := range m.watchers {
		nudge(watcher)
	}
	return nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context) (<-chan struct{}, error) {
	tokens := make(chan struct{}, 1)
	m.mu.Lock()
	m.watchers[tokens] = struct{}{}
	m.mu.Unlock()
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		delete(m.watchers, tokens)
		m.mu.Unlock()
	})
	return tokens, ctx.Err()
}

// nudge leaves a token in c unless one is waiting there.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
