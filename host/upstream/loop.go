package upstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

const (
	// loopPrefix begins the first label of a probe's name, for those who find one in a log.
	loopPrefix = "weir-loop-"
	// loopSecret is how many random octets follow, in hexadecimal digits. Who could guess them could have weir give up a query.
	loopSecret = 10
	// loopInterval is the time between two probes to a server whose queries don't come back; one that has shown that they do is probed with each query
	// that is overdue.
	loopInterval = 5 * time.Second
	// loopLog is the time between two lines in the log about one server.
	loopLog = time.Minute
	// loopMemory is how long a server is not asked what a probe has shown to come back. It is as long as a cache keeps a failure (RFC 9520 section 3.2), so
	// that where there is none a loop costs no more, and the end of one shows as soon.
	loopMemory = 5 * time.Second
	// loopNames is how many questions are remembered of a server, the last ones.
	loopNames = 32
	// loopWary is how long after a loop was shown servers are probed at once, and not when they are overdue: what goes round may be anything.
	loopWary = time.Minute
)

// loopDetector finds out whether what a server is asked comes back to weir: it forwards to weir, or somebody behind it does. Then the query that came back
// asks the question that weir itself waits for, and neither ends before its time is over. That looks like a server that says nothing; so when a query
// is overdue, the server is asked for a name that nobody else knows, below the QNAME, so that whoever is on the way sends it the same way. If weir is asked
// for that name, it is a loop. Nothing is sent while all is well.
//
// What was shown holds for that question only, and for a moment: a server may forward some names to weir and answer others, and whoever answers for a name sees the probes
// below it, so that he could send one back, as a client, and have all others go without the server.
type loopDetector struct {
	logged due.Seldom   // a loop is
	next   atomic.Int64 // due.Moment before which there is no probe

	mu     sync.Mutex // guards following
	probe  *loopProbe // on its way; nil if there is none
	known  []loopQuestion
	oldest int // of known, which are loopNames at most
}

// loopQuestion is what a server is not asked.
type loopQuestion struct {
	key   string // of the QNAME
	qtype uint16
	until due.Moment
}

// remember notes that what p is about goes round. d.mu is held.
func (d *loopDetector) remember(p *loopProbe, now time.Time) {
	l := loopQuestion{key: string(p.query.Key[len(p.label):]), qtype: p.query.Type, until: due.At(now.Add(loopMemory))}
	if len(d.known) < loopNames {
		d.known = append(d.known, l)
		return
	}
	d.known[d.oldest] = l
	d.oldest = (d.oldest + 1) % loopNames
}

// knows reports whether a probe has shown lately that q goes round.
func (d *loopDetector) knows(q *message.Query, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.known, func(l loopQuestion) bool { return l.qtype == q.Type && l.key == string(q.Key) && due.At(now) < l.until })
}

// loopProbe is one probe.
type loopProbe struct {
	label    [1 + len(loopPrefix) + 2*loopSecret]byte // in wire format
	query    message.Query
	exchange *exchange // which waits for the server, and to which the probe has a reference
	back     bool      // it came back; the mutex of the detector guards it
}

// newLoopProbe makes a probe for a query. It returns nil if there is no room for a longer name.
func newLoopProbe(from *message.Query) *loopProbe {
	p := new(loopProbe)
	var secret [loopSecret]byte
	rand.Read(secret[:])
	p.label[0] = byte(len(p.label) - 1)
	copy(p.label[1:], loopPrefix)
	hex.Encode(p.label[1+len(loopPrefix):], secret[:])
	name := append(append([]byte(nil), p.label[:]...), from.Name...)
	if !p.query.SetQuestion(from, nil, name, from.Type, from.Class) {
		return nil
	}
	p.query.Trace = nil
	return p
}

// isLoopProbe reports whether q is such a probe, of whichever weir.
func isLoopProbe(q *message.Query) bool {
	const label = len(loopProbe{}.label)
	return len(q.Key) > label && q.Key[0] == byte(label-1) && string(q.Key[1:1+len(loopPrefix)]) == loopPrefix
}

// is reports whether q asks for p, in whatever case, and whatever somebody on the way has made of the rest of the name.
func (p *loopProbe) is(q *message.Query) bool {
	return len(q.Key) > len(p.label) && string(q.Key[:len(p.label)]) == string(p.label[:])
}

// suspect gives up the server of t, which is overdue, if what it is asked is known to go round, and otherwise has it probed. mu is held.
func (x *exchange) suspect(t *try, now time.Time) {
	if quirk(&x.group.looping, now) && t.server.loop.knows(x.query, now) {
		x.giveUp(t.server, now)
		return
	}
	x.probe(t.server, x.query, now)
}

// probe has s probed for whether q goes round, unless that was done lately, or q is a probe itself: two weirs that forward to each other would probe each
// other's probes for as long as there is room for a longer name, and that of a query would wait until they are done. The caller holds mu, or a reference.
func (x *exchange) probe(s *server, q *message.Query, now time.Time) {
	next := s.loop.next.Load()
	if x.purpose != forQuery || isLoopProbe(q) || next != 0 && int64(due.At(now)) < next || !s.loop.next.CompareAndSwap(next, int64(due.At(now.Add(loopInterval)))) {
		return
	}
	p := newLoopProbe(q)
	if p == nil {
		return
	}
	p.exchange = x
	x.refs.Add(1)
	if !s.loop.begin(p) {
		x.refs.Add(-1)
		return
	}
	x.group.loopProbes.Add(1)
	if !x.group.start(func(context.Context) {
		defer s.loop.end(p)
		x.group.ask(s, &p.query, forLoop)
	}) {
		s.loop.end(p)
	}
}

// begin notes that p is on its way, and reports whether it is the only one of which nobody has heard.
func (d *loopDetector) begin(p *loopProbe) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.probe != nil && !d.probe.back {
		return false
	}
	d.probe = p
	return true
}

// end is for when p has been answered, or its time is over.
func (d *loopDetector) end(p *loopProbe) {
	d.mu.Lock()
	if d.probe == p {
		d.probe = nil
	}
	d.mu.Unlock()
	p.exchange.group.loopProbes.Add(-1)
	p.exchange.release()
}

// heard reports whether q asks for the probe that is on its way. If it is the first to do so, it remembers that, and returns its exchange with a reference.
func (d *loopDetector) heard(q *message.Query, now time.Time) (ours bool, x *exchange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.probe
	if p == nil || !p.is(q) {
		return false, nil
	}
	if p.back {
		return true, nil
	}
	p.back = true
	d.remember(p, now)
	p.exchange.refs.Add(1)
	return true, p.exchange
}

// loopEDE goes with the REFUSED for a probe that came back.
var loopEDE = message.AppendEDE(nil, message.EDEOther, ErrLoop.Error())

var errCameBack = errors.New("a probe came back, so the server, or one behind it, forwards to weir")

// cameBack reports whether q is a probe of the group itself. Then it is answered, and what waits for the server hears of it.
func (g *Group) cameBack(q *message.Query, now time.Time) bool {
	for _, s := range *g.servers.Load() {
		ours, x := s.loop.heard(q, now)
		if !ours {
			continue
		}
		if x == nil {
			return true
		}
		if s.loop.logged.Due(now, loopLog) {
			g.log.Warn("forwarding loop: queries to the server come back to weir; it, or a server behind it, forwards to weir", "server", s.name, "client", q.Client)
		}
		g.looping.Store(int64(due.At(now.Add(loopWary))))
		s.loop.next.Store(0)
		s.rtt.Store(0) // what is known of it comes from waiting in vain
		// Not by the caller, who may hold what those who wait for x need.
		if !g.start(func(context.Context) { x.looped(s, time.Now()) }) {
			x.release()
		}
		return true
	}
	return false
}

// spare takes those away from the servers to be asked of which a probe has shown that q goes round, and reports whether there are any such. The exchange has not
// begun yet.
func (x *exchange) spare(q *message.Query, now time.Time) (spared bool) {
	x.servers = slices.DeleteFunc(x.servers, func(s *server) bool {
		if !s.loop.knows(q, now) {
			return false
		}
		spared = true
		s.metrics.failures[causeLoop].Inc()
		if q.Trace != nil {
			q.Trace.Add(message.Step{Part: "upstream " + x.group.name, Event: "failure", Server: s.name}, "%s is not asked: a moment ago %v", s.name, errCameBack)
		}
		return true
	})
	return spared
}

// looped is for when a probe to s came back. The caller holds a reference, and gives it up.
func (x *exchange) looped(s *server, now time.Time) {
	x.mu.Lock()
	if !x.ended {
		x.giveUp(s, now)
		x.advance(now)
	}
	x.leave()
}

// giveUp ends the hope for an answer from s: it is not asked again, and what there is comes soon. mu is held.
func (x *exchange) giveUp(s *server, now time.Time) {
	x.loop = true
	x.servers = slices.DeleteFunc(x.servers, func(other *server) bool { return other == s })
	if len(x.servers) == 0 {
		x.limit = x.started
	}
	for i := range x.tries[:x.used] {
		if t := &x.tries[i]; t.server == s && t.open() {
			x.failed(t, causeLoop, errCameBack, now)
		}
	}
}
