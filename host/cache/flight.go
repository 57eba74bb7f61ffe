package cache

import (
	"sync"
	"time"

	"github.com/weirdns/weir/host/message"
)

// flight is one query to the upstream, on behalf of everyone who asks the same question while it lasts. It belongs to nobody who waits:
// clients come and go, each with a deadline of its own, and the flight ends when the upstream answers or its own time is over. What a
// late one brings serves the next who asks.
type flight struct {
	key     string
	hash    uint64
	query   message.Query // its own, since the one who asked first may be gone
	trace   message.Trace
	started int64
	waiting int // guarded by flights.mu

	landed   chan struct{} // closed when the following are final
	response message.Response
	err      error
	decision decision
	kept     bool
}

// Bounds of flights.
const (
	maxFlights = 4096 // when there are more, queries go to the upstream each by itself, within their own deadlines
	maxWaiting = 4096 // clients of one flight
)

// flights are the queries that are with the upstream. No goroutine of a flight is left after close.
type flights struct {
	mu     sync.Mutex // guards following
	byKey  map[string]*flight
	closed bool
	wg     sync.WaitGroup
}

// role is how a query takes part in a flight.
type role uint8

const (
	alone  role = iota // it does not: there are too many
	leader             // it is the first
	follower
)

// board finds or makes the flight for key k, as of now. again looks into the store once more when there is none: another flight may have landed since the caller
// looked, and its answer has been in the store since before it was taken off the list.
func (fs *flights) board(k []byte, hash uint64, now int64, again func() bool) (f *flight, r role, answered bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f = fs.byKey[string(k)]; f != nil {
		if f.waiting == maxWaiting {
			return nil, alone, false
		}
		f.waiting++
		return f, follower, false
	}
	if again() {
		return nil, alone, true
	}
	if fs.closed || len(fs.byKey) >= maxFlights {
		return nil, alone, false
	}
	f = &flight{key: string(k), hash: hash, started: now, landed: make(chan struct{}), waiting: 1}
	fs.byKey[f.key] = f
	fs.wg.Add(1)
	return f, leader, false
}

// land takes f off the list and wakes those who wait for it.
func (fs *flights) land(f *flight) {
	fs.mu.Lock()
	delete(fs.byKey, f.key)
	fs.mu.Unlock()
	close(f.landed)
	fs.wg.Done()
}

// close lets no more flights begin.
func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
}

// number is how many there are.
func (fs *flights) number() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.byKey)
}

// leave takes back one who waits.
func (fs *flights) leave(f *flight) {
	fs.mu.Lock()
	f.waiting--
	fs.mu.Unlock()
}

// prepare makes the flight's query from that of its leader.
func (f *flight) prepare(q *message.Query, deadline time.Time) {
	f.query.SetQuestion(q, make([]byte, 0, len(q.Message)), q.Name, q.Type, q.Class)
	f.query.Deadline, f.query.Trace = deadline, nil
	if q.Trace != nil {
		f.query.Trace = &f.trace
	}
}
