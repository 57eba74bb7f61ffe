package chain

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// maxDepth bounds how deep Ask nests: a question asked by a filter may meet another filter below that asks, and so on.
const maxDepth = 8

// maxRounds bounds the verdicts Ask and Forward of all filters for one query together, so that a chain of filters that each
// keep to abi.MaxRounds can't multiply them.
const maxRounds = 32

// maxSpare is the largest buffer that an exchange keeps for its next query. Large messages are rare; their buffers must not stay.
const maxSpare = 16 << 10

// stage is what a level does next.
type stage uint8

const (
	down   stage = iota // call filter pos for the query
	bottom              // ask the target upstream
	up                  // call filter pos for the response
	done                // the response is that of the level
)

// walk is the state of a query in a chain: a stack of levels, the client's question at the bottom, above it questions that filters asked.
// It is data and not a goroutine's stack, so that a query can stop where it has to wait and go on elsewhere, without calling
// any filter twice.
type walk struct {
	chain   *Chain // in which it is
	levels  []level
	depth   int
	rounds  int
	scratch []byte
	call    Call
	dropped bool
	sample  int   // calls of filters until the time of one is taken
	shard   uint8 // of the exchange

	transaction message.Transaction // what Start asks an upstream
	pending     bool                // transaction has been started
	deadline    time.Time           // of the query that it asks, which has less time meanwhile
}

// way is how to go on at the bottom of a chain.
type way uint8

const (
	atOnce   way = iota // only with what needs no waiting
	waiting             // wait for the upstream
	starting            // have the upstream wake the exchange
)

// level is one question on its way through the filters after asker.
type level struct {
	asker int // the filter that asked, -1 for the client
	pos   int // the filter that is next
	stage stage

	query     *message.Query // the question at pos
	root      *message.Query // the question of the level, before any Rewrite
	own       message.Query  // storage for root, when a filter asked
	ownBuf    []byte
	rewrites  []rewrite // of the filters above pos that rewrote
	states    []state   // of each filter
	upstream  int       // chosen on the way down, -1 none
	forwarded bool      // upstream was chosen by a filter

	target  int            // bottom: the upstream to ask, -1 none
	asking  *message.Query // bottom: with this question
	deliver bool           // up: filter pos waits for this response, whatever its interest
	settle  bool           // up: but not if it is an answer
	asked   bool           // up: the response answers what filter pos asked

	response message.Response
	buf      []byte // holds the octets of response
	kept     message.Response
	keptBuf  []byte // holds the octets of kept
	hasKept  bool
}

// rewrite is a question changed by a filter, for what is below it.
type rewrite struct {
	filter int
	before *message.Query
	query  message.Query
	buf    []byte
}

// state is what the host remembers of a filter for a query: all that outlives a call.
type state struct {
	cookie            uint64
	queries, attempts uint8 // calls so far in each phase
	rounds            uint8
}

// Begin implements Handler.
func (c *Chain) Begin(x *Exchange) bool {
	w := &x.walk
	if w.levels == nil {
		w.levels = make([]level, 1, maxDepth)
	}
	w.chain, w.depth, w.rounds, w.dropped, w.pending = c, 0, 0, false, false
	x.Dropped = false
	w.shard = x.Shard
	c.enter(&w.levels[0], -1, &x.Query)
	if c.queries != nil {
		x.Batch.Count(&c.queries[x.Shard%Shards].n, 1)
	}
	return c.run(context.Background(), x, atOnce)
}

// Complete implements Handler.
func (c *Chain) Complete(ctx context.Context, x *Exchange) { c.run(ctx, x, waiting) }

// Complete goes on in the chain where Begin stopped, see Handler.
func (x *Exchange) Complete(ctx context.Context) { x.walk.chain.run(ctx, x, waiting) }

// Start goes on in the chain where Begin or Start stopped, see Starter.
func (x *Exchange) Start() bool { return x.walk.chain.run(context.Background(), x, starting) }

// enter begins a level.
func (c *Chain) enter(l *level, asker int, q *message.Query) {
	l.asker, l.pos, l.stage = asker, asker+1, down
	l.query, l.root = q, q
	if cap(l.states) < len(c.filters) {
		l.states = make([]state, len(c.filters))
		l.rewrites = nil
	}
	l.rewrites = l.rewrites[:0]
	l.states = l.states[:len(c.filters)]
	clear(l.states)
	l.upstream, l.forwarded = c.fallback, false
	l.deliver, l.settle, l.asked, l.hasKept = false, false, false, false
	if cap(l.buf) > maxSpare {
		l.buf = nil
	}
	if cap(l.keptBuf) > maxSpare {
		l.keptBuf = nil
	}
}

// run goes on with x until it is done, or until it would have to wait and may not. After that x may be with somebody else already.
func (c *Chain) run(ctx context.Context, x *Exchange, how way) bool {
	w := &x.walk
	for {
		l := &w.levels[w.depth]
		switch l.stage {
		case down:
			c.down(w, l)
		case bottom:
			if !c.ask(ctx, x, l, how) {
				return false
			}
		case up:
			c.up(w, l)
		case done:
			if w.depth == 0 {
				x.Response = l.response
				return true
			}
			w.depth--
			p := &w.levels[w.depth]
			// The answer changes hands with its buffer: the parent's old one serves the next question asked.
			p.buf, l.buf = l.buf, p.buf
			p.response = l.response
			p.stage, p.deliver, p.settle, p.asked = up, true, false, true
		}
		if w.dropped {
			x.Dropped = true
			return true
		}
	}
}

// down calls the filter at pos for the query.
func (c *Chain) down(w *walk, l *level) {
	if l.pos == len(c.filters) {
		l.stage, l.target, l.asking = bottom, l.upstream, l.query
		if l.query.Trace != nil {
			c.traceBottom(l)
		}
		return
	}
	i := l.pos
	f := &c.filters[i]
	if !f.interest.Query || f.skipWhenForwarded && l.forwarded {
		if f.interest.Query && l.query.Trace != nil {
			c.traceSkip(l.query, f)
		}
		l.pos++
		return
	}
	s := &l.states[i]
	call := &w.call
	call.begin(l, s, w.scratch)
	call.Response, call.Attempt, call.Asked = nil, s.queries, false
	s.queries++
	v, err := w.invoke(f, phaseQuery)
	w.scratch = call.Octets
	s.cookie = call.Cookie
	if l.query.Trace != nil {
		c.trace(l.query, f, phaseQuery, v, err)
	}
	if err == nil {
		err = c.queryVerdict(w, l, v)
	}
	if err != nil {
		if f.Skip() {
			l.pos++
			return
		}
		c.servfail(l, f, err)
		l.stage, l.pos = up, i-1
	}
}

// begin sets what is the same in both phases. It is field by field, since a whole Call would be made elsewhere and copied.
func (c *Call) begin(l *level, s *state, scratch []byte) {
	c.Query, c.Forwarded, c.Limit, c.Cookie = l.query, l.forwarded, limit(l.query), s.cookie
	c.Octets, c.EDE = scratch[:0], message.None
}

func (c *Chain) queryVerdict(w *walk, l *level, v Verdict) error {
	i := l.pos
	switch v.Action {
	case Next:
		l.pos++
	case Respond:
		if err := w.respond(l, v); err != nil {
			return err
		}
		l.stage, l.pos = up, i-1
	case Forward:
		if uint(v.Upstream) >= uint(len(c.upstreams)) {
			return errUpstream
		}
		l.upstream, l.forwarded = v.Upstream, true
		l.pos++
	case Rewrite:
		name, qtype, qclass, ok := splitQuestion(w.call.Octets)
		if !ok {
			return errQuestion
		}
		r := l.pushRewrite(i)
		if !r.query.SetQuestion(l.query, r.buf, name, qtype, qclass) {
			l.rewrites = l.rewrites[:len(l.rewrites)-1]
			return errQuestion
		}
		r.buf = r.query.Message
		r.before, l.query = l.query, &r.query
		l.pos++
	case Drop:
		w.dropped = true
	case Ask:
		return c.push(w, l)
	default:
		return errVerdict
	}
	return nil
}

// up calls the filter at pos for the response, if it wants it.
func (c *Chain) up(w *walk, l *level) {
	if l.pos <= l.asker {
		l.stage = done
		return
	}
	i := l.pos
	if n := len(l.rewrites); n > 0 && l.rewrites[n-1].filter == i {
		r := &l.rewrites[n-1]
		w.restore(l, &r.query.Question, r.before)
		l.query, l.rewrites = r.before, l.rewrites[:n-1]
	}
	f := &c.filters[i]
	switch {
	case !l.deliver && f.interest.Classes>>l.response.Class&1 == 0:
		l.leave()
		return
	case l.settle && l.response.Class == message.NOERROR:
		if l.query.Trace != nil {
			c.traceSettled(l.query, f)
		}
		l.leave()
		return
	}
	s := &l.states[i]
	call := &w.call
	call.begin(l, s, w.scratch)
	call.Response, call.Attempt, call.Asked = &l.response, s.attempts, l.asked
	s.attempts++
	v, err := w.invoke(f, phaseResponse)
	w.scratch = call.Octets
	s.cookie = call.Cookie
	if l.query.Trace != nil {
		c.trace(l.query, f, phaseResponse, v, err)
	}
	if err == nil {
		err = c.responseVerdict(w, l, v)
	}
	if err != nil {
		switch {
		case f.Skip() && l.hasKept: // as if it had never asked another upstream
			l.response, l.buf, l.keptBuf = l.kept, l.keptBuf, l.buf
		case f.Skip() && !l.asked:
		default:
			c.servfail(l, f, err)
		}
		l.leave()
	}
}

func (c *Chain) responseVerdict(w *walk, l *level, v Verdict) error {
	switch v.Action {
	case Next:
		if l.asked {
			return errAsked
		}
		l.leave()
	case Respond:
		tailored, scope := l.response.Tailored, l.response.Scope
		if l.hasKept {
			tailored, scope = tailored || l.kept.Tailored, max(scope, l.kept.Scope)
		}
		if err := w.respond(l, v); err != nil {
			return err
		}
		l.response.Tailored, l.response.Scope = tailored, scope // what is made of it is for no more networks
		l.leave()
	case Forward:
		switch {
		case uint(v.Upstream) >= uint(len(c.upstreams)):
			return errUpstream
		case v.Options&Keep != 0 && l.asked:
			return errAsked
		}
		if err := w.round(l); err != nil {
			return err
		}
		l.keep(v.Options&Keep != 0)
		l.stage, l.target, l.asking, l.deliver, l.asked = bottom, v.Upstream, l.query, true, false
		l.settle = v.Options&Settle != 0
		if v.Options&Original != 0 {
			l.asking = l.root
		}
	case Drop:
		w.dropped = true
	case Ask:
		return c.push(w, l)
	case Kept:
		if !l.hasKept {
			return errKept
		}
		l.response, l.buf, l.keptBuf = l.kept, l.keptBuf, l.buf
		l.leave()
	default:
		return errVerdict
	}
	return nil
}

// leave goes on to the filter above pos.
func (l *level) leave() {
	l.stage = up
	l.pos--
	l.deliver, l.settle, l.asked, l.hasKept = false, false, false, false
}

// keep sets the present response aside, if it is the first one or the filter says so. Buffers are swapped, not copied.
func (l *level) keep(want bool) {
	if l.asked || l.hasKept && !want {
		return
	}
	l.kept, l.hasKept = l.response, true
	l.buf, l.keptBuf = l.keptBuf, l.buf
}

func (w *walk) round(l *level) error {
	s := &l.states[l.pos]
	s.rounds++
	w.rounds++
	if s.rounds > abi.MaxRounds || w.rounds > maxRounds {
		return errRounds
	}
	return nil
}

// push begins a level for the question that the filter at pos asks.
func (c *Chain) push(w *walk, l *level) error {
	name, qtype, qclass, ok := splitQuestion(w.call.Octets)
	if !ok {
		return errQuestion
	}
	if err := w.round(l); err != nil {
		return err
	}
	if w.depth+1 == maxDepth {
		return errDepth
	}
	if l.stage == up {
		l.keep(false)
	}
	if w.depth+1 == len(w.levels) {
		w.levels = append(w.levels, level{}) // within its capacity: pointers into levels stay good
	}
	n := &w.levels[w.depth+1]
	if !n.own.SetQuestion(l.query, n.ownBuf, name, qtype, qclass) {
		return errQuestion
	}
	n.ownBuf = n.own.Message
	w.depth++
	c.enter(n, l.pos, &n.own)
	return nil
}

// pushRewrite returns the place for a rewritten question. The elements keep their buffers from query to query; those in use must not
// move, since queries point at one another.
func (l *level) pushRewrite(filter int) *rewrite {
	if cap(l.rewrites) == 0 {
		l.rewrites = make([]rewrite, 0, cap(l.states))
	}
	l.rewrites = l.rewrites[:len(l.rewrites)+1]
	r := &l.rewrites[len(l.rewrites)-1]
	r.filter = filter
	return r
}

// respond makes the response of the level from a verdict Respond.
func (w *walk) respond(l *level, v Verdict) error {
	if len(w.call.Octets) == 0 {
		l.response.SetRCODE(l.buf[:0], l.query, v.RCODE)
		l.buf = l.response.Message
	} else {
		var r message.Response
		if err := r.ParseOwn(w.call.Octets, &l.query.Question); err != nil {
			return err
		}
		l.response = r
		l.buf, w.scratch = w.call.Octets, l.buf
	}
	if w.call.EDE != message.None {
		l.response.EDE = message.AppendEDE(nil, w.call.EDE, "")
	}
	return nil
}

// restore makes the response one to the question of q.
func (w *walk) restore(l *level, answered *message.Question, q *message.Query) {
	msg, err := l.response.AppendRestored(w.scratch[:0], answered, &q.Question)
	if err != nil {
		l.fail(q, message.EDEInvalidData, "the response does not fit the question before it was rewritten")
		return
	}
	l.buf, w.scratch = msg, l.buf
	l.response.Message = msg
}

// ask asks the target upstream. It returns false if that means waiting and how is another way.
func (c *Chain) ask(ctx context.Context, x *Exchange, l *level, how way) bool {
	q := l.asking
	switch {
	case l.target < 0:
		l.response.SetRCODE(l.buf[:0], q, message.REFUSED)
		l.response.EDE = edeNoUpstream
		l.buf = l.response.Message
	case how == atOnce:
		r, ok := c.upstreams[l.target].Cached(q, l.buf[:0])
		if !ok {
			return false
		}
		l.took(r, l.target)
	case how == starting:
		if !c.start(x, l, q) {
			return false
		}
	default:
		if c.limitTime(x, l, q, nil) {
			r, err := c.upstreams[l.target].Resolve(ctx, q, l.buf[:0])
			c.answered(x, l, q, r, err)
		}
	}
	if q != l.query {
		x.walk.restore(l, &q.Question, l.query)
	}
	l.stage = up
	if !l.deliver {
		l.pos = len(c.filters) - 1
	}
	return true
}

// start starts asking the target upstream or, when that was done before, takes its answer. It returns false if there is none yet.
func (c *Chain) start(x *Exchange, l *level, q *message.Query) bool {
	w := &x.walk
	t := &w.transaction
	if !w.pending {
		if !c.limitTime(x, l, q, x.Batch) {
			return true
		}
		if t.Done == nil {
			t.Done = func() {
				x.Batch = t.Batch
				x.Wake()
			}
		}
		t.Query, t.Dst, t.Batch = q, l.buf[:0], x.Batch
		w.pending = true
		if !c.upstreams[l.target].Start(t) {
			return false
		}
	}
	w.pending = false
	c.answered(x, l, q, t.Response, t.Err)
	return true
}

// limitTime sets the time that the target upstream has for q. When a filter may want to ask another one after a failure, only a part of the time
// that is left may be spent here: half of it at first, three quarters of it later. It returns false, with a response, when there
// is no time left. batch is that of the goroutine, if it has one.
func (c *Chain) limitTime(x *Exchange, l *level, q *message.Query, batch *message.Batch) bool {
	var now time.Time
	if c.now != nil {
		now = c.now()
	} else {
		now = batch.Now()
	}
	left := x.Query.Deadline.Sub(now)
	if left <= 0 {
		l.fail(q, message.EDENoReachable, "no time left")
		return false
	}
	if c.retries {
		if l.deliver {
			left = left * 3 / 4
		} else {
			left /= 2
		}
	}
	x.walk.deadline = q.Deadline
	q.Deadline = now.Add(left)
	return true
}

// answered makes what the target upstream said the response of the level, and gives q its own deadline back.
func (c *Chain) answered(x *Exchange, l *level, q *message.Query, r message.Response, err error) {
	q.Deadline = x.walk.deadline
	if err != nil {
		code, text := failure(err)
		l.fail(q, code, text)
		l.response.Upstream = uint16(l.target)
		return
	}
	l.took(r, l.target)
}

func (l *level) took(r message.Response, upstream int) {
	l.response = r
	l.response.Upstream = uint16(upstream)
	l.buf = r.Message
}

// fail makes a SERVFAIL the response of the level.
func (l *level) fail(q *message.Query, ede uint16, text string) {
	l.response.SetRCODE(l.buf[:0], q, message.SERVFAIL)
	l.response.Silent = true
	l.response.EDE = message.AppendEDE(nil, ede, text)
	l.buf = l.response.Message
}

// servfail makes a SERVFAIL the response of the level, because filter f failed.
func (c *Chain) servfail(l *level, f *member, err error) {
	if l.query.Trace != nil {
		l.query.Trace.Add(message.Step{Part: "filter " + f.Name(), Event: "fault", RCODE: message.RCODEString(message.SERVFAIL)}, "failed: SERVFAIL: %v", err)
	}
	l.fail(l.query, message.EDEOther, "filter "+f.Name()+" failed")
	l.response.Silent = false
}

// splitQuestion takes a question in wire format apart: an uncompressed name, a type, a class.
func splitQuestion(b []byte) (name []byte, qtype, qclass uint16, ok bool) {
	n := len(b) - 4
	if n < 1 {
		return nil, 0, 0, false
	}
	return b[:n], binary.BigEndian.Uint16(b[n:]), binary.BigEndian.Uint16(b[n+2:]), true
}

func limit(q *message.Query) uint16 { return uint16(q.Limit(message.OwnSize)) }
