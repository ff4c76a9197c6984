package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
)

// This file reads bbolt's format (version 2) and believes nothing of it. bbolt
// itself has no checksums but those of its two meta pages: on a damaged file it
// panics, in goroutines of its own too where nobody can recover, or follows a
// cycle of pages for ever, or takes a page that is in use for a free one and
// overwrites it. So the file is read and checked here, as a whole, and bbolt
// gets to write only to a file that passed.

// Layout, in the byte order of the machine.
const (
	pageHeaderBytes = 16 // id 8, flags 2, count 2, overflow 4
	elementBytes    = 16 // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketBytes     = 16 // root page 8, sequence 8
	metaBytes       = 64 // magic 4, version 4, page size 4, flags 4, bucket 16, freelist 8, pages 8, txid 8, checksum 8

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	leafIsBucket = 0x01

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)

	// maxDepth bounds the tree: with two keys to a page it would hold 2^32 pages.
	maxDepth = 32
	// firstRead is read at once; it is all of most stores.
	firstRead = 64 << 10
)

var order = binary.NativeEndian

// Buckets of the store.
var (
	recordsBucket = []byte("records")
	metaBucket    = []byte("meta")
	// digestName is the key in the meta bucket of the digest of all keys.
	digestName = []byte("digest")
)

// A damageError says what is wrong with a file.
type damageError struct{ detail string }

func (e *damageError) Error() string { return e.detail }

func damaged(format string, args ...any) error { return &damageError{fmt.Sprintf(format, args...)} }

// image is a store file in memory, checked. Its values point into data.
type image struct {
	data     []byte
	pageSize int
	meta     meta
	used     []bool // by page: part of a tree
	records  []item // sorted by key
	digest   digest // as stored
}

// item is one record of an image.
type item struct{ key, value []byte }

// get returns the value under key. A nil image has no records.
func (img *image) get(key string) (value []byte, exists bool) {
	if img == nil {
		return nil, false
	}
	if i, ok := img.find(key); ok {
		return img.records[i].value, true
	}
	return nil, false
}

func (img *image) find(key string) (int, bool) {
	return slices.BinarySearchFunc(img.records, key, func(it item, key string) int {
		return bytes.Compare(it.key, []byte(key))
	})
}

// prefix returns the records whose keys begin with prefix.
func (img *image) prefix(prefix string) []item {
	from, _ := img.find(prefix)
	to := from
	for to < len(img.records) && bytes.HasPrefix(img.records[to].key, []byte(prefix)) {
		to++
	}
	return img.records[from:to]
}

// meta is what a meta page says.
type meta struct {
	pageSize int
	root     uint64 // page of the root bucket
	freelist uint64
	pages    uint64 // the first page that was never allocated
	txid     uint64
}

// digest stands for the set of all keys, so that one that went missing, or turned
// into another, is noticed: values have seals, keys have not.
type digest struct {
	count uint64
	sum   [sha256.Size]byte // XOR of the hashes of all keys
}

// toggle adds the key, or takes it out again. The caller counts.
func (d *digest) toggle(key []byte) {
	for i, b := range sha256.Sum256(key) {
		d.sum[i] ^= b
	}
}

func (d *digest) marshal() []byte {
	return append(binary.BigEndian.AppendUint64(nil, d.count), d.sum[:]...)
}

func parseDigest(b []byte) (d digest, err error) {
	if len(b) != 8+sha256.Size {
		return d, damaged("its list of keys is missing")
	}
	d.count = binary.BigEndian.Uint64(b)
	copy(d.sum[:], b[8:])
	return d, nil
}

// readImage reads and checks a store file of the given size.
func readImage(file io.ReaderAt, size int64) (*image, error) {
	switch {
	case size == 0:
		// A store is created under another name and gets its own when it is
		// complete, so an empty one was complete once.
		return nil, damaged("it is empty")
	case size > 2*maxStoreBytes:
		return nil, damaged("it has %d bytes, more than a store can have", size)
	}
	data := make([]byte, min(size, firstRead))
	if err := readFull(file, data, 0); err != nil {
		return nil, err
	}
	m, err := newestMeta(data, file)
	if err != nil {
		return nil, err
	}
	need := int64(m.pages) * int64(m.pageSize)
	if need > size {
		return nil, damaged("it was cut short: it has %d of %d bytes", size, need)
	}
	if need > maxStoreBytes {
		return nil, damaged("it claims %d bytes, more than a store can have", need)
	}
	if rest := need - int64(len(data)); rest > 0 {
		data = append(data, make([]byte, rest)...)
		if err := readFull(file, data[need-rest:], need-rest); err != nil {
			return nil, err
		}
	}
	img := &image{data: data[:need], pageSize: m.pageSize, meta: m, used: make([]bool, m.pages)}
	return img, img.load()
}

func readFull(file io.ReaderAt, b []byte, offset int64) error {
	n, err := file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) && n < len(b) {
		return damaged("it was cut short while it was read")
	}
	if n == len(b) {
		return nil
	}
	return err
}

// parseMeta reads the meta page that begins b. raw is its transaction even if
// the page is not valid.
func parseMeta(b []byte) (m meta, raw uint64, ok bool) {
	if len(b) < pageHeaderBytes+metaBytes {
		return m, 0, false
	}
	b = b[pageHeaderBytes:]
	m = meta{
		pageSize: int(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	sum := fnv.New64a()
	sum.Write(b[:56])
	ok = order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion && order.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= 1<<10 && m.pageSize <= 1<<16 && m.pageSize&(m.pageSize-1) == 0 &&
		m.pages >= 4 && m.pages <= maxStoreBytes>>10
	return m, m.txid, ok
}

// newestMeta chooses between the two meta pages, which are written in turn.
// When one is damaged the other may be the state before the last write, and to
// go on from that would undo what was acknowledged. It is accepted only if the
// damaged page still shows that it was the older one.
func newestMeta(data []byte, file io.ReaderAt) (meta, error) {
	first, rawFirst, okFirst := parseMeta(data)
	pageSize := first.pageSize
	if !okFirst {
		pageSize = findSecondMeta(data)
	}
	if pageSize == 0 {
		return meta{}, damaged("it is not a store")
	}
	page := make([]byte, pageHeaderBytes+metaBytes)
	if err := readFull(file, page, int64(pageSize)); err != nil {
		return meta{}, err
	}
	second, rawSecond, okSecond := parseMeta(page)
	okSecond = okSecond && second.pageSize == pageSize
	newest, other, otherOK := first, rawSecond, okSecond
	if !okFirst || okSecond && second.txid > first.txid {
		newest, other, otherOK = second, rawFirst, okFirst
	}
	switch {
	case other+1 == newest.txid:
		return newest, nil
	case otherOK:
		return meta{}, damaged("its two states do not follow each other")
	}
	return meta{}, damaged("the page that describes its last state is damaged")
}

// findSecondMeta looks for the second meta page when the first, which would tell
// the page size, is damaged. It returns the page size or 0.
func findSecondMeta(data []byte) int {
	for size := 1 << 10; size <= 1<<16 && size < len(data); size <<= 1 {
		if m, _, ok := parseMeta(data[size:]); ok && m.pageSize == size {
			return size
		}
	}
	return 0
}

// load walks the tree and collects the records.
func (img *image) load() error {
	found := map[string]bool{}
	root := func(name []byte, flags uint32, value []byte) error {
		if flags != leafIsBucket {
			return damaged("it holds %q, which is not a bucket", name)
		}
		found[string(name)] = true
		switch {
		case bytes.Equal(name, recordsBucket):
			return img.bucket(value, img.addRecord)
		case bytes.Equal(name, metaBucket):
			return img.bucket(value, img.addMeta)
		}
		return damaged("it holds an unknown bucket %q", name)
	}
	if err := img.walk(img.meta.root, root); err != nil {
		return err
	}
	if !found[string(recordsBucket)] || !found[string(metaBucket)] {
		return damaged("a bucket is missing")
	}
	actual := digest{count: uint64(len(img.records))}
	for _, it := range img.records {
		actual.toggle(it.key)
	}
	if actual != img.digest {
		return damaged("it has %d records that are not exactly the %d it should have", actual.count, img.digest.count)
	}
	return nil
}

func (img *image) addRecord(key []byte, flags uint32, value []byte) error {
	if flags != 0 {
		return damaged("record %q is a bucket", key)
	}
	img.records = append(img.records, item{key, value})
	return nil
}

func (img *image) addMeta(key []byte, flags uint32, value []byte) (err error) {
	if flags != 0 {
		return damaged("%q is a bucket", key)
	}
	if bytes.Equal(key, digestName) {
		img.digest, err = parseDigest(value)
	}
	return err // other keys are a newer version's
}

// visit is called for each element of a bucket.
type visit func(key []byte, flags uint32, value []byte) error

// bucket walks the bucket that value describes: its root page, or, when that is
// 0, a page that follows in the value itself.
func (img *image) bucket(value []byte, v visit) error {
	if len(value) < bucketBytes {
		return damaged("a bucket has no header")
	}
	if root := order.Uint64(value); root != 0 {
		return img.walk(root, v)
	}
	inline := value[bucketBytes:]
	if len(inline) < pageHeaderBytes || order.Uint16(inline[8:]) != flagLeaf {
		return damaged("a bucket has no page")
	}
	w := walker{img: img, visit: v}
	return w.leaf(inline, bounds{})
}

func (img *image) walk(root uint64, v visit) error {
	w := walker{img: img, visit: v}
	return w.page(root, 0, bounds{})
}
