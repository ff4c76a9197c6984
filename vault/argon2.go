package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"authsome/vault/secret"
)

// argon2Params are the parameters of Argon2id (RFC 9106), stored with what they
// protect so that they can be raised later.
type argon2Params struct {
	Time      uint32 `json:"time"`       // passes
	MemoryKiB uint32 `json:"memory_kib"` // memory
	Threads   uint8  `json:"threads"`    // lanes
	Salt      []byte `json:"salt"`       // random
}

const (
	saltBytes = 16
	// The second recommended option of RFC 9106, section 4: what every machine
	// that runs authsome can spare. It is the least that is used.
	leastPasses   = 3
	passMemoryKiB = 64 << 10
	// deriveTime is how long a derivation should take on the machine that
	// chooses the parameters, which is what an attacker pays per guess and a
	// person per command.
	deriveTime = 500 * time.Millisecond
	// Parameters beyond these are an attempt to hang or exhaust the reader.
	mostPasses    = 256
	mostMemoryKiB = 1 << 20
)

func (p *argon2Params) check() error {
	if p == nil || p.Time < 1 || p.Time > mostPasses || p.MemoryKiB < 8 || p.MemoryKiB > mostMemoryKiB || p.Threads < 1 || len(p.Salt) < 8 {
		return &IntegrityError{Key: keysKey, Err: errors.New("the passphrase parameters are missing or out of range")}
	}
	return nil
}

func (p *argon2Params) derive(passphrase string) []byte {
	return argon2.IDKey([]byte(passphrase), p.Salt, p.Time, p.MemoryKiB, p.Threads, keyBytes)
}

// calibrate returns parameters that take about target here, but at least the
// least, with a new salt.
func calibrate(target time.Duration) *argon2Params {
	p := &argon2Params{Time: leastPasses, MemoryKiB: passMemoryKiB, Threads: uint8(min(4, runtime.NumCPU())), Salt: make([]byte, saltBytes)}
	_, _ = rand.Read(p.Salt) // never fails; see crypto/rand
	if target <= 0 {
		return p
	}
	begin := time.Now()
	p.derive("calibration")
	if took := time.Since(begin); took < target {
		p.Time = min(uint32(int64(leastPasses)*int64(target)/max(int64(took), 1)), 8*leastPasses)
	}
	return p
}

// AskPassphrase returns the passphrase, from a terminal or a file. confirm says
// that it is a new one, which a person should type twice.
type AskPassphrase func(ctx context.Context, confirm bool) (secret.Text, error)

// Passphrase returns the wrapper for mode "passphrase": the key-encryption key
// is derived with Argon2id from what ask returns. ask is called when the key is
// needed, at most once for unwrapping unless the passphrase was wrong.
func Passphrase(ask AskPassphrase) KeyWrapper { return &passphrase{ask: ask, target: deriveTime} }

type passphrase struct {
	ask    AskPassphrase
	target time.Duration // how long a derivation should take

	mu    sync.Mutex               // held while asking: a person is asked one thing at a time
	known secret.Text              // what was typed last and was right
	keks  map[string]func() []byte // keys derived from known, by salt and parameters
}

func (*passphrase) Mode() string { return ModePassphrase }

func (w *passphrase) Wrap(ctx context.Context, dataKey []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known.IsZero() {
		text, err := w.get(ctx, true)
		if err != nil {
			return nil, err
		}
		w.known = text
	}
	params := calibrate(w.target)
	kek := params.derive(w.known.Reveal())
	w.remember(params, kek)
	return wrapUnder(kek, ModePassphrase, dataKey, params)
}

func (w *passphrase) Unwrap(ctx context.Context, blob []byte) ([]byte, error) {
	b, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	if err := b.Argon2.check(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if kek, ok := w.keks[b.Argon2.id()]; ok && kekID(kek()) == b.KEK {
		return b.open(kek(), ModePassphrase)
	}
	text := w.known
	if text.IsZero() {
		if text, err = w.get(ctx, false); err != nil {
			return nil, err
		}
	}
	kek := b.Argon2.derive(text.Reveal())
	if kekID(kek) != b.KEK {
		w.known = secret.Text{} // ask again next time
		return nil, fmt.Errorf("%w: the passphrase is wrong", ErrWrongKey)
	}
	w.known = text
	w.remember(b.Argon2, kek)
	return b.open(kek, ModePassphrase)
}

// get asks for the passphrase. The same letters typed on another keyboard may
// arrive in another form of Unicode, so it is normalised.
func (w *passphrase) get(ctx context.Context, confirm bool) (secret.Text, error) {
	text, err := w.ask(ctx, confirm)
	if err != nil {
		return secret.Text{}, err
	}
	if text.IsZero() {
		return secret.Text{}, fmt.Errorf("%w: the passphrase is empty", ErrKeyMissing)
	}
	return secret.New(norm.NFC.String(text.Reveal())), nil
}

// remember keeps a derived key, which is slow to derive on purpose. The caller
// holds mu.
func (w *passphrase) remember(p *argon2Params, kek []byte) {
	if w.keks == nil {
		w.keks = map[string]func() []byte{}
	}
	w.keks[p.id()] = func() []byte { return kek }
}

func (p *argon2Params) id() string {
	return fmt.Sprintf("%x %d %d %d", p.Salt, p.Time, p.MemoryKiB, p.Threads)
}
