package upstream

import (
	"errors"
	"time"

	"github.com/weirdns/weir/host/message"
)

const (
	// offeredSize is the UDP payload size in the queries: no fragments, and a response that would be larger comes over TCP
	// (RFC 9715 section 3.2 R5).
	offeredSize = 1232
	// maxMismatches is how many responses that do not match one query may get before it is asked over TCP. A forger needs
	// thousands of guesses; a server that is merely odd, or whose late answers come in, sends a few.
	maxMismatches = 8
)

// outcomeKind is what became of a try.
type outcomeKind uint8

const (
	outcomeNothing     outcomeKind = iota // no outcome: what came is not the response
	outcomeResponse                       // t.response matches and is well formed
	outcomeMalformed                      // not UDP: a response that matches and is malformed
	outcomeUnreachable                    // an error of the network; a UDP try goes on listening
	outcomeHandshake                      // there is a server, but not the one meant
	outcomeStatus                         // HTTP: a response with something else in it
	outcomeBroken                         // the connection, or the socket, is of no use any more
	outcomeFlood                          // too many mismatches
	outcomeCase                           // a UDP response that matches but for the case of the QNAME
	outcomeLate                           // a UDP message with the ID of a try that was dropped
	outcomeCookie                         // a UDP response without a cookie, from a server that had given one
)

// outcomeOf returns the outcome that an error stands for.
func outcomeOf(err error, otherwise outcomeKind) outcomeKind {
	if e, ok := errors.AsType[interface {
		error
		outcome() outcomeKind
	}](err); ok {
		return e.outcome()
	}
	return otherwise
}

// try is one message sent to one server and the wait for its response. It belongs to its exchange, but while it waits in the table of a socket or
// a stream, the fields below "reader's" belong to the reader of that.
type try struct {
	exchange *exchange
	server   *server
	manner
	question message.Question // as sent, its Name within out
	out      []byte           // two octets of length, then the query
	options  int              // where the options begin in out, if there is an OPT
	plain    int              // the size of out without cookies
	shown    bool             // it has a server cookie
	id       uint16
	subnet   message.Subnet // that it tells, none unless the group does
	lower    bool           // the QNAME was sent in lower case, for a server that does not keep it
	dialed   bool           // the connection had to be opened first
	sent     time.Time
	due      time.Time // when it is overdue

	socket     *socket    // UDP
	nth        int        // of the tries of socket, from 0
	connection connection // all others
	waiting    bool       // in the table of its socket or stream, or an outcome is on its way
	failed     bool       // met an error
	overdue    bool       // counted as a fail of the server
	ended      bool       // no response is of interest any more

	// The reader's, until it has posted its final outcome.
	in       []byte
	size     int              // octets of the response received
	response message.Response // in in
	problem  error            // of an outcome that is none: what the network, or the server's certificate, had against it; may be nil
}

// manner is how a query is sent.
type manner struct {
	over   Transport // never Auto
	edns   bool
	bare   bool // without a cookie, even if the group shows some
	again  bool // because a connection broke, or the server wanted another cookie
	forget bool // because there was no cookie in the response over UDP
	// tcpOnly: it is over TCP because of a response over UDP, or to probe TCP. What becomes of it says nothing about the server otherwise.
	tcpOnly bool
}

// open reports whether a response is waited for.
func (t *try) open() bool { return !t.ended }

// scramble gives each letter of a name in wire format a random case. Length octets are at most 63 and no letters.
func scramble(name []byte, r *random) {
	bits, left := uint16(0), 0
	for i, c := range name {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			continue
		}
		if left == 0 {
			bits, left = r.uint16(), 16
		}
		name[i] = c&^0x20 | byte(bits&1)<<5
		bits >>= 1
		left--
	}
}

const (
	exactCase = false
	anyCase   = true
)

// matches reports whether msg answers the query that was sent.
func (t *try) matches(msg []byte, ignoreCase bool) bool {
	if !ignoreCase {
		return message.Answers(msg, t.id, &t.question)
	}
	// The name as it stands in the message, if it is the same but for case: then the rest is left to Answers.
	end := 12 + len(t.question.Name)
	if len(msg) < end || !message.EqualName(msg[12:end], t.question.Key) {
		return false
	}
	question := t.question
	question.Name = msg[12:end]
	return message.Answers(msg, t.id, &question)
}

// take looks at a UDP message with the ID of t, and keeps it if it is the response: outcomeResponse, or outcomeCase, outcomeCookie, or outcomeNothing.
func (t *try) take(msg []byte) (kind outcomeKind) {
	defer t.malformed(&kind, outcomeNothing)
	switch {
	case t.matches(msg, exactCase):
		t.in, t.size = append(t.in[:0], msg...), len(msg)
		if t.parse(t.in) == nil {
			return t.checkCookie()
		}
		if len(msg) >= 12 && message.Truncated(msg) {
			// Some servers cut a response in the middle of a record. What there is says enough.
			t.response = message.Response{Message: t.in[:12+len(t.question.Name)+4], RCODE: uint16(msg[3] & 0xF)}
			return outcomeResponse
		}
	case t.matches(msg, anyCase):
		return outcomeCase
	}
	return outcomeNothing
}

// post gives an outcome to the exchange. The caller holds a reference to the exchange, which is gone after that: of a final outcome, the one that
// t had by waiting. It holds no lock. batch is that of its goroutine, or nil.
func (t *try) post(kind outcomeKind, final bool, batch *message.Batch) {
	x := t.exchange
	x.mu.Lock()
	if !x.ended {
		x.batch = batch
		if final {
			t.waiting = false
		}
		x.hear(t, kind, batch.Now())
	}
	x.leave()
}

// hear goes on after an outcome of t.
func (x *exchange) hear(t *try, kind outcomeKind, now time.Time) {
	defer x.rescue()
	switch {
	case !t.open(): // it was given up
	case x.heed(t, kind, now):
		x.conclude(t, nil)
	default:
		x.step(now)
	}
}
