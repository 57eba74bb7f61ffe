package upstream

import (
	"encoding/binary"

	"github.com/weirdns/weir/host/message"
)

const (
	// paddingBlock is what the size of encrypted queries is a multiple of, in octets (RFC 8467 section 4.1).
	paddingBlock  = 128
	optionPadding = 12 // RFC 7830
)

var zeros [paddingBlock]byte

// build makes the query as it is sent, but for the ID, which is set by the socket or connection that it goes to.
func (t *try) build(q *message.Query, r *random, randomCase bool) {
	size := uint16(0)
	if t.edns {
		size = offeredSize
	}
	t.out = q.AppendUpstream(append(t.out[:0], 0, 0), 0, size)
	t.options = len(t.out)
	g := t.server.group
	options := g.subnet
	if t.subnet.Family != 0 {
		var room [32]byte
		options = t.subnet.AppendOption(room[:0], 0)
	}
	if t.edns && (len(options) > 0 || t.over.encrypted()) {
		t.out = appendOptions(t.out, options, t.over.encrypted())
	}
	if g.trusted {
		t.out[2+3] |= message.FlagAD // what comes back is cached for those too who ask whether it was validated (RFC 6840 section 5.7)
	}
	t.plain = len(t.out)
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

// appendOptions appends options to a query that ends with an OPT record without any, and pads it if that is wanted. The query has room for its
// length before it, two octets.
func appendOptions(query, options []byte, pad bool) []byte {
	end := len(query)
	query = append(query, options...)
	if pad {
		size := len(query) - 2 + 4
		n := (paddingBlock - size%paddingBlock) % paddingBlock
		query = append(query, 0, optionPadding, 0, byte(n))
		query = append(query, zeros[:n]...)
	}
	binary.BigEndian.PutUint16(query[end-2:], uint16(len(query)-end))
	return query
}

// validateEDNS looks at the keys of Config that are about EDNS and DNSSEC.
func (c Config) validateEDNS(locations []location, wrong func(key, format string, args ...any)) {
	if _, _, err := parseSubnet(c.ClientSubnet); err != nil {
		wrong("client_subnet", "%w", err)
	}
	if !c.Trusted {
		return
	}
	if c.ResolvConf != "" {
		wrong("trusted", "is for encrypted servers, and those of resolv_conf are not: want servers such as %q", "tls://192.0.2.1#dns.example")
	}
	for _, l := range locations {
		if !l.transport.encrypted() {
			wrong("trusted", "%s is asked in clear text, where anybody on the way can set AD: want servers such as %q", l, "tls://192.0.2.1#dns.example")
			return
		}
	}
}
