package predecessor

// ReadStore reads the table kv of an SQLite file.
var ReadStore = readStore
