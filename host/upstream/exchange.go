package upstream

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/message"
)

const (
	// maxTries bounds the messages sent for one query because there was no response, over all servers (RFC 9520 section 3.1).
	maxTries = 3
	// maxFollows bounds those sent because of a response: TC, a FORMERR to EDNS, and so on, each once.
	maxFollows = 5
	// A try is overdue after rttFactor times the smoothed round trip time, but not before minWait: a recursive server needs a moment
	// for what it does not have in its cache.
	rttFactor = 3
	minWait   = 150 * time.Millisecond
	// When every try has met an error of the network, responses are waited for a little longer, for the errors may be forged;
	// so is the next try, for the server may be about to restart.
	minGrace = 50 * time.Millisecond
	maxGrace = 400 * time.Millisecond
)

// exchange is the work for one query. One goroutine runs it; others listen to sockets for it and post outcomes. When run returns,
// no other goroutine knows of it any more, and it can serve another query.
type exchange struct {
	group    *Group
	query    *message.Query
	servers  []*server // to be asked, in this order, from the beginning again when there are tries left
	random   random
	deadline time.Time
	prompt   bool // the end of the context is noticed at once, see wait
	outcomes chan outcome
	timer    *time.Timer

	tries     [maxTries + maxFollows]try
	used      int       // of tries
	limit     int       // tries allowed, without those that follow a response
	started   int       // tries so far, without those that follow a response
	next      time.Time // when the next try is due
	awaited   int       // final outcomes that will be posted
	overTCP   bool      // UDP is not trusted any more
	truncated bool      // a server has said TC
	held      *try      // has a response that is better than none

	mismatches atomic.Int32 // messages received that do not match, over all sockets
}

func newExchange(g *Group) *exchange {
	x := &exchange{group: g, timer: time.NewTimer(time.Hour)}
	x.timer.Stop()
	// Each try posts at most two outcomes, see listen.
	x.outcomes = make(chan outcome, 2*len(x.tries))
	for i := range x.tries {
		x.tries[i].exchange = x
	}
	return x
}

// run asks the servers and appends the response to dst. limit is at most maxTries.
func (x *exchange) run(ctx context.Context, q *message.Query, limit int, deadline time.Time, dst []byte) (message.Response, error) {
	x.query, x.limit, x.deadline = q, limit, deadline
	x.used, x.started, x.overTCP, x.truncated, x.held = 0, 0, false, false, nil
	x.mismatches.Store(0)
	answered, err := x.walk(ctx)
	if answered == nil && x.held != nil {
		answered, err = x.held, nil
	}
	x.finish()
	if answered == nil {
		if q.Trace != nil {
			x.trace(message.Step{Event: "failure"}, "%v", err)
		}
		return message.Response{Upstream: message.None}, err
	}
	return x.deliver(answered, dst), nil
}

// walk starts tries and heeds outcomes until there is a response or an end.
func (x *exchange) walk(ctx context.Context) (*try, error) {
	now := time.Now()
	x.next = now
	for {
		if x.started < x.limit && !now.Before(x.next) {
			x.expire(now)
			x.begin(ctx, now)
		}
		if x.started == x.limit && !x.hopeful() {
			// All tries have met errors. What comes now comes soon, or not at all.
			if end := now.Add(x.grace(x.tries[x.used-1].server)); end.Before(x.deadline) {
				x.deadline = end
			}
		}
		if !now.Before(x.deadline) {
			return nil, x.failure(now)
		}
		until := x.deadline
		if x.started < x.limit && x.next.Before(until) {
			until = x.next
		}
		o, err := x.wait(ctx, until)
		if err != nil {
			return nil, err
		}
		now = time.Now()
		if o.kind == outcomeNothing {
			continue
		}
		if x.heed(ctx, o, now) {
			return o.try, nil
		}
	}
}

// begin sends the query to the next server in turn.
func (x *exchange) begin(ctx context.Context, now time.Time) {
	s := x.servers[x.started%len(x.servers)]
	x.started++
	if x.started > 1 {
		s.metrics.retries.Inc()
	}
	wait := max(rttFactor*time.Duration(s.rtt.Load()), minWait)
	wait = min(wait, x.deadline.Sub(now)/time.Duration(x.limit-x.started+1))
	x.next = now.Add(wait)
	over := s.transport == TCP || s.transport == Auto && (x.overTCP || x.group.randomCase && quirk(&s.noCase, now))
	x.send(ctx, s, now, wait, over, !quirk(&s.noEDNS, now), false)
}

// follow sends the query to the same server in another way, because of what it said. It reports whether it could.
func (x *exchange) follow(ctx context.Context, s *server, now time.Time, overTCP, edns, again bool) bool {
	wait := min(max(rttFactor*time.Duration(s.rtt.Load()), minWait), x.deadline.Sub(now))
	if due := now.Add(wait); x.next.Before(due) {
		x.next = due
	}
	return x.send(ctx, s, now, wait, overTCP, edns, again)
}

// send sends the query to s, as a try of its own. When that can't be done, it counts as a failed try.
func (x *exchange) send(ctx context.Context, s *server, now time.Time, wait time.Duration, overTCP, edns, again bool) bool {
	if x.used == len(x.tries) {
		return false
	}
	t := &x.tries[x.used]
	x.used++
	*t = try{exchange: x, server: s, overTCP: overTCP, edns: edns, again: again, sent: now, due: now.Add(wait), out: t.out, in: t.in}
	// A server that does not keep the case is asked in lower case where there is no better way: over UDP, when the case is not
	// there to be guessed, or TCP is not allowed.
	t.lower = !overTCP && quirk(&s.noCase, now)
	if x.query.Trace != nil {
		x.trace(t.step("query"), "%s over %s, try %d, %v left", s.name, t.transport(), x.used, x.deadline.Sub(now).Round(time.Millisecond))
	}
	s.inFlight.Add(1)
	var err error
	if overTCP {
		s.metrics.tcp.Inc()
		err = x.sendTCP(t)
	} else {
		s.metrics.udp.Inc()
		err = x.sendUDP(ctx, t, now)
	}
	if err != nil {
		if x.query.Trace != nil {
			x.trace(t.step("failure"), "%s over %s: %v", s.name, t.transport(), err)
		}
		x.end(t)
		x.fail(t, causeUnreachable, now)
	}
	return err == nil
}

func (x *exchange) sendUDP(ctx context.Context, t *try, now time.Time) (err error) {
	if t.socket, err = t.server.socket(ctx, &x.random, now); err != nil {
		return err
	}
	t.build(x.query, &x.random, x.group.randomCase)
	if _, err = t.socket.conn.Write(t.out[2:]); err == nil {
		return nil
	}
	// It may be an ICMP error that came for an earlier query, or the source address is gone. A new socket can tell.
	t.socket.close()
	if t.socket, err = t.server.open(ctx, now); err != nil {
		return err
	}
	if _, err = t.socket.conn.Write(t.out[2:]); err != nil {
		t.socket.close()
	}
	return err
}

func (x *exchange) sendTCP(t *try) error {
	t.build(x.query, &x.random, x.group.randomCase)
	for {
		c, err := t.server.stream()
		if err != nil {
			return err
		}
		t.stream = c
		if c.add(t, &x.random) {
			x.awaited++
			return nil
		}
		// It ended, or was filled up by others, since stream looked. The next look sees that.
	}
}

// wait returns the next outcome, or outcomeNothing at the time until. While there is one UDP try only, its socket is read right here; a
// goroutine for each is for the few queries that need a second. In that case the end of ctx is noticed no sooner than
// until, that is when the next try would be due: to have a context interrupt a Read costs four allocations and a lock that all
// queries share, for each query, and the end of a context is rare. x.prompt has it the other way, for probes.
func (x *exchange) wait(ctx context.Context, until time.Time) (outcome, error) {
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	if t := x.alone(); t != nil && !x.prompt {
		if err := t.socket.conn.SetReadDeadline(until); err != nil {
			return outcome{try: t, kind: outcomeBroken}, nil
		}
		return outcome{try: t, kind: t.receive()}, nil
	}
	for i := range x.tries[:x.used] {
		if t := &x.tries[i]; t.open() && !t.overTCP && !t.heeded {
			x.awaited++
			t.listen(x.deadline)
		}
	}
	x.timer.Reset(time.Until(until))
	defer x.timer.Stop()
	select {
	case o := <-x.outcomes:
		if o.final {
			x.awaited--
		}
		if !o.try.open() {
			return outcome{}, nil // it was given up
		}
		return o, nil
	case <-x.timer.C:
		return outcome{}, nil
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// alone returns the only open try, if that is over UDP and nobody listens yet.
func (x *exchange) alone() *try {
	var alone *try
	for i := range x.tries[:x.used] {
		t := &x.tries[i]
		switch {
		case !t.open():
		case t.overTCP || t.heeded || alone != nil:
			return nil
		default:
			alone = t
		}
	}
	return alone
}

// heed does what an outcome asks for, and reports whether it is the response.
func (x *exchange) heed(ctx context.Context, o outcome, now time.Time) bool {
	t := o.try
	s := t.server
	if t.overTCP {
		x.end(t) // whoever posted has taken it out of its stream
	}
	switch o.kind {
	case outcomeResponse:
		return x.respond(ctx, t, now)

	case outcomeUnreachable:
		x.fail(t, causeUnreachable, now)

	case outcomeMalformed:
		x.fail(t, causeBroken, now)

	case outcomeBroken:
		x.close(t)
		if !t.overTCP || t.again || !x.follow(ctx, s, now, true, t.edns, true) {
			x.fail(t, causeBroken, now)
		}

	case outcomeFlood:
		// Many responses that do not match: somebody guesses (RFC 5452 section 9.3). From now on no guess counts for this query.
		for i := range x.tries[:x.used] {
			if u := &x.tries[i]; !u.overTCP {
				x.close(u)
			}
		}
		x.overTCP = true
		x.askAgain(ctx, t, reasonMismatches, now)

	case outcomeCase:
		x.close(t)
		x.askAgain(ctx, t, reasonCase, now)
	}
	return false
}

// askAgain asks the server of t, whose response over UDP won't do, over TCP. If its transport is "udp" there is only the next try, on
// another port.
func (x *exchange) askAgain(ctx context.Context, t *try, reason int, now time.Time) {
	s := t.server
	if s.transport == UDP {
		if reason == reasonCase {
			s.noCase.Store(now.Add(quirkMemory).UnixNano())
		}
		x.fail(t, causeBroken, now)
		return
	}
	s.metrics.fallbacks[reason].Inc()
	if !x.follow(ctx, s, now, true, t.edns, false) {
		x.fail(t, causeBroken, now)
	}
}

// respond notes a response and reports whether it is the one to return.
func (x *exchange) respond(ctx context.Context, t *try, now time.Time) bool {
	s, r := t.server, &t.response
	if t.open() { // UDP
		s.recycle(t.socket, t.id, &x.random, now)
		x.end(t)
	}
	if !t.dialed {
		s.observe(now.Sub(t.sent), now)
	}
	s.ok(r.RCODE, now)
	truncated := message.Truncated(r.Message)
	if x.query.Trace != nil {
		step := t.step("response")
		step.RCODE, step.Octets, step.Took = message.RCODEString(r.RCODE), t.size, now.Sub(t.sent)
		text := "%s over %s: %s, %d octets, in %v"
		if truncated {
			text += ", truncated"
		}
		x.trace(step, text, s.name, t.transport(), step.RCODE, t.size, step.Took.Round(time.Microsecond))
	}
	if t.overTCP && string(r.Message[12:12+len(t.question.Name)]) != string(t.question.Name) {
		// Only what TCP says about the server is remembered, for over UDP it may be forged.
		s.noCase.Store(now.Add(quirkMemory).UnixNano())
	}
	switch {
	case truncated && !t.overTCP && s.transport != UDP:
		x.truncated = true
		x.askAgain(ctx, t, reasonTruncated, now)
		return false

	case t.edns && refusesEDNS(r.RCODE) && len(r.Message) == t.size:
		// No OPT in it: a server that knows EDNS has one (RFC 6891 section 7), and then means something else.
		x.held = t
		return !x.follow(ctx, s, now, t.overTCP, false, false)

	case !t.edns && x.held != nil && x.held.server == s && !refusesEDNS(r.RCODE):
		// Two responses that match have shown it. A forger would have to guess both.
		s.noEDNS.Store(now.Add(quirkMemory).UnixNano())
	}
	return true
}

func refusesEDNS(rcode uint16) bool {
	return rcode == message.FORMERR || rcode == message.NOTIMP || rcode == message.BADVERS
}

// fail notes that t has met an error. The next try is due, if no other is hopeful: at once when there is a server that was not
// asked, else after a moment. A UDP socket stays open.
func (x *exchange) fail(t *try, cause int, now time.Time) {
	if t.failed {
		return
	}
	t.failed = true
	if x.query.Trace != nil {
		step := t.step("failure")
		step.Took = now.Sub(t.sent)
		x.trace(step, "%s over %s: %s after %v", t.server.name, t.transport(), causeNames[cause], step.Took.Round(time.Microsecond))
	}
	t.server.fail(cause, 0, now)
	due := now
	if x.started >= len(x.servers) {
		due = now.Add(x.grace(t.server))
	}
	if due.Before(x.next) && !x.hopeful() {
		x.next = due
	}
}

// grace is how long a response is waited for behind an error of the network.
func (x *exchange) grace(s *server) time.Duration {
	return max(minGrace, min(2*time.Duration(s.rtt.Load()), maxGrace))
}

// hopeful reports whether there is a try that has met no error.
func (x *exchange) hopeful() bool {
	for i := range x.tries[:x.used] {
		if t := &x.tries[i]; t.open() && !t.failed {
			return true
		}
	}
	return false
}

// expire counts the open tries that are overdue as fails of their servers.
func (x *exchange) expire(now time.Time) {
	for i := range x.tries[:x.used] {
		t := &x.tries[i]
		if !t.open() || t.failed || t.overdue || now.Before(t.due) {
			continue
		}
		t.overdue = true
		t.server.fail(causeTimeout, now.Sub(t.sent), now)
		if t.overTCP {
			t.stream.suspect(t)
		}
		if x.query.Trace != nil {
			step := t.step("failure")
			step.Took = now.Sub(t.sent)
			x.trace(step, "%s over %s: no response in %v", t.server.name, t.transport(), step.Took.Round(time.Millisecond))
		}
	}
}

// failure is the error for the query at its deadline.
func (x *exchange) failure(now time.Time) error {
	x.expire(now)
	switch {
	case x.truncated:
		return ErrTruncated
	case x.mismatches.Load() > 0:
		return ErrMismatch
	case x.hopeful():
		return ErrTimeout
	}
	return ErrUnreachable
}

// close gives up an open try. Its socket is not used again: a response may still be on its way to it.
func (x *exchange) close(t *try) {
	if !t.open() {
		return
	}
	if t.overTCP {
		if t.stream.drop(t) {
			x.awaited--
		}
	} else {
		t.socket.close()
	}
	x.end(t)
}

// end notes that no response to t is of interest any more.
func (x *exchange) end(t *try) {
	t.ended = true
	t.server.inFlight.Add(-1)
}

// finish closes the tries that are still open and waits for all who know of the exchange.
func (x *exchange) finish() {
	for i := range x.tries[:x.used] {
		x.close(&x.tries[i])
	}
	for x.awaited > 0 {
		if o := <-x.outcomes; o.final {
			x.awaited--
		}
	}
}

// deliver appends the response of t to dst.
func (x *exchange) deliver(t *try, dst []byte) message.Response {
	r := t.response
	msg := r.Message
	msg[2] &^= message.FlagAA >> 8 // a proxy is no authority (RFC 2181 section 5.4.1)
	if message.Truncated(msg) {
		// What is missing nobody knows, so nothing is passed on but TC, which sends the client to TCP (RFC 2181 section 9). And
		// an answer without records because they did not fit is not NODATA.
		msg = msg[:12+len(t.question.Name)+4]
		clear(msg[6:12])
		r.Class = min(r.RCODE, message.ClassOther)
	}
	start := len(dst)
	dst = append(dst, msg...)
	r.Message = dst[start:]
	r.Upstream = x.group.index
	return r
}

// trace adds a step to the trace of the query, which the caller has seen to be there.
func (x *exchange) trace(s message.Step, format string, args ...any) {
	s.Part = "upstream " + x.group.name
	x.query.Trace.Add(s, format, args...)
}

// step is a step of a trace that is about t.
func (t *try) step(event string) message.Step {
	return message.Step{Event: event, Server: t.server.name, Over: t.transport()}
}
