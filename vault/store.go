package vault

import "context"

// A Store keeps bytes under keys. It sees ciphertext only. [Bolt] is the one on
// disk, [Memory] the one for tests and for sidecars that own nothing.
type Store interface {
	// Load returns the values of all keys that begin with prefix, in one
	// consistent view. A store that does not exist yet is empty, and is not
	// created. The caller owns the values.
	Load(ctx context.Context, prefix string) (map[string][]byte, error)

	// Commit does all of b or nothing, durably. It returns ErrConflict when a
	// condition does not hold. After any other error it is unknown whether b
	// was done, and nothing else was changed.
	Commit(ctx context.Context, b Batch) error

	// Watch returns a channel that receives a token after every change, by
	// whomever; tokens that nobody waits for are merged. It ends with ctx.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// A Batch is a set of operations on distinct keys that happen together.
type Batch struct {
	Ops []Op

	// All is one more condition: that the store holds no key but those of Ops.
	All bool

	// Erase asks that what the batch replaces or deletes not be left readable
	// in the store's file, where it would otherwise stay until overwritten.
	Erase bool
}

// An Op writes, deletes or only checks one key.
type Op struct {
	Key   string
	Value []byte // nil deletes

	// If is the condition: nil for none, a pointer to nil for "the key must be
	// absent", else the bytes that it must hold.
	If *[]byte

	// Check leaves the key as it is and only holds the batch to If.
	Check bool
}

// conflict returns ErrConflict unless all conditions of b are met by the current
// values, of which there are count.
func (b Batch) conflict(count int, get func(key string) (value []byte, exists bool)) error {
	found := 0
	for _, op := range b.Ops {
		current, exists := get(op.Key)
		if !op.holds(current, exists) {
			return ErrConflict
		}
		if exists {
			found++
		}
	}
	if b.All && found != count {
		return ErrConflict
	}
	return nil
}

// absent is the condition that a key does not exist.
func absent() *[]byte { return new([]byte) }

// holds reports whether the condition of op is met by the current value.
func (op Op) holds(current []byte, exists bool) bool {
	switch {
	case op.If == nil:
		return true
	case *op.If == nil:
		return !exists
	}
	return exists && string(*op.If) == string(current)
}
