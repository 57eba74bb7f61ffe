package upstream

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/message"
)

const (
	// offeredSize is the UDP payload size in the queries: no fragments, and a response that would be larger comes over TCP
	// (RFC 9715 section 3.2 R5).
	offeredSize = 1232
	// readSize is what a UDP response may have. Some servers exceed what was offered.
	readSize = 4096
	// maxMismatches is how many responses that do not match one query may get before it is asked over TCP. A forger needs
	// thousands of guesses; a server that is merely odd, or whose late answers come in, sends a few.
	maxMismatches = 8
)

// outcomeKind is what became of a try.
type outcomeKind uint8

const (
	outcomeNothing     outcomeKind = iota // nothing came until the end of the wait
	outcomeResponse                       // t.response matches and is well formed
	outcomeMalformed                      // TCP: a response that matches and is malformed
	outcomeUnreachable                    // an error of the network; a UDP try goes on listening
	outcomeBroken                         // the connection, or the socket, is of no use any more
	outcomeFlood                          // too many mismatches
	outcomeCase                           // a UDP response that matches but for the case of the QNAME
)

// outcome is what an exchange is told about a try. After the final one nobody but the exchange knows of the try.
type outcome struct {
	try   *try
	kind  outcomeKind
	final bool
}

// try is one message sent to one server and the wait for its response. It belongs to its exchange; while the exchange has it
// listened to, only the fields below "listener's" are written by others.
type try struct {
	exchange *exchange
	server   *server
	question message.Question // as sent, its Name within out
	out      []byte           // two octets of length, then the query
	id       uint16
	overTCP  bool
	edns     bool
	lower    bool // the QNAME was sent in lower case, for a server that does not keep it
	again    bool // sent again because a connection broke
	dialed   bool // TCP: the connection had to be opened first
	sent     time.Time
	due      time.Time // when it is overdue

	socket  *socket // UDP
	stream  *stream // TCP
	heeded  bool    // UDP: a goroutine listens
	failed  bool    // met an error
	overdue bool    // counted as a fail of the server
	ended   bool    // no response is of interest any more

	// The listener's, until it has posted its final outcome.
	in       []byte
	size     int              // octets of the response received
	response message.Response // in in
}

// open reports whether a response is waited for.
func (t *try) open() bool { return !t.ended }

// transport is the name of the transport, for traces.
func (t *try) transport() string {
	if t.overTCP {
		return "tcp"
	}
	return "udp"
}

// build makes the query as it is sent. The ID of a TCP query is set by its stream.
func (t *try) build(q *message.Query, r *random, randomCase bool) {
	size := uint16(0)
	if t.edns {
		size = offeredSize
	}
	t.id = r.uint16()
	for t.socket != nil && t.id == t.socket.last && t.socket.uses > 0 {
		t.id = r.uint16() // so that a duplicate of the previous answer can't match
	}
	t.out = q.AppendUpstream(append(t.out[:0], 0, 0), t.id, size)
	binary.BigEndian.PutUint16(t.out, uint16(len(t.out)-2))
	t.question = q.Question
	t.question.Name = t.out[2+12 : 2+12+len(q.Name)]
	switch {
	case t.lower:
		copy(t.question.Name, q.Key)
	case randomCase:
		scramble(t.question.Name, r)
	}
}

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

// mismatched counts a message that does not match.
func (t *try) mismatched() int {
	t.server.metrics.mismatches.Inc()
	return int(t.exchange.mismatches.Add(1))
}

// post gives an outcome to the exchange. It never blocks: the channel has room for all outcomes of all tries. After the final one, t
// belongs to the exchange alone.
func (t *try) post(kind outcomeKind, final bool) { t.exchange.outcomes <- outcome{t, kind, final} }

// receive reads from the socket of t until something is to be said, or until the read deadline that the caller has set.
func (t *try) receive() outcomeKind {
	if cap(t.in) < readSize {
		t.in = make([]byte, readSize)
	}
	t.in = t.in[:readSize]
	for {
		n, err := t.socket.conn.Read(t.in)
		if err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return outcomeNothing
			case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
				return outcomeUnreachable // an ICMP error, which is reported once
			}
			return outcomeBroken
		}
		msg := t.in[:n]
		t.size = n
		switch {
		case t.matches(msg, exactCase):
			if t.response.Parse(msg, &t.question) == nil {
				return outcomeResponse
			}
			if n >= 12 && message.Truncated(msg) {
				// Some servers cut a response in the middle of a record. What there is says enough.
				t.response = message.Response{Message: msg[:12+len(t.question.Name)+4], RCODE: uint16(msg[3] & 0xF)}
				return outcomeResponse
			}
		case t.matches(msg, anyCase):
			return outcomeCase
		case t.socket.uses > 0 && n >= 2 && binary.BigEndian.Uint16(msg) == t.socket.last:
			continue // the answer to the previous query once more: late, not forged
		}
		if t.mismatched() >= maxMismatches {
			return outcomeFlood
		}
	}
}

// listen has a goroutine receive until the response, the end of the socket or the deadline, and post what comes: that the server is
// unreachable at most once, and a final outcome.
func (t *try) listen(deadline time.Time) {
	t.heeded = true
	_ = t.socket.conn.SetReadDeadline(deadline) // fails when closed, as the Read will
	known := t.failed
	go func() {
		for {
			kind := t.receive()
			if kind != outcomeUnreachable {
				t.post(kind, true)
				return
			}
			if !known {
				known = true
				t.post(kind, false)
			}
		}
	}()
}
