// Package importstest makes homes of the Python authsome for tests, with the
// real SQLite.
package importstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Generation says how values are sealed.
type Generation int

const (
	Fields  Generation = 1 // the first versions: each sensitive field is an envelope
	Records Generation = 2 // later ones: a record is sealed as a whole
)

// sensitive are the fields that the first versions sealed.
var sensitive = []string{"access_token", "refresh_token", "id_token", "api_key", "client_secret"}

// Home is a home to be made.
type Home struct {
	Generation Generation
	Key        []byte // 32 bytes; nil is a random one
	Keyring    bool   // the system keyring has the key; no file does

	// Records are by profile, then by key.
	Records map[string]map[string]map[string]any
}

const store = `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
db.executemany("INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)", json.load(sys.stdin))
db.commit()
`

// Write makes the home in dir.
func (h *Home) Write(t testing.TB, dir string) {
	t.Helper()
	if h.Key == nil {
		h.Key = make([]byte, 32)
		rand.Read(h.Key)
	}
	mode := "local_key"
	if h.Keyring {
		mode = "keyring"
	} else {
		write(t, filepath.Join(dir, "master.key"), map[string]any{"version": 1, "key": h.Key, "algorithm": "AES-256-GCM", "note": "Local master key for authsome. Protect this file."})
	}
	write(t, filepath.Join(dir, "config.json"), map[string]any{"spec_version": 1, "default_profile": "default", "encryption": map[string]any{"mode": mode}})
	for profile, records := range h.Records {
		rows := [][2]string{}
		for key, record := range records {
			rows = append(rows, [2]string{key, h.value(t, record)})
		}
		input, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "profiles", profile, "store.db")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		python, err := exec.LookPath("python3")
		if err != nil {
			t.Fatal("python3 is not on PATH; the tests make databases with its sqlite3")
		}
		cmd := exec.Command(python, "-c", store, path)
		cmd.Stdin = bytes.NewReader(input)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", path, err, out)
		}
	}
}

func write(t testing.TB, path string, v any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h *Home) value(t testing.TB, record map[string]any) string {
	t.Helper()
	if h.Generation == Fields {
		sealed := map[string]any{}
		for name, value := range record {
			sealed[name] = value
		}
		for _, name := range sensitive {
			if text, ok := record[name].(string); ok {
				nonce, b := h.seal(t, []byte(text))
				end := len(b) - 16
				sealed[name] = map[string]any{"enc": 1, "alg": "AES-256-GCM", "kid": "local", "nonce": nonce, "ciphertext": b[:end], "tag": b[end:]}
			}
		}
		record = sealed
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if h.Generation == Fields {
		return string(text)
	}
	nonce, b := h.seal(t, text)
	return base64.StdEncoding.EncodeToString(nonce) + "." + base64.StdEncoding.EncodeToString(b)
}

func (h *Home) seal(t testing.TB, text []byte) (nonce, sealed []byte) {
	t.Helper()
	block, err := aes.NewCipher(h.Key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce = make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return nonce, gcm.Seal(nil, nonce, text, nil)
}
