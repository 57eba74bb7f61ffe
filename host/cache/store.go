package cache

import (
	"hash/maphash"
	"sync"
	"time"
)

// store keeps items by key, bounded in number and octets. It is safe for concurrent use; its locks are held for a look into a map and a few
// words, but for inserting, which may look at up to maxSteps entries.
type store struct {
	seed    maphash.Seed // of this store, so that nobody outside can make keys collide
	mask    uint64
	shards  []shard
	stale   int64  // how long after its end an item may be given, in nanoseconds
	recheck int64  // how long after a failure it is given without asking, in nanoseconds
	hits    uint32 // from how many hits on an item is worth fetching anew; 0 is never
	share   int64  // and when: with this much of each second of its life left, in nanoseconds
}

type shard struct {
	mu      sync.Mutex // guards following
	entries map[uint64]*entry
	queues  [2]queue
	hits    [kinds]uint64
	stale   uint64
}

// entry is the place of an item in the store. The lock of its shard guards it.
type entry struct {
	item
	hash       uint64
	prev, next *entry
	home       *list  // the list it is in
	recheck    int64  // until when the upstream is not asked again, since it failed
	hits       uint32 // since the item was stored
	uses       uint8  // for the queue, up to maxUses
	fetching   bool   // it is being fetched anew before its end
}

// state is what the store can do for a question.
type state uint8

const (
	missing state = iota
	live
	stale    // over, but may be given if the upstream fails
	staleNow // stale, and the upstream failed a moment ago: to be given at once
)

// found is the outcome of a lookup.
type found struct {
	item
	state state
	fetch bool // whoever gets this has to see to it that the item is fetched anew, or call release
}

// shardEntries and shardOctets are how much a shard is to have room for at least, since each is full at a slightly different time, and a
// message may have 64 KiB.
const (
	maxShards    = 256
	shardEntries = 512
	shardOctets  = 1 << 20
)

func newStore(c *Config) *store {
	n, kept := 1, c.Success.Capacity+c.Denial.Capacity > 0
	for kept && n < maxShards && roomFor(&c.Success, 2*n) && roomFor(&c.Denial, 2*n) {
		n *= 2
	}
	s := &store{
		seed: maphash.MakeSeed(), mask: uint64(n - 1), shards: make([]shard, n),
		stale: int64(c.ServeStale), recheck: int64(c.StaleRecheck),
		hits: uint32(c.Prefetch.Hits), share: int64(time.Second) * int64(c.Prefetch.Percent) / 100,
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.entries = make(map[uint64]*entry)
		sh.queues[0].bound(&c.Success, n)
		sh.queues[1].bound(&c.Denial, n)
	}
	return s
}

func roomFor(l *Limits, shards int) bool {
	return l.Capacity == 0 || l.Capacity/shards >= shardEntries && l.Octets/shards >= shardOctets
}

func (s *store) hash(k []byte) uint64 { return maphash.Bytes(s.seed, k) }

func (s *store) shard(hash uint64) *shard { return &s.shards[hash>>48&s.mask] }

// queue is where items of a kind wait for their eviction: those with data apart from the others.
func (sh *shard) queue(k kind) *queue {
	if k == success {
		return &sh.queues[0]
	}
	return &sh.queues[1]
}

// lookup looks for the item of key k. What is live or to be given now counts as a hit.
func (s *store) lookup(f *found, k []byte, hash uint64, now int64) {
	sh := s.shard(hash)
	f.state, f.fetch = missing, false
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[hash]
	if e == nil || string(e.data[:e.key]) != string(k) {
		return
	}
	left := e.end() - now
	switch {
	case left > 0:
		f.state = live
		sh.hits[e.kind]++
		e.hits++
		if s.hits > 0 && e.hits >= s.hits && !e.fetching && e.kind != failure && left <= s.share*int64(e.life) && now >= e.recheck {
			e.fetching, f.fetch = true, true
		}
	case !s.usable(e, now):
		return
	case now < e.recheck:
		f.state = staleNow
		sh.stale++
	default:
		f.state = stale
	}
	e.uses = min(e.uses+1, maxUses)
	f.item = e.item
}

// usable reports whether e is an answer that can still be given, be it as a stale one.
func (s *store) usable(e *entry, now int64) bool {
	return e.kind != failure && now < e.end()+max(s.stale, 0)
}

// release takes back that the item of key k is being fetched anew.
func (s *store) release(k []byte, hash uint64) {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.get(k, hash); e != nil {
		e.fetching = false
	}
}

func (sh *shard) get(k []byte, hash uint64) *entry {
	if e := sh.entries[hash]; e != nil && string(e.data[:e.key]) == string(k) {
		return e
	}
	return nil
}

// remove forgets what is known about key k, for the upstream has said something else that can't be kept.
func (s *store) remove(k []byte, hash uint64) {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.get(k, hash); e != nil {
		sh.drop(e)
	}
}

// fail notes that the upstream failed. If there is an answer that can still be given, it stays, the upstream is left in peace for a while, and
// fail returns true.
func (s *store) fail(k []byte, hash uint64, now int64) bool {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.failed(sh.get(k, hash), now)
}

func (s *store) failed(e *entry, now int64) bool {
	if e == nil || !s.usable(e, now) {
		return false
	}
	e.recheck, e.fetching = now+s.recheck, false
	return true
}

// insert keeps it, whose data begins with key k, in place of what was known; but a failure does not take the place of an answer that can
// still be given. It reports whether it is kept.
func (s *store) insert(k []byte, hash uint64, it item, now int64) bool {
	sh := s.shard(hash)
	q := sh.queue(it.kind)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[hash]
	if it.kind == failure && s.failed(sh.get(k, hash), now) {
		return false
	}
	if it.octets() > q.largest {
		if e != nil {
			sh.drop(e)
		}
		return false
	}
	if e == nil {
		e = &entry{hash: hash}
		sh.entries[hash] = e
		e.item = it
		q.add(e)
	} else if old := sh.queue(e.kind); old == q {
		e.home.octets += it.octets() - e.octets()
		e.item = it
	} else {
		e.home.unlink(e)
		e.item = it
		q.add(e)
	}
	e.hits, e.recheck, e.fetching = 0, 0, false
	for q.full() {
		v := q.victim(s, now)
		delete(sh.entries, v.hash)
		q.evictions++
	}
	return true
}

func (sh *shard) drop(e *entry) {
	e.home.unlink(e)
	delete(sh.entries, e.hash)
}

// bookkeeping is what an item costs besides its data, in octets: the entry, a place in the map that is two thirds full, and what the allocator
// rounds up. TestMemory compares it with what is allocated.
const bookkeeping = 176

func (it *item) octets() int { return len(it.data) + bookkeeping }
