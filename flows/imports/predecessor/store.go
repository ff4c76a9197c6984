package predecessor

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"authsome/flows/imports"
	"authsome/vault/regular"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	storeBytes = 64 << 20 // more than a credential store is
	rowBytes   = 4 << 20  // more than a record is

	// readPatience ends what a hostile file could make last for ever.
	readPatience = 30 * time.Second

	// A copy takes a millisecond, so that a program that writes now and then
	// is out of the way at the next try.
	copyTries = 20
	copyPause = 50 * time.Millisecond
)

// readStore reads the table kv of a store as it was last committed. It reads a
// private copy: SQLite would put a shared-memory file beside the original, move
// what is in its write-ahead log, or wait for a lock that the owner holds.
func readStore(ctx context.Context, path string) (rows [][2]string, err error) {
	dir, err := os.MkdirTemp("", "authsome-import-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyStore(ctx, path, dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	db, err := sql.Open("sqlite", storeURI(filepath.Join(dir, copyName)))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, unreadable(err)
	}
	defer conn.Close()
	return readTable(ctx, conn)
}

// storeURI opens a store so that its schema cannot do anything. It may be
// written to, since a cut change has to be rolled back first, but no SQL writes.
func storeURI(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode": {"rw"}, "_defensive": {"1"}, "_query_only": {"1"}, "_error_rc": {"1"},
		"_pragma": {"trusted_schema(0)", "cell_size_check(1)"},
	}.Encode()}
	return u.String()
}

// unreadable words an error of SQLite's, which holds nothing of what is stored.
func unreadable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %v", imports.ErrFormat, err)
}

func readTable(ctx context.Context, conn *sql.Conn) ([][2]string, error) {
	if _, err := sqlite.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, rowBytes); err != nil {
		return nil, unreadable(err)
	}
	var sound, kind string
	if err := conn.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&sound); err != nil {
		return nil, unreadable(err)
	}
	if sound != "ok" {
		return nil, fmt.Errorf("%w: the database is damaged", imports.ErrFormat) // the finding could quote a key
	}
	switch err := conn.QueryRowContext(ctx, "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = 'kv'").Scan(&kind); {
	case errors.Is(err, sql.ErrNoRows) || err == nil && kind != "table":
		return nil, fmt.Errorf("%w: it has no table kv", imports.ErrFormat)
	case err != nil:
		return nil, unreadable(err)
	}
	found, err := conn.QueryContext(ctx, "SELECT key, value FROM main.kv ORDER BY key")
	if err != nil {
		return nil, unreadable(err)
	}
	defer found.Close()
	var rows [][2]string
	total := 0
	for found.Next() {
		var key, value any
		if err := found.Scan(&key, &value); err != nil {
			return nil, unreadable(err)
		}
		k, isText := key.(string)
		v, too := value.(string)
		if !isText || !too {
			return nil, fmt.Errorf("%w: its table kv holds something else than texts", imports.ErrFormat)
		}
		if total += len(k) + len(v); total > storeBytes {
			return nil, fmt.Errorf("%w: its records are larger than 64 MiB", imports.ErrFormat)
		}
		rows = append(rows, [2]string{k, v})
	}
	if err := found.Err(); err != nil {
		return nil, unreadable(err)
	}
	return rows, nil
}

// copyName is what the copy of a store is called.
const copyName = "store.db"

// storeParts are what a store consists of: the database, its write-ahead log,
// and the journal of a change that was cut short or is under way.
var storeParts = []string{"", "-wal", "-journal"}

// copyStore copies a store that its owner may be writing. The copy is of one
// moment when all parts are the same, read once more after the last was read:
// then none changed between the end of the first reading and the beginning of
// the second, and SQLite recovers from such a state as from a crash.
func copyStore(ctx context.Context, path, dir string) error {
	for range copyTries {
		first, err := readParts(path, filepath.Join(dir, copyName))
		if err != nil {
			return err
		}
		again, err := readParts(path, "")
		if err != nil {
			return err
		}
		if first == again {
			return nil
		}
		select {
		case <-time.After(copyPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: it is written to all the time; stop the program that does", imports.ErrFormat)
}

// A digest is a fingerprint of all parts.
type digest [sha256.Size]byte

// readParts reads the parts of a store, and writes them to another place unless
// that is "".
func readParts(path, to string) (d digest, err error) {
	h := sha256.New()
	for _, part := range storeParts {
		n, err := readPart(h, path+part, to, part)
		if err != nil {
			return d, err
		}
		fmt.Fprintf(h, "|%d|", n)
	}
	h.Sum(d[:0])
	return d, nil
}

// readPart reads one part. Only the database itself has to be there: n is -1 for
// another that is not.
func readPart(h hash.Hash, path, to, part string) (n int64, err error) {
	if to != "" {
		if err := os.Remove(to + part); err != nil && !errors.Is(err, fs.ErrNotExist) { // of the try before
			return 0, err
		}
	}
	f, err := regular.Open(path)
	switch {
	case part != "" && errors.Is(err, fs.ErrNotExist):
		return -1, nil
	case errors.Is(err, regular.ErrIrregular):
		return 0, fmt.Errorf("%w: %w", imports.ErrFormat, err)
	case err != nil:
		return 0, err
	}
	defer f.Close()
	w := io.Writer(h)
	if to != "" {
		out, err := os.OpenFile(to+part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, out.Close()) }()
		w = io.MultiWriter(h, out)
	}
	n, err = io.Copy(w, io.LimitReader(f, storeBytes+1))
	if err == nil && n > storeBytes {
		err = fmt.Errorf("%w: it is larger than 64 MiB", imports.ErrFormat)
	}
	return n, err
}
