package upstream

import (
	"time"

	"github.com/weirdns/weir/host/message"
)

// A panic is a mistake in weir. What it costs is the query, or the connection, that met it: whoever waits for that is told so, and all others go on. Each of a
// group's goroutines recovers, see Group.start; the work for a query recovers with the lock of its exchange held, see exchange.rescue, for by then others
// wait for that lock. All other locks are released by defer wherever octets from outside are read under them.

// rescue is deferred where mu is held: a panic ends the query with ErrPanic. The exchange is not used for another one, since nobody knows who has its tries.
func (x *exchange) rescue() {
	v := recover()
	if v == nil {
		return
	}
	x.group.guard.Panicked(v)
	x.refs.Add(1)
	if x.ended {
		return
	}
	t := x.transaction
	t.Response, t.Err = message.Response{Upstream: message.None}, ErrPanic
	for i := range x.tries[:x.used] {
		if t := &x.tries[i]; t.open() {
			x.finish(t)
		}
	}
	x.ended = true
	x.query, x.held = nil, nil
}

// malformed is deferred where octets of a server are read: a message that makes weir panic is like one that is malformed, which is the outcome given.
func (t *try) malformed(kind *outcomeKind, outcome outcomeKind) {
	if v := recover(); v != nil {
		t.server.group.guard.Panicked(v)
		t.problem, *kind = ErrPanic, outcome
	}
}

// advance is step for who comes from outside.
func (x *exchange) advance(now time.Time) {
	defer x.rescue()
	x.step(now)
}

// onPanic is deferred by a goroutine that others wait for: it has them told, and leaves the panic to Group.start. A goroutine sets ended where it ends as it
// should.
func onPanic(ended *bool, tell func()) {
	if !*ended {
		tell()
	}
}
