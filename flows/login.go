package flows

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// Login is what every flow needs to know.
type Login struct {
	Provider   *provider.Entry
	Connection string // "" is DefaultConnection, or the provider's default one
	BaseURL    string // "" is the definition's
	Force      bool   // log in though the connection is valid

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
	c.APIKey, c.Status = key, Connected
	c.ObtainedAt = b.Now()
	return c, b.store(ctx, c)
}

// begin prepares the record of a login: the old one, if there is one, with the
// route pinned anew and everything that belongs to the old credential gone.
func (b *Broker) begin(ctx context.Context, l Login) (*Connection, error) {
	def := l.Provider.Definition
	name, err := b.resolve(ctx, def.Name, l.Connection)
	if err != nil {
		return nil, err
	}
	c, err := b.Get(ctx, def.Name, name)
	switch {
	case errors.Is(err, ErrNoConnection):
		c = &Connection{}
	case err != nil:
		return nil, err
	case !l.Force && c.EffectiveStatus(b.clock()) == Connected:
		return nil, connectionError(def.Name, name, ErrAlreadyConnected)
	}
	base, err := baseURL(def, l.BaseURL)
	if err != nil {
		return nil, connectionError(def.Name, name, err)
	}
	resolved, err := def.Resolve(base)
	if err != nil {
		return nil, connectionError(def.Name, name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	hosts, err := def.Routes(base)
	if err != nil {
		return nil, connectionError(def.Name, name, fmt.Errorf("%w: %w", ErrBadInput, err))
	}
	fresh := &Connection{SchemaVersion: recordVersion, Provider: def.Name, Profile: b.profile, Name: name,
		AuthType: def.AuthType, BaseURL: base, HostURL: hosts, Metadata: c.Metadata, entry: c.entry}
	if resolved.OAuth != nil {
		fresh.TokenURL = resolved.OAuth.TokenURL
	}
	return fresh, nil
}

// store writes a logged-in connection and its place in the index.
func (b *Broker) store(ctx context.Context, c *Connection) error {
	ix, err := b.index(ctx, c.Provider)
	if err != nil {
		return err
	}
	ix.add(c.Name)
	ixChange, err := ix.change(b.profile, c.Provider)
	if err != nil {
		return err
	}
	rec, err := c.record()
	if err != nil {
		return err
	}
	return b.vault.Apply(ctx, b.event("login", c.Provider, c.Name),
		vault.Change{Key: connectionKey(b.profile, c.Provider, c.Name), Record: rec, Previous: c.entry, Create: c.entry == nil},
		ixChange)
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
	case value == "":
		return fmt.Errorf("%w: it is empty", ErrBadSecret)
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

// baseURL chooses and checks the base URL of a login.
func baseURL(def *provider.Definition, given string) (string, error) {
	fallback := def.DefaultBaseURL()
	if given == "" {
		given = fallback
	}
	if given == "" {
		if def.NeedsBaseURL() {
			return "", fmt.Errorf("%w: %s is self-hosted or per site: say where with --base-url https://…", ErrBadInput, def.DisplayName)
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
	return strings.TrimRight(given, "/"), nil
}
