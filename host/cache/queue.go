package cache

// queue decides which entry leaves when there is no more room. It is S3-FIFO (Yang and others, "FIFO queues are all you need for cache
// eviction", SOSP 2023): new entries go through a small queue, where what nobody asks for again leaves soon, so a flood of names asked once
// can't drive out the ones in use. Both queues are logs; what goes once more round is copied to the other end.
//
//	             ┌───────────────┐ used since                  ┌────────────────────┐
//	new ───────► │ small, a tenth│ ──────────────────────────► │ main               │ ─┐ used since:
//	             └───────────────┘                  ┌────────► └────────────────────┘ ◄┘ once more round
//	                     │ not used                 │ seen before        │ not used
//	                     ▼                          │                    ▼
//	                   out, its hash to the ghosts ─┘                   out
type queue struct {
	small, main     uint8 // numbers of its logs
	capacity, limit int   // entries; octets of its logs, and its share of the index
	largest         int   // octets of one entry
	ghosts          []uint32
	most            int // entries that there were at a time: the index is as large as that
	evictions       uint64
}

const (
	maxUses  = 3  // times that an entry goes round in main at most
	goodUses = 2  // uses for which small passes an entry on to main
	maxSteps = 64 // entries to look at for one eviction, so that no query pays for a queue full of used entries

	// leastEntry is what an entry takes at least, in all. With less than that for each, the capacity is not what bounds a cache.
	leastEntry = 128
	// looseEnds are the segments of a queue that its logs don't count: of each log, what is before and behind the ends, and a spare one.
	looseEnds = 5
	// roundings is what an entry may take besides its own octets: what is lost at the end of a segment that it does not fit into, or what the
	// allocator makes of the size of a large one.
	roundings = segmentOctets / 2
	// mostOctets of a queue in one shard are below what places can name, even if each segment has one entry that is just large enough for that.
	mostOctets = 1<<31 - 1
	// mostLargest is below what an entry can say of its room, and above a message and all that goes with it.
	mostLargest = 256 << 10
)

// bound has the queue keep within its part of l, if that is for as many shards. The octets are all that it takes: what is not counted with
// each entry is taken off here.
func (q *queue) bound(l *Limits, shards int) {
	if l.Capacity == 0 {
		return
	}
	octets := min(l.Octets/shards, mostOctets)
	q.capacity = min(max(l.Capacity/shards, 1), octets/leastEntry)
	q.limit = octets - looseEnds*segmentOctets - 4*q.ghostSlots()
	q.largest = min(q.limit/4, mostLargest)
}

// ghostSlots is how many ghosts there are for the capacity: a power of two.
func (q *queue) ghostSlots() int {
	n := 1
	for n < q.capacity {
		n *= 2
	}
	return n
}

// full reports whether there is no room for one more entry of size octets.
func (sh *shard) full(q *queue, size int) bool {
	small, main := &sh.logs[q.small], &sh.logs[q.main]
	entries := small.entries + main.entries + 1
	return entries > q.capacity || small.octets+main.octets+size+roundings+indexOctets*max(q.most, entries) > q.limit
}

// makeRoom has entries leave until there is room for one of size octets.
func (s *store) makeRoom(sh *shard, q *queue, size int, now int64) {
	small, main := &sh.logs[q.small], &sh.logs[q.main]
	for steps := 0; sh.full(q, size); {
		from := main
		if main.octets == 0 || small.octets > 0 && (small.entries > q.capacity/10 || small.octets > q.limit/10) {
			from = small
		}
		if from.octets == 0 {
			return // both are empty: all the room there is
		}
		p, e := sh.oldest(from)
		room, uses := e.room(), e.uses()
		if !e.dead() {
			useful := steps < maxSteps && (e.span().end() > now || s.usable(e, now))
			steps++
			switch {
			case from == small && useful && uses >= goodUses:
				sh.move(p, e, q.main, 0)
			case from == main && useful && uses > 0:
				sh.move(p, e, q.main, uses-1)
			default:
				if from == small {
					q.remember(e.hash())
				}
				sh.index.remove(uint32(e.hash()), p)
				from.entries--
				q.evictions++
				steps = 0
			}
		}
		sh.pass(from, room)
	}
}

// move copies an entry that is going out to the end of a log.
func (sh *shard) move(from place, e entry, to uint8, uses uint8) {
	p, copied, room := sh.push(to, inUnits(e.size()))
	copy(copied, e[:e.size()])
	copied.setRoom(room)
	copied.setUses(uses)
	sh.logOf(from).entries--
	sh.index.move(uint32(e.hash()), from, p)
}

// entrance is the log that a new entry goes to.
func (q *queue) entrance(hash uint64) uint8 {
	if q.ghosts != nil && q.ghosts[hash&uint64(len(q.ghosts)-1)] == uint32(hash>>32) {
		return q.main
	}
	return q.small
}

// remember makes a ghost of what left small: by the lower bits of its hash, the upper ones.
func (q *queue) remember(hash uint64) {
	if q.ghosts == nil { // a cache that is never full needs none
		q.ghosts = make([]uint32, q.ghostSlots())
	}
	q.ghosts[hash&uint64(len(q.ghosts)-1)] = uint32(hash >> 32)
}

// memory is what the queue takes, in octets: its segments, ghosts and share of the index.
func (sh *shard) memory(q *queue) int {
	return sh.logs[q.small].memory + sh.logs[q.main].memory + 4*len(q.ghosts) + indexOctets*q.most
}
