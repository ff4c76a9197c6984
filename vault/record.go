package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"authsome/vault/secret"
)

// A Record is one JSON object in the store. A name is in Fields or in Secrets,
// not in both.
type Record struct {
	// Fields are the plain members, each any JSON value. Members that the
	// reader does not know are here too, byte for byte, and are kept by a
	// writer that leaves them in place.
	Fields map[string]json.RawMessage

	// Secrets are the members that are encrypted one by one.
	Secrets map[string]secret.Text
}

// sealName is the last member of every record at rest: an authentication tag
// over all that is before it, so that plain members (the hosts a credential may
// be sent to, the token endpoint) cannot be altered either.
const sealName = "~seal"

var (
	sealStart = []byte(`"` + sealName + `":{"kid":"`)
	sealEnd   = []byte(`"}}`)
)

// encode returns the record at rest: members sorted by name, then the seal.
func (k *dataKey) encode(key string, r *Record) ([]byte, error) {
	names := slices.Sorted(maps.Keys(r.Fields))
	for name := range r.Secrets {
		if _, twice := r.Fields[name]; twice {
			return nil, fmt.Errorf("record %q: field %q is both plain and secret", key, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	b := make([]byte, 0, 1024)
	b = append(b, '{')
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("record %q: %w", key, err)
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		b = append(append(b, quoted...), ':')
		if text, ok := r.Secrets[name]; ok {
			b = k.appendEnvelope(b, key, name, text.Reveal())
		} else if b, err = appendPlain(b, r.Fields[name]); err != nil {
			return nil, fmt.Errorf("record %q: field %q: %w", key, name, err)
		}
		b = append(b, ',')
	}
	return k.appendSeal(b, key), nil
}

func checkName(name string) error {
	if name == "" || name == sealName || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
		return fmt.Errorf("field name %q is not allowed", name)
	}
	return nil
}

func appendPlain(b []byte, raw json.RawMessage) ([]byte, error) {
	value := bytes.TrimSpace(raw)
	if !json.Valid(value) {
		return nil, errors.New("not a JSON value")
	}
	if isEnvelope(value) {
		return nil, errors.New("a plain value may not look like an envelope")
	}
	return append(b, value...), nil
}

// appendSeal ends the record whose members are in b.
func (k *dataKey) appendSeal(b []byte, key string) []byte {
	nonce := newNonce()
	tag := k.aead.Seal(nil, nonce, nil, sealAAD(key, b))
	b = append(b, sealStart...)
	b = append(b, k.kid...)
	b = append(b, `","nonce":"`...)
	b = base64.StdEncoding.AppendEncode(b, nonce)
	b = append(b, `","tag":"`...)
	b = base64.StdEncoding.AppendEncode(b, tag)
	return append(b, sealEnd...)
}

// sealAAD differs from every field's: a field name has no zero byte.
func sealAAD(key string, body []byte) []byte {
	aad := make([]byte, 0, len(key)+len(sealName)+2+len(body))
	aad = append(append(aad, key...), 0)
	aad = append(append(aad, sealName...), 0)
	return append(aad, body...)
}

// split cuts a record at rest into what is sealed and the seal's parts.
func split(raw []byte) (body []byte, kid, nonce, tag string, ok bool) {
	at := bytes.LastIndex(raw, sealStart)
	if at < 0 || !bytes.HasSuffix(raw, sealEnd) {
		return nil, "", "", "", false
	}
	rest := string(raw[at+len(sealStart) : len(raw)-len(sealEnd)])
	kid, rest, ok1 := strings.Cut(rest, `","nonce":"`)
	nonce, tag, ok2 := strings.Cut(rest, `","tag":"`)
	return raw[:at], kid, nonce, tag, ok1 && ok2
}

// verify checks the seal of the record at rest.
func (ks *keyset) verify(key string, raw []byte) error {
	body, kid, nonce64, tag64, ok := split(raw)
	if !ok {
		return &IntegrityError{Key: key, Err: errors.New("it has no seal")}
	}
	k, known := ks.keys[kid]
	if !known {
		return &IntegrityError{Key: key, Err: fmt.Errorf("unknown data key %q", kid)}
	}
	nonce, err1 := base64.StdEncoding.Strict().DecodeString(nonce64)
	tag, err2 := base64.StdEncoding.Strict().DecodeString(tag64)
	if err1 != nil || err2 != nil || len(nonce) != nonceBytes {
		return &IntegrityError{Key: key}
	}
	if _, err := k.aead.Open(nil, nonce, tag, sealAAD(key, body)); err != nil {
		return &IntegrityError{Key: key}
	}
	return nil
}

// members parses the record at rest without verifying it.
func members(key string, raw []byte) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, &IntegrityError{Key: key, Err: err}
	}
	delete(all, sealName)
	return all, nil
}

// decode opens the record at rest. The envelopes are opened before the seal is
// checked, so that an error names the field if it can.
func (ks *keyset) decode(key string, raw []byte) (Record, error) {
	fields, err := members(key, raw)
	if err != nil {
		return Record{}, err
	}
	secrets := map[string]secret.Text{}
	for name, value := range fields {
		if !isEnvelope(value) {
			continue
		}
		plaintext, err := ks.openEnvelope(value, key, name)
		if err != nil {
			return Record{}, err
		}
		secrets[name] = secret.New(plaintext)
		delete(fields, name)
	}
	if err := ks.verify(key, raw); err != nil {
		return Record{}, err
	}
	return Record{Fields: fields, Secrets: secrets}, nil
}
