package cache

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/weirdns/weir/host/message"
)

// A panic is a mistake in weir, or in what is behind the cache. It fails the query that met it: those who wait for a flight are told so, rather than to wait
// for their deadlines, and the flight lands, so that the next who asks begins another one. All locks of the store are released by defer.

// panicLogged is how often a panic is logged with its stack at most; all are counted.
const panicLogged = time.Minute

// rescue is deferred: a panic makes what came an error.
func (c *Cache) rescue(r *message.Response, err *error) {
	if v := recover(); v != nil {
		c.panicked(v)
		*r, *err = message.Response{}, errPanic
	}
}

// panicked counts and logs a panic.
func (c *Cache) panicked(v any) {
	c.panics.Add(1)
	if c.seldom.Due(time.Now(), panicLogged) {
		c.log.Error("a panic: what met it has failed; further ones are counted, and logged once a minute", "cache", c.name, "panic", v, "stack", string(debug.Stack()))
	}
}

// startNext has the upstream start t, and reports whether t is final. When it panics, nobody else has t.
func (c *Cache) startNext(t *message.Transaction) (final bool) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(v)
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
