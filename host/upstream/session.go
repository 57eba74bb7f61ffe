package upstream

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"
)

// maxCalls bounds the queries that wait on a session. Servers allow 100 at least, by the recommendations of RFC 9113 section 6.5.2 and RFC 9250
// section 5.5.1. What is above that opens a further session.
const maxCalls = 100

// carrier is an open connection of a library that does the framing, and waits: HTTP/2 or QUIC.
type carrier interface {
	// ask sends a query and returns the response, at most message.MaxSize octets at which nobody has looked yet. It may be called at any time by
	// anybody, and ends with ctx at the latest. query is its own. age is how many seconds ago the response was made for somebody else.
	ask(ctx context.Context, query []byte) (response []byte, age uint32, err error)
	// room reports whether the server takes one more query now.
	room() bool
	// gone is closed when the connection takes no more queries. Those that are on their way may still be answered.
	gone() <-chan struct{}
	// close ends the connection, and all that is being asked on it.
	close()
}

// session is a carrier with the queries that wait on it. Each has a goroutine, for that is what these libraries want, from its sending until it is
// taken out of calls: by that goroutine, which then posts its outcome, or by the exchange, which does not want to wait any more.
// The goroutine of run opens the carrier and closes it.
type session struct {
	server *server
	open   func(ctx context.Context, s *server) (carrier, error)
	opened chan struct{} // closed when carrier or problem is set
	over   chan struct{} // closed when ended is set

	mu       sync.Mutex // guards following
	carrier  carrier    // nil while it is being opened, or if it can't be
	problem  error      // why it can't
	calls    map[*try]*call
	retired  bool // takes no more queries, ends when nobody waits
	ended    bool
	received time.Time // when the last response came
	sent     time.Time // when the last query was added
}

// call is one query on a session.
type call struct {
	query  []byte // a copy: the exchange may be at another one while the library still reads it
	cancel context.CancelFunc
}

func newSession(s *server, open func(ctx context.Context, s *server) (carrier, error)) *session {
	return &session{server: s, open: open, opened: make(chan struct{}), over: make(chan struct{}), calls: make(map[*try]*call)}
}

// hasRoom reports whether one more query can wait here.
func (c *session) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takes()
}

// takes is hasRoom with mu held.
func (c *session) takes() bool {
	return !c.retired && !c.ended && len(c.calls) < maxCalls && (c.carrier == nil || c.carrier.room())
}

// add sends the query of t and reports whether it could. Its ID is 0 (RFC 8484 section 4.1, RFC 9250 section 4.2.1): which response is whose is
// the connection's business. From now on t will be posted one outcome, unless drop takes it out before.
func (c *session) add(t *try, _ *random) bool {
	c.mu.Lock()
	if !c.takes() {
		c.mu.Unlock()
		return false
	}
	t.id = 0
	made := &call{query: bytes.Clone(t.out[2:])}
	var ctx context.Context
	ctx, made.cancel = context.WithCancel(c.server.group.ctx)
	c.calls[t] = made
	c.sent = t.sent
	t.dialed = c.carrier == nil
	c.mu.Unlock()
	if !c.server.group.start(func(context.Context) { c.ask(ctx, t, made) }) {
		return !c.drop(t)
	}
	return true
}

// ask is the life of a call.
func (c *session) ask(ctx context.Context, t *try, made *call) {
	defer made.cancel()
	ended := false
	defer onPanic(&ended, func() {
		if c.drop(t) {
			t.post(outcomeBroken, true, nil)
		}
	})
	select {
	case <-c.opened:
	case <-ctx.Done():
	}
	c.mu.Lock()
	carrier, err := c.carrier, c.problem
	c.mu.Unlock()
	var response []byte
	var age uint32
	kind := outcomeUnreachable
	if carrier != nil {
		kind = outcomeBroken
		response, age, err = carrier.ask(ctx, made.query)
	}
	ended = true // what is left is t's, and it recovers
	c.mu.Lock()
	if c.calls[t] != made { // it was given up, and t may be another one by now
		c.mu.Unlock()
		return
	}
	delete(c.calls, t)
	if err == nil {
		c.received = time.Now()
	}
	c.endIfIdle()
	c.mu.Unlock()
	if err == nil {
		kind = t.receive(response, age)
	} else {
		t.problem, kind = err, outcomeOf(err, kind)
	}
	t.post(kind, true, nil)
}

var errOther = errors.New("the response is to another query")

// receive takes the only response there will be. If it does not match there is nothing to wait for.
func (t *try) receive(msg []byte, age uint32) (kind outcomeKind) {
	defer t.malformed(&kind, outcomeMalformed)
	if !t.matches(msg, anyCase) {
		t.server.metrics.mismatches.Inc()
		t.exchange.mismatches.Add(1)
		t.problem = errOther
		return outcomeMalformed
	}
	t.in, t.size = append(t.in[:0], msg...), len(msg)
	if t.problem = t.parse(t.in); t.problem != nil {
		return outcomeMalformed
	}
	if age > 0 {
		older(t.response.Message, age)
	}
	return outcomeResponse
}

// drop takes t out of those that wait and reports whether it was among them. If not, an outcome has been posted or will be at once.
func (c *session) drop(t *try) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.calls[t]
	if made == nil {
		return false
	}
	delete(c.calls, t)
	made.cancel()
	c.endIfIdle()
	return true
}

// suspect retires the session if no response came on it since t was sent: it may be dead, and a query is better off on another.
func (c *session) suspect(t *try) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.carrier != nil && !c.received.After(t.sent) {
		c.retired = true
		c.endIfIdle()
	}
}

// retire lets the queries that wait have their answers, and takes no more.
func (c *session) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.endIfIdle()
}

// endIfIdle ends a retired session on which nobody waits. Its mu is held.
func (c *session) endIfIdle() {
	if c.retired && len(c.calls) == 0 {
		c.stop()
	}
}

// stop has run close the connection. mu is held.
func (c *session) stop() {
	if !c.ended {
		c.ended = true
		close(c.over)
	}
}

// end closes the session and tells all who wait.
func (c *session) end(why outcomeKind) {
	c.mu.Lock()
	c.stop()
	waiting := make([]*try, 0, len(c.calls))
	for t, made := range c.calls {
		made.cancel()
		waiting = append(waiting, t)
	}
	clear(c.calls)
	c.mu.Unlock()
	for _, t := range waiting {
		t.post(why, true, nil)
	}
}

// run is the life of the connection.
func (c *session) run(ctx context.Context) {
	defer c.server.remove(c)
	ended := false
	defer onPanic(&ended, func() { c.end(outcomeBroken) })
	var carrier carrier
	err := c.server.dial(ctx, func(ctx context.Context) (err error) {
		carrier, err = c.open(ctx, c.server)
		return err
	})
	c.mu.Lock()
	c.carrier, c.problem, c.received = carrier, err, time.Now()
	if err != nil {
		c.stop()
	}
	c.mu.Unlock()
	close(c.opened)
	if ended = err != nil; ended {
		return
	}
	defer carrier.close()
	tick := time.NewTicker(c.server.group.expire)
	defer tick.Stop()
	gone := carrier.gone()
	for {
		select {
		case <-tick.C:
			if !c.inUse() {
				ended = true
				return
			}
		case <-gone:
			c.retire()
			gone = nil
		case <-c.over:
			ended = true
			return
		}
	}
}

// inUse reports whether a query was sent within the time after which an idle connection is closed; otherwise the session is closed to further
// queries in the same moment, so that none is lost between the two.
func (c *session) inUse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.sent) < c.server.group.expire {
		return true
	}
	c.stop()
	return false
}
