package cache

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/rescue"
)

// Cache answers from what an upstream said before, and asks it otherwise. Its methods are safe for concurrent use.
//
//  1. New makes it. It works from then on, but for prefetching. Restore fills it with what it knew when weir ran the last time.
//  2. Run fetches popular answers anew, and writes snapshots, until its context is done.
//  3. Close, or the end of Run, ends what it does in the background. It still answers after that, without sharing queries.
type Cache struct {
	name    string
	number  uint64 // of this cache in the process, from 1
	config  Config
	next    message.Starter
	subnets message.SubnetLimits
	epoch   time.Time
	off     bool
	store   *store
	flights flights
	fetches chan fetch
	callers sync.Pool // of *caller
	waiters sync.Pool // of *waiter

	// Good until Close: the context of flights, which outlive the queries that began them.
	background context.Context
	cancel     context.CancelFunc

	misses, joins, stales, prefetches, alone atomic.Uint64
	untold                                   atomic.Uint64 // queries whose network the upstream was not told, since it was told too many
	saved, unsaved, restored                 atomic.Uint64 // snapshots written, and not; entries that came from one
	panics                                   counter
	guard                                    rescue.Guard
	metrics                                  *Metrics
	log                                      *slog.Logger
	snapshots                                snapshots
	injected                                 func() time.Time // nil is time.Now
}

var _ message.Starter = (*Cache)(nil)

// made is how many caches there have been.
var made atomic.Uint64

// Env is what a cache takes from its surroundings. The zero value is good.
type Env struct {
	Now     func() time.Time // a clock with a monotonic reading; nil is time.Now, and faster than giving that
	Metrics *Metrics         // nil is none
	// Subnets is how much of the network of a client next tells its servers (RFC 7871): then answers are for the networks that they say they are for.
	Subnets message.SubnetLimits

	Log      *slog.Logger // what becomes of snapshots; nil is slog.Default
	Identity Identity     // what snapshots must have to be read
}

// staleMargin is the time before its deadline at which a query gets a stale answer, so that it still reaches the client.
const staleMargin = 50 * time.Millisecond

// New makes a cache in front of next, which had better be a message.Starter; if it is not, each query to it has a goroutine. name is that of the
// upstream; c is valid.
func New(name string, c Config, next message.Resolver, env Env) *Cache {
	cache := &Cache{
		name: name, number: made.Add(1), config: c, injected: env.Now, metrics: env.Metrics, log: env.Log, subnets: env.Subnets,
		off:   c.Success.Capacity == 0 && c.Denial.Capacity == 0,
		store: newStore(&c), fetches: make(chan fetch, maxFetches),
	}
	cache.store.subnets = env.Subnets.On()
	cache.epoch = cache.now(nil)
	if cache.log == nil {
		cache.log = slog.Default()
	}
	cache.guard.Log, cache.guard.Count = cache.log.With("cache", name), &cache.panics
	if c.Snapshot != "" && !cache.off {
		cache.snapshots.path = filepath.Join(c.Snapshot, name+snapshotSuffix)
	}
	cache.snapshots.identity = env.Identity
	cache.flights.none.L = &cache.flights.deadlines
	cache.flights.spare.New = func() any { return cache.newFlight() }
	cache.flights.told = make(map[uint64]int)
	cache.background, cache.cancel = context.WithCancel(context.Background())
	cache.callers.New = func() any { return newCaller() }
	cache.waiters.New = func() any {
		w := new(waiter)
		w.init(cache)
		return w
	}
	if cache.next, _ = next.(message.Starter); cache.next == nil {
		cache.next = blocking{next, cache}
	}
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
	hash, now, landings := c.store.hash(k), c.arrival(q), c.flights.landings.Load()
	if c.store.subnets {
		k = appendSubnet(k, c.subnets.Of(q))
	}
	var f found
	switch c.store.lookup(&f, k, hash, now, dst, false); f.state {
	case missing:
		q.Looked = message.Looked{By: c.number, Hash: hash, At: landings}
		return message.Response{}, false
	case stale:
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
	p := c.callers.Get().(*caller)
	defer c.callers.Put(p)
	t := &p.transaction
	t.Query, t.Dst, t.Batch = q, dst, nil
	if w := c.begin(ctx, t, true); w != nil {
		select {
		case <-p.done:
		case <-ctx.Done():
			w.giveUp()
			<-p.done
		}
		w.release(1)
	}
	t.Query, t.Dst = nil, nil
	return t.Response, t.Err
}

// Start implements message.Starter. It is Resolve otherwise.
func (c *Cache) Start(t *message.Transaction) bool {
	if c.off {
		return c.next.Start(t)
	}
	return c.begin(c.background, t, false) == nil
}

// begin starts t and returns its waiter, or nil when t is final. If the caller waits, until ctx is done, the waiter has a reference of the caller's;
// otherwise it is only a sign.
func (c *Cache) begin(ctx context.Context, t *message.Transaction, waits bool) *waiter {
	q := t.Query
	t.Err = nil
	var buf [maxKey]byte
	k := appendKey(buf[:0], q)
	at := c.now(t.Batch)
	now, landings := int64(at.Sub(c.epoch)), c.flights.landings.Load() // before looking: what lands from now on may not have been seen
	hash, missed := c.looked(q, k, landings)
	if c.store.subnets {
		k = appendSubnet(k, c.subnets.Of(q))
	}
	var held found
	look := func() bool {
		c.store.lookup(&held, k, hash, now, t.Dst, true)
		return held.state == live || held.state == staleNow
	}
	part, untold := answered, uint8(0)
	var f *flight
	refs := int32(maxLeads) // of a waiter: until it is final, while its deadline is in the queue, and of the caller
	if !waits {
		refs--
	}
	if missed || !look() {
		f, part = c.flights.board(k, hash, c.flightHash(k, hash), now, landings, look, refs)
		if part == crowded {
			f, part, untold = c.boardUntold(t, &held, k, hash, now, refs)
		}
	}
	if part == answered {
		t.Response = c.give(q, &held, k, hash, now)
		limitScope(&t.Response, untold)
		return nil
	}
	w := c.waiterFor(f, part)
	w.transaction, w.part, w.untold = t, part, untold
	if held.state != missing {
		w.held = held
	}
	t.Batch.Count(&c.misses, 1)
	c.traceMiss(q, w, now)
	switch part {
	case alone:
		refs-- // it has no deadline
		w.refs.Store(refs)
		w.owes = 1
		if !c.startAlone(ctx, w, k, hash, waits) {
			return w
		}
	case leader:
		deadline := at.Add(c.config.ResolveTimeout)
		if q.Deadline.After(deadline) {
			deadline = q.Deadline
		}
		f.prepare(q, deadline)
		batch := t.Batch                                     // while the transaction is ours
		c.flights.deadlines.Set(&w.deadline, c.until(w, at)) // nobody else can end it before: its flight has not been launched
		c.launch(f, batch)
		return w
	case follower:
		c.joins.Add(1)
		w.refs.Store(refs)
		if c.follow(w, f, at) {
			return w
		}
		w.arrived(f)
		c.flights.leave(f, 1)
	}
	w.release(refs)
	return nil
}

// looked returns the hash of key k, and whether Cached has found nothing for q and nothing has come in since.
func (c *Cache) looked(q *message.Query, k []byte, landings uint64) (hash uint64, missed bool) {
	l := q.Looked
	if l.By != c.number {
		return c.store.hash(k), false
	}
	q.Looked = message.Looked{}
	return l.Hash, l.At == landings
}

// launch asks the upstream for f, from a goroutine with batch.
func (c *Cache) launch(f *flight, batch *message.Batch) {
	f.upstream.Query, f.upstream.Dst, f.upstream.Batch = &f.query, f.buf[:0], batch
	if c.startNext(&f.upstream) {
		c.land(f)
	}
}

// land makes of what the upstream said what it is for the cache and for those who wait for f.
func (c *Cache) land(f *flight) {
	f.response, f.err = f.upstream.Response, f.upstream.Err
	c.keep(f)
	if f.err == nil {
		f.buf = f.response.Message
	}
	refs := int32(1)
	for w := c.flights.land(f); w != nil; {
		next := w.next
		w.next, w.prev = nil, nil
		w.arrived(f)
		if w.part == leader { // the flight is there for the others, so what this one has is given back with the rest
			refs += w.owes
			w.tell(f.upstream.Batch)
		} else {
			w.end(f.upstream.Batch)
		}
		w = next
	}
	c.flights.leave(f, refs)
}

// keep has what f brought taken for the cache.
func (c *Cache) keep(f *flight) {
	defer c.rescue(&f.response, &f.err)
	if f.err == nil || c.background.Err() == nil { // what fails because weir ends says nothing about the upstream
		f.decision, f.kept = c.settle(f.key, f.hash, &f.query, &f.response, f.err, c.since(f.upstream.Batch))
	}
}

// settle decides what becomes of a response, or of the error in its place, that has come now, and does it.
func (c *Cache) settle(k []byte, hash uint64, q *message.Query, r *message.Response, err error, now int64) (d decision, kept bool) {
	if err != nil {
		var none message.Response
		none.SetRCODE(nil, q, message.SERVFAIL)
		none.Silent, none.EDE = true, edeOf(err)
		r, d = &none, c.config.decideFailure()
	} else {
		d = c.config.decide(r)
	}
	switch {
	case hasSubnet(k):
		return d, c.settleTold(k, hash, r, d, now)
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
		from := ""
		if f.stored < 0 { // before there was this cache
			from = ", from the snapshot"
		}
		q.Trace.Add(c.step("hit"), "hit: %s, %d s old, %d s left%s%s", f.kind, age, f.life-age, c.forNetwork(k, &f.response), from)
	}
	return f.response
}

func (c *Cache) giveStale(q *message.Query, dst []byte, held *found, why string) message.Response {
	c.stales.Add(1)
	if q.Trace != nil {
		q.Trace.Add(c.step("stale"), "stale for %d s, given because %s", held.over(c.since(nil)), why)
	}
	return held.held.appendStaleTo(dst, seconds(c.config.StaleTTL))
}

// now is the time on a goroutine with batch.
func (c *Cache) now(batch *message.Batch) time.Time {
	if c.injected == nil {
		return batch.Now()
	}
	return c.injected()
}

// since is the same as the store knows it: nanoseconds since New, by the monotonic clock.
func (c *Cache) since(batch *message.Batch) int64 { return int64(c.now(batch).Sub(c.epoch)) }

// arrival is when q arrived: for an answer that is at hand, that is now.
func (c *Cache) arrival(q *message.Query) int64 {
	if c.injected == nil && !q.Arrived.IsZero() {
		return int64(q.Arrived.Sub(c.epoch))
	}
	return c.since(nil)
}

// Run fetches popular answers anew before they end, and writes snapshots, until ctx is done. When it returns, nothing of the cache is running. The
// last snapshot is the caller's to ask for, see [Cache.Save].
func (c *Cache) Run(ctx context.Context) {
	var wg sync.WaitGroup
	if c.config.Prefetch.Hits > 0 && !c.off {
		for range fetchers {
			wg.Go(func() { c.guard.Keep(ctx, c.fetch) })
		}
	}
	if c.snapshots.path != "" {
		wg.Go(func() { c.guard.Keep(ctx, c.saveRegularly) })
	}
	<-ctx.Done()
	c.Close()
	wg.Wait()
}

// Close ends the queries to the upstream that are under way in the background and waits for them. It may be called more than once.
func (c *Cache) Close() {
	c.flights.close()
	c.cancel()
	c.flights.wait()
	c.flights.deadlines.Flush() // nobody waits any more, and its timer shall not keep the cache alive
	c.metrics.remove(c)
}

// step is a step of a trace that the cache is to fill in.
func (c *Cache) step(event string) message.Step {
	return message.Step{Part: "cache " + c.name, Event: event}
}

func (c *Cache) traceMiss(q *message.Query, w *waiter, now int64) {
	if q.Trace == nil {
		return
	}
	what, held := "miss", &w.held
	if held.state == stale {
		what = fmt.Sprintf("stale for %d s", held.over(now))
	}
	how := [...]string{alone: "asking the upstream", leader: "asking the upstream", follower: "waiting for a query that is under way"}[w.part]
	if w.untold > 0 {
		how += ", which does not tell the network, since as many as may are under way with others"
	}
	q.Trace.Add(c.step("miss"), "%s: %s", what, how)
}

// traceLanding tells the leader what happened on the way.
func (c *Cache) traceLanding(q *message.Query, f *flight) {
	for _, s := range f.trace.Steps {
		q.Trace.Add(s, "%s", s.Text)
	}
	switch d := &f.decision; {
	case f.kept:
		q.Trace.Add(c.step("stored"), "stored for %d s (%s)%s", d.life, d.kind, c.forNetwork(f.key, &f.response))
	case d.keep && d.kind == failure:
		q.Trace.Add(c.step("passed"), "not stored: it is a failure, and there is an answer")
	case d.keep:
		q.Trace.Add(c.step("passed"), "not stored: it is too large")
	case d.why != "":
		q.Trace.Add(c.step("passed"), "not stored: %s", d.why)
	}
}
