package cache

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

// waiter is a transaction that waits for a flight, or for the upstream alone. Whoever takes it off the list of its flight makes the transaction
// final, and that is the flight when it lands, the queue of deadlines, or the caller who gives up.
type waiter struct {
	cache       *Cache
	transaction *message.Transaction
	part        role
	untold      uint8        // the bits of its network, which the upstream is not told since it is told of too many others
	held        found        // what the store had
	flight      *flight      // which it has boarded, and leaves when it is final; or, as part of it, when it is not used any more
	deadline    due.Entry    // when it gets what there is without the flight
	refs        atomic.Int32 // one until it is final, one while deadline is in the queue, one of a caller who may give up; the leader's are with those of the flight

	prev, next *waiter // on the list of the flight; the lock of flights guards them
	listed     bool    // likewise
	owes       int32   // references to give back at the end; who takes it off the list sets it

	// For who asks alone.
	key   []byte
	hash  uint64
	alone message.Transaction
}

// init prepares a waiter of c, once.
func (w *waiter) init(c *Cache) {
	w.cache = c
	w.deadline.Fire = func(time.Time) {
		if c.flights.unlist(w) {
			w.expired()
			w.end(nil)
		}
		w.release(1)
	}
	w.alone.Done = func() {
		w.answeredAlone()
		w.end(w.alone.Batch)
	}
}

func (c *Cache) newFlight() *flight {
	f := new(flight)
	f.first.init(c)
	f.upstream.Done = func() { c.land(f) }
	return f
}

// waiterFor returns a waiter for who has boarded f, or asks alone: for the leader that which is part of f.
func (c *Cache) waiterFor(f *flight, part role) *waiter {
	if part == leader {
		return &f.first
	}
	return c.waiters.Get().(*waiter)
}

// release gives references back, and with the last one the waiter.
func (w *waiter) release(refs int32) {
	if w.part == leader {
		w.cache.flights.leave(w.flight, refs)
		return
	}
	if w.refs.Add(-refs) > 0 {
		return
	}
	w.forget()
	w.alone.Query, w.alone.Dst, w.alone.Batch = nil, nil, nil
	w.cache.waiters.Put(w)
}

// forget is for a waiter that nobody knows of any more.
func (w *waiter) forget() {
	w.transaction, w.flight = nil, nil
	if w.held.state != missing {
		w.held = found{}
	}
}

// end tells the owner of the transaction that it is final, with the batch of the present goroutine. For the waiter that was the last thing to do.
func (w *waiter) end(batch *message.Batch) {
	t := w.transaction
	t.Batch = batch
	if f := w.flight; f != nil && w.part != leader {
		w.cache.flights.leave(f, 1)
	}
	w.release(w.owes)
	t.Done()
}

// tell is end for who gives the references back later.
func (w *waiter) tell(batch *message.Batch) {
	t := w.transaction
	t.Batch = batch
	t.Done()
}

// follow puts w on the list of f, which it has boarded, and has it end as await does. It returns false when f has landed already.
func (c *Cache) follow(w *waiter, f *flight, now time.Time) bool {
	c.flights.deadlines.Lock()
	defer c.flights.deadlines.Unlock()
	if f.landed {
		return false
	}
	f.enlist(w)
	c.flights.deadlines.SetLocked(&w.deadline, c.until(w, now))
	return true
}

// until is when the time is over that w has for its flight.
func (c *Cache) until(w *waiter, now time.Time) time.Time {
	q := w.transaction.Query
	wait := c.config.ResolveTimeout + time.Second // a flight ends before; this is for a next that does not
	if !q.Deadline.IsZero() {
		wait = q.Deadline.Sub(now)
	}
	if w.held.state == stale {
		// Counted from the start of the flight: who comes later has the others' waiting to go by.
		patience := c.config.StaleAfter - (now.Sub(c.epoch) - time.Duration(w.flight.started))
		wait = min(patience, wait-staleMargin)
	}
	if c.injected != nil {
		now = time.Now() // the queue has the real clock
	}
	return now.Add(max(wait, 0))
}

// arrived makes the transaction final by what f has brought.
func (w *waiter) arrived(f *flight) {
	c, t := w.cache, w.transaction
	defer c.rescue(&t.Response, &t.Err)
	if w.part == leader && t.Query.Trace != nil {
		c.traceLanding(t.Query, f)
	}
	switch {
	case w.held.state == stale && (f.err != nil || f.decision.kind == failure):
		t.Response, t.Err = c.giveStale(t.Query, t.Dst, &w.held, "the upstream failed"), nil
	case f.err != nil:
		t.Response, t.Err = message.Response{}, f.err
	default:
		t.Response, t.Err = f.response, nil
		t.Response.Message = append(t.Dst, f.response.Message...)[len(t.Dst):]
		limitScope(&t.Response, w.untold)
	}
}

// expired makes the transaction final when its time is over.
func (w *waiter) expired() {
	t := w.transaction
	defer w.cache.rescue(&t.Response, &t.Err)
	if w.held.state == stale {
		t.Response, t.Err = w.cache.giveStale(t.Query, t.Dst, &w.held, "the upstream takes its time"), nil
	} else {
		t.Response, t.Err = message.Response{}, errLate
	}
}

// startAlone asks the upstream for w only, when there are too many flights, and reports whether the transaction is final, as it is
// if the caller waits, until ctx is done.
func (c *Cache) startAlone(ctx context.Context, w *waiter, k []byte, hash uint64, waits bool) bool {
	t := w.transaction
	c.alone.Add(1)
	w.key, w.hash = append(w.key[:0], k...), hash
	w.alone.Query, w.alone.Dst, w.alone.Batch = t.Query, t.Dst, t.Batch
	if waits {
		w.alone.Response, w.alone.Err = c.resolveNext(ctx, t.Query, t.Dst)
	} else if !c.startNext(&w.alone) {
		return false
	}
	w.answeredAlone()
	return true
}

// answeredAlone makes the transaction final by what the upstream said. An error is not kept, since it may be due to the little time that the client had left.
func (w *waiter) answeredAlone() {
	c, t, r, err := w.cache, w.transaction, w.alone.Response, w.alone.Err
	defer c.rescue(&t.Response, &t.Err)
	t.Response, t.Err = r, err
	if err == nil {
		if d, _ := c.settle(w.key, w.hash, t.Query, &r, nil, c.since(w.alone.Batch)); d.kind != failure {
			t.Response = r
			return
		}
	}
	if w.held.state == stale {
		t.Response, t.Err = c.giveStale(t.Query, t.Dst, &w.held, "the upstream failed"), nil
	}
}

// caller is a transaction that is waited for.
type caller struct {
	transaction message.Transaction
	done        chan struct{} // has room for one
}

func newCaller() *caller {
	p := &caller{done: make(chan struct{}, 1)}
	p.transaction.Done = func() { p.done <- struct{}{} }
	return p
}

// giveUp ends w, unless it has ended. The caller holds a reference.
func (w *waiter) giveUp() {
	if w.cache.flights.unlist(w) {
		w.transaction.Response, w.transaction.Err = message.Response{}, errGone
		w.end(nil)
	}
}

// blocking makes a Starter of a Resolver, with a goroutine for each query.
type blocking struct {
	message.Resolver
	cache *Cache
}

func (b blocking) Start(t *message.Transaction) bool {
	go func() {
		func() {
			defer b.cache.rescue(&t.Response, &t.Err)
			t.Response, t.Err = b.Resolve(b.cache.background, t.Query, t.Dst)
		}()
		t.Batch = nil
		t.Done()
	}()
	return false
}
