package upstream

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirdns/weir/host/message"
)

const (
	// paddingBlock is what the size of encrypted queries is a multiple of, in octets (RFC 8467 section 4.1).
	paddingBlock = 128
	// OPTION-CODEs of RFC 7871 and RFC 7830.
	optionSubnet  = 8
	optionPadding = 12
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
	if t.edns && (len(g.subnet) > 0 || t.over.encrypted()) {
		t.out = appendOptions(t.out, g.subnet, t.over.encrypted())
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

// parseSubnet reads Config.ClientSubnet and returns the option that goes with each query, nil for none (RFC 7871 section 6):
//
//	| OPTION-CODE, 2 | OPTION-LENGTH, 2 | FAMILY, 2 | SOURCE PREFIX-LENGTH | SCOPE PREFIX-LENGTH, 0 | ADDRESS, as many octets as have bits ... |
func parseSubnet(text string) ([]byte, error) {
	if text == "strip" {
		return nil, nil
	}
	value, ok := strings.CutPrefix(text, "set ")
	prefix, err := netip.ParsePrefix(strings.TrimSpace(value))
	switch {
	case !ok || err != nil:
		return nil, fmt.Errorf("%q: want strip, or set and a prefix, such as \"set 192.0.2.0/24\"", text)
	case prefix != prefix.Masked():
		return nil, fmt.Errorf("%q has bits set behind its length: want \"set %s\"", text, prefix.Masked())
	}
	family := uint16(1)
	if prefix.Addr().Is6() {
		family = 2
	}
	address := prefix.Addr().AsSlice()[:(prefix.Bits()+7)/8]
	option := binary.BigEndian.AppendUint16(nil, optionSubnet)
	option = binary.BigEndian.AppendUint16(option, uint16(4+len(address)))
	option = binary.BigEndian.AppendUint16(option, family)
	return append(append(option, byte(prefix.Bits()), 0), address...), nil
}

// validateEDNS looks at the keys of Config that are about EDNS and DNSSEC.
func (c Config) validateEDNS(locations []location, wrong func(key, format string, args ...any)) {
	if _, err := parseSubnet(c.ClientSubnet); err != nil {
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
