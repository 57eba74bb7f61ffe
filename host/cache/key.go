package cache

import (
	"encoding/binary"

	"github.com/weirdns/weir/host/message"
)

// A key is a question as the store knows it: all that an answer depends on, in one piece, so that equal keys are equal octets.
//
//	| QNAME, canonical ... | QTYPE, 2 | QCLASS, 2 | bits, 1 |
//
// The client's EDNS options but its network (see subnetTail), payload size and AD bit are not in it, because they are not sent to upstreams, or make no difference: an
// upstream whose AD bit counts is always asked for it.
// DO and CD change what an upstream says (RFC 4035 section 3.2), and without RD it may give a referral.
const (
	keyTail = 5
	maxKey  = message.MaxName + keyTail + subnetTail
)

// Bits of a key.
const (
	keyDO = 1 << iota
	keyCD
	keyRD
)

// appendKey appends the key of the question of q.
func appendKey(dst []byte, q *message.Query) []byte {
	bits := byte(0)
	if q.DO {
		bits |= keyDO
	}
	if q.CD() {
		bits |= keyCD
	}
	if q.RD() {
		bits |= keyRD
	}
	dst = append(dst, q.Key...)
	return append(dst, byte(q.Type>>8), byte(q.Type), byte(q.Class>>8), byte(q.Class), bits)
}

// queryOf makes q the query that a key stands for, as from a client without EDNS options of its own. q keeps buf.
func queryOf(q *message.Query, k, buf []byte) {
	question := questionOf(k)
	n := len(question) - keyTail
	bits := question[len(question)-1]
	from := message.Query{Scope: message.None}
	if bits&keyDO != 0 {
		from.EDNS, from.DO, from.UDPSize = true, true, message.OwnSize
	}
	if bits&keyCD != 0 {
		from.Flags |= message.FlagCD
	}
	if bits&keyRD != 0 {
		from.Flags |= message.FlagRD
	}
	if hasSubnet(k) {
		if from.Options = subnetOf(k).AppendOption(nil, 0); len(from.Options) > 0 && !from.EDNS {
			from.EDNS, from.UDPSize = true, message.OwnSize
		}
	}
	q.SetQuestion(&from, buf, k[:n], binary.BigEndian.Uint16(k[n:]), binary.BigEndian.Uint16(k[n+2:]))
}
