package flows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
)

// Config is what a Broker needs. All but Clock and Logger must be set.
type Config struct {
	Vault    *vault.Vault
	Profile  string
	Registry *provider.Registry
	Clock    func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: discarded

	// HTTP carries the calls to providers; nil is one with the default
	// transport, which reads HTTPS_PROXY.
	HTTP *http.Client
	// Getenv reads the variables that a definition names; nil is os.Getenv.
	Getenv func(string) string
}

// Broker ties login, refresh and revocation to one profile's vault. It is safe
// for concurrent use, by several processes too.
type Broker struct {
	vault    *vault.Vault
	profile  string
	registry *provider.Registry
	clock    func() time.Time
	log      *slog.Logger
	http     *http.Client
	getenv   func(string) string
	observe  func(provider, outcome string) // counts refreshes, see Observe

	handles   atomic.Pointer[handles]
	handlesMu sync.Mutex // held while handles are made anew

	flightsMu sync.Mutex // guards both
	flights   map[flightKey]*flight
	forced    map[connectionID]time.Time // when an origin's 401 last had a connection refreshed

	readsMu sync.Mutex // guards reads and what is in it
	reads   map[connectionID]*readings

	pauses  sync.Map // connectionID → pause
	unsaved sync.Map // connectionID → unsaved
}

// connectionID names a connection within the profile.
type connectionID struct{ provider, connection string }

func (c *Connection) id() connectionID { return connectionID{c.Provider, c.Name} }

// New returns a Broker.
func New(cfg Config) (*Broker, error) {
	if cfg.Vault == nil || cfg.Registry == nil {
		return nil, errors.New("flows: Vault and Registry are required")
	}
	if err := provider.ValidName(cfg.Profile); err != nil {
		return nil, fmt.Errorf("%w: profile: %w", ErrBadName, err)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	return &Broker{vault: cfg.Vault, profile: cfg.Profile, registry: cfg.Registry, clock: cfg.Clock, log: cfg.Logger,
		http: cfg.HTTP, getenv: cfg.Getenv, flights: map[flightKey]*flight{}, forced: map[connectionID]time.Time{},
		reads: map[connectionID]*readings{}}, nil
}

// Observe has count called after each refresh with its outcome: "ok",
// "invalid_grant" or "failed". It must be called before the broker is shared.
func (b *Broker) Observe(count func(provider, outcome string)) { b.observe = count }

// Profile returns the name of the broker's profile.
func (b *Broker) Profile() string { return b.profile }

// Now returns the broker's time, in UTC and whole seconds, as it is stored.
func (b *Broker) Now() time.Time { return b.clock().UTC().Truncate(time.Second) }

// index is a provider's metadata record.
type index struct {
	Connections []string  `json:"connections"`
	Default     string    `json:"default_connection,omitempty"`
	LastUsed    time.Time `json:"last_used,omitzero"`

	entry *vault.Entry
}

func (b *Broker) index(ctx context.Context, name string) (*index, error) {
	e, err := b.vault.Get(ctx, metadataKey(b.profile, name))
	if errors.Is(err, vault.ErrNotFound) {
		return &index{}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeIndex(e)
}

func decodeIndex(e *vault.Entry) (*index, error) {
	fields, err := e.Fields()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	ix := &index{entry: e}
	if err := json.Unmarshal(b, ix); err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	return ix, nil
}

// change is the index's part of a commit. A provider without connections has
// no index.
func (ix *index) change(profile, name string) (vault.Change, error) {
	c := vault.Change{Key: metadataKey(profile, name), Previous: ix.entry, Create: ix.entry == nil}
	if len(ix.Connections) == 0 {
		return c, nil
	}
	rec := vault.Record{Fields: map[string]json.RawMessage{}}
	if ix.entry != nil {
		old, err := ix.entry.Record()
		if err != nil {
			return c, err
		}
		rec = old
	}
	c.Record = &rec
	return c, mergeFields(rec.Fields, ix)
}

func (ix *index) add(name string) {
	if !slices.Contains(ix.Connections, name) {
		ix.Connections = append(ix.Connections, name)
		sort.Strings(ix.Connections)
	}
	if ix.Default == "" {
		ix.Default = name
	}
}

func (ix *index) drop(name string) {
	ix.Connections = slices.DeleteFunc(ix.Connections, func(n string) bool { return n == name })
	if ix.Default == name {
		ix.Default = ""
		if len(ix.Connections) > 0 {
			ix.Default = ix.Connections[0]
		}
	}
}

// resolve turns an empty connection name into the provider's default one.
func (b *Broker) resolve(ctx context.Context, name, connection string) (string, error) {
	if connection != "" {
		if err := provider.ValidName(connection); err != nil {
			return "", fmt.Errorf("%w: connection: %w", ErrBadName, err)
		}
		return connection, nil
	}
	ix, err := b.index(ctx, name)
	if err != nil {
		return "", err
	}
	if ix.Default != "" {
		return ix.Default, nil
	}
	return DefaultConnection, nil
}

// Get returns a connection with its secrets. An empty name is the default
// connection. It fails with ErrNoConnection, or with what the vault fails with.
func (b *Broker) Get(ctx context.Context, name, connection string) (*Connection, error) {
	connection, err := b.resolve(ctx, name, connection)
	if err != nil {
		return nil, err
	}
	e, err := b.vault.Get(ctx, connectionKey(b.profile, name, connection))
	if errors.Is(err, vault.ErrNotFound) {
		return nil, b.connectionError(name, connection, ErrNoConnection)
	}
	if err != nil {
		return nil, err
	}
	return decodeConnection(e)
}

// Listing is what a profile holds for one provider.
type Listing struct {
	Provider    string
	Default     string
	Configured  bool // client credentials are stored
	States      map[string]ConnectionState
	Connections []*Connection
}

// List returns what the profile holds, by provider, without opening secrets.
// A record that cannot be read is an error that names it; the rest is returned.
func (b *Broker) List(ctx context.Context) (map[string]*Listing, error) {
	entries, err := b.vault.List(ctx, profilePrefix(b.profile))
	if err != nil {
		return nil, err
	}
	return b.listings(entries)
}

func (b *Broker) listings(entries []*vault.Entry) (map[string]*Listing, error) {
	all := make(map[string]*Listing)
	var errs []error
	for _, e := range entries {
		name, kind, _ := splitKey(b.profile, e.Key)
		l := all[name]
		if l == nil {
			l = &Listing{Provider: name}
			all[name] = l
		}
		switch kind {
		case "metadata":
			ix, err := decodeIndex(e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			l.Default = ix.Default
		case "client":
			l.Configured = true
		case "state":
			st, err := decodeState(e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			l.States = st.Connections
		case "connection":
			c, err := decodePublic(e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			l.Connections = append(l.Connections, c)
		}
	}
	return all, errors.Join(errs...)
}

// conflictRetries is how often a commit starts over because a record that it
// depends on was changed by somebody else.
const conflictRetries = 10

// commit makes the changes that build makes from what is stored. When somebody
// else was quicker it builds them anew.
func (b *Broker) commit(ctx context.Context, ev audit.Event, build func() ([]vault.Change, error)) error {
	for try := 1; ; try++ {
		changes, err := build()
		if err != nil {
			return err
		}
		err = b.vault.Apply(ctx, ev, changes...)
		if !errors.Is(err, vault.ErrConflict) || try == conflictRetries {
			return err
		}
	}
}

func (b *Broker) event(event, name, connection string) audit.Event {
	return audit.Event{Event: event, Profile: b.profile, Provider: name, Connection: connection, Outcome: "ok"}
}

// Grant is a connection that a run may use, with its provider's definition.
type Grant struct {
	Definition *provider.Definition
	Connection *Connection
}

// Grants returns, from the vault's snapshot, the connections that a run was
// given. providers limits it to some providers; choose names connections,
// "provider" → names, and a provider that is not in it gives its default one.
func (b *Broker) Grants(providers []string, choose map[string][]string) ([]Grant, error) {
	all, err := b.listings(b.vault.Snapshot().Prefix(profilePrefix(b.profile)))
	var grants []Grant
	for name, l := range all {
		if len(providers) > 0 && !slices.Contains(providers, name) && choose[name] == nil {
			continue
		}
		entry, lookupErr := b.registry.Lookup(name)
		if lookupErr != nil {
			if len(l.Connections) > 0 {
				err = errors.Join(err, lookupErr)
			}
			continue
		}
		for _, c := range l.Connections {
			if wanted := choose[name]; wanted != nil && slices.Contains(wanted, c.Name) || wanted == nil && c.Name == l.Default {
				grants = append(grants, Grant{entry.Definition, c})
			}
		}
	}
	sort.Slice(grants, func(i, j int) bool {
		a, b := grants[i].Connection, grants[j].Connection
		return a.Provider+"/"+a.Name < b.Provider+"/"+b.Name
	})
	return grants, err
}

// Watch keeps the snapshot fresh until ctx ends and calls changed after each
// change, the first one included.
func (b *Broker) Watch(ctx context.Context, changed func()) error {
	return b.vault.Watch(ctx, func(*vault.Snapshot) { changed() })
}
