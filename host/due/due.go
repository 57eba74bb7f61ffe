// Package due has one timer for many deadlines.
//
// A query that waits for a server has a moment at which something has to be done for it, nearly always in vain, since the answer comes before.
// A timer of the runtime for each would cost more than the rest of the wait. A [Queue] is a heap of such moments with one timer,
// which is set again only when it has fired or when a moment comes in before it, that is a few times a second under any load.
package due

import (
	"sync"
	"time"
)

// Queue calls the functions of its entries when they are due. The zero value is good for use; all methods are safe for concurrent use. It has no
// bound of its own: an entry is part of something that has one.
type Queue struct {
	mu    sync.Mutex // guards following
	heap  []*Entry   // the parent of i is (i-1)/4, and is due no later
	timer *time.Timer
	armed time.Time // when the timer fires; zero when it is not set
}

// Entry is a place in a queue. It belongs to one queue for its life.
type Entry struct {
	// Fire is called once for each time that the entry was due, on a goroutine of the queue, which other entries wait for. The
	// entry is not in the queue any more by then.
	Fire func(now time.Time)

	at    time.Time
	place int // in the heap, counted from 1; 0 when it is not in it
}

// Set makes e due at the given time, sooner or later than before, and reports whether it was not in the queue: then there will be a call of
// Fire, unless Clear takes it back.
func (q *Queue) Set(e *Entry, at time.Time) (added bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.at = at
	if e.place == 0 {
		q.heap = append(q.heap, e)
		e.place = len(q.heap)
		q.up(e)
		added = true
	} else {
		q.up(e)
		q.down(e)
	}
	if q.armed.IsZero() || at.Before(q.armed) {
		q.arm(at)
	}
	return added
}

// Clear takes e out, and reports whether it was in the queue. If not, Fire was called, or will be at once.
func (q *Queue) Clear(e *Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
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
		if len(q.heap) == 0 {
			if q.timer != nil {
				q.timer.Stop()
				q.armed = time.Time{}
			}
			q.mu.Unlock()
			return
		}
		e := q.heap[0]
		q.remove(e)
		q.mu.Unlock()
		e.Fire(time.Now())
	}
}

// Len is how many entries there are.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap)
}

// fire is what the timer does.
func (q *Queue) fire() {
	for {
		now := time.Now()
		q.mu.Lock()
		if len(q.heap) == 0 {
			q.armed = time.Time{}
			q.mu.Unlock()
			return
		}
		e := q.heap[0]
		if e.at.After(now) {
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
func (q *Queue) arm(at time.Time) {
	q.armed = at
	if q.timer == nil {
		q.timer = time.AfterFunc(time.Until(at), q.fire)
		return
	}
	q.timer.Reset(time.Until(at))
}

func (q *Queue) remove(e *Entry) {
	i, last := e.place-1, len(q.heap)-1
	moved := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	e.place = 0
	if moved != e {
		q.heap[i] = moved
		moved.place = i + 1
		q.up(moved)
		q.down(moved)
	}
}

// up moves e towards the top until its parent is due no later.
func (q *Queue) up(e *Entry) {
	i := e.place - 1
	for i > 0 {
		parent := (i - 1) / 4
		p := q.heap[parent]
		if !e.at.Before(p.at) {
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
			if q.heap[j].at.Before(q.heap[least].at) {
				least = j
			}
		}
		child := q.heap[least]
		if !child.at.Before(e.at) {
			break
		}
		q.heap[i], child.place = child, i+1
		i = least
	}
	q.heap[i], e.place = e, i+1
}
