package flows

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"authsome/provider"
	"authsome/vault"
	"authsome/vault/secret"
)

// DefaultConnection is the name of a connection that was not given one.
const DefaultConnection = "default"

// recordVersion is the schema_version of the records written here.
const recordVersion = 1

// Status is the state of a connection.
type Status string

// The states of a connection.
const (
	NotConnected Status = "not_connected"
	Connected    Status = "connected"
	Expired      Status = "expired"
	Revoked      Status = "revoked"
	Invalid      Status = "invalid"
)

// Account says whose credential it is, as far as the provider told.
type Account struct {
	ID    string `json:"id,omitempty"`
	Label string `json:"label,omitempty"`
}

// Connection is the record of one connection. Times are UTC; a zero ExpiresAt
// means that the credential does not expire.
type Connection struct {
	SchemaVersion int               `json:"schema_version"`
	Provider      string            `json:"provider"`
	Profile       string            `json:"profile"`
	Name          string            `json:"connection_name"`
	AuthType      provider.AuthType `json:"auth_type"`
	Status        Status            `json:"status"`
	BaseURL       string            `json:"base_url,omitempty"`
	HostURL       []string          `json:"host_url"`
	TokenURL      string            `json:"token_url,omitempty"`
	Scopes        []string          `json:"scopes,omitempty"`
	TokenType     string            `json:"token_type,omitempty"`
	ExpiresAt     time.Time         `json:"expires_at,omitzero"`
	ObtainedAt    time.Time         `json:"obtained_at,omitzero"`
	Account       Account           `json:"account,omitzero"`
	Metadata      map[string]any    `json:"metadata,omitempty"`

	// ClientID is the OAuth client that the tokens were issued to, which is the
	// only one that can renew them (RFC 6749 section 6): the provider's client
	// may be another by now. ClientSecret is its secret.
	ClientID string `json:"client_id,omitempty"`

	AccessToken  secret.Text `json:"-"`
	RefreshToken secret.Text `json:"-"`
	IDToken      secret.Text `json:"-"`
	APIKey       secret.Text `json:"-"`
	ClientSecret secret.Text `json:"-"`

	entry *vault.Entry // what it was read from; nil for a new one
}

// secretFields are the sensitive fields of a record, by their stored names.
func (c *Connection) secretFields() map[string]*secret.Text {
	return map[string]*secret.Text{
		"access_token": &c.AccessToken, "refresh_token": &c.RefreshToken,
		"id_token": &c.IDToken, "api_key": &c.APIKey, "client_secret": &c.ClientSecret,
	}
}

// Credential is what is sent to the provider: the access token or the API key.
func (c *Connection) Credential() secret.Text {
	if c.AuthType == provider.AuthAPIKey {
		return c.APIKey
	}
	return c.AccessToken
}

// EffectiveStatus is the status at a point in time: a connected credential
// whose time has come is expired, whatever the record says.
func (c *Connection) EffectiveStatus(now time.Time) Status {
	if c.Status == Connected && !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt) {
		return Expired
	}
	return c.Status
}

// decodeConnection reads a stored record, with its secrets.
func decodeConnection(e *vault.Entry) (*Connection, error) {
	rec, err := e.Record()
	if err != nil {
		return nil, err
	}
	c, err := fromFields(rec.Fields)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	c.entry = e
	for name, field := range c.secretFields() {
		*field = rec.Secrets[name]
	}
	return c, nil
}

// decodePublic reads a stored record without opening any secret.
func decodePublic(e *vault.Entry) (*Connection, error) {
	fields, err := e.Fields()
	if err != nil {
		return nil, err
	}
	c, err := fromFields(fields)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", e.Key, err)
	}
	c.entry = e
	return c, nil
}

func fromFields(fields map[string]json.RawMessage) (*Connection, error) {
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	c := &Connection{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, err
	}
	return c, nil
}

// record builds what is stored. Fields that this version does not know stay as
// they were read.
func (c *Connection) record() (*vault.Record, error) {
	if c.entry == nil {
		return c.newRecord()
	}
	rec, err := c.entry.Record()
	if err != nil {
		return nil, err
	}
	return &rec, c.writeTo(&rec)
}

func (c *Connection) newRecord() (*vault.Record, error) {
	rec := &vault.Record{Fields: map[string]json.RawMessage{}, Secrets: map[string]secret.Text{}}
	return rec, c.writeTo(rec)
}

func (c *Connection) writeTo(rec *vault.Record) error {
	for _, name := range knownFields {
		delete(rec.Fields, name)
	}
	if err := mergeFields(rec.Fields, c); err != nil {
		return err
	}
	for name, field := range c.secretFields() {
		delete(rec.Secrets, name)
		if !field.IsZero() {
			rec.Secrets[name] = *field
		}
	}
	return nil
}

// knownFields are those that an absent value removes.
var knownFields = []string{"base_url", "token_url", "scopes", "token_type", "expires_at", "obtained_at", "account", "metadata", "client_id"}

func mergeFields(into map[string]json.RawMessage, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, &into)
}

// The keys of a profile's vault.
func connectionPrefix(profile, provider string) string {
	return keyOf(profile, provider, "connection") + ":"
}
func connectionKey(profile, provider, name string) string {
	return connectionPrefix(profile, provider) + name
}
func metadataKey(profile, provider string) string { return keyOf(profile, provider, "metadata") }
func stateKey(profile, provider string) string    { return keyOf(profile, provider, "state") }
func clientKey(profile, provider string) string   { return keyOf(profile, provider, "client") }

func profilePrefix(profile string) string { return "profile:" + profile + ":" }
func keyOf(profile, provider, kind string) string {
	return profilePrefix(profile) + provider + ":" + kind
}

// splitKey is the inverse: provider, kind and, for a connection, its name.
func splitKey(profile, key string) (provider, kind, name string) {
	part := strings.SplitN(strings.TrimPrefix(key, profilePrefix(profile)), ":", 3)
	for len(part) < 3 {
		part = append(part, "")
	}
	return part[0], part[1], part[2]
}
