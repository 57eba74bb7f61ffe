package host

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/weirdns/weir/host/chain"
)

// entry is where a listener hands its queries in. It leads each of them into the generation that is the present one at that moment, in which the
// query stays to its end.
type entry struct{ way atomic.Pointer[way] }

// way is the door of a generation, with the queries that are in it.
type way struct {
	door  *door
	users *users
}

var _ chain.Starter = (*entry)(nil)

// Begin implements chain.Handler.
func (e *entry) Begin(x *chain.Exchange) (done bool) {
	w := e.enter(x)
	lease := x.Lease
	done = true // a panic ends the query, too
	defer func() {
		if done {
			x.Lease = nil
			lease.Add(-1)
		}
	}()
	done = w.door.Begin(x)
	return done
}

// enter counts x in the present generation, and returns the way into it.
func (e *entry) enter(x *chain.Exchange) *way {
	for {
		w := e.way.Load()
		x.Lease = w.users.of(x)
		x.Lease.Add(1)
		if e.way.Load() == w {
			return w
		}
		x.Lease.Add(-1) // there is another generation; this one may be gone
	}
}

// Complete implements chain.Handler.
func (e *entry) Complete(ctx context.Context, x *chain.Exchange) {
	lease := x.Lease
	defer func() {
		x.Lease = nil
		lease.Add(-1)
	}()
	x.Complete(ctx)
}

// Start implements chain.Starter.
func (e *entry) Start(x *chain.Exchange) (done bool) {
	lease := x.Lease
	done = true // a panic ends the query, too
	defer func() {
		if done {
			x.Lease = nil
			lease.Add(-1)
		}
	}()
	done = x.Start()
	return done
}

// users counts the queries in a generation, in several places, so that processors which serve different queries don't share a word.
type users struct {
	counts [16]struct {
		n atomic.Int64
		_ [120]byte // processors fetch lines in pairs
	}
}

// of is where an exchange is counted. Exchanges are used again and again, mostly by the same goroutine, so where one is in memory tells them
// apart well enough.
func (u *users) of(x *chain.Exchange) *atomic.Int64 {
	const size = unsafe.Sizeof(chain.Exchange{})
	return &u.counts[uintptr(unsafe.Pointer(x))/size%uintptr(len(u.counts))].n
}

// none reports whether there are none. Nobody comes in any more, but for those who look, see that they are late and leave.
func (u *users) none() bool {
	for i := range u.counts {
		if u.counts[i].n.Load() != 0 {
			return false
		}
	}
	return true
}
