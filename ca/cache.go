package ca

import (
	"crypto/tls"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// defaultCacheEntries keeps about 8 MiB of leaves and TLS configurations.
const defaultCacheEntries = 4096

// entriesPerShard is how many leaves share a shard: small, since adding one
// copies the shard's map, and large enough that the hash spreads them evenly.
const entriesPerShard = 64

// cache holds the leaves of one root by host. A lookup takes no lock and makes
// no garbage: each shard's map is replaced, never changed, when a leaf is added.
type cache struct {
	seed   maphash.Seed
	shards []shard
	limit  int           // entries per shard
	clock  atomic.Uint64 // advances with every addition; the unit of entry.used
}

type shard struct {
	mu      sync.Mutex // serialises writers
	entries atomic.Pointer[map[string]*entry]
}

// entry is one host's leaf, which renewal replaces in place.
type entry struct {
	host     string
	used     atomic.Uint64 // cache.clock at the last lookup
	renewing atomic.Bool   // a renewal is under way
	leaf     atomic.Pointer[leaf]
	configs  atomic.Pointer[[]*tls.Config] // one per list of protocols; copied on write
}

// leaf is an issued certificate and, in Unix seconds, when it may be used.
type leaf struct {
	cert                         *tls.Certificate
	notBefore, renewAt, deadline int64
}

func newCache(limit int) *cache {
	n := max(limit/entriesPerShard, 1)
	c := &cache{seed: maphash.MakeSeed(), shards: make([]shard, n), limit: max(limit/n, 1)}
	for i := range c.shards {
		c.shards[i].entries.Store(&map[string]*entry{})
	}
	return c
}

func (c *cache) shard(host string) *shard {
	return &c.shards[maphash.String(c.seed, host)%uint64(len(c.shards))]
}

// get returns nil when host has no entry.
func (c *cache) get(host string) *entry {
	e := (*c.shard(host).entries.Load())[host]
	if e == nil {
		return nil
	}
	// Written only when it changes: a hot entry's cache line stays shared.
	if now := c.clock.Load(); e.used.Load() != now {
		e.used.Store(now)
	}
	return e
}

// put adds a leaf, or replaces that of the host's entry. The least recently
// used entry of a full shard makes room.
func (c *cache) put(host string, l *leaf) *entry {
	s := c.shard(host)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.entries.Load()
	if e := old[host]; e != nil {
		e.leaf.Store(l)
		return e
	}
	e := &entry{host: host}
	e.leaf.Store(l)
	e.used.Store(c.clock.Add(1))
	entries := maps.Clone(old)
	if len(entries) >= c.limit {
		delete(entries, leastUsed(entries))
	}
	entries[host] = e
	s.entries.Store(&entries)
	return e
}

func leastUsed(entries map[string]*entry) string {
	var oldest *entry
	for _, e := range entries {
		if oldest == nil || e.used.Load() < oldest.used.Load() {
			oldest = e
		}
	}
	return oldest.host
}

// retain drops the leaves of hosts that are not to be kept.
func (c *cache) retain(keep func(host string) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		entries := maps.Clone(*s.entries.Load())
		maps.DeleteFunc(entries, func(host string, _ *entry) bool { return !keep(host) })
		s.entries.Store(&entries)
		s.mu.Unlock()
	}
}

func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		n += len(*c.shards[i].entries.Load())
	}
	return n
}
