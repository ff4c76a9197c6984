package flows

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"authsome/flows/oauth"
	"authsome/vault"
)

// state is a provider's state record: what happened, as opposed to what holds.
type state struct {
	Connections map[string]ConnectionState `json:"connections"`

	entry *vault.Entry
}

// ConnectionState is the history of one connection's refreshes since its login.
// Times are UTC; a zero time means never.
type ConnectionState struct {
	LastRefresh time.Time     `json:"last_refresh,omitzero"` // the last that succeeded
	LastError   string        `json:"last_error,omitempty"`  // of the last attempt; "" when it succeeded
	LastErrorAt time.Time     `json:"last_error_at,omitzero"`
	Backoff     oauth.Backoff `json:"backoff,omitzero"`

	// ClientRejected says that the last error was about the client, not about
	// the connection.
	ClientRejected bool `json:"client_rejected,omitempty"`

	// Asked is when a refresh was begun whose answer never arrived: it is
	// written before the provider is asked and removed with the answer. The
	// provider may have rotated the token all the same.
	Asked time.Time `json:"asked,omitzero"`
}

// Advice says what the user has to do about a connection of l, "" when there is
// nothing to do: what expires is renewed by itself when it is used next.
func (l *Listing) Advice(c *Connection, now time.Time) string {
	st := l.States[c.Name]
	again := loginAgain(c.Provider, c.Name, named(c.Name, func() string { return cmp.Or(l.Default, DefaultConnection) }))
	switch status := c.EffectiveStatus(now); {
	case status == Invalid || status == Revoked || status == NotConnected:
		return again
	case st.ClientRejected:
		return "check the client id and secret, then " + again + " --reset"
	case status == Expired && c.Metadata[metaRenewable] == false:
		return again
	case st.LastError != "":
		return "it is tried again when it is used; to try now, run: " + strings.TrimPrefix(again, "run: ") + " --if-needed"
	}
	return ""
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
	st := &state{entry: e}
	if err := unmarshalFields(fields, st); err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	if st.Connections == nil {
		st.Connections = map[string]ConnectionState{}
	}
	return st, nil
}

// editState returns the part of a commit that changes a connection's state.
func (b *Broker) editState(ctx context.Context, c *Connection, edit func(ConnectionState) ConnectionState) ([]vault.Change, error) {
	st, err := b.state(ctx, c.Provider)
	if err != nil {
		return nil, err
	}
	if next := edit(st.Connections[c.Name]); next != (ConnectionState{}) {
		st.Connections[c.Name] = next
	} else {
		delete(st.Connections, c.Name)
	}
	return st.changes(b.profile, c.Provider)
}

// forgetState is the edit that begins a history anew.
func forgetState(ConnectionState) ConnectionState { return ConnectionState{} }

func (st *state) changes(profile, name string) ([]vault.Change, error) {
	change := vault.Change{Key: stateKey(profile, name), Previous: st.entry, Create: st.entry == nil}
	if len(st.Connections) == 0 {
		if st.entry == nil {
			return nil, nil
		}
		return []vault.Change{change}, nil
	}
	rec := vault.Record{Fields: map[string]json.RawMessage{}}
	if st.entry != nil {
		old, err := st.entry.Record()
		if err != nil {
			return nil, err
		}
		rec = old
	}
	change.Record = &rec
	return []vault.Change{change}, mergeFields(rec.Fields, st)
}
