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

var _ chain.Handler = (*entry)(nil)

// Begin implements chain.Handler.
func (e *entry) Begin(x *chain.Exchange) (done bool) {
	for {
		w := e.way.Load()
		lease := w.users.of(x)
		lease.Add(1)
		if e.way.Load() != w { // there is another generation; this one may be gone
			lease.Add(-1)
			continue
		}
		x.Lease = lease
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
