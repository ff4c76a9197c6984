package predecessor_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"authsome/flows/imports"
	"authsome/flows/imports/predecessor"
)

// writer is a program that makes a database with the real SQLite, prints what is
// committed in it, and keeps it open with a change under way until stdin ends,
// the way it is while the program that owns it runs.
const writer = `
import json, sqlite3, sys
path, page, encoding, mode, many = sys.argv[1:6]
db = sqlite3.connect(path)
db.execute(f"PRAGMA page_size={page}")
db.execute(f"PRAGMA encoding='{encoding}'")
db.execute("PRAGMA cache_size=2") # a change reaches the file before it is committed
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
db.execute("BEGIN EXCLUSIVE")
put("never", "committed")
db.execute("DELETE FROM kv WHERE key < 'key:5'")
put("size:1", "z" * 50000)
put("size:20000", "z" * 90000)
print(json.dumps(held), flush=True)
sys.stdin.read()
`

// start runs a program with the system's Python, whose sqlite3 is SQLite itself,
// and returns its first line when it has printed that. The program ends with the
// test.
func start(t testing.TB, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is not on PATH; the tests make databases with its sqlite3")
	}
	cmd := exec.Command(path, append([]string{"-c", program}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// folder is what a directory holds, with the times of change.
func folder(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]string{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		held[e.Name()] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), " ") + string(b)
	}
	return held
}

// TestReadStore reads stores that their owner has open and locked, with what is
// in the write-ahead log and without what was never committed. It leaves no
// trace beside them.
func TestReadStore(t *testing.T) {
	for _, tc := range []struct{ page, encoding, mode, many string }{
		{"4096", "UTF-8", "WAL", "2000"},
		{"512", "UTF-8", "WAL", "500"},
		{"65536", "UTF-8", "WAL", "100"},
		{"1024", "UTF-16le", "WAL", "300"},
		{"4096", "UTF-16be", "DELETE", "300"},
		{"512", "UTF-8", "DELETE", "500"},
		{"8192", "UTF-8", "TRUNCATE", "0"},
	} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "a name? with #, %41 and &")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "store.db")
			var want map[string]string
			if err := json.Unmarshal([]byte(start(t, writer, path, tc.page, tc.encoding, tc.mode, tc.many)), &want); err != nil {
				t.Fatal(err)
			}
			before := folder(t, dir)
			if tc.mode == "WAL" && len(before["store.db-wal"]) < 1000 || tc.mode != "WAL" && len(before["store.db-journal"]) < 1000 {
				t.Fatal("the test has no change under way")
			}
			rows, err := predecessor.ReadStore(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, row := range rows {
				got[row[0]] = row[1]
			}
			if len(rows) != len(want) || !maps.Equal(got, want) || want["late"] != "committed" {
				t.Errorf("%d rows, want %d", len(rows), len(want))
			}
			if !maps.Equal(folder(t, dir), before) {
				t.Error("something changed beside the store")
			}
		})
	}
}

// restless commits the same number to records on many pages again and again.
const restless = `
import select, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute(f"PRAGMA journal_mode={sys.argv[2]}")
db.execute("PRAGMA synchronous=OFF")
db.execute("PRAGMA wal_autocheckpoint=20")
db.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
n = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    db.execute("BEGIN")
    for i in range(40):
        db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (f"{i}", f"{n:06}" * 200))
    db.execute("COMMIT")
    if n == 0: print("written", flush=True)
    n += 1
`

// TestReadStoreWhileItIsWritten holds that what is read was committed together.
func TestReadStoreWhileItIsWritten(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			start(t, restless, path, mode)
			read := 0
			for range 30 {
				rows, err := predecessor.ReadStore(t.Context(), path)
				if err != nil && strings.Contains(err.Error(), "written to all the time") {
					continue // an honest answer
				}
				if err != nil || len(rows) != 40 {
					t.Fatalf("%d rows, %v", len(rows), err)
				}
				for _, row := range rows {
					if row[1] != rows[0][1] {
						t.Fatalf("of two commits: %s and %s", row[1][:6], rows[0][1][:6])
					}
				}
				read++
			}
			if read == 0 {
				t.Error("not once was it read")
			}
		})
	}
}

// statements makes a database with statements.
const statements = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript(sys.argv[2])
db.close()
print()
`

func TestReadStoreErrors(t *testing.T) {
	const kv = "CREATE TABLE kv (key TEXT PRIMARY KEY, value TEXT NOT NULL); "
	for name, tc := range map[string]struct{ statements, want string }{
		"no table":     {"CREATE TABLE other (key, value)", "it has no table kv"},
		"a view":       {"CREATE VIEW kv AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i AS key, i AS value FROM n", "it has no table kv"},
		"virtual":      {"CREATE VIRTUAL TABLE kv USING fts5(key, value)", "it has no table kv"},
		"computed":     {"CREATE TABLE kv (key TEXT, value AS (hex(zeroblob(100000000)))); INSERT INTO kv VALUES ('a')", "too big"},
		"other fields": {"CREATE TABLE kv (a, b)", "no such column"},
		"a blob":       {kv + "INSERT INTO kv VALUES ('a', x'00')", "something else than texts"},
		"no key":       {kv + "INSERT INTO kv VALUES (NULL, 'a')", "something else than texts"},
		"a huge value": {kv + "INSERT INTO kv VALUES ('a', printf('%.*c', 5000000, 'x'))", "too big"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			start(t, statements, path, tc.statements)
			if rows, err := predecessor.ReadStore(t.Context(), path); !errors.Is(err, imports.ErrFormat) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%d rows, %v; want %s", len(rows), err, tc.want)
			}
		})
	}
}

func TestReadStoreOfNoDatabase(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	whole, err := os.ReadFile(filepath.Join("testdata", "kv.db"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	for name, b := range map[string][]byte{"not a database": bytes.Repeat([]byte("x"), 4096), "a head": whole[:60], "cut": whole[:len(whole)/2/512*512+100]} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if rows, err := predecessor.ReadStore(t.Context(), path); !errors.Is(err, imports.ErrFormat) {
			t.Errorf("%s: got %d rows, %v", name, len(rows), err)
		}
	}
	large, err := os.Create(path)
	if err == nil {
		err = errors.Join(large.Truncate(100<<20), large.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := predecessor.ReadStore(t.Context(), path); !errors.Is(err, imports.ErrFormat) || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("a large file: %v", err)
	}
	pipe := path + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := predecessor.ReadStore(t.Context(), pipe); !errors.Is(err, imports.ErrFormat) {
		t.Errorf("a pipe: %v", err)
	}
	if left := folder(t, os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("copies are left: %v", slices.Collect(maps.Keys(left)))
	}
}

// TestReadStoreMutated changes a store, its log and its journal in many ways.
// Each time there is an error, or rows of which SQLite cannot tell that they
// changed; whether a row is true, its seal tells. That no file makes SQLite
// itself stumble is what its authors test: coverage-guided fuzzing of so large a
// program is too slow here to find anything.
func TestReadStoreMutated(t *testing.T) {
	t.Parallel()
	parts := map[string][]byte{"": nil, "-wal": nil}
	for part := range parts {
		b, err := os.ReadFile(filepath.Join("testdata", "kv.db"+part))
		if err != nil {
			t.Fatal(err)
		}
		parts[part] = b
	}
	parts["-journal"] = parts["-wal"] // the two begin differently
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "store.db")
	failed, read := 0, 0
	try := func(what string) {
		rows, err := predecessor.ReadStore(t.Context(), path)
		switch {
		case errors.Is(err, imports.ErrFormat):
			failed++
		case err != nil:
			t.Errorf("seed %d: %s: %v", seed, what, err)
		default:
			read += min(len(rows), 1)
		}
	}
	for at := range 100 { // the header
		write(t, path, parts, func(part string, b []byte) []byte {
			if part == "" {
				b[at] ^= 0xff
			}
			return b
		})
		try(fmt.Sprintf("byte %d", at))
	}
	for i := range 200 {
		write(t, path, parts, func(part string, b []byte) []byte {
			if random.IntN(3) == 0 {
				return b
			}
			for range 1 + random.IntN(20) {
				b[random.IntN(len(b))] = byte(random.Uint32())
			}
			return b[:len(b)-random.IntN(2)*random.IntN(len(b))]
		})
		try(fmt.Sprintf("mutation %d", i))
	}
	if failed == 0 || read == 0 {
		t.Errorf("%d failed, %d were read", failed, read)
	}
}

// write writes the parts of a store, each as change makes it.
func write(t *testing.T, path string, parts map[string][]byte, change func(part string, b []byte) []byte) {
	t.Helper()
	for _, part := range []string{"", "-wal", "-journal"} {
		if err := os.WriteFile(path+part, change(part, bytes.Clone(parts[part])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
