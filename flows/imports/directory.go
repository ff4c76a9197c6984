package imports

import (
	"os"
	"path/filepath"
)

// sqliteMagic is what an SQLite database begins with. Our own stores begin
// otherwise.
const sqliteMagic = "SQLite format 3\x00"

// IsPredecessor reports whether a directory is a home of the Python authsome.
func IsPredecessor(dir string) bool {
	stores, _ := filepath.Glob(filepath.Join(dir, "profiles", "*", "store.db")) // the pattern is sound
	for _, store := range stores {
		if f, err := os.Open(store); err == nil {
			head := make([]byte, len(sqliteMagic))
			n, _ := f.Read(head)
			f.Close()
			if string(head[:n]) == sqliteMagic {
				return true
			}
		}
	}
	return false
}
