package vault

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/zalando/go-keyring"

	"authsome/vault/secret"
)

// ErrKeyringUnavailable is returned when the operating system's keyring cannot
// be reached, as in a container or over ssh, or stays locked.
var ErrKeyringUnavailable = errors.New("the system keyring cannot be used")

// keyringService is what the items are filed under in the system keyring.
const keyringService = "authsome"

// osKeyring is the wrapper whose keys lie in the system keyring.
type osKeyring struct{ account string }

// Keyring returns the wrapper for mode "keyring": each wrap makes a key of its
// own in the macOS keychain, the Secret Service or the Windows credential
// manager. account tells several homes of one user apart; it is part of the
// items' names.
//
// An item is named after its key, so two processes that make a vault at the same
// time cannot overwrite each other's.
func Keyring(account string) KeyWrapper { return osKeyring{account} }

func (osKeyring) Mode() string { return ModeKeyring }

func (w osKeyring) item(kek string) string { return w.account + "#" + kek }

func (w osKeyring) Wrap(ctx context.Context, dataKey []byte) ([]byte, error) {
	kek := make([]byte, keyBytes)
	_, _ = rand.Read(kek) // never fails; see crypto/rand
	text := secret.New(base64.StdEncoding.EncodeToString(kek))
	err := inKeyring(ctx, func() error {
		return keyring.Set(keyringService, w.item(kekID(kek)), text.Reveal())
	})
	if err != nil {
		return nil, err
	}
	return wrapUnder(kek, ModeKeyring, dataKey, nil)
}

func (w osKeyring) Unwrap(ctx context.Context, blob []byte) ([]byte, error) {
	b, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	var text string
	err = inKeyring(ctx, func() (err error) {
		text, err = keyring.Get(keyringService, w.item(b.KEK))
		return err
	})
	if errors.Is(err, keyring.ErrNotFound) {
		return nil, fmt.Errorf("%w: the system keyring has no item %q of %q", ErrKeyMissing, w.item(b.KEK), keyringService)
	}
	if err != nil {
		return nil, err
	}
	kek, err := parseKey(text)
	if err != nil || kekID(kek) != b.KEK {
		return nil, fmt.Errorf("%w: item %q of %q in the system keyring was changed", ErrWrongKey, w.item(b.KEK), keyringService)
	}
	return b.open(kek, ModeKeyring)
}

// Forget removes the item that blob depends on.
func (w osKeyring) Forget(ctx context.Context, blob []byte) error {
	b, err := parseBlob(blob)
	if err != nil {
		return err
	}
	err = inKeyring(ctx, func() error { return keyring.Delete(keyringService, w.item(b.KEK)) })
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}

// inKeyring calls f, which may wait for a person to unlock the keyring, for as
// long as ctx lasts. f may go on after that.
func inKeyring(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err == nil || errors.Is(err, keyring.ErrNotFound) {
			return err
		}
		return fmt.Errorf("%w: %w; unlock it, or choose another mode with \"authsome vault rekey\"", ErrKeyringUnavailable, err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrKeyringUnavailable, ctx.Err())
	}
}
