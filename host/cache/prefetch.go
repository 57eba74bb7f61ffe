package cache

import (
	"context"

	"github.com/weirdns/weir/host/message"
)

// fetch is an entry to be fetched anew. It is a value, so that asking for it allocates nothing.
type fetch struct {
	hash uint64
	size uint16
	key  [maxKey]byte
}

// Bounds of prefetching: how many entries may wait for it, and how many may be with the upstream at a time.
const (
	maxFetches = 256
	fetchers   = 16
)

// prefetch asks Run to fetch the entry of key k anew. If Run has too much to do, the next hit asks again.
func (c *Cache) prefetch(k []byte, hash uint64) {
	f := fetch{hash: hash, size: uint16(len(k))}
	copy(f.key[:], k)
	select {
	case c.fetches <- f:
	default:
		c.store.release(k, hash)
	}
}

// fetch does what prefetch asks for, until ctx is done.
func (c *Cache) fetch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.fetches:
			c.refresh(f.key[:f.size], f.hash)
		}
	}
}

// refresh asks the upstream for key k, unless somebody does already. The entry stays what it is until there is a better one.
func (c *Cache) refresh(k []byte, hash uint64) {
	f, role := c.flights.board(k, hash, c.flightHash(k, hash), c.since(nil), 0, func() bool { return false }, 0)
	switch role {
	case alone, crowded:
		c.store.release(k, hash)
	case follower:
		c.flights.leave(f, 1)
	case leader:
		c.flights.leave(f, 1)
		c.prefetches.Add(1)
		var q message.Query
		queryOf(&q, k, nil)
		f.prepare(&q, c.now(nil).Add(c.config.ResolveTimeout))
		// Here a goroutine waits, which bounds how many are fetched at a time.
		f.upstream.Response, f.upstream.Err = c.resolveNext(c.background, &f.query, f.buf[:0])
		f.upstream.Batch = nil
		c.land(f)
	}
}
