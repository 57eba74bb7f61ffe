package cache

import (
	"context"
	"sync/atomic"

	"github.com/weirdns/weir/host/message"
)

// A panic is a mistake in weir, or in what is behind the cache. It fails the query that met it: those who wait for a flight are told so, rather than to wait
// for their deadlines, and the flight lands, so that the next who asks begins another one. All locks of the store are released by defer.

// counter is an atomic.Uint64 as rescue.Guard has it.
type counter struct{ atomic.Uint64 }

// Inc adds one.
func (c *counter) Inc() { c.Add(1) }

// rescue is deferred: a panic makes what came an error.
func (c *Cache) rescue(r *message.Response, err *error) {
	if v := recover(); v != nil {
		c.guard.Panicked(v)
		*r, *err = message.Response{}, errPanic
	}
}

// startNext has the upstream start t, and reports whether t is final. When it panics, nobody else has t.
func (c *Cache) startNext(t *message.Transaction) (final bool) {
	defer func() {
		if v := recover(); v != nil {
			c.guard.Panicked(v)
			t.Response, t.Err, final = message.Response{}, errPanic, true
		}
	}()
	return c.next.Start(t)
}

// resolveNext asks the upstream and waits.
func (c *Cache) resolveNext(ctx context.Context, q *message.Query, dst []byte) (r message.Response, err error) {
	defer c.rescue(&r, &err)
	return c.next.Resolve(ctx, q, dst)
}
