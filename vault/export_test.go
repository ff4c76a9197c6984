package vault

import "bytes"

// ReadImage checks the bytes of a store file and returns its records.
func ReadImage(data []byte) (map[string]string, error) {
	img, err := readImage(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	if _, err := img.free(); err != nil {
		return nil, err
	}
	records := map[string]string{}
	for _, it := range img.records {
		records[string(it.key)] = string(it.value)
	}
	return records, nil
}

// QuickPassphrase is Passphrase with the least parameters.
func QuickPassphrase(ask AskPassphrase) KeyWrapper { return &passphrase{ask: ask} }

// Guarded calls f as the parts of the store that use bbolt are called.
func (b *Bolt) Guarded(f func() error) error { return b.guarded(f) }

// Raw returns the record as it is stored.
func (e *Entry) Raw() []byte { return bytes.Clone(e.raw) }

// Keys of the vault itself.
const (
	KeysKey    = keysKey
	LockPrefix = lockPrefix
)
