package wasm

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
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
	free  atomic.Pointer[instance]
	owned atomic.Bool // an instance belongs here, free or not
	// What calls of instances from this slot did, as far as they told. Only the owner of its instance writes.
	query, response, fuel atomic.Uint64
	_                     [128 - 5*8]byte
}

// minSlots is for small machines.
const minSlots = 8

func newPool() *pool { return &pool{slots: make([]slot, max(minSlots, 2*runtime.GOMAXPROCS(0)))} }

// settle gives a new instance a slot, which nobody else may be about to do.
func (p *pool) settle(i *instance) {
	for n := range p.slots {
		if s := &p.slots[n]; !s.owned.Load() {
			i.home = s
			s.owned.Store(true)
			p.live.Add(1)
			s.free.Store(i)
			return
		}
	}
	i.close() // there are as many as may be
}

// drop closes an instance that was taken out of its slot.
func (p *pool) drop(i *instance) {
	i.tell()
	i.home.owned.Store(false)
	p.live.Add(-1)
	i.close()
}

// takeRounds bounds how often a call looks again when no instance is free. Each time it lets other goroutines run, those that hold an
// instance among them, which takes well under a microsecond; only when there are hardly any instances, after a load or many faults, is
// it more than a few times. Waiting longer, or on a queue, would only hold up the listener, whose other queries may have nothing to do with
// this filter: these then get on_error, as if the filter had failed, which it has.
const takeRounds = 2000

// take gives a free instance, or nil when there is none within a bounded time.
func (p *pool) take() *instance {
	n := uint64(len(p.slots))
	for range takeRounds {
		// Not all processors try the same slot first; and the first slots are the ones that are filled.
		start := uint64(rand.Uint32()) * uint64(p.live.Load()) >> 32
		for k := range n {
			at := start + k
			if at >= n {
				at -= n
			}
			s := &p.slots[at]
			if s.free.Load() == nil { // without writing: the others need not see it
				continue
			}
			if i := s.free.Swap(nil); i != nil {
				return i
			}
		}
		if p.live.Load() == 0 {
			return nil
		}
		runtime.Gosched()
	}
	return nil
}
