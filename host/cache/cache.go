package cache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/message"
)

// Cache answers from what an upstream said before, and asks it otherwise. Its methods are safe for concurrent use.
//
//  1. New makes it. It works from then on, but for prefetching.
//  2. Run fetches popular answers anew, until its context is done.
//  3. Close, or the end of Run, ends what it does in the background. It still answers after that, without sharing queries.
type Cache struct {
	name    string
	config  Config
	next    message.Resolver
	epoch   time.Time
	off     bool
	store   *store
	flights flights
	fetches chan fetch
	timers  sync.Pool // of *time.Timer

	// Good until Close: the context of flights, which outlive the queries that began them.
	background context.Context
	cancel     context.CancelFunc

	misses, joins, stales, prefetches, alone atomic.Uint64
	metrics                                  *Metrics
	injected                                 func() time.Time // nil is time.Now
}

var _ message.Resolver = (*Cache)(nil)

// Env is what a cache takes from its surroundings. The zero value is good.
type Env struct {
	Now     func() time.Time // a clock with a monotonic reading; nil is time.Now, and faster than giving that
	Metrics *Metrics         // nil is none
}

// staleMargin is the time before its deadline at which a query gets a stale answer, so that it still reaches the client.
const staleMargin = 50 * time.Millisecond

// New makes a cache in front of next. name is that of the upstream; c is valid.
func New(name string, c Config, next message.Resolver, env Env) *Cache {
	cache := &Cache{
		name: name, config: c, next: next, injected: env.Now, metrics: env.Metrics,
		off:   c.Success.Capacity == 0 && c.Denial.Capacity == 0,
		store: newStore(&c), fetches: make(chan fetch, maxFetches),
	}
	cache.epoch = cache.now()
	cache.flights.byHash = make(map[uint64]*flight)
	cache.background, cache.cancel = context.WithCancel(context.Background())
	env.Metrics.add(cache)
	return cache
}

// Name is the name of the upstream in the configuration.
func (c *Cache) Name() string { return c.name }

// Cached answers q if that needs no waiting: from a live entry, or from a stale one while the upstream is known to fail. It appends to dst, and
// allocates nothing if there is room.
func (c *Cache) Cached(q *message.Query, dst []byte) (message.Response, bool) {
	if c.off {
		return message.Response{}, false
	}
	var buf [maxKey]byte
	k := appendKey(buf[:0], q)
	hash, now := c.store.hash(k), c.clock()
	var f found
	if c.store.lookup(&f, k, hash, now, dst, false); f.state == missing || f.state == stale {
		return message.Response{}, false
	}
	return c.give(q, &f, k, hash, now), true
}

// Resolve implements message.Resolver. It answers as Cached does, or asks the upstream: for all who ask the same at a time with one query, which
// has resolve_timeout, so that neither an impatient client nor one that goes away takes anything from the others. If there is a stale
// answer, it gives that when the upstream fails or takes too long.
func (c *Cache) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	if c.off {
		return c.next.Resolve(ctx, q, dst)
	}
	var buf [maxKey]byte
	k := appendKey(buf[:0], q)
	hash, now := c.store.hash(k), c.clock()
	var held found
	look := func() bool {
		c.store.lookup(&held, k, hash, now, dst, true)
		return held.state == live || held.state == staleNow
	}
	if look() {
		return c.give(q, &held, k, hash, now), nil
	}
	f, part := c.flights.board(k, hash, now, look)
	if part == answered {
		return c.give(q, &held, k, hash, now), nil
	}
	c.misses.Add(1)
	c.traceMiss(q, &held, part, now)
	switch part {
	case alone:
		return c.resolveAlone(ctx, q, dst, &held, k, hash)
	case leader:
		deadline := c.now().Add(c.config.ResolveTimeout)
		if q.Deadline.After(deadline) {
			deadline = q.Deadline
		}
		f.prepare(q, deadline)
		go c.fly(f)
	case follower:
		c.joins.Add(1)
	}
	return c.await(ctx, q, dst, f, part, &held)
}

// await waits for f, within the time that q has.
func (c *Cache) await(ctx context.Context, q *message.Query, dst []byte, f *flight, part role, held *found) (message.Response, error) {
	wait := c.config.ResolveTimeout + time.Second // a flight ends before; this is for a next that does not
	if !q.Deadline.IsZero() {
		wait = q.Deadline.Sub(c.now())
	}
	if held.state == stale {
		// Counted from the start of the flight: who comes later has the others' waiting to go by.
		patience := c.config.StaleAfter - time.Duration(c.clock()-f.started)
		wait = min(patience, wait-staleMargin)
	}
	defer c.flights.leave(f)
	timer := c.timer(max(wait, 0))
	defer c.stop(timer)
	select {
	case <-f.landed:
		if part == leader && q.Trace != nil {
			c.traceLanding(q, f)
		}
		if held.state == stale && (f.err != nil || f.decision.kind == failure) {
			return c.giveStale(q, dst, held, "the upstream failed"), nil
		}
		if f.err != nil {
			return message.Response{}, f.err
		}
		r := f.response
		r.Message = append(dst, r.Message...)[len(dst):]
		return r, nil
	case <-ctx.Done():
		return message.Response{}, errGone
	case <-timer.C:
		if held.state == stale {
			return c.giveStale(q, dst, held, "the upstream takes its time"), nil
		}
		return message.Response{}, errLate
	}
}

// fly asks the upstream for f.
func (c *Cache) fly(f *flight) {
	f.response, f.err = c.next.Resolve(c.background, &f.query, f.buf[:0])
	if f.err == nil || c.background.Err() == nil { // what fails because weir ends says nothing about the upstream
		f.decision, f.kept = c.settle(f.key, f.hash, &f.query, &f.response, f.err)
	}
	if f.err == nil {
		f.buf = f.response.Message
	}
	c.flights.land(f)
}

// timer takes a timer from those that are spare: a query that waits needs one, whatever comes of it.
func (c *Cache) timer(d time.Duration) *time.Timer {
	if t, ok := c.timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

// stop puts t back. Nothing comes out of its channel after Stop.
func (c *Cache) stop(t *time.Timer) {
	t.Stop()
	c.timers.Put(t)
}

// resolveAlone asks the upstream for q only, when there are too many flights. An error is not kept, since it may be due to the little time
// that the client had left.
func (c *Cache) resolveAlone(ctx context.Context, q *message.Query, dst []byte, held *found, k []byte, hash uint64) (message.Response, error) {
	c.alone.Add(1)
	r, err := c.next.Resolve(ctx, q, dst)
	if err == nil {
		var d decision
		if d, _ = c.settle(k, hash, q, &r, nil); d.kind != failure {
			return r, nil
		}
	}
	if held.state == stale {
		return c.giveStale(q, dst, held, "the upstream failed"), nil
	}
	return r, err
}

// settle decides what becomes of a response, or of the error in its place, and does it.
func (c *Cache) settle(k []byte, hash uint64, q *message.Query, r *message.Response, err error) (d decision, kept bool) {
	now := c.clock()
	if err != nil {
		var none message.Response
		none.SetRCODE(nil, q, message.SERVFAIL)
		none.Silent, none.EDE = true, edeOf(err)
		r, d = &none, c.config.decideFailure()
	} else {
		d = c.config.decide(r)
	}
	switch {
	case d.keep:
		var buf [fewTTLs]byte
		it := newItem(k, r, d, now, buf[:])
		return d, c.store.insert(hash, &it, now)
	case d.kind == failure:
		c.store.fail(k, hash, now)
	case d.settles:
		c.store.remove(k, hash)
	}
	return d, false
}

// give answers from what was found.
func (c *Cache) give(q *message.Query, f *found, k []byte, hash uint64, now int64) message.Response {
	if f.fetch {
		c.prefetch(k, hash)
	}
	if q.Trace != nil && f.state == staleNow {
		q.Trace.Add(c.step("stale"), "stale for %d s, given at once: the upstream failed a moment ago", f.over(now))
	} else if q.Trace != nil {
		age := f.age(now)
		q.Trace.Add(c.step("hit"), "hit: %s, %d s old, %d s left", f.kind, age, f.life-age)
	}
	return f.response
}

func (c *Cache) giveStale(q *message.Query, dst []byte, held *found, why string) message.Response {
	c.stales.Add(1)
	if q.Trace != nil {
		q.Trace.Add(c.step("stale"), "stale for %d s, given because %s", held.over(c.clock()), why)
	}
	return held.held.appendStaleTo(dst, seconds(c.config.StaleTTL))
}

// clock is the time that the store knows: nanoseconds since New, by the monotonic clock. [time.Since] does not read the other clock, which
// saves half of the time that a hit spends on it.
func (c *Cache) clock() int64 {
	if c.injected == nil {
		return int64(time.Since(c.epoch))
	}
	return int64(c.injected().Sub(c.epoch))
}

func (c *Cache) now() time.Time {
	if c.injected == nil {
		return time.Now()
	}
	return c.injected()
}

// Run fetches popular answers anew before they end, until ctx is done. When it returns, nothing of the cache is running.
func (c *Cache) Run(ctx context.Context) {
	var wg sync.WaitGroup
	if c.config.Prefetch.Hits > 0 && !c.off {
		for range fetchers {
			wg.Go(func() { c.fetch(ctx) })
		}
	}
	<-ctx.Done()
	c.Close()
	wg.Wait()
}

// Close ends the queries to the upstream that are under way in the background and waits for them. It may be called more than once.
func (c *Cache) Close() {
	c.flights.close()
	c.cancel()
	c.flights.wg.Wait()
	c.metrics.remove(c)
}

// step is a step of a trace that the cache is to fill in.
func (c *Cache) step(event string) message.Step {
	return message.Step{Part: "cache " + c.name, Event: event}
}

func (c *Cache) traceMiss(q *message.Query, held *found, r role, now int64) {
	if q.Trace == nil {
		return
	}
	what := "miss"
	if held.state == stale {
		what = fmt.Sprintf("stale for %d s", held.over(now))
	}
	how := [...]string{alone: "asking the upstream", leader: "asking the upstream", follower: "waiting for a query that is under way"}[r]
	q.Trace.Add(c.step("miss"), "%s: %s", what, how)
}

// traceLanding tells the leader what happened on the way.
func (c *Cache) traceLanding(q *message.Query, f *flight) {
	for _, s := range f.trace.Steps {
		q.Trace.Add(s, "%s", s.Text)
	}
	switch d := &f.decision; {
	case f.kept:
		q.Trace.Add(c.step("stored"), "stored for %d s (%s)", d.life, d.kind)
	case d.keep && d.kind == failure:
		q.Trace.Add(c.step("passed"), "not stored: it is a failure, and there is an answer")
	case d.keep:
		q.Trace.Add(c.step("passed"), "not stored: it is too large")
	case d.why != "":
		q.Trace.Add(c.step("passed"), "not stored: %s", d.why)
	}
}
