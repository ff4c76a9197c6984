package vault

import (
	"bytes"
	"encoding/json"
)

// An Entry is one record as it was read: still encrypted, immutable, and safe
// for concurrent use. Its raw bytes are its version: nonces are random, so two
// writes never produce the same.
type Entry struct {
	Key string

	raw  []byte
	keys *keyset
}

// Record decrypts the entry. It fails with an [*IntegrityError] that names the
// key, and the field if it can, when the record was damaged or altered.
func (e *Entry) Record() (Record, error) { return e.keys.decode(e.Key, e.raw) }

// Fields returns the plain members without decrypting any secret. They are
// authenticated all the same.
func (e *Entry) Fields() (map[string]json.RawMessage, error) {
	if err := e.keys.verify(e.Key, e.raw); err != nil {
		return nil, err
	}
	fields, err := members(e.Key, e.raw)
	if err != nil {
		return nil, err
	}
	for name, value := range fields {
		if isEnvelope(value) {
			delete(fields, name)
		}
	}
	return fields, nil
}

// Equal reports whether e and other are the same version of the same record.
func (e *Entry) Equal(other *Entry) bool {
	if e == nil || other == nil {
		return e == other
	}
	return e == other || e.Key == other.Key && bytes.Equal(e.raw, other.raw)
}
