package listener

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/querylog"
	"github.com/weirdns/weir/host/share"
)

// job is one query on its way: the exchange, and the octets that it is made of. Whoever has the job owns everything in it.
type job struct {
	exchange chain.Exchange
	query    []byte // what exchange.Query keeps
	scratch  []byte // for responses that the listener itself makes
	start    time.Time
	end      time.Time // of what the listener had to do with it so far
	entered  bool      // the handler has seen it
	counted  bool      // its response is in the metrics, and the log of queries
	broken   bool      // the handler panicked: what is in the exchange is not to be trusted
	peer     peer      // where a UDP query came from
	clock    *clock    // of the goroutine that reads, while it has the job; otherwise nil
	names    []string  // of its client, in the certificate
	asked    asked     // options that it gets answers to

	// Of a UDP query that waits without a goroutine.
	listener *Listener
	socket   *socket
	share    share.Share
	out      []byte // the response, until it is sent
}

const (
	jobQuery   = 512 // octets kept for a query: nearly all have less, and a larger one gets a buffer for itself
	jobScratch = 512 // header, question, OPT and an Extended DNS Error
	jobsKept   = 512 // idle jobs kept for reuse
)

// jobs is a free list. A sync.Pool would lose the buffers inside of exchanges with each garbage collection, just when there is most to do.
type jobs struct {
	mu   sync.Mutex // guards following
	free []*job
	made uint
}

func (p *jobs) get() *job {
	var one [1]*job
	p.take(one[:])
	return one[0]
}

// take gets as many jobs as there are free ones and room for, but at least one, and returns how many.
func (p *jobs) take(some []*job) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rest := len(p.free) - len(some); len(p.free) > 0 {
		n := copy(some, p.free[max(rest, 0):])
		clear(p.free[max(rest, 0):])
		p.free = p.free[:max(rest, 0)]
		return n
	}
	p.made++
	j := &job{query: make([]byte, 0, jobQuery), scratch: make([]byte, 0, jobScratch)}
	j.exchange.Shard = uint8(p.made % chain.Shards)
	some[0] = j
	return 1
}

func (p *jobs) put(some ...*job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range some {
		p.putLocked(j)
	}
}

// putLocked is put for who has the lock.
func (p *jobs) putLocked(j *job) {
	if j.broken || len(p.free) >= jobsKept {
		return
	}
	j.names, j.exchange.Batch = nil, nil
	if cap(j.query) > jobQuery {
		j.query = make([]byte, 0, jobQuery)
	}
	p.free = append(p.free, j)
}

// end puts the jobs back that are held, with the shares of their clients.
func (p *jobs) end(held []any, shares *share.Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range held {
		j := h.(*job)
		shares.Give(j.share)
		p.putLocked(j)
	}
}

// stash is what one goroutine has taken of the jobs ahead, so that it does not take their lock for each query.
type stash struct {
	jobs *jobs
	some [16]*job
	n    int
}

func (s *stash) get() *job {
	if s.n == 0 {
		s.n = s.jobs.take(s.some[:])
	}
	s.n--
	return s.some[s.n]
}

// close gives back what is left.
func (s *stash) close() {
	s.jobs.put(s.some[:s.n]...)
	s.n = 0
}

// quota counts what is being waited for, up to a limit.
type quota struct {
	n       atomic.Int64
	max     int64
	shares  *share.Table
	watched atomic.Bool   // somebody waits for the end of all
	none    chan struct{} // and is told here; has room for one
}

// take lets a query into the room, if there is a place for one of its client. What is taken goes back by release.
func (q *quota) take(j *job) (s share.Share, ok bool) {
	if s, ok = q.shares.Take(j.exchange.Query.Client.Addr(), q.n.Add(1), q.max); !ok {
		q.n.Add(-1)
	}
	return s, ok
}

func (q *quota) release(s share.Share) {
	q.shares.Give(s)
	q.leave(1)
}

// leave is release for so many, whose shares have been given back.
func (q *quota) leave(n int) {
	if q.n.Add(-int64(n)) == 0 && q.watched.Load() {
		select {
		case q.none <- struct{}{}:
		default:
		}
	}
}

// wait returns when nothing is being waited for. Nothing is taken any more.
func (q *quota) wait() {
	q.watched.Store(true)
	for q.n.Load() != 0 {
		<-q.none
	}
}

// entrance is one transport of a listener: all that is the same for each of its queries.
type entrance struct {
	transport message.Transport
	index     uint16
	handler   chain.Handler
	starter   chain.Starter // handler, if it is one
	budget    time.Duration
	now       func() time.Time
	injected  bool // now is not time.Now
	log       *slog.Logger
	counters  *counters
	queries   *querylog.Log // nil when queries are not logged
	optional  optional
	limiter   *limiter // nil: there is no limit
	maxUDP    int
	waiting   quota
	jobs      *jobs
	idle      atomic.Int64 // how long a connection may be without queries, in nanoseconds; 0 when it will end soon
	logPanic  sync.Once
	warned    atomic.Int64 // the second of the last warning
}

// begin takes the query msg as far as it goes without waiting. It returns the response to send, nil when there is none, and whether that was
// all; otherwise complete has to follow. msg is copied, for it is in a buffer for the next query. whole is false when more than msg was
// sent. arrived is when it was read.
func (e *entrance) begin(j *job, msg []byte, whole bool, client netip.AddrPort, arrived time.Time) (out []byte, done bool) {
	if out, ok := e.parse(j, msg, whole, client, arrived); !ok {
		return out, true
	}
	return e.advance(context.Background(), j, stepBegin)
}

// parse is the first half of begin: ok reports whether there is a query for the handler; otherwise out is the response to send, if any.
func (e *entrance) parse(j *job, msg []byte, whole bool, client netip.AddrPort, arrived time.Time) (out []byte, ok bool) {
	defer func() {
		if v := recover(); v != nil {
			out, ok = e.panicked(j, v), false
		}
	}()
	j.start, j.end = arrived, arrived
	j.entered, j.counted = false, false
	j.query = append(j.query[:0], msg...)
	q := &j.exchange.Query
	rcode, ok := q.Parse(j.query)
	q.Client, q.Transport, q.Listener, q.Scope, q.Path, q.Names = client, e.transport, e.index, message.None, "", j.names
	q.Arrived, q.Deadline, q.Trace = arrived, arrived.Add(e.budget), nil
	if !whole && rcode != message.Ignore {
		rcode, ok = message.FORMERR, false
	}
	if j.asked = (asked{}); len(q.Options) > 0 || rcode == message.FORMERR {
		e.readOptions(j, rcode)
	}
	if e.limiter != nil && rcode != message.Ignore {
		if out, done := e.limit(j); done {
			return out, false
		}
	}
	if j.asked.cookie || j.asked.empty {
		if out, done := e.answerOptions(j); done {
			return out, false
		}
	}
	if ok && e.optional.require && !j.asked.proven() {
		return e.demandCookie(j), false
	}
	switch {
	case ok:
		return nil, true
	case rcode == message.Ignore:
		if t := e.counters.of(j); t != nil {
			t.ignored.Add(1)
		}
		return nil, false
	}
	e.counters.malformed.Inc()
	return e.refuse(j, rcode, nil), false
}

// resolve is the second half of begin and what has to follow, for who has a goroutine for the query that may wait. path is that of the URL, over
// HTTPS. A query for which there is no room is shed.
func (e *entrance) resolve(ctx context.Context, j *job, path string) (out []byte) {
	j.exchange.Query.Path = path
	out, done := e.advance(ctx, j, stepBegin)
	if done {
		return out
	}
	s, ok := e.waiting.take(j)
	if !ok {
		return e.shed(j)
	}
	defer e.waiting.release(s)
	return e.complete(ctx, j)
}

// complete waits for what begin left, until ctx is done or the deadline of the query at the latest, and returns like begin.
func (e *entrance) complete(ctx context.Context, j *job) []byte {
	out, _ := e.advance(ctx, j, stepComplete)
	return out
}

var (
	edeOverload = message.AppendEDE(nil, message.EDEOther, "too many queries are being waited for")
	edePanic    = message.AppendEDE(nil, message.EDEOther, "internal error")
	cancelled   = func() context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}()
)

// shed ends a query that begin left, without waiting. The handler gets to end it too, since it may hold something for it, and it may have an
// answer that needs no waiting after all, such as a stale one. Otherwise the client gets SERVFAIL, on which resolvers turn to their
// next server at once; silence would cost them a timeout, and us their retries.
func (e *entrance) shed(j *job) []byte {
	e.counters.shed.Inc()
	out, _ := e.advance(cancelled, j, stepComplete)
	if r := &j.exchange.Response; !j.broken && !j.exchange.Dropped && r.Silent && r.RCODE == message.SERVFAIL {
		return e.refuse(j, message.SERVFAIL, edeOverload)
	}
	return out
}

// advance has the handler take a step with j. A panic in there costs this query and no other. Unless it is done, j may be with somebody else
// already after Start.
func (e *entrance) advance(ctx context.Context, j *job, s step) (out []byte, done bool) {
	defer func() {
		if v := recover(); v != nil {
			out, done = e.panicked(j, v), true
		}
	}()
	x := &j.exchange
	j.entered = true
	if !e.take(ctx, x, s) {
		return nil, false
	}
	if x.Dropped {
		if t := e.counters.of(j); t != nil {
			t.dropped.Add(1)
		}
		if e.queries != nil {
			e.logQuery(j, nil, e.now())
		}
		return nil, true
	}
	return e.finish(j), true
}

// panicked ends a query by a panic. What is in j is not to be trusted any more: if it is not even good for a response, there is none.
func (e *entrance) panicked(j *job, v any) (out []byte) {
	j.broken = true
	e.counters.panics.Inc()
	defer func() {
		if recover() != nil {
			out = nil
		}
	}()
	e.logPanic.Do(func() {
		e.log.Error("a query caused a panic; further ones are only counted", "panic", v, "query", message.NameString(j.exchange.Query.Name),
			"type", j.exchange.Query.Type, "transport", e.transport.String(), "stack", string(debug.Stack()))
	})
	return e.refuse(j, message.SERVFAIL, edePanic)
}

// survive is deferred by each goroutine that works for a connection or a socket, before all that it does at its end: a panic outside of what advance and parse
// recover from ends what that goroutine was there for, and nothing else. The first is logged, all are counted.
func (e *entrance) survive() {
	v := recover()
	if v == nil {
		return
	}
	e.counters.panics.Inc()
	e.logPanic.Do(func() {
		e.log.Error("a panic; further ones are only counted", "panic", v, "transport", e.transport.String(), "stack", string(debug.Stack()))
	})
}

// warn logs what is wrong with a socket, one line a second: such errors come by the thousand.
func (e *entrance) warn(text string, err error) {
	if now := e.now().Unix(); e.warned.Swap(now) != now {
		e.log.Warn(text, "transport", e.transport.String(), "error", err)
	}
}

// refuse makes a response without records.
func (e *entrance) refuse(j *job, rcode uint16, ede []byte) []byte {
	r := &j.exchange.Response
	r.SetRCODE(j.scratch[:0], &j.exchange.Query, rcode)
	r.EDE = ede
	return e.finish(j)
}

// finish makes the response what goes to the client.
func (e *entrance) finish(j *job) []byte {
	q, r := &j.exchange.Query, &j.exchange.Response
	subnet := 0
	if r.Tailored {
		subnet = r.SubnetRoom(q)
	}
	out := r.Finish(q, q.Limit(e.maxUDP)-j.asked.room-subnet)
	if message.Truncated(out) {
		e.counters.truncated.Inc()
	}
	if subnet > 0 {
		out = r.AddSubnet(out, q)
	}
	if len(q.Options) > 0 && (e.transport != message.UDP || j.asked.room > 0) {
		out = e.addOptions(j, out)
	}
	if len(r.EDE) > 0 {
		e.counters.explained(message.EDECode(r.EDE))
	}
	batch := j.exchange.Batch
	switch { // looking at the clock costs more than counting the response
	case e.injected:
		j.end = e.now()
	case j.clock != nil:
		j.end = j.clock.now()
	default:
		j.end = batch.Now()
	}
	if t := e.counters.of(j); t != nil && !j.counted {
		t.response(batch, r.RCODE, len(out), j.end.Sub(j.start))
	}
	if e.queries != nil && !j.counted {
		e.logQuery(j, out, j.end)
	}
	j.counted = true // what is shed may be answered twice, and the second answer goes to the client
	return out
}

// logQuery has a query logged whose response is out, nil for none.
func (e *entrance) logQuery(j *job, out []byte, now time.Time) {
	e.queries.Add(func(l *querylog.Entry) {
		x := &j.exchange
		q, r := &x.Query, &x.Response
		l.Time, l.Took, l.Client, l.Transport = now, now.Sub(j.start), q.Client, q.Transport
		l.ID, l.Type, l.Class, l.DO, l.UDPSize, l.Size = q.ID, q.Type, q.Class, q.DO, q.UDPSize, len(q.Message)
		l.SetName(q.Name)
		l.EDE = message.None
		if j.entered && !j.broken {
			l.Chain = x.ChainName()
		}
		if l.Dropped = out == nil; l.Dropped {
			return
		}
		l.RCODE, l.Flags, l.Response, l.Cached = r.RCODE, binary.BigEndian.Uint16(out[2:]), len(out), r.Cached
		if len(r.EDE) > 0 {
			l.EDE = message.EDECode(r.EDE)
		}
		if l.Chain != "" {
			l.Upstream = x.UpstreamName()
		}
	})
}
