package vault

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// reserved begins the keys that the vault uses itself.
	reserved = "vault:"
	// keysKey holds the key document.
	keysKey = reserved + "keys"
	// lockPrefix begins the keys of leases.
	lockPrefix = reserved + "lock:"
)

// keyDocument is the value under keysKey: the data keys, wrapped. It ends in a
// checksum, so that damage is told from a wrong key.
type keyDocument struct {
	Version int                   `json:"version"` // 1
	Vault   string                `json:"vault"`   // random, names this vault
	Active  string                `json:"active"`  // the kid that seals new values
	Keys    map[string]wrappedKey `json:"keys"`    // by kid
}

// wrappedKey is one data key at rest.
type wrappedKey struct {
	Created time.Time       `json:"created"`
	Mode    string          `json:"mode"`    // of the wrapper
	Wrapped json.RawMessage `json:"wrapped"` // the wrapper's own blob
}

// dataKey is an unwrapped data key.
type dataKey struct {
	kid    string
	aead   cipher.AEAD
	bytes  func() []byte // a func, so that nothing prints it
	record wrappedKey
}

// keyset is the unwrapped key document. It is immutable.
type keyset struct {
	raw    []byte // the document at rest; nil while there is none
	vault  string
	active *dataKey            // nil while there is none
	keys   map[string]*dataKey // by kid
}

// generateDataKey makes a random key for the vault.
func generateDataKey(vault string) *dataKey {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails; see crypto/rand
	k, err := loadDataKey(vault, key)
	if err != nil {
		panic(err) // the length is right
	}
	return k
}

func loadDataKey(vault string, key []byte) (*dataKey, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	key = bytes.Clone(key)
	return &dataKey{kid: keyID(vault, key), aead: aead, bytes: func() []byte { return key }}, nil
}

// keyID derives a key's name from the key and the vault. A wrapped key that was
// moved to another vault or put under another name does not yield that name
// when it is unwrapped: this is the associated data of the wrap, in a form that
// a wrapper need not know about.
func keyID(vault string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("authsome data key id\x00" + vault))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// sumStart begins the checksum at the end of the key document.
var sumStart = []byte(`,"sum":"`)

func (d *keyDocument) marshal() ([]byte, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	body := raw[:len(raw)-1]
	sum := sha256.Sum256(body)
	return fmt.Appendf(bytes.Clone(body), `%s%x"}`, sumStart, sum), nil
}

func parseKeyDocument(raw []byte) (*keyDocument, error) {
	at := bytes.LastIndex(raw, sumStart)
	if at < 0 {
		return nil, &IntegrityError{Key: keysKey, Err: errors.New("it has no checksum")}
	}
	sum := sha256.Sum256(raw[:at])
	if want := fmt.Appendf(nil, `%s%x"}`, sumStart, sum); !bytes.Equal(raw[at:], want) {
		return nil, &IntegrityError{Key: keysKey, Err: errors.New("its checksum is wrong")}
	}
	var d keyDocument
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, &IntegrityError{Key: keysKey, Err: err}
	}
	if d.Version != 1 {
		return nil, &IntegrityError{Key: keysKey, Err: errVersion}
	}
	if _, ok := d.Keys[d.Active]; !ok {
		return nil, &IntegrityError{Key: keysKey, Err: errors.New("it names no active key")}
	}
	return &d, nil
}

// unwrapKeys opens the key document. Keys that known holds already are taken
// from there, so that a process outlives a change of the wrapper.
func unwrapKeys(ctx context.Context, raw []byte, wrapper KeyWrapper, known *keyset) (*keyset, error) {
	d, err := parseKeyDocument(raw)
	if err != nil {
		return nil, err
	}
	ks := &keyset{raw: bytes.Clone(raw), vault: d.Vault, keys: map[string]*dataKey{}}
	for kid, wrapped := range d.Keys {
		k := known.get(kid)
		if k == nil {
			if k, err = unwrapKey(ctx, d.Vault, kid, wrapped, wrapper); err != nil {
				return nil, err
			}
		}
		fresh := *k
		fresh.record = wrapped
		ks.keys[kid] = &fresh
	}
	ks.active = ks.keys[d.Active]
	return ks, nil
}

func unwrapKey(ctx context.Context, vault, kid string, wrapped wrappedKey, wrapper KeyWrapper) (*dataKey, error) {
	if wrapped.Mode != wrapper.Mode() {
		return nil, fmt.Errorf("%w: the vault is encrypted in mode %q, and the mode in use is %q",
			ErrWrongKey, wrapped.Mode, wrapper.Mode())
	}
	key, err := wrapper.Unwrap(ctx, wrapped.Wrapped)
	if err != nil {
		return nil, err
	}
	k, err := loadDataKey(vault, key)
	if err != nil {
		return nil, &IntegrityError{Key: keysKey, Err: err}
	}
	if k.kid != kid {
		return nil, &IntegrityError{Key: keysKey, Err: fmt.Errorf("data key %q belongs to another vault", kid)}
	}
	return k, nil
}

// get returns the key named kid, or nil.
func (ks *keyset) get(kid string) *dataKey {
	if ks == nil {
		return nil
	}
	return ks.keys[kid]
}

// knows reports whether the record at rest is sealed under a key of ks. A
// record without a seal counts as known: no other key would open it.
func (ks *keyset) knows(raw []byte) bool {
	_, kid, _, _, ok := split(raw)
	return !ok || ks.get(kid) != nil
}

// newKeyset makes the first key of a new vault and returns it with its document.
func newKeyset(ctx context.Context, wrapper KeyWrapper, now time.Time) (*keyset, error) {
	var id [16]byte
	_, _ = rand.Read(id[:])
	vault := hex.EncodeToString(id[:])
	k := generateDataKey(vault)
	return sealKeyset(ctx, vault, k, nil, wrapper, now)
}

// sealKeyset wraps active, and others beside it, into a new key document.
func sealKeyset(ctx context.Context, vault string, active *dataKey, others []*dataKey, wrapper KeyWrapper, now time.Time) (*keyset, error) {
	d := keyDocument{Version: 1, Vault: vault, Active: active.kid, Keys: map[string]wrappedKey{}}
	ks := &keyset{vault: vault, keys: map[string]*dataKey{}}
	for _, k := range append([]*dataKey{active}, others...) {
		blob, err := wrapper.Wrap(ctx, k.bytes())
		if err != nil {
			return nil, fmt.Errorf("wrap data key: %w", err)
		}
		fresh := *k
		fresh.record.Mode, fresh.record.Wrapped = wrapper.Mode(), blob
		if fresh.record.Created.IsZero() {
			fresh.record.Created = now.UTC().Truncate(time.Second)
		}
		d.Keys[k.kid], ks.keys[k.kid] = fresh.record, &fresh
	}
	ks.active = ks.keys[active.kid]
	var err error
	ks.raw, err = d.marshal()
	return ks, err
}
