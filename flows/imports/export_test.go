package imports

// ReadStore reads the table kv of an SQLite file.
var ReadStore = readStore

// ReadSQLite reads the table kv of a database in memory.
func ReadSQLite(file, wal []byte) ([][2]string, error) {
	db, err := openSQLite(file, wal)
	if err != nil {
		return nil, err
	}
	return db.texts("kv")
}
