package sdk

import "github.com/weirdns/weir/abi"

// Verdict is what a filter decides. The verdicts without operands are constants, the others are methods of [Query],
// [Response] and [Call].
type Verdict uint64

// The verdicts without operands. Kept is for responses only: the kept response is the response, see [Response.Forward].
const (
	Next Verdict = abi.Next << 56 // nothing to say: go on
	Drop Verdict = abi.Drop << 56 // the client gets no response
	Kept Verdict = abi.Kept << 56
)

// Option modifies [Response.Forward].
type Option uint8

// The options.
const (
	Original Option = abi.ForwardOriginal // ask the client's own question, when a Rewrite above changed it
	Keep     Option = abi.ForwardKeep     // keep the present message as the best one so far
	Settle   Option = abi.ForwardSettle   // an answer (NOERROR, and not NODATA) is taken as by Next, without another call, which costs more than it can say
)

// Respond ends the query with a message: in the query phase, the filters below are not called; in the response phase, it
// replaces the response. The message is checked by the host, see abi/README.md section 3; it is usually made with a [Builder].
// One that is too short to be a message is a SERVFAIL.
func (c *Call) Respond(message []byte) Verdict {
	if len(message) < headerSize || len(message) > maxMessage {
		return c.RespondRCODE(SERVFAIL, NoEDE)
	}
	return c.pack(abi.Respond, 0, message)
}

// SetEDE sets the Extended DNS Error that the client gets with [Call.Respond] (RFC 8914); [NoEDE] for none. In the response phase it is at first
// the one that came with the response.
func (c *Call) SetEDE(ede EDE) { c.ede = uint16(ede) }

// RespondRCODE ends the query with a message without records, and tells the client why with an Extended DNS Error
// (RFC 8914), unless that is [NoEDE].
func (c *Call) RespondRCODE(rcode RCODE, ede EDE) Verdict {
	c.ede = uint16(ede)
	return Verdict(abi.Pack(abi.Respond, uint8(rcode), 0, 0))
}

// Ask has the host resolve a question through what is below this filter. The response phase is then called with the answer,
// and [Response.Asked] is true. The question is the name, in wire format, the QTYPE and the QCLASS, see [AppendQuestion].
func (c *Call) Ask(question []byte) Verdict { return c.pack(abi.Ask, 0, question) }

// Forward has that upstream be asked when no filter below answers. The last Forward in a chain counts.
func (q Query) Forward(upstream int) Verdict {
	return Verdict(abi.Pack(abi.Forward, 0, 0, uint32(upstream)))
}

// Rewrite changes the question for everything below this filter. The client sees its own question again.
func (q Query) Rewrite(question []byte) Verdict { return q.pack(abi.Rewrite, 0, question) }

// Forward has that upstream be asked now; the response phase is then called again with what it said. The host keeps the
// response that was the first one, or the last one at which Keep was given: the filter ends with [Next] if the present one
// is best, and with [Kept] if the kept one is.
func (r Response) Forward(upstream int, options Option) Verdict {
	return Verdict(abi.Pack(abi.Forward, uint8(options), 0, uint32(upstream)))
}

// AppendQuestion appends a question in wire format to dst, for Ask and Rewrite, in class IN.
func AppendQuestion(dst, name []byte, qtype Type) []byte {
	dst = append(dst, name...)
	return append(dst, byte(qtype>>8), byte(qtype), 0, 1)
}

func (c *Call) pack(verdict, argument uint8, octets []byte) Verdict {
	c.remember(octets)
	return Verdict(abi.Pack(verdict, argument, uint16(len(octets)), address(octets)))
}
