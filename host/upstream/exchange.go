package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/share"
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

// exchange is the work for one query. It has no goroutine: whoever has news for it, that is the reader of a socket or the queue of deadlines, takes
// its lock and goes on with it. When it has ended it serves another query, as soon as nobody knows of it any more.
type exchange struct {
	group    *Group
	deadline due.Entry // the next moment at which there is something to do
	queue    *due.Queue
	refs     atomic.Int32 // one until it has ended, one for each try that waits, one for deadline in queue, and callers who wait

	mu          sync.Mutex // guards following; taken before the lock of a socket, a stream or the queue
	owed        int32      // to be added to refs before somebody else has mu: what a step takes and gives back is counted once
	transaction *message.Transaction
	query       *message.Query // that of transaction
	ended       bool           // transaction is final, and no business of the exchange any more
	announce    bool           // and Done has to be called
	servers     []*server      // to be asked, in this order, from the beginning again when there are tries left
	random      random
	batch       *message.Batch // of the goroutine that has mu, or nil
	end         time.Time      // of the time for the query
	slot        int            // of the socket for the first try

	share     share.Share // of its client, that it gives back
	used      int         // of tries
	limit     int         // tries allowed, without those that follow a response
	started   int         // tries so far, without those that follow a response
	next      time.Time   // when the next try is due
	overTCP   bool        // UDP is not trusted any more
	purpose   purpose
	loop      bool // what a server is asked comes back to weir
	truncated bool // a server has said TC
	untold    bool // a server has refused a query with the client's subnet: it is left away
	held      *try // has a response that is better than none

	mismatches atomic.Int32 // messages received that do not match, over all sockets

	tries [maxTries + maxFollows]try // last, for all but the first are hardly ever touched
}

// purpose is what an exchange is for.
type purpose uint8

const (
	forQuery purpose = iota // or to probe a server: what becomes of it says how the server is
	forTCP                  // to probe TCP
	forLoop                 // to probe for a loop: what becomes of it says nothing
)

func newExchange(g *Group) *exchange {
	x := &exchange{group: g, queue: &g.queues[g.made.Add(1)%queues], ended: true}
	x.deadline.Fire = x.fire
	for i := range x.tries {
		x.tries[i].exchange = x
	}
	return x
}

// start asks x.servers, and reports whether t is final already. limit is at most maxTries. The caller holds the first reference, and gives it to
// the exchange.
func (x *exchange) start(t *message.Transaction, limit int, end, now time.Time) bool {
	x.mu.Lock()
	x.transaction, x.query, x.limit, x.end = t, t.Query, limit, end
	x.used, x.started, x.overTCP, x.truncated, x.untold, x.held = 0, 0, false, false, false, nil
	x.ended, x.announce, x.loop = false, false, false
	x.slot = x.choose(t.Batch)
	if x.mismatches.Load() != 0 {
		x.mismatches.Store(0)
	}
	x.next, x.batch = now, t.Batch
	x.advance(now)
	x.batch = nil
	ended := x.ended
	x.announce = !ended
	if ended {
		x.owed-- // what the exchange had; the caller has given it, and is the only one left who knows of it if there is no other
	}
	x.unlock()
	return ended
}

// unlock releases mu and settles what is owed. References taken are counted before, for somebody may give them back at once; references given back after that, for
// whoever has the last one may use the exchange for another query. The caller does not touch x any more, unless it has a reference that was not given back. As long as the
// exchange has not ended it has one itself, which needs mu to be given back, so x is there until mu is released.
func (x *exchange) unlock() {
	owed := x.owed
	x.owed = 0
	if owed > 0 {
		x.refs.Add(owed)
	}
	x.mu.Unlock()
	if owed < 0 && x.refs.Add(owed) == 0 {
		x.free()
	}
}

// choose returns a random number, by which the socket of the first try is chosen. Those who share a batch share it: their queries go to a server with
// one system call, and their responses come in together.
func (x *exchange) choose(b *message.Batch) int {
	switch {
	case b == nil:
		return int(x.random.uint16())
	case b.Choice == 0:
		b.Choice = x.random.uint16() | 1<<15
	}
	return int(b.Choice)
}

// step does what is due, and has the exchange woken at the next moment at which something is. mu is held.
func (x *exchange) step(now time.Time) {
	for {
		if x.started < x.limit && !now.Before(x.next) {
			x.expire(now)
			if x.started < x.limit { // no loop was found
				x.begin(now)
			}
		}
		if x.started == x.limit && !x.hopeful() {
			// All tries have met errors. What comes now comes soon, or not at all.
			if end := now.Add(x.grace(x.tries[x.used-1].server)); end.Before(x.end) {
				x.end = end
			}
		}
		if !now.Before(x.end) {
			x.conclude(nil, x.failure(now))
			return
		}
		until := x.end
		if x.started < x.limit && x.next.Before(until) {
			until = x.next
		}
		if !until.After(now) {
			continue
		}
		if x.queue.Set(&x.deadline, until) {
			x.owed++
		}
		// After Set, so that either this or the Flush of the queue sees the end of the group.
		if x.group.ended.Load() {
			x.conclude(nil, ErrClosed)
		}
		return
	}
}

// fire is what the queue calls.
func (x *exchange) fire(now time.Time) {
	x.mu.Lock()
	if !x.ended {
		x.advance(now)
	}
	x.leave()
}

// abort ends the exchange with an error, unless it has ended. The caller holds a reference, and keeps it.
func (x *exchange) abort(err error) {
	x.refs.Add(1)
	x.mu.Lock()
	if !x.ended {
		x.held = nil
		x.conclude(nil, err)
	}
	x.leave()
}

// conclude makes the transaction final, by the response of a try, or by an error if there is none. mu is held.
func (x *exchange) conclude(answered *try, err error) {
	if answered == nil && x.held != nil {
		answered, err = x.held, nil
	}
	t := x.transaction
	if answered != nil {
		t.Response, t.Err = x.deliver(answered, t.Dst), nil
	} else {
		if x.query.Trace != nil {
			x.trace(message.Step{Event: "failure"}, "%v", err)
		}
		t.Response, t.Err = message.Response{Upstream: message.None}, err
	}
	for i := range x.tries[:x.used] {
		x.close(&x.tries[i])
	}
	if x.queue.Clear(&x.deadline) {
		x.owed--
	}
	x.ended = true
	x.query = nil
}

// leave releases mu and a reference, and says that the transaction is final if it has become that.
func (x *exchange) leave() {
	t := x.transaction
	tell := x.ended && x.announce
	if tell {
		x.announce, x.transaction = false, nil
		t.Batch = x.batch
	}
	x.batch = nil
	x.owed-- // that of the caller
	if tell {
		x.owed-- // that of the exchange which has not ended
	}
	g, sh, counted := x.group, x.share, x.purpose != forLoop
	x.unlock()
	if tell {
		if counted {
			g.left(sh)
		}
		t.Done()
	}
}

// release gives a reference back, and with the last one the exchange.
func (x *exchange) release() {
	if x.refs.Add(-1) == 0 {
		x.free()
	}
}

// free is for who had the last reference. The buffers of large TCP responses are not kept.
func (x *exchange) free() {
	for i := range x.tries[:x.used] {
		if t := &x.tries[i]; cap(t.in) > readSize {
			t.in = nil
		}
	}
	x.group.exchanges.Put(x)
}

// patience is how long a try with s, which begins now, is waited for before the next one: never so long that there is no time left for each of those.
func (x *exchange) patience(s *server, now time.Time) time.Duration {
	return min(max(rttFactor*time.Duration(s.rtt.Load()), minWait), x.end.Sub(now)/time.Duration(x.limit-x.started+1))
}

// begin sends the query to the next server in turn.
func (x *exchange) begin(now time.Time) {
	s := x.servers[x.started%len(x.servers)]
	x.started++
	if x.started > 1 {
		s.metrics.retries.Inc()
	}
	wait := x.patience(s, now)
	x.next = now.Add(wait)
	over := s.transport
	if over == Auto {
		over = UDP
		if x.overTCP || x.purpose == forTCP || x.group.randomCase && quirk(&s.noCase, now) {
			over = TCP
		}
	}
	x.send(s, now, wait, manner{over: over, edns: !quirk(&s.noEDNS, now), bare: x.group.secret != nil && quirk(&s.noCookie, now), tcpOnly: x.purpose == forTCP})
}

// follow sends the query to the server of t in another way, because of what it said. It reports whether it could.
func (x *exchange) follow(t *try, now time.Time, how manner) bool {
	s := t.server
	wait := x.patience(s, now)
	if due := now.Add(wait); x.next.Before(due) {
		x.next = due
	}
	how.tcpOnly = t.tcpOnly || t.over == UDP && how.over == TCP && !x.overTCP
	return x.send(s, now, wait, how)
}

// send sends the query to s, as a try of its own. When that can't be done, it counts as a failed try.
func (x *exchange) send(s *server, now time.Time, wait time.Duration, how manner) bool {
	if x.used == len(x.tries) {
		return false
	}
	t := &x.tries[x.used]
	x.used++
	out, in := t.out, t.in
	*t = try{} // and then what is not zero: made as a whole, it would be copied
	t.exchange, t.server, t.manner, t.sent, t.due, t.out, t.in = x, s, how, now, now.Add(wait), out, in
	// A server that does not keep the case is asked in lower case where there is no better way: over UDP, when the case is not
	// there to be guessed, or TCP is not allowed.
	t.lower = t.over == UDP && quirk(&s.noCase, now)
	x.tell(t)
	if x.query.Trace != nil {
		text := "%s over %s, try %d, %v left"
		if t.subnet.Family != 0 {
			text += ", with " + t.subnet.String()
		}
		x.trace(t.step("query"), text, s.name, t.over, x.used, x.end.Sub(now).Round(time.Millisecond))
	}
	s.inFlight.Add(1)
	var err error
	x.batch.Count(&s.metrics.queries[t.over], 1)
	if t.over == UDP {
		err = x.sendUDP(t, now)
	} else {
		err = x.sendConnected(t)
	}
	if err != nil {
		x.unsent(t, err, now)
	}
	return err == nil
}

// sendUDP sends t, or puts that off if the present goroutine has a batch.
func (x *exchange) sendUDP(t *try, now time.Time) error {
	t.build(x.query, &x.random, x.group.randomCase)
	x.await(t)
	if err := t.server.addUDP(x.group.ctx, t, x.slot+x.used, now); err != nil {
		x.unawait(t)
		return err
	}
	if x.batch != nil {
		x.owed++
		x.batch.Add(t.socket, t)
		return nil
	}
	if err := t.write(); err != nil {
		return x.writeAgain(t, now)
	}
	return nil
}

// write gives t to the system.
func (t *try) write() error {
	_, err := t.socket.conn.Write(t.out[2:])
	return err
}

// writeAgain is for a try that could not be written. It may be an ICMP error that came for an earlier query, or the source address is gone. A new
// socket can tell.
func (x *exchange) writeAgain(t *try, now time.Time) error {
	if !t.socket.drop(t) {
		return nil // the reader has found the same, and tells in a moment
	}
	err := t.server.addUDP(x.group.ctx, t, x.slot+x.used, now)
	if err == nil {
		if err = t.write(); err == nil || !t.socket.drop(t) {
			return nil
		}
	}
	x.unawait(t)
	return err
}

// sent notes what came of writing a try that was put off, and gives back the reference that it had meanwhile.
func (x *exchange) sent(t *try, err error) {
	if err == nil {
		x.release()
		return
	}
	x.mu.Lock()
	if !x.ended && t.open() && t.waiting {
		x.resend(t, time.Now())
	}
	x.leave()
}

// resend writes a try again that could not be written.
func (x *exchange) resend(t *try, now time.Time) {
	defer x.rescue()
	if err := x.writeAgain(t, now); err != nil {
		x.unsent(t, err, now)
	}
	x.step(now)
}

// unsent notes a try that could not be sent.
func (x *exchange) unsent(t *try, err error, now time.Time) {
	if x.query.Trace != nil {
		x.trace(t.step("failure"), "%s over %s: %v", t.server.name, t.over, err)
	}
	x.finish(t)
	x.fail(t, causeUnreachable, now)
}

// await and unawait count a reference for a try of which there will be, or won't be, an outcome.
func (x *exchange) await(t *try) {
	t.waiting = true
	x.owed++
}

func (x *exchange) unawait(t *try) {
	t.waiting = false
	x.owed--
}

// sendConnected sends t on a connection.
func (x *exchange) sendConnected(t *try) error {
	t.build(x.query, &x.random, x.group.randomCase)
	for {
		c, err := t.server.connection()
		if err != nil {
			return err
		}
		t.connection = c
		x.await(t)
		if c.add(t, &x.random) {
			return nil
		}
		x.unawait(t)
		// It ended, or was filled up by others, since connection looked. The next look sees that.
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
		t.server.fail(t, causeTimeout, nil, now.Sub(t.sent), now)
		if t.over != UDP {
			t.connection.suspect(t)
		}
		if x.query.Trace != nil {
			step := t.step("failure")
			step.Took = now.Sub(t.sent)
			x.trace(step, "%s over %s: no response in %v", t.server.name, t.over, step.Took.Round(time.Millisecond))
		}
		if now.Before(x.end) {
			x.suspect(t, now)
		}
	}
}

// failure is the error for the query at its deadline.
func (x *exchange) failure(now time.Time) error {
	x.expire(now)
	switch {
	case x.loop:
		return ErrLoop
	case x.truncated:
		return ErrTruncated
	case x.mismatches.Load() > 0:
		return ErrMismatch
	case x.hopeful():
		return ErrTimeout
	}
	return ErrUnreachable
}

// close gives up an open try.
func (x *exchange) close(t *try) {
	if !t.open() {
		return
	}
	if t.waiting && (t.over != UDP && t.connection.drop(t) || t.over == UDP && t.socket.drop(t)) {
		x.unawait(t)
	}
	x.finish(t)
}

// finish notes that no response to t is of interest any more.
func (x *exchange) finish(t *try) {
	t.ended = true
	t.server.inFlight.Add(-1)
}

// deliver appends the response of t to dst.
func (x *exchange) deliver(t *try, dst []byte) message.Response {
	r := t.response
	msg := r.Message
	msg[2] &^= message.FlagAA >> 8 // a proxy is no authority (RFC 2181 section 5.4.1)
	if !x.group.trusted || !t.over.encrypted() {
		msg[3] &^= message.FlagAD // nobody knows who has set it
	}
	if message.Truncated(msg) {
		// What is missing nobody knows, so nothing is passed on but TC, which sends the client to TCP (RFC 2181 section 9). And
		// an answer without records because they did not fit is not NODATA.
		msg = msg[:12+len(t.question.Name)+4]
		clear(msg[6:12])
		r.Class = min(r.RCODE, message.ClassOther)
	}
	if x.untold && t.subnet.Family == 0 {
		x.ownOnly(&r)
	}
	r.Message = msg
	start, whole := len(dst), true
	if r.Signed() && !x.query.DO {
		// The server should not have sent that, and who has not asked for it can't use it (RFC 4035 section 3.2.1). With RDATA that can't be read, all
		// stays as it is.
		unsigned, err := r.AppendUnsigned(dst, &t.question)
		dst, whole = unsigned, err != nil
	}
	if whole {
		dst = append(dst, msg...)
	}
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
	return message.Step{Event: event, Server: t.server.name, Over: t.over.String()}
}
