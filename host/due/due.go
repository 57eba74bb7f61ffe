// Package due has one timer for many deadlines.
//
// A query that waits for a server has a moment at which something has to be done for it, nearly always in vain, since the answer comes before.
// A timer of the runtime for each would cost more than the rest of the wait. A [Queue] has one timer for all of them,
// which is set again only when it has fired or when a moment comes in before it, that is a few times a second under any load.
package due

import (
	"sync"
	"time"
)

// Queue calls the functions of its entries when they are due. The zero value is good for use; all methods are safe for concurrent use. It has no
// bound of its own: an entry is part of something that has one.
//
// Most who come wait as long as those before them, so they are due after those: they are in a list, which they leave as quickly as they have come in. Those for
// whom there is no place near the end of the list are in a heap.
type Queue struct {
	mu          sync.Mutex // guards following
	first, last *Entry     // of the list, in the order in which they are due
	heap        []*Entry   // the parent of i is (i-1)/4, and is due no later
	listed      int
	timer       *time.Timer
	armed       Moment // when the timer fires, if isArmed
	isArmed     bool
}

// Entry is a place in a queue. It belongs to one queue for its life.
type Entry struct {
	// Fire is called once for each time that the entry was due, on a goroutine of the queue, which other entries wait for. The
	// entry is not in the queue any more by then.
	Fire func(now time.Time)

	at         Moment
	place      int // in the heap, counted from 1; 0 when it is not in the queue, inList when it is in the list
	prev, next *Entry
}

const (
	inList  = -1
	maxBack = 4 // entries at the end of the list that may be due after one which comes in
)

// Set makes e due at the given time, sooner or later than before, and reports whether it was not in the queue: then there will be a call of
// Fire, unless Clear takes it back.
func (q *Queue) Set(e *Entry, at time.Time) (added bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.SetLocked(e, at)
}

// SetLocked is Set for who has the lock.
func (q *Queue) SetLocked(e *Entry, at time.Time) (added bool) {
	moment := At(at)
	if added = e.place == 0; !added {
		q.remove(e)
	}
	e.at = moment
	q.insert(e)
	if !q.isArmed || moment < q.armed {
		q.arm(moment)
	}
	return added
}

// Clear takes e out, and reports whether it was in the queue. If not, Fire was called, or will be at once.
func (q *Queue) Clear(e *Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ClearLocked(e)
}

// Lock takes the lock of the queue, which may guard more: what its entries are part of. Fire is called without it.
func (q *Queue) Lock() { q.mu.Lock() }

// Unlock releases it.
func (q *Queue) Unlock() { q.mu.Unlock() }

// ClearLocked is Clear for who has the lock.
func (q *Queue) ClearLocked(e *Entry) bool {
	if e.place == 0 {
		return false
	}
	q.remove(e)
	return true
}

// Flush calls Fire for all entries, now, on the calling goroutine.
func (q *Queue) Flush() {
	for {
		q.mu.Lock()
		e := q.earliest()
		if e == nil {
			if q.timer != nil {
				q.timer.Stop()
				q.isArmed = false
			}
			q.mu.Unlock()
			return
		}
		q.remove(e)
		q.mu.Unlock()
		e.Fire(time.Now())
	}
}

// Len is how many entries there are.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap) + q.listed
}

// fire is what the timer does.
func (q *Queue) fire() {
	for {
		now := time.Now()
		q.mu.Lock()
		e := q.earliest()
		if e == nil {
			q.isArmed = false
			q.mu.Unlock()
			return
		}
		if e.at > At(now) {
			q.arm(e.at)
			q.mu.Unlock()
			return
		}
		q.remove(e)
		q.mu.Unlock()
		e.Fire(now)
	}
}

// arm sets the timer. mu is held.
func (q *Queue) arm(at Moment) {
	q.armed, q.isArmed = at, true
	in := time.Duration(at - At(time.Now()))
	if q.timer == nil {
		q.timer = time.AfterFunc(in, q.fire)
		return
	}
	q.timer.Reset(in)
}

// earliest is the entry that is due first, nil if there is none. mu is held.
func (q *Queue) earliest() *Entry {
	if len(q.heap) == 0 || q.first != nil && q.first.at <= q.heap[0].at {
		return q.first
	}
	return q.heap[0]
}

// insert adds e, which is not in the queue. mu is held.
func (q *Queue) insert(e *Entry) {
	before := q.last
	for n := 0; before != nil && e.at < before.at; n++ {
		if n == maxBack {
			q.heap = append(q.heap, e)
			e.place = len(q.heap)
			q.up(e)
			return
		}
		before = before.prev
	}
	e.place, e.prev = inList, before
	if before == nil {
		e.next, q.first = q.first, e
	} else {
		e.next, before.next = before.next, e
	}
	if e.next == nil {
		q.last = e
	} else {
		e.next.prev = e
	}
	q.listed++
}

// remove takes out e, which is in the queue. mu is held.
func (q *Queue) remove(e *Entry) {
	place := e.place
	e.place = 0
	if place != inList {
		q.unheap(place - 1)
		return
	}
	if e.prev == nil {
		q.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		q.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
	q.listed--
}

// unheap takes out the entry at i.
func (q *Queue) unheap(i int) {
	last := len(q.heap) - 1
	moved := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	if i == last {
		return
	}
	q.heap[i] = moved
	moved.place = i + 1
	q.up(moved)
	q.down(moved)
}

// up moves e towards the top until its parent is due no later.
func (q *Queue) up(e *Entry) {
	i := e.place - 1
	for i > 0 {
		parent := (i - 1) / 4
		p := q.heap[parent]
		if e.at >= p.at {
			break
		}
		q.heap[i], p.place = p, i+1
		i = parent
	}
	q.heap[i], e.place = e, i+1
}

// down moves e away from the top until its children are due no sooner.
func (q *Queue) down(e *Entry) {
	i := e.place - 1
	for {
		first := 4*i + 1
		if first >= len(q.heap) {
			break
		}
		least := first
		for j := first + 1; j < min(first+4, len(q.heap)); j++ {
			if q.heap[j].at < q.heap[least].at {
				least = j
			}
		}
		child := q.heap[least]
		if child.at >= e.at {
			break
		}
		q.heap[i], child.place = child, i+1
		i = least
	}
	q.heap[i], e.place = e, i+1
}
