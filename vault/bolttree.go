package vault

import "bytes"

// This file walks the pages of an image; see boltread.go.

// take returns the page, with its overflow, and marks it as used.
func (img *image) take(id uint64) ([]byte, error) {
	if id < 2 || id >= img.meta.pages {
		return nil, damaged("it refers to page %d of %d", id, img.meta.pages)
	}
	start := id * uint64(img.pageSize)
	header := img.data[start:]
	if own := order.Uint64(header); own != id {
		return nil, damaged("page %d says that it is page %d", id, own)
	}
	end := id + 1 + uint64(order.Uint32(header[12:]))
	if end > img.meta.pages {
		return nil, damaged("page %d reaches beyond the end", id)
	}
	for i := id; i < end; i++ {
		if img.used[i] {
			return nil, damaged("page %d is used twice", i)
		}
		img.used[i] = true
	}
	return img.data[start : end*uint64(img.pageSize)], nil
}

// free returns the pages on the free list. It fails when one is in use: bbolt
// would overwrite it.
func (img *image) free() ([]uint64, error) {
	if img.meta.freelist == noFreelist {
		return nil, damaged("it has no free list")
	}
	page, err := img.take(img.meta.freelist)
	if err != nil {
		return nil, err
	}
	if flags := order.Uint16(page[8:]); flags != flagFreelist {
		return nil, damaged("its free list is of type %#x", flags)
	}
	count, list := uint64(order.Uint16(page[10:])), page[pageHeaderBytes:]
	if count == 0xFFFF { // the count did not fit and is the first element
		count, list = order.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return nil, damaged("its free list is cut short")
	}
	ids := make([]uint64, count)
	for i := range ids {
		id := order.Uint64(list[8*i:])
		if id < 2 || id >= img.meta.pages || i > 0 && id <= ids[i-1] {
			return nil, damaged("its free list is out of order at page %d", id)
		}
		if img.used[id] {
			return nil, damaged("page %d is both free and in use", id)
		}
		ids[i] = id
	}
	return ids, nil
}

// bounds are the keys that may lie below a page: low is exactly the first, high
// comes after the last. Nil is unbounded. That a branch names the first key of
// each child exactly is what bbolt relies on when it replaces a child.
type bounds struct{ low, high []byte }

func (b bounds) admit(key []byte, first bool) bool {
	return (b.low == nil || !first || bytes.Equal(key, b.low)) && (b.high == nil || bytes.Compare(key, b.high) < 0)
}

// walker visits the elements of one bucket in order.
type walker struct {
	img   *image
	visit visit
	last  []byte // the key before, nil at first
}

func (w *walker) page(id uint64, depth int, within bounds) error {
	if depth > maxDepth {
		return damaged("its tree is too deep at page %d", id)
	}
	page, err := w.img.take(id)
	if err != nil {
		return err
	}
	switch flags := order.Uint16(page[8:]); flags {
	case flagLeaf:
		return w.leaf(page, within)
	case flagBranch:
		return w.branch(page, id, depth, within)
	default:
		return damaged("page %d is of type %#x", id, flags)
	}
}

func (w *walker) branch(page []byte, id uint64, depth int, within bounds) error {
	count := int(order.Uint16(page[10:]))
	if count == 0 {
		return damaged("branch page %d is empty", id)
	}
	key := func(i int) ([]byte, error) {
		at := pageHeaderBytes + i*elementBytes
		if at+elementBytes > len(page) {
			return nil, damaged("page %d is cut short", id)
		}
		return slice(page, at, order.Uint32(page[at:]), order.Uint32(page[at+4:]))
	}
	low, err := key(0)
	if err != nil {
		return err
	}
	for i := range count {
		child := bounds{low: low, high: within.high}
		if !within.admit(low, i == 0) {
			return damaged("page %d is out of order", id)
		}
		if i+1 < count {
			if child.high, err = key(i + 1); err != nil {
				return err
			}
		}
		at := pageHeaderBytes + i*elementBytes
		if err := w.page(order.Uint64(page[at+8:]), depth+1, child); err != nil {
			return err
		}
		low = child.high
	}
	return nil
}

func (w *walker) leaf(page []byte, within bounds) error {
	count := int(order.Uint16(page[10:]))
	if pageHeaderBytes+count*elementBytes > len(page) {
		return damaged("a page is cut short")
	}
	if count == 0 && within.low != nil {
		return damaged("a page is empty")
	}
	for i := range count {
		at := pageHeaderBytes + i*elementBytes
		flags, pos := order.Uint32(page[at:]), order.Uint32(page[at+4:])
		ksize, vsize := order.Uint32(page[at+8:]), order.Uint32(page[at+12:])
		key, err := slice(page, at, pos, ksize)
		if err != nil {
			return err
		}
		value, err := slice(page, at, pos+ksize, vsize)
		if err != nil || pos+ksize < pos {
			return damaged("a record lies outside its page")
		}
		if len(key) == 0 || w.last != nil && bytes.Compare(key, w.last) <= 0 || !within.admit(key, i == 0) {
			return damaged("record %q is out of order", key)
		}
		w.last = key
		if err := w.visit(key, flags, value); err != nil {
			return err
		}
	}
	return nil
}

// slice returns size bytes of page at pos behind base.
func slice(page []byte, base int, pos, size uint32) ([]byte, error) {
	from := uint64(base) + uint64(pos)
	to := from + uint64(size)
	if to > uint64(len(page)) {
		return nil, damaged("a record lies outside its page")
	}
	return page[from:to:to], nil
}
