package cache

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/weirdns/weir/host/message"
)

// store keeps items by key, bounded in number and octets. It is safe for concurrent use; its locks are held while an answer is copied out of it,
// but for inserting, which may look at up to maxSteps entries.
//
//	hash ─► shard ─► index: tag, place ─► segment: | entry | entry | ...
type store struct {
	seed     maphash.Seed // of this store, so that nobody outside can make keys collide
	mask     uint64
	shards   []shard
	stale    int64  // how long after its end an item may be given, in nanoseconds
	staleTTL uint32 // and the TTL that it has then
	recheck  int64  // how long after a failure it is given without asking, in nanoseconds
	hits     uint32 // from how many hits on an item is worth fetching anew; 0 is never
	share    int64  // and when: with this much of each second of its life left, in nanoseconds
	subnets  bool   // keys are of queries that tell of networks
}

type shard struct {
	mu       sync.Mutex // guards following
	index    index
	segments []segment // by number
	logs     [4]log    // of each queue, small and main
	queues   [2]queue
	numbers  []uint32 // of segments that are not in use
	spare    [][]byte // octets for segments, so that a full cache allocates none
	hits     [kinds]uint64
	stale    uint64

	displaced uint64 // answers for networks that left since there were too many to their question
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
	state state
	fetch bool // whoever gets this has to see to it that the item is fetched anew, or call release
	kind  kind
	span
	response message.Response // what is to be given, if it is live or staleNow
	held     entry            // a copy, if it is stale and to be held
}

// shardEntries and shardOctets are how much a shard is to have room for at least, since each is full at a slightly different time, a
// message may have 64 KiB, and some segments of each are not full.
const (
	maxShards    = 64
	shardEntries = 512
	shardOctets  = 2 << 20
)

func newStore(c *Config) *store {
	n, kept := 1, c.Success.Capacity+c.Denial.Capacity > 0
	for kept && n < maxShards && roomFor(&c.Success, 2*n) && roomFor(&c.Denial, 2*n) {
		n *= 2
	}
	s := &store{
		seed: maphash.MakeSeed(), mask: uint64(n - 1), shards: make([]shard, n),
		stale: int64(c.ServeStale), staleTTL: seconds(c.StaleTTL), recheck: int64(c.StaleRecheck),
		hits: uint32(c.Prefetch.Hits), share: int64(time.Second) * int64(c.Prefetch.Percent) / 100,
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.spare = make([][]byte, 0, len(sh.queues))
		for j, l := range []*Limits{&c.Success, &c.Denial} {
			sh.queues[j] = queue{small: uint8(2 * j), main: uint8(2*j + 1)}
			sh.queues[j].bound(l, n)
		}
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

// get returns the entry of key k, or nil.
func (sh *shard) get(k []byte, hash uint64) (place, entry) {
	x := &sh.index
	if len(x.slots) == 0 {
		return 0, nil
	}
	tag := uint32(hash)
	for i := x.first(tag); x.slots[i] != 0; i = x.after(i) {
		if slot := x.slots[i]; uint32(slot>>32) == tag {
			if e := sh.at(place(slot)); string(e.key()) == string(k) {
				return place(slot), e
			}
		}
	}
	return 0, nil
}

// lookup looks for the item of key k. What is live or to be given now counts as a hit, and its message is appended to dst. What is stale is copied for
// later if it is to be held.
func (s *store) lookup(f *found, k []byte, hash uint64, now int64, dst []byte, hold bool) {
	sh := s.shard(hash)
	f.state, f.fetch = missing, false
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var e entry
	if s.subnets {
		e = s.cover(sh, k, hash, now)
	} else {
		_, e = sh.get(k, hash)
	}
	if e == nil {
		return
	}
	f.kind, f.span = e.kind(), e.span()
	left := f.end() - now
	switch {
	case left > 0:
		f.state = live
		sh.hits[f.kind]++
		hits := e.hit()
		if s.hits > 0 && hits >= s.hits && !e.fetching() && f.kind != failure && left <= s.share*int64(f.life) && now >= e.recheck() {
			e[atUse] |= useFetching
			f.fetch = true
		}
		f.response = e.appendTo(dst, f.age(now))
	case !s.usable(e, now):
		return
	case now < e.recheck():
		f.state = staleNow
		sh.stale++
		f.response = e.appendStaleTo(dst, s.staleTTL)
	default:
		f.state = stale
		if hold {
			f.held = append(f.held[:0], e[:e.size()]...)
		}
	}
	e.setUses(min(e.uses()+1, maxUses))
}

// usable reports whether e is an answer that can still be given, be it as a stale one.
func (s *store) usable(e entry, now int64) bool {
	return e.kind() != failure && now < e.span().end()+max(s.stale, 0)
}

// release takes back that the item of key k is being fetched anew.
func (s *store) release(k []byte, hash uint64) {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.subnets {
		sh.releaseTold(k, hash)
	} else if _, e := sh.get(k, hash); e != nil {
		e[atUse] &^= useFetching
	}
}

// remove forgets what is known about key k, for the upstream has said something else that can't be kept.
func (s *store) remove(k []byte, hash uint64) {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p, e := sh.get(k, hash); e != nil {
		sh.drop(p, e)
	}
}

// fail notes that the upstream failed. If there is an answer that can still be given, it stays, the upstream is left in peace for a while, and
// fail returns true.
func (s *store) fail(k []byte, hash uint64, now int64) bool {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.failed(s.find(sh, k, hash, now), now)
}

func (s *store) failed(e entry, now int64) bool {
	if e == nil || !s.usable(e, now) {
		return false
	}
	e.setRecheck(now + s.recheck)
	e[atUse] &^= useFetching
	return true
}

// insert keeps it, in place of what was known about its key; but a failure does not take the place of an answer that can still be given. It
// reports whether it is kept.
func (s *store) insert(hash uint64, it *item, now int64) bool {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.put(sh, hash, it, now)
}

// put is insert with the lock of the shard held.
func (s *store) put(sh *shard, hash uint64, it *item, now int64) bool {
	q, size := sh.queue(it.kind), it.size()
	p, old := sh.get(it.key, hash)
	if it.kind == failure && s.failed(old, now) {
		return false
	}
	if size > q.largest || !it.fits() {
		if old != nil {
			sh.drop(p, old)
		}
		return false
	}
	to, uses := q.entrance(hash), uint8(0)
	if old != nil {
		if sh.queue(old.kind()) == q {
			if room := old.room(); size <= room && room <= 2*size {
				old.write(hash, it, room, old.uses())
				return true
			}
			to, uses = sh.segments[p>>placeBits].home, old.uses()
		}
		sh.drop(p, old)
	}
	s.add(sh, q, to, hash, it, uses, now)
	return true
}

// add makes room for an item that there is none of, and puts it at the end of a log of q.
func (s *store) add(sh *shard, q *queue, to uint8, hash uint64, it *item, uses uint8, now int64) {
	size := it.size()
	s.makeRoom(sh, q, size, now)
	p, e, room := sh.push(to, size)
	e.write(hash, it, room, uses)
	sh.index.add(uint32(hash), p)
	q.most = max(q.most, sh.logs[q.small].entries+sh.logs[q.main].entries)
}

// drop takes an entry out of the index. Its room is free when it would have gone out.
func (sh *shard) drop(p place, e entry) {
	sh.index.remove(uint32(e.hash()), p)
	sh.logOf(p).entries--
	e[atUse] |= useDead
}
