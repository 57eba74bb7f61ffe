package wasm

import (
	"runtime"
	"sync/atomic"
	"time"
)

// pool keeps the free instances of a filter: a bounded number of slots, each with one or none. Who takes an instance out of its slot owns it
// until it is put back there; so there is nothing to lock, and an instance can't be lost without its slot being seen to be empty. (A
// sync.Pool would drop instances with the garbage, and their memory is not the collector's.)
//
// An instance is held for the time of one call, without a wait in it, by a goroutine that runs; so at most about as many are held at
// a time as there are processors, and as many are made on load. Twice as many have room: for moments in which a goroutine that holds one
// is preempted, and for filters that fault, since an instance of a Go program takes some 4 ms to make.
type pool struct {
	slots []slot
	live  atomic.Int32 // instances that exist
}

// slot has the room of two cache lines, since processors fetch them in pairs: neighbours must not disturb each other.
type slot struct {
	state    atomic.Uint32
	instance *instance // whoever brought the state to slotHeld owns it, and what it points to
	// What calls of instances from this slot did, as far as they told. Only the owner writes.
	query, response, fuel atomic.Uint64
	_                     [128 - 5*8]byte
}

// States of a slot. The instance changes hands with them, rather than by a pointer that is swapped out and in, since the collector has to see
// each pointer that is written.
const (
	slotEmpty uint32 = iota // there is no instance
	slotFree                // there is one, for whoever is first
	slotHeld                // somebody has it, or is about to bring one
)

// take gives the instance, if it is free.
func (s *slot) take() *instance {
	// First without writing: while it is in use the others need not see it.
	if s.state.Load() != slotFree || !s.state.CompareAndSwap(slotFree, slotHeld) {
		return nil
	}
	return s.instance
}

// put gives back what take gave.
func (s *slot) put() { s.state.Store(slotFree) }

// minSlots is for small machines.
const minSlots = 8

func newPool() *pool { return &pool{slots: make([]slot, max(minSlots, 2*runtime.GOMAXPROCS(0)))} }

// settle gives a new instance a slot.
func (p *pool) settle(i *instance) {
	for n := range p.slots {
		if s := &p.slots[n]; s.state.CompareAndSwap(slotEmpty, slotHeld) {
			i.home, s.instance = s, i
			p.live.Add(1)
			s.put()
			return
		}
	}
	i.close() // there are as many as may be
}

// drop closes an instance that was taken out of its slot.
func (p *pool) drop(i *instance) {
	i.tell()
	i.home.instance = nil
	i.home.state.Store(slotEmpty)
	p.live.Add(-1)
	i.close()
}

// A call that finds no free instance looks again, takeRounds times while it lets other goroutines run, those that hold an instance among them; that
// nearly always helps at once. When the system has taken the processor from whoever holds one, it doesn't: then the call sleeps between
// its looks, takeSleeps times. Waiting longer, or on a queue, would only hold up the listener, whose other queries may have nothing to do with
// this filter: the query then gets on_error, as if the filter had failed, which it has.
const (
	takeRounds = 1000
	takeSleeps = 50
	takeSleep  = 100 * time.Microsecond
)

// take gives a free instance, or nil when there is none within a bounded time. It looks first where hint says, which is where this caller
// found one the last time, so that callers don't get into each other's way.
func (p *pool) take(hint *uint32) *instance {
	n := uint(len(p.slots))
	for round := range takeRounds + takeSleeps {
		at := uint(*hint)
		for range n {
			if at >= n {
				at = 0
			}
			if i := p.slots[at].take(); i != nil {
				*hint = uint32(at)
				return i
			}
			at++
		}
		if p.live.Load() == 0 {
			return nil
		}
		if round < takeRounds {
			runtime.Gosched()
		} else {
			time.Sleep(takeSleep)
		}
	}
	return nil
}
