package flows

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// Login is what every flow needs to know.
type Login struct {
	Provider   *provider.Entry
	Connection string // "" is DefaultConnection, or the provider's default one
	BaseURL    string // "" is the connection's own, or the definition's
	Force      bool   // log in though the connection is valid

	// Reset logs in as if nothing were stored for the provider, and deletes
	// what is once the login has succeeded.
	Reset bool

	// For OAuth alone.
	Flow         provider.Flow // "" is the definition's
	Scopes       []string      // nil is the definition's
	ClientID     string        // "" is the stored one, or what the prompter says
	ClientSecret secret.Text
	CallbackPort int // 0 is 7999
}

// Valid returns the connection when it is connected and not expired, and nil
// when a login is due.
func (b *Broker) Valid(ctx context.Context, l Login) (*Connection, error) {
	c, err := b.Get(ctx, l.Provider.Name, l.Connection)
	if errors.Is(err, ErrNoConnection) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if c.EffectiveStatus(b.clock()) != Connected {
		return nil, nil
	}
	return c, nil
}

// LoginAPIKey checks a key's shape and stores it. It fails with
// ErrAlreadyConnected, ErrBadSecret or ErrBadInput, or with what the vault
// fails with.
func (b *Broker) LoginAPIKey(ctx context.Context, l Login, key secret.Text) (*Connection, error) {
	def := l.Provider.Definition
	if err := CheckKey(def, key); err != nil {
		return nil, err
	}
	c, err := b.begin(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := c.settle(def, l.BaseURL); err != nil {
		return nil, err
	}
	c.APIKey, c.Status = key, Connected
	c.ObtainedAt = b.Now()
	return c, b.store(ctx, l, c, nil)
}

// begin prepares the record of a login. It fails with ErrAlreadyConnected. What
// belongs to an old credential is not taken over, but for the base URL: whoever
// logs in again means the same site.
func (b *Broker) begin(ctx context.Context, l Login) (*Connection, error) {
	def := l.Provider.Definition
	if l.Reset && l.Connection == "" {
		l.Connection = DefaultConnection // whatever the default is now, it will be forgotten
	}
	name, err := b.resolve(ctx, def.Name, l.Connection)
	if err != nil {
		return nil, err
	}
	fresh := &Connection{SchemaVersion: recordVersion, Provider: def.Name, Profile: b.profile, Name: name, AuthType: def.AuthType}
	if l.Reset {
		return fresh, nil
	}
	old, err := b.Get(ctx, def.Name, name)
	var damaged *vault.IntegrityError
	switch {
	case errors.Is(err, ErrNoConnection), l.Force && errors.As(err, &damaged):
		return fresh, nil
	case err != nil:
		return nil, err
	case !l.Force && old.EffectiveStatus(b.clock()) == Connected:
		return nil, b.connectionError(def.Name, name, ErrAlreadyConnected)
	}
	if def.NeedsBaseURL() {
		fresh.BaseURL = old.BaseURL
	}
	return fresh, nil
}

// SuggestBaseURL returns what to offer when a login asks for the base URL: the one
// that the connection has, else the latest login's to the provider, else the
// definition's. It is "" when there is none.
func (b *Broker) SuggestBaseURL(ctx context.Context, l Login) (string, error) {
	def := l.Provider.Definition
	name, err := b.resolve(ctx, def.Name, l.Connection)
	if err != nil {
		return "", err
	}
	all, _ := b.List(ctx) // a record that cannot be read is another command's to complain about
	held := all[def.Name]
	if held == nil {
		return def.DefaultBaseURL(), nil
	}
	base, latest := def.DefaultBaseURL(), time.Time{}
	for _, c := range held.Connections {
		switch {
		case c.BaseURL == "":
		case c.Name == name:
			return c.BaseURL, nil
		case c.ObtainedAt.After(latest):
			base, latest = c.BaseURL, c.ObtainedAt
		}
	}
	return base, nil
}

// settle pins where a connection's credential may go, from the base URL given,
// the one that the connection has, or the definition's.
func (c *Connection) settle(def *provider.Definition, given string) error {
	if given == "" {
		given = c.BaseURL
	}
	base, err := BaseURL(def, given)
	if err != nil {
		return connectionError(c.Provider, c.Name, err)
	}
	resolved, err := def.Resolve(base)
	if err != nil {
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	hosts, err := def.Routes(base)
	if err != nil {
		return connectionError(c.Provider, c.Name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	c.BaseURL, c.HostURL, c.TokenURL = base, hosts, ""
	if resolved.OAuth != nil {
		c.TokenURL = resolved.OAuth.TokenURL
	}
	return nil
}

// store writes a logged-in connection, its place in the index, the client that
// it was made with if that is new, and a clean history. A login is what a person
// wanted last: it replaces whatever is stored by then, a refresh included.
func (b *Broker) store(ctx context.Context, l Login, c *Connection, made *client) error {
	if l.Reset {
		if _, err := b.removeAll(ctx, "remove", c.Provider); err != nil {
			return err
		}
	}
	err := b.commit(ctx, b.event("login", c.Provider, c.Name), func() ([]vault.Change, error) {
		key := connectionKey(b.profile, c.Provider, c.Name)
		var err error
		if c.entry, err = b.vault.Get(ctx, key); err != nil && !errors.Is(err, vault.ErrNotFound) {
			return nil, err
		}
		rec, err := c.record()
		var damaged *vault.IntegrityError
		if l.Force && errors.As(err, &damaged) { // there is nothing to keep of it
			rec, err = c.newRecord()
		}
		if err != nil {
			return nil, err
		}
		ix, err := b.index(ctx, c.Provider)
		if err != nil {
			return nil, err
		}
		ix.add(c.Name)
		ixChange, err := ix.change(b.profile, c.Provider)
		if err != nil {
			return nil, err
		}
		changes, err := b.editState(ctx, c, forgetState)
		if err != nil {
			return nil, err
		}
		if made != nil {
			change, err := made.change(b.profile, c.Provider)
			if err != nil {
				return nil, err
			}
			changes = append(changes, change)
		}
		return append(changes, ixChange, vault.Change{Key: key, Record: rec, Previous: c.entry, Create: c.entry == nil}), nil
	})
	if err == nil {
		b.forget(c.id())
	}
	return err
}

// CheckKey rejects a key that cannot be right with ErrBadSecret, without ever
// quoting it.
func CheckKey(def *provider.Definition, key secret.Text) error {
	if err := keyShape(def, key); err != nil {
		return connectionError(def.Name, "", err)
	}
	return nil
}

func keyShape(def *provider.Definition, key secret.Text) error {
	value := key.Reveal()
	switch {
	case strings.TrimSpace(value) == "":
		return fmt.Errorf("%w: it is empty", ErrBadSecret)
	case !utf8.ValidString(value): // JSON could not carry it
		return fmt.Errorf("%w: it is no text in UTF-8", ErrBadSecret)
	case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fmt.Errorf("%w: it holds a line break or another control character", ErrBadSecret)
	case value == def.Placeholder(), strings.Contains(value, "authsome-proxy-managed"):
		return fmt.Errorf("%w: it is the placeholder that authsome gives to a child, not a key", ErrBadSecret)
	}
	if def.APIKey == nil || def.APIKey.KeyPattern == "" {
		return nil
	}
	re, err := regexp.Compile(`^(?:` + def.APIKey.KeyPattern + `)$`)
	if err != nil {
		return fmt.Errorf("key_pattern of %s: %w", def.Name, err)
	}
	if !re.MatchString(value) {
		hint := def.APIKey.KeyPatternHint
		if hint == "" {
			hint = "it must match " + def.APIKey.KeyPattern
		}
		return fmt.Errorf("%w: %s", ErrBadSecret, hint)
	}
	return nil
}

// errNoBaseURL is returned where a base URL is needed and nobody said which.
var errNoBaseURL = fmt.Errorf("%w: it is self-hosted or per site: say where with --base-url https://…", ErrBadInput)

// BaseURL is the base URL that a login would use which was given this one, "" for
// none: the definition's then. It fails with [ErrBadInput].
func BaseURL(def *provider.Definition, given string) (string, error) {
	fallback := def.DefaultBaseURL()
	if given == "" {
		given = fallback
	}
	if given == "" {
		if def.NeedsBaseURL() {
			return "", errNoBaseURL
		}
		return "", nil
	}
	if !strings.Contains(given, "://") {
		given = "https://" + given
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%w: base URL %q: want https://host with an optional port and path", ErrBadInput, given)
	}
	if !def.NeedsBaseURL() && fallback == "" {
		return "", fmt.Errorf("%w: %s has no base URL to choose", ErrBadInput, def.Name)
	}
	// Spelled in one way, so that two logins to a site are seen to be that.
	given = "https://" + strings.Replace(given[len("https://"):], u.Host, strings.ToLower(u.Host), 1)
	return strings.TrimRight(given, "/"), nil
}
