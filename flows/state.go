package flows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"authsome/flows/oauth"
	"authsome/vault"
)

// state is a provider's state record: what happened, as opposed to what holds.
type state struct {
	Connections map[string]ConnectionState `json:"connections"`

	entry *vault.Entry
}

// ConnectionState is the state of one connection's refreshes.
type ConnectionState struct {
	LastRefresh time.Time     `json:"last_refresh,omitzero"`
	LastError   string        `json:"last_error,omitempty"`
	LastErrorAt time.Time     `json:"last_error_at,omitzero"`
	AnswerLost  bool          `json:"answer_lost,omitempty"` // of the last attempt
	Backoff     oauth.Backoff `json:"backoff,omitzero"`
}

func (b *Broker) state(ctx context.Context, name string) (*state, error) {
	e, err := b.vault.Get(ctx, stateKey(b.profile, name))
	if errors.Is(err, vault.ErrNotFound) {
		return &state{Connections: map[string]ConnectionState{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeState(e)
}

func decodeState(e *vault.Entry) (*state, error) {
	fields, err := e.Fields()
	if err != nil {
		return nil, err
	}
	st := &state{Connections: map[string]ConnectionState{}, entry: e}
	if err := unmarshalFields(fields, st); err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	return st, nil
}

// change is the state's part of a commit. It is not conditional: the state of
// another connection that is refreshed at the same time is history, not truth.
func (st *state) change(profile, name string) (vault.Change, error) {
	rec := vault.Record{Fields: map[string]json.RawMessage{}}
	if st.entry != nil {
		old, err := st.entry.Record()
		if err != nil {
			return vault.Change{}, err
		}
		rec = old
	}
	return vault.Change{Key: stateKey(profile, name), Record: &rec}, mergeFields(rec.Fields, st)
}
