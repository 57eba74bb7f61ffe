package cache

// queue decides which entry leaves when there is no more room. It is S3-FIFO (Yang and others, "FIFO queues are all you need for cache
// eviction", SOSP 2023): new entries go through a small queue, where what nobody asks for again leaves soon, so a flood of names asked once
// can't drive out the ones in use.
//
//	             ┌───────────────┐ used since                  ┌────────────────────┐
//	new ───────► │ small, a tenth│ ──────────────────────────► │ main               │ ─┐ used since:
//	             └───────────────┘                  ┌────────► └────────────────────┘ ◄┘ once more round
//	                     │ not used                 │ seen before        │ not used
//	                     ▼                          │                    ▼
//	                   out, its hash to the ghosts ─┘                   out
type queue struct {
	capacity, limit int // entries and octets
	largest         int // octets of one entry
	small, main     list
	ghosts          []uint32 // by the lower bits of the hash: the upper ones of what left small last
	evictions       uint64
}

const (
	maxUses  = 3  // times that an entry goes round in main at most
	goodUses = 2  // uses for which small passes an entry on to main
	maxSteps = 64 // entries to look at for one eviction, so that no query pays for a queue full of used entries
)

func (q *queue) bound(l *Limits, shards int) {
	if l.Capacity > 0 {
		q.capacity = max(l.Capacity/shards, 1)
		q.limit = l.Octets / shards
		q.largest = q.limit / 4
	}
}

func (q *queue) full() bool {
	return q.small.entries+q.main.entries > q.capacity || q.small.octets+q.main.octets > q.limit
}

func (q *queue) add(e *entry) {
	e.uses = 0
	if q.ghosts != nil && q.ghosts[e.hash&uint64(len(q.ghosts)-1)] == uint32(e.hash>>32) {
		q.main.push(e)
	} else {
		q.small.push(e)
	}
}

// victim takes out the entry that is to leave. There is one.
func (q *queue) victim(s *store, now int64) *entry {
	for step := 0; ; step++ {
		from := &q.main
		if q.main.entries == 0 || q.small.entries > 1 && (q.small.entries > q.capacity/10 || q.small.octets > q.limit/10) {
			from = &q.small
		}
		e := from.last
		from.unlink(e)
		useful := step < maxSteps && (e.end() > now || s.usable(e, now))
		switch {
		case from == &q.small && useful && e.uses >= goodUses:
			e.uses = 0
			q.main.push(e)
		case from == &q.main && useful && e.uses > 0:
			e.uses--
			q.main.push(e)
		default:
			if from == &q.small {
				q.remember(e.hash)
			}
			return e
		}
	}
}

func (q *queue) remember(hash uint64) {
	if q.ghosts == nil { // a cache that is never full needs none
		n := 1
		for n < q.capacity {
			n *= 2
		}
		q.ghosts = make([]uint32, n)
	}
	q.ghosts[hash&uint64(len(q.ghosts)-1)] = uint32(hash >> 32)
}

// list is a list of entries, the newest first. The zero value is empty.
type list struct {
	first, last *entry
	entries     int
	octets      int
}

func (l *list) push(e *entry) {
	e.home, e.prev, e.next = l, nil, l.first
	if l.first != nil {
		l.first.prev = e
	} else {
		l.last = e
	}
	l.first = e
	l.entries++
	l.octets += e.octets()
}

func (l *list) unlink(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
	e.home, e.prev, e.next = nil, nil, nil
	l.entries--
	l.octets -= e.octets()
}
