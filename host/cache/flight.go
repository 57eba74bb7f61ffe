package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

// flight is one query to the upstream, on behalf of everyone who asks the same question while it lasts. It belongs to nobody who waits:
// clients come and go, each with a deadline of its own, and the flight ends when the upstream answers or its own time is over. What a
// late one brings serves the next who asks.
type flight struct {
	refs    atomic.Int32 // one until it has landed, those of the leader's waiter, and one for each follower; at 0 it is used again
	key     []byte
	hash    uint64        // of its question
	id      uint64        // the hash by which it is found
	after   *flight       // in its bucket; the lock of flights guards it
	query   message.Query // its own, since the one who asked first may be gone
	trace   message.Trace
	started int64
	buf     []byte // for the response

	upstream message.Transaction
	first    waiter // the leader

	waiting *waiter // who gets the answer; the lock of flights guards it
	landed  bool    // nobody can wait any more, and the following is final; likewise

	response message.Response
	err      error
	decision decision
	kept     bool
}

// Bounds of flights.
const (
	maxFlights = 4096     // when there are more, queries go to the upstream each by itself, within their own deadlines
	maxWaiting = 4096     // clients of one flight
	maxLeads   = 3        // references of a leader's waiter
	maxSpare   = 16 << 10 // octets of a buffer that a flight keeps for its next use
)

// flights are the queries that are with the upstream. After close and wait there are none.
type flights struct {
	deadlines due.Queue // of waiters; its lock guards following
	aloft     flightTable
	told      map[uint64]int // those that tell of networks, by the hash of their question
	closed    bool
	none      sync.Cond // the last one has landed; it has that lock

	landings atomic.Uint64 // changes under it

	spare sync.Pool // of *flight, whose buffers are what a miss would otherwise allocate
}

// flightTable has flights by their id. Each miss puts one in and takes it out again: here that takes a sixth of the time that it takes in a map. The zero
// table is empty.
type flightTable struct {
	buckets [maxFlights / 4]*flight // the first of those with the same remainder
	n       int
}

func (t *flightTable) bucket(id uint64) **flight { return &t.buckets[id%uint64(len(t.buckets))] }

// get returns the flight with an id, or nil.
func (t *flightTable) get(id uint64) *flight {
	f := *t.bucket(id)
	for f != nil && f.id != id {
		f = f.after
	}
	return f
}

// put puts a flight in with whose id there is none.
func (t *flightTable) put(f *flight) {
	b := t.bucket(f.id)
	f.after, *b = *b, f
	t.n++
}

// remove takes a flight out that is in.
func (t *flightTable) remove(f *flight) {
	b := t.bucket(f.id)
	for *b != f {
		b = &(*b).after
	}
	*b, f.after = f.after, nil
	t.n--
}

// role is how a query takes part in a flight.
type role uint8

const (
	answered role = iota // it needs none any more
	alone                // it can't: there are too many
	leader               // it is the first
	follower
	crowded // it can't: the upstream is being told of too many networks for the same question
)

// board finds or makes the flight for key k, as of now. again looks into the store once more when there is none, but others have landed since there were
// so many landings, before the caller looked: the answer of a flight is in the store before it is taken off the list. Whoever gets a
// flight leaves it once. leads is how many references the waiter of the leader has: with none, nobody waits, and the leader leaves like others. Otherwise first
// is on the list, for the leader to make what it has to be before it goes on.
func (fs *flights) board(k []byte, hash, id uint64, now int64, landings uint64, again func() bool, leads int32) (*flight, role) {
	fs.deadlines.Lock()
	defer fs.deadlines.Unlock()
	if f := fs.aloft.get(id); f != nil {
		if string(f.key) != string(k) || f.refs.Load() >= maxWaiting+maxLeads {
			return nil, alone
		}
		f.refs.Add(1)
		return f, follower
	}
	if fs.landings.Load() != landings && again() {
		return nil, answered
	}
	if fs.closed || fs.aloft.n >= maxFlights {
		return nil, alone
	}
	if tells(k) {
		if fs.told[hash] >= maxTold {
			return nil, crowded
		}
		fs.told[hash]++
	}
	f := fs.spare.Get().(*flight)
	f.refs.Store(1 + max(leads, 1))
	f.key, f.hash, f.id, f.started, f.landed = append(f.key[:0], k...), hash, id, now, false
	fs.aloft.put(f)
	if leads > 0 {
		f.enlist(&f.first)
	}
	return f, leader
}

// enlist puts w on the list of f, which it has boarded. The lock of flights is held.
func (f *flight) enlist(w *waiter) {
	w.flight, w.listed = f, true
	w.next, w.prev = f.waiting, nil
	if w.next != nil {
		w.next.prev = w
	}
	f.waiting = w
}

// unlist takes w off the list of its flight and reports whether it was there. Then w is the caller's to end.
func (fs *flights) unlist(w *waiter) bool {
	fs.deadlines.Lock()
	defer fs.deadlines.Unlock()
	if !w.listed {
		return false
	}
	fs.settle(w)
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		w.flight.waiting = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	return true
}

// settle notes that w is off the list, and how many references it gives back when it ends. The lock is held.
func (fs *flights) settle(w *waiter) {
	w.listed, w.owes = false, 1
	if fs.deadlines.ClearLocked(&w.deadline) {
		w.owes = 2
	}
}

// land takes f off the list, so that nobody can board it any more, and returns those who wait for it, who are the caller's to end.
func (fs *flights) land(f *flight) *waiter {
	fs.deadlines.Lock()
	defer fs.deadlines.Unlock()
	fs.aloft.remove(f)
	if tells(f.key) {
		if fs.told[f.hash]--; fs.told[f.hash] == 0 {
			delete(fs.told, f.hash)
		}
	}
	fs.landings.Add(1)
	all := f.waiting
	f.waiting, f.landed = nil, true
	for w := all; w != nil; w = w.next {
		fs.settle(w)
	}
	if fs.aloft.n == 0 {
		fs.none.Broadcast()
	}
	return all
}

// leave gives references to f back. With the last one it is used again.
func (fs *flights) leave(f *flight, refs int32) {
	if f.refs.Add(-refs) > 0 {
		return
	}
	f.first.forget()
	if cap(f.buf) > maxSpare {
		f.buf = nil
	}
	f.trace.Steps = nil
	f.response, f.err, f.decision, f.kept = message.Response{}, nil, decision{}, false
	fs.spare.Put(f)
}

// close lets no more flights begin.
func (fs *flights) close() {
	fs.deadlines.Lock()
	fs.closed = true
	fs.deadlines.Unlock()
}

// wait returns when the last flight has landed. Who waited for that may be told a moment later.
func (fs *flights) wait() {
	fs.deadlines.Lock()
	defer fs.deadlines.Unlock()
	for fs.aloft.n > 0 {
		fs.none.Wait()
	}
}

// number is how many there are.
func (fs *flights) number() int {
	fs.deadlines.Lock()
	defer fs.deadlines.Unlock()
	return fs.aloft.n
}

// prepare makes the flight's query from that of its leader.
func (f *flight) prepare(q *message.Query, deadline time.Time) {
	if hasSubnet(f.key) && subnetOf(f.key) == message.Hidden {
		q = hiding(q)
	}
	f.query.SetQuestion(q, f.query.Message, q.Name, q.Type, q.Class)
	f.query.Deadline, f.query.Trace = deadline, nil
	if q.Trace != nil {
		f.query.Trace = &f.trace
	}
}
