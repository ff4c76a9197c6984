package imports

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// This file reads one table of an SQLite 3 database, by the published format
// (https://www.sqlite.org/fileformat2.html): a b-tree table of texts, with the
// part of the write-ahead log that was committed. It reads, once, a few records
// of a program that people move away from: a driver would be a quarter of our
// whole size for that.

// ErrSQLite is returned for what is no SQLite database, or a damaged one.
var ErrSQLite = errors.New("not a sound SQLite database")

const (
	sqliteMagic  = "SQLite format 3\x00"
	headerBytes  = 100
	pageTable    = 0x0d // leaf page of a table's b-tree
	pageInterior = 0x05
	maxRowBytes  = 4 << 20 // more than any record has
)

// database is a whole SQLite file in memory.
type database struct {
	pages    map[uint32][]byte // from the write-ahead log; they come before the file's
	file     []byte
	pageSize int
	usable   int // bytes of a page that are not reserved for extensions
	encoding uint32
	count    uint32 // pages
}

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSQLite, fmt.Sprintf(format, args...))
}

// openSQLite reads a database from its file and its write-ahead log, which may
// be empty.
func openSQLite(file, wal []byte) (*database, error) {
	if len(file) < headerBytes || string(file[:16]) != sqliteMagic {
		return nil, unsound("it does not begin as one")
	}
	db := &database{file: file, pages: map[uint32][]byte{}}
	db.pageSize = int(binary.BigEndian.Uint16(file[16:]))
	if db.pageSize == 1 {
		db.pageSize = 65536
	}
	if db.pageSize < 512 || db.pageSize&(db.pageSize-1) != 0 {
		return nil, unsound("page size %d", db.pageSize)
	}
	if db.usable = db.pageSize - int(file[20]); db.usable < 480 {
		return nil, unsound("%d usable bytes to a page", db.usable)
	}
	db.count = uint32(len(file) / db.pageSize)
	if err := db.apply(wal); err != nil {
		return nil, err
	}
	first, err := db.page(1)
	if err != nil {
		return nil, err
	}
	db.encoding = binary.BigEndian.Uint32(first[56:])
	if db.encoding < 1 || db.encoding > 3 {
		return nil, unsound("text encoding %d", db.encoding)
	}
	return db, nil
}

// apply takes over the frames of a write-ahead log up to its last commit. What
// follows was never committed, or is left from before the log was begun anew.
func (db *database) apply(wal []byte) error {
	const walHeader, frameHeader = 32, 24
	if len(wal) < walHeader {
		return nil
	}
	magic := binary.BigEndian.Uint32(wal)
	if magic&^1 != 0x377f0682 {
		return unsound("its write-ahead log does not begin as one")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	if int(binary.BigEndian.Uint32(wal[8:])) != db.pageSize {
		return unsound("its write-ahead log has pages of another size")
	}
	sum := checksum(order, [2]uint32{}, wal[:24])
	if sum != pairAt(wal[24:]) {
		return nil // never finished being begun: it holds nothing
	}
	salts := wal[16:24]
	pending := map[uint32][]byte{}
	for rest := wal[walHeader:]; len(rest) >= frameHeader+db.pageSize; rest = rest[frameHeader+db.pageSize:] {
		page := rest[frameHeader : frameHeader+db.pageSize]
		sum = checksum(order, checksum(order, sum, rest[:8]), page)
		if !bytes.Equal(rest[8:16], salts) || sum != pairAt(rest[16:]) {
			return nil
		}
		pending[binary.BigEndian.Uint32(rest)] = page
		if size := binary.BigEndian.Uint32(rest[4:]); size > 0 {
			for number, p := range pending {
				db.pages[number] = p
			}
			clear(pending)
			db.count = size
		}
	}
	return nil
}

func pairAt(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// checksum is the one of the write-ahead log, over pairs of 32-bit words.
func checksum(order binary.ByteOrder, sum [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		sum[0] += order.Uint32(b) + sum[1]
		sum[1] += order.Uint32(b[4:]) + sum[0]
	}
	return sum
}

func (db *database) page(number uint32) ([]byte, error) {
	if p, ok := db.pages[number]; ok && number <= db.count {
		return p, nil
	}
	from := (int(number) - 1) * db.pageSize
	if number == 0 || number > db.count || from+db.pageSize > len(db.file) {
		return nil, unsound("it has no page %d", number)
	}
	return db.file[from : from+db.pageSize], nil
}

// texts returns the first two columns of a table's rows.
func (db *database) texts(table string) ([][2]string, error) {
	root := uint32(0)
	err := db.rows(1, func(row []any) error {
		if len(row) >= 4 && row[0] == "table" && row[1] == table {
			if n, ok := row[3].(int64); ok && n > 0 && n <= int64(db.count) {
				root = uint32(n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if root == 0 {
		return nil, unsound("it has no table %s", table)
	}
	var rows [][2]string
	err = db.rows(root, func(row []any) error {
		if len(row) < 2 {
			return unsound("a row with %d columns", len(row))
		}
		key, ok := row[0].(string)
		value, isText := row[1].(string)
		if !ok || !isText {
			return unsound("a row that holds no text")
		}
		rows = append(rows, [2]string{key, value})
		return nil
	})
	return rows, err
}

// rows visits the rows of a table in order.
func (db *database) rows(root uint32, visit func(row []any) error) error {
	return (&walk{db, map[uint32]bool{}, visit}).page(root)
}

// walk is a way through a b-tree.
type walk struct {
	db    *database
	seen  map[uint32]bool // pages; a sound tree has each once
	visit func(row []any) error
}

func (w *walk) page(number uint32) error {
	if w.seen[number] {
		return unsound("page %d is in its tree twice", number)
	}
	w.seen[number] = true
	db := w.db
	page, err := db.page(number)
	if err != nil {
		return err
	}
	head := page
	if number == 1 { // the file's own header comes first
		head = page[headerBytes:]
	}
	kind, cells := head[0], int(binary.BigEndian.Uint16(head[3:]))
	pointers := 8
	if kind == pageInterior {
		pointers = 12
	}
	if kind != pageInterior && kind != pageTable {
		return unsound("page %d is of kind %d", number, kind)
	}
	if pointers+2*cells > len(head) {
		return unsound("page %d has %d cells", number, cells)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(head[pointers+2*i:]))
		if at+4 > db.usable {
			return unsound("a cell of page %d lies outside", number)
		}
		if kind == pageInterior {
			err = w.page(binary.BigEndian.Uint32(page[at:]))
		} else {
			err = db.leaf(page[at:db.usable], w.visit)
		}
		if err != nil {
			return err
		}
	}
	if kind == pageInterior {
		return w.page(binary.BigEndian.Uint32(head[8:]))
	}
	return nil
}

// leaf visits the row in a cell.
func (db *database) leaf(cell []byte, visit func(row []any) error) error {
	size, cell, err := varint(cell)
	if err == nil {
		_, cell, err = varint(cell) // the row's number
	}
	if err != nil {
		return err
	}
	if size > maxRowBytes {
		return unsound("a row of %d bytes", size)
	}
	payload, err := db.payload(int(size), cell)
	if err != nil {
		return err
	}
	row, err := db.record(payload)
	if err != nil {
		return err
	}
	return visit(row)
}

// payload collects what a cell holds: all of it, or its beginning and then a
// chain of overflow pages.
func (db *database) payload(size int, cell []byte) ([]byte, error) {
	local := size
	if most := db.usable - 35; size > most {
		least := (db.usable-12)*32/255 - 23
		if local = least + (size-least)%(db.usable-4); local > most {
			local = least
		}
	}
	if local == size {
		if size > len(cell) {
			return nil, unsound("a cell that ends early")
		}
		return cell[:size], nil
	}
	if local+4 > len(cell) {
		return nil, unsound("a cell that ends early")
	}
	payload := append(make([]byte, 0, size), cell[:local]...)
	for next := binary.BigEndian.Uint32(cell[local:]); len(payload) < size; {
		page, err := db.page(next)
		if err != nil {
			return nil, err
		}
		payload = append(payload, page[4:min(db.usable, 4+size-len(payload))]...)
		next = binary.BigEndian.Uint32(page)
	}
	return payload, nil
}

// record splits a row into its columns: texts, 64-bit integers and, for
// everything else, nil.
func (db *database) record(payload []byte) ([]any, error) {
	size, rest, err := varint(payload)
	if err != nil || size > uint64(len(payload)) || int(size) < len(payload)-len(rest) {
		return nil, unsound("a row without a header")
	}
	types, data := payload[len(payload)-len(rest):size], payload[size:]
	var row []any
	for len(types) > 0 {
		var kind uint64
		if kind, types, err = varint(types); err != nil {
			return nil, err
		}
		width := columnBytes(kind)
		if width > uint64(len(data)) {
			return nil, unsound("a column that ends early")
		}
		row = append(row, db.column(kind, data[:width]))
		data = data[width:]
	}
	return row, nil
}

// columnBytes is how long a value of a serial type is.
func columnBytes(kind uint64) uint64 {
	if kind >= 12 {
		return (kind - 12) / 2
	}
	return [12]uint64{0, 1, 2, 3, 4, 6, 8, 8}[kind] // 8 and 9 are the numbers 0 and 1
}

func (db *database) column(kind uint64, b []byte) any {
	switch {
	case kind >= 13 && kind%2 == 1:
		return db.text(b)
	case kind >= 1 && kind <= 6:
		n := int64(int8(b[0]))
		for _, c := range b[1:] {
			n = n<<8 | int64(c)
		}
		return n
	case kind == 8 || kind == 9:
		return int64(kind - 8)
	}
	return nil
}

func (db *database) text(b []byte) string {
	if db.encoding == 1 {
		return string(b)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if db.encoding == 3 {
		order = binary.BigEndian
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return strings.Clone(string(utf16.Decode(units)))
}

// varint reads SQLite's variable-length integer: seven bits to a byte, the
// highest first, and all eight of the ninth.
func varint(b []byte) (n uint64, rest []byte, err error) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return n<<8 | uint64(b[8]), b[9:], nil
		}
		n = n<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return n, b[i+1:], nil
		}
	}
	return 0, nil, unsound("a number that does not end")
}
