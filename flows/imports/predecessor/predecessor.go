// Package predecessor reads the home of the Python authsome. It is apart from
// the other imports because of the database driver that it needs, which a
// program that uses authsome as a library does not want to carry.
package predecessor

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"authsome/flows"
	"authsome/flows/imports"
	"authsome/provider"
	"authsome/vault/regular"
	"authsome/vault/secret"
)

// The home of the Python authsome:
//
//	config.json                {"encryption":{"mode":"local_key"|"keyring"}}
//	master.key                 {"version":1,"key":base64 of 32 bytes}
//	profiles/<p>/store.db      SQLite, table kv(key, value)
//
// The keys are those of ours. A value is a JSON record, of which the first
// versions sealed the sensitive fields one by one and later ones all of it, with
// AES-256-GCM and no associated data.

// The system keyring's item that holds the key, base64, where the mode is
// keyring.
const (
	KeyringService = "authsome"
	KeyringUser    = "master_key"
)

// ErrKey is returned when the key does not open the records.
var ErrKey = errors.New("its master key does not open its records")

// Read reads one profile of a home. fromKeyring is asked for the key where the
// home says that the system keyring has it. Nothing is written in the home, and
// the program that owns it may be running.
func Read(ctx context.Context, dir, profile string, now time.Time, fromKeyring func() (string, error)) (found []imports.Found, skipped []imports.Skipped, err error) {
	path := filepath.Join(dir, "profiles", profile, "store.db")
	rows, err := readStore(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: it has no profile %s; name one with --profile", imports.ErrNothing, profile)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	key, err := masterKey(dir, fromKeyring)
	if err != nil {
		return nil, nil, err
	}
	h := &oldHome{key: key, profile: profile, records: map[string]map[string]json.RawMessage{}}
	for _, row := range rows {
		record, err := h.open(row[1])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: record %.80q: %w", path, row[0], err)
		}
		h.records[row[0]] = record
	}
	found, skipped = h.connections(now)
	return found, skipped, nil
}

func masterKey(dir string, fromKeyring func() (string, error)) (cipher.AEAD, error) {
	var config struct {
		Encryption struct{ Mode string }
	}
	if b, err := regular.ReadFile(filepath.Join(dir, "config.json")); err == nil {
		if err := json.Unmarshal(b, &config); err != nil {
			return nil, fmt.Errorf("%w: %s is not JSON", imports.ErrFormat, filepath.Join(dir, "config.json"))
		}
	}
	var text string
	if config.Encryption.Mode == "keyring" && fromKeyring != nil {
		var err error
		if text, err = fromKeyring(); err != nil {
			return nil, fmt.Errorf("get its key from the system keyring: %w", err)
		}
	} else {
		path := filepath.Join(dir, "master.key")
		b, err := regular.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var file struct{ Key string }
		if err := json.Unmarshal(b, &file); err != nil {
			return nil, fmt.Errorf("%w: %s is not JSON", imports.ErrFormat, path) // the cause could quote the key
		}
		text = file.Key
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%w: it is not 32 bytes in base64", ErrKey)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// oldHome is one profile, opened.
type oldHome struct {
	key     cipher.AEAD
	profile string
	records map[string]map[string]json.RawMessage
}

// open reads a value: the whole of it sealed, or a record with sealed fields.
func (h *oldHome) open(value string) (map[string]json.RawMessage, error) {
	text := []byte(value)
	if nonce, sealed, ok := strings.Cut(value, "."); ok && !strings.HasPrefix(value, "{") {
		n, err := base64.StdEncoding.DecodeString(nonce)
		if err != nil {
			return nil, fmt.Errorf("%w: it is neither sealed nor JSON", imports.ErrFormat)
		}
		s, err := base64.StdEncoding.DecodeString(sealed)
		if err != nil {
			return nil, fmt.Errorf("%w: it is neither sealed nor JSON", imports.ErrFormat)
		}
		if text, err = h.unseal(n, s); err != nil {
			return nil, err
		}
	}
	var record map[string]json.RawMessage
	if err := json.Unmarshal(text, &record); err != nil {
		return nil, fmt.Errorf("%w: it is not JSON", imports.ErrFormat) // the cause could quote a secret
	}
	return record, nil
}

func (h *oldHome) unseal(nonce, sealed []byte) ([]byte, error) {
	if len(nonce) != h.key.NonceSize() {
		return nil, fmt.Errorf("%w: a nonce of %d bytes", imports.ErrFormat, len(nonce))
	}
	text, err := h.key.Open(nil, nonce, sealed, nil)
	if err != nil {
		return nil, ErrKey
	}
	return text, nil
}

// envelope is a sealed field.
type envelope struct {
	Alg                    string
	Nonce, Ciphertext, Tag []byte
}

// secret reads a sensitive field: a text, or an envelope.
func (h *oldHome) secret(record map[string]json.RawMessage, name string) (secret.Text, error) {
	raw := record[name]
	if len(raw) == 0 || string(raw) == "null" {
		return secret.Text{}, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if text == "" {
			return secret.Text{}, nil
		}
		return secret.New(text), nil
	}
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil || e.Alg != "AES-256-GCM" {
		return secret.Text{}, fmt.Errorf("%w: its %s is sealed in an unknown way", imports.ErrFormat, name)
	}
	b, err := h.unseal(e.Nonce, append(e.Ciphertext, e.Tag...))
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New(string(b)), nil
}

// oldConnection are the fields of a connection that are not sensitive.
type oldConnection struct {
	Provider   string         `json:"provider"`
	Name       string         `json:"connection_name"`
	AuthType   string         `json:"auth_type"`
	Status     string         `json:"status"`
	BaseURL    string         `json:"base_url"`
	Scopes     []string       `json:"scopes"`
	TokenType  string         `json:"token_type"`
	ExpiresAt  oldTime        `json:"expires_at"`
	ObtainedAt oldTime        `json:"obtained_at"`
	Account    *flows.Account `json:"account"`
}

// oldTime is a time that may lack its zone, which then is UTC.
type oldTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *oldTime) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "null" || text == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		at, err = time.Parse("2006-01-02T15:04:05", text)
	}
	t.Time = at.UTC()
	return err
}

// connections are those of the profile, the default one of each provider first.
func (h *oldHome) connections(now time.Time) (found []imports.Found, skipped []imports.Skipped) {
	var keys []string
	for key := range h.records {
		if part := strings.SplitN(key, ":", 5); len(part) == 5 && part[0] == "profile" && part[1] == h.profile && part[3] == "connection" {
			keys = append(keys, key)
		}
	}
	sort.Slice(keys, func(i, j int) bool {
		if a, b := h.isDefault(keys[i]), h.isDefault(keys[j]); a != b && keyProvider(keys[i]) == keyProvider(keys[j]) {
			return a
		}
		return keys[i] < keys[j]
	})
	for _, key := range keys {
		name, connection := keyProvider(key), strings.SplitN(key, ":", 5)[4]
		f, reason := h.connection(key, now)
		f.Where = name + "/" + connection
		if reason == "" {
			for _, n := range []string{name, connection} {
				if err := provider.ValidName(n); err != nil {
					reason = err.Error()
				}
			}
		}
		if reason != "" {
			skipped = append(skipped, imports.Skipped{Provider: name, Where: f.Where, Reason: reason})
			continue
		}
		f.Provider, f.Connection = name, connection
		found = append(found, f)
	}
	return found, skipped
}

func keyProvider(key string) string { return strings.SplitN(key, ":", 5)[2] }

func (h *oldHome) isDefault(key string) bool {
	part := strings.SplitN(key, ":", 5)
	var name string
	json.Unmarshal(h.records["profile:"+part[1]+":"+part[2]+":metadata"]["default_connection"], &name) // none is no default
	return name == part[4]
}

// connection reads one, or says why it is of no use.
func (h *oldHome) connection(key string, now time.Time) (f imports.Found, reason string) {
	record := h.records[key]
	plain := map[string]json.RawMessage{}
	for name, raw := range record {
		switch name {
		case "access_token", "refresh_token", "id_token", "api_key":
		default:
			plain[name] = raw
		}
	}
	var c oldConnection
	b, err := json.Marshal(plain)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return f, "its record has fields of another kind"
	}
	f = imports.Found{BaseURL: c.BaseURL, Scopes: c.Scopes, TokenType: c.TokenType, ExpiresAt: c.ExpiresAt.Time, ObtainedAt: c.ObtainedAt.Time, KeepClient: true}
	if c.Account != nil {
		f.Account = *c.Account
	}
	for name, to := range map[string]*secret.Text{"access_token": &f.AccessToken, "refresh_token": &f.RefreshToken, "id_token": &f.IDToken, "api_key": &f.APIKey} {
		if *to, err = h.secret(record, name); err != nil {
			return f, err.Error()
		}
	}
	client := h.records["profile:"+h.profile+":"+keyProvider(key)+":client"]
	json.Unmarshal(client["client_id"], &f.ClientID) // one without a client has none
	if f.ClientSecret, err = h.secret(client, "client_secret"); err != nil {
		return f, err.Error()
	}
	switch {
	case c.Status == "revoked" || c.Status == "invalid":
		return f, "it is " + c.Status
	case f.APIKey.IsZero() && f.AccessToken.IsZero() && f.RefreshToken.IsZero():
		return f, "it holds no credential"
	case f.APIKey.IsZero() && f.RefreshToken.IsZero() && !c.ExpiresAt.IsZero() && now.After(c.ExpiresAt.Time):
		return f, "it has expired and cannot be renewed"
	}
	return f, ""
}
