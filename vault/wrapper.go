package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"authsome/vault/secret"
)

// Modes of encryption: how the data key is wrapped.
const (
	ModeLocalKey   = "local_key"
	ModeEnv        = "env"
	ModeKeyring    = "keyring"
	ModePassphrase = "passphrase"
)

// A KeyWrapper encrypts data keys under a key-encryption key that it knows how
// to find.
type KeyWrapper interface {
	// Mode names the wrapper; it is stored with what it wrapped.
	Mode() string

	// Wrap returns the data key encrypted, as a JSON value. It creates the
	// key-encryption key when there is none and nothing depends on one.
	Wrap(ctx context.Context, dataKey []byte) ([]byte, error)

	// Unwrap returns the data key. It fails with ErrKeyMissing when there is no
	// key-encryption key, and with ErrWrongKey when it is a different one.
	Unwrap(ctx context.Context, blob []byte) ([]byte, error)
}

// wrapBlob is a wrapped data key of the built-in wrappers.
type wrapBlob struct {
	Alg        string `json:"alg"`
	KEK        string `json:"kek"` // names the key-encryption key
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"` // the tag included

	Argon2 *argon2Params `json:"argon2id,omitempty"` // of mode passphrase
}

// kekID names a key-encryption key without disclosing it. The key has 256 bits
// of entropy, or comes out of Argon2id, so the name helps nobody guess it.
func kekID(kek []byte) string {
	sum := sha256.Sum256(append([]byte("authsome key-encryption key id\x00"), kek...))
	return hex.EncodeToString(sum[:8])
}

func wrapAAD(mode, id string) []byte {
	return []byte("authsome data key\x00" + mode + "\x00" + id)
}

// wrapUnder wraps dataKey under kek.
func wrapUnder(kek []byte, mode string, dataKey []byte, params *argon2Params) ([]byte, error) {
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	b := wrapBlob{Alg: algorithm, KEK: kekID(kek), Nonce: newNonce(), Argon2: params}
	b.Ciphertext = aead.Seal(nil, b.Nonce, dataKey, wrapAAD(mode, b.KEK))
	return json.Marshal(b)
}

func parseBlob(blob []byte) (*wrapBlob, error) {
	var b wrapBlob
	if err := json.Unmarshal(blob, &b); err != nil {
		return nil, &IntegrityError{Key: keysKey, Err: err}
	}
	if b.Alg != algorithm {
		return nil, &IntegrityError{Key: keysKey, Err: errVersion}
	}
	if len(b.Nonce) != nonceBytes {
		return nil, &IntegrityError{Key: keysKey, Err: errors.New("a wrapped key has no nonce")}
	}
	return &b, nil
}

// open unwraps b under kek, which the caller found to be the one it names.
func (b *wrapBlob) open(kek []byte, mode string) ([]byte, error) {
	aead, err := newAEAD(kek)
	if err != nil {
		return nil, err
	}
	dataKey, err := aead.Open(nil, b.Nonce, b.Ciphertext, wrapAAD(mode, b.KEK))
	if err != nil {
		return nil, &IntegrityError{Key: keysKey, Err: errors.New("a wrapped key was altered")}
	}
	return dataKey, nil
}

// parseKey reads 32 bytes written as base64 (standard or URL alphabet, padded or
// not) or as hex.
func parseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if len(text) == 2*keyBytes {
		if key, err := hex.DecodeString(text); err == nil {
			return key, nil
		}
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawStdEncoding.Strict().DecodeString(plain)
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("want %d bytes in base64 or hex", keyBytes)
	}
	return key, nil
}

// envKey is the wrapper for a key that the environment supplies.
type envKey struct{ key secret.Text }

// EnvKey returns the wrapper for mode "env": key is 32 random bytes in base64
// or hex, which the caller took from a variable or a mounted file. Nothing is
// written anywhere.
func EnvKey(key secret.Text) KeyWrapper { return envKey{key} }

func (envKey) Mode() string { return ModeEnv }

func (w envKey) kek() ([]byte, error) {
	if w.key.IsZero() {
		return nil, fmt.Errorf("%w: set AUTHSOME_MASTER_KEY or AUTHSOME_MASTER_KEY_FILE", ErrKeyMissing)
	}
	kek, err := parseKey(w.key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: AUTHSOME_MASTER_KEY is malformed: %w", ErrWrongKey, err)
	}
	return kek, nil
}

func (w envKey) Wrap(_ context.Context, dataKey []byte) ([]byte, error) {
	kek, err := w.kek()
	if err != nil {
		return nil, err
	}
	return wrapUnder(kek, ModeEnv, dataKey, nil)
}

func (w envKey) Unwrap(_ context.Context, blob []byte) ([]byte, error) {
	b, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	kek, err := w.kek()
	if err != nil {
		return nil, err
	}
	if kekID(kek) != b.KEK {
		return nil, fmt.Errorf("%w: AUTHSOME_MASTER_KEY is key %s, the vault needs %s", ErrWrongKey, kekID(kek), b.KEK)
	}
	return b.open(kek, ModeEnv)
}

// splitKeys reads the lines of a key file. Blank lines and lines that begin
// with # are skipped.
func splitKeys(text []byte) (keys [][]byte, err error) {
	for n, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := parseKey(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	return keys, nil
}
