package imports_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authsome/flows/imports"
)

// writer is a program that makes a database with the real SQLite and prints what
// is in it. It copies the files while they are open, the way they are when the
// program that owns them runs.
const writer = `
import json, shutil, sqlite3, sys
path, out, page, encoding, mode, many = sys.argv[1:7]
db = sqlite3.connect(path)
db.execute(f"PRAGMA page_size={page}")
db.execute(f"PRAGMA encoding='{encoding}'")
db.execute("CREATE TABLE other (a, b, c)")
db.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
db.execute("CREATE INDEX more ON other (a)")
put = lambda k, v: db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (k, v))
for i in range(int(many)):
    put(f"key:{i}", "v" * (i % 97) + "é☃😀")
    db.execute("INSERT INTO other VALUES (?, ?, ?)", (i, i * 1.5, b"\x00\x01"))
for size in (0, 1, 400, 476, 477, 900, 4000, 4061, 4062, 20000, 200000):
    put(f"size:{size}", "x" * size)
db.commit()
db.execute(f"PRAGMA journal_mode={mode}")
if mode == "WAL":
    db.execute("PRAGMA wal_autocheckpoint=0")
for i in range(0, int(many), 3):
    db.execute("DELETE FROM kv WHERE key = ?", (f"key:{i}",))
put("late", "committed")
put("size:900", "y" * 900)
db.commit()
held = dict(db.execute("SELECT key, value FROM kv"))
put("never", "committed")
put("size:1", "z" * 50000)
for suffix in ("", "-wal"):
    try:
        shutil.copyfile(path + suffix, out + suffix)
    except FileNotFoundError:
        pass
db.rollback()
print(json.dumps(held))
`

// python runs a program with the system's Python, whose sqlite3 is SQLite itself.
func python(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is not on PATH; the tests make databases with its sqlite3")
	}
	cmd := exec.Command(path, append([]string{"-c", program}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadStore(t *testing.T) {
	for _, tc := range []struct{ page, encoding, mode, many string }{
		{"4096", "UTF-8", "WAL", "2000"},
		{"512", "UTF-8", "WAL", "500"},
		{"65536", "UTF-8", "WAL", "100"},
		{"1024", "UTF-16le", "WAL", "300"},
		{"4096", "UTF-16be", "DELETE", "300"},
		{"8192", "UTF-8", "DELETE", "0"},
	} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			dir := t.TempDir()
			copied := filepath.Join(dir, "copy.db")
			var want map[string]string
			if err := json.Unmarshal(python(t, writer, filepath.Join(dir, "store.db"), copied, tc.page, tc.encoding, tc.mode, tc.many), &want); err != nil {
				t.Fatal(err)
			}
			rows, err := imports.ReadStore(copied)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, row := range rows {
				got[row[0]] = row[1]
			}
			if len(rows) != len(want) || !maps.Equal(got, want) {
				t.Errorf("%d rows, want %d", len(rows), len(want))
			}
			if tc.mode == "WAL" && want["late"] != "committed" {
				t.Error("the test has nothing in its write-ahead log")
			}
		})
	}
}

func TestReadStoreErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	python(t, writer, filepath.Join(dir, "w.db"), path, "512", "UTF-8", "WAL", "50")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"empty": nil, "not a database": []byte(strings.Repeat("x", 4096)), "cut": whole[:len(whole)/2/512*512+100]} {
		if rows, err := imports.ReadSQLite(b, nil); !errors.Is(err, imports.ErrSQLite) {
			t.Errorf("%s: got %d rows, %v", name, len(rows), err)
		}
	}
	if _, err := imports.ReadSQLite(whole, []byte(strings.Repeat("x", 100))); !errors.Is(err, imports.ErrSQLite) {
		t.Errorf("a log that is none: %v", err)
	}
	if err := os.WriteFile(path+"-journal", []byte("hot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := imports.ReadStore(path); !errors.Is(err, imports.ErrFormat) {
		t.Errorf("a hot journal: %v", err)
	}
}

// FuzzSQLite holds that no file makes the reader panic, hang or take memory
// without bound.
func FuzzSQLite(f *testing.F) {
	seed, err := os.ReadFile(filepath.Join("testdata", "kv.db"))
	if err != nil {
		f.Fatal(err)
	}
	wal, err := os.ReadFile(filepath.Join("testdata", "kv.db-wal"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, wal)
	f.Add(seed, []byte{})
	f.Add([]byte{}, wal)
	if rows, err := imports.ReadSQLite(seed, wal); err != nil || len(rows) != 41 {
		f.Fatalf("the seed has %d rows, %v", len(rows), err)
	}
	f.Fuzz(func(t *testing.T, file, wal []byte) {
		rows, err := imports.ReadSQLite(file, wal)
		if err != nil && !errors.Is(err, imports.ErrSQLite) {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	})
}
