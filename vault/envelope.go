package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	keyBytes   = 32 // AES-256
	nonceBytes = 12 // the size that GCM is specified for
	tagBytes   = 16
	algorithm  = "AES-256-GCM"
)

// An envelope is a secret at rest. Its associated data is the record's key, a
// zero byte and the field's name, so it opens nowhere else. Nonces are random:
// a data key may seal 2^32 values (NIST SP 800-38D, 8.3) before it should be
// replaced, which is a century of refreshing a thousand connections each minute.
type envelope struct {
	Enc        int    `json:"enc"` // the version of this format: 1
	Alg        string `json:"alg"` // AES-256-GCM
	KID        string `json:"kid"` // which data key
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"`
	Tag        []byte `json:"tag"`
}

// envelopeStart is how every envelope begins. A plain field that begins so is
// refused, so that the two cannot be taken for each other.
var envelopeStart = []byte(`{"enc":`)

func isEnvelope(raw []byte) bool { return bytes.HasPrefix(raw, envelopeStart) }

// errVersion is returned for what a newer version wrote.
var errVersion = errors.New("written by a newer version of authsome; upgrade authsome")

// newAEAD returns AES-256-GCM under key.
func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, fmt.Errorf("key has %d bytes, want %d", len(key), keyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func newNonce() []byte {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails; see crypto/rand
	return nonce
}

func fieldAAD(key, field string) []byte {
	aad := make([]byte, 0, len(key)+1+len(field))
	aad = append(aad, key...)
	aad = append(aad, 0)
	return append(aad, field...)
}

// appendEnvelope appends plaintext sealed for one field of one record.
func (k *dataKey) appendEnvelope(b []byte, key, field, plaintext string) []byte {
	nonce := newNonce()
	sealed := k.aead.Seal(nil, nonce, []byte(plaintext), fieldAAD(key, field))
	cut := len(sealed) - tagBytes
	b = append(b, `{"enc":1,"alg":"`+algorithm+`","kid":"`...)
	b = append(b, k.kid...)
	b = append(b, `","nonce":"`...)
	b = base64.StdEncoding.AppendEncode(b, nonce)
	b = append(b, `","ciphertext":"`...)
	b = base64.StdEncoding.AppendEncode(b, sealed[:cut])
	b = append(b, `","tag":"`...)
	b = base64.StdEncoding.AppendEncode(b, sealed[cut:])
	return append(b, `"}`...)
}

// openEnvelope returns the plaintext of the envelope in raw.
func (ks *keyset) openEnvelope(raw []byte, key, field string) (string, error) {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return "", &IntegrityError{Key: key, Field: field, Err: err}
	}
	if e.Enc != 1 || e.Alg != algorithm {
		return "", &IntegrityError{Key: key, Field: field, Err: errVersion}
	}
	k, ok := ks.keys[e.KID]
	if !ok {
		return "", &IntegrityError{Key: key, Field: field, Err: fmt.Errorf("unknown data key %q", e.KID)}
	}
	if len(e.Nonce) != nonceBytes || len(e.Tag) != tagBytes {
		return "", &IntegrityError{Key: key, Field: field}
	}
	sealed := append(e.Ciphertext, e.Tag...)
	plaintext, err := k.aead.Open(sealed[:0], e.Nonce, sealed, fieldAAD(key, field))
	if err != nil {
		return "", &IntegrityError{Key: key, Field: field}
	}
	return string(plaintext), nil
}
