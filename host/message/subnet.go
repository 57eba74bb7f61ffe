package message

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// OptionSubnet is the EDNS option that names the network of a client, RFC 7871 section 6:
//
//	| FAMILY, 2 | SOURCE PREFIX-LENGTH, 1 | SCOPE PREFIX-LENGTH, 1 | ADDRESS, as many octets as have bits of the prefix ... |
const OptionSubnet = 8

// Families of addresses, as IANA numbers them.
const (
	FamilyIPv4 = 1
	FamilyIPv6 = 2
)

// Subnet is the network of a client as an upstream is told it. The zero value is none: nothing is told. A family and no bits is a client that
// does not want its network told, which is told (RFC 7871 section 7.1.2), so that nobody behind weir puts another one in its place.
type Subnet struct {
	Family  uint8 // FamilyIPv4 or FamilyIPv6; 0 is none
	Bits    uint8 // SOURCE PREFIX-LENGTH
	Address [16]byte
}

// Hidden is the Subnet of a client that does not want its network told.
var Hidden = Subnet{Family: FamilyIPv4}

// maxSubnetOption is the size of the largest option with a subnet.
const maxSubnetOption = 4 + 4 + 16

// SubnetLimits is how much of the network of a client an upstream is told, in bits for each family. The zero value is nothing.
type SubnetLimits struct {
	IPv4, IPv6 uint8
}

// On reports whether anything is told.
func (l SubnetLimits) On() bool { return l.IPv4|l.IPv6 != 0 }

// Of returns what an upstream is told of the client of q: what the client says itself, or, if it says nothing, where q came from; of both as much
// as the limits allow. Of a client on this host, and of weir itself, there is nothing to tell that weir's own address does not. Who names a family that nobody
// knows gets what those get who don't want to be known.
func (l SubnetLimits) Of(q *Query) Subnet {
	if data, ok := q.option(OptionSubnet); ok {
		s, _, ok := parseSubnet(data)
		if !ok || s.Bits == 0 {
			return Hidden
		}
		return s.cut(l)
	}
	addr := q.Client.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
		return Subnet{}
	}
	s := Subnet{Family: FamilyIPv6, Bits: 128}
	if addr.Is4() {
		s.Family, s.Bits = FamilyIPv4, 32
		a := addr.As4()
		copy(s.Address[:], a[:])
	} else {
		s.Address = addr.As16()
	}
	return s.cut(l)
}

// cut returns as much of s as the limits allow.
func (s Subnet) cut(l SubnetLimits) Subnet {
	limit := l.IPv4
	if s.Family == FamilyIPv6 {
		limit = l.IPv6
	}
	return s.Prefix(limit)
}

// Prefix returns the first bits of s, or all if there are no more. All bits of its address behind them are zero.
func (s Subnet) Prefix(bits uint8) Subnet {
	s.Bits = min(s.Bits, bits)
	whole := int(s.Bits / 8)
	if whole < len(s.Address) {
		s.Address[whole] &^= 0xFF >> (s.Bits % 8)
		clear(s.Address[whole+1:])
	}
	return s
}

// Covers reports whether all of t is in s: both have the same family, and t begins with the bits of s.
func (s *Subnet) Covers(t *Subnet) bool {
	return s.Family == t.Family && s.Bits <= t.Bits && SameBits(s.Address[:], t.Address[:], int(s.Bits))
}

// SameBits reports whether a and b, which have as many, begin with the same n bits.
func SameBits(a, b []byte, n int) bool {
	whole := n / 8
	return string(a[:whole]) == string(b[:whole]) && (n%8 == 0 || (a[whole]^b[whole])>>(8-n%8) == 0)
}

// AppendOption appends s as an EDNS option with this SCOPE PREFIX-LENGTH, 0 in a query. None is nothing.
func (s Subnet) AppendOption(dst []byte, scope uint8) []byte {
	if s.Family == 0 {
		return dst
	}
	octets := int(s.Bits+7) / 8
	dst = append(dst, 0, OptionSubnet, 0, byte(4+octets), 0, s.Family, s.Bits, scope)
	return append(dst, s.Address[:octets]...)
}

// String returns s as 192.0.2.0/24, for people.
func (s Subnet) String() string {
	switch {
	case s.Family == 0:
		return "no client subnet"
	case s.Bits == 0:
		return "client subnet 0"
	}
	addr := netip.AddrFrom16(s.Address)
	if s.Family == FamilyIPv4 {
		addr = netip.AddrFrom4([4]byte(s.Address[:4]))
	}
	return netip.PrefixFrom(addr, int(s.Bits)).String()
}

// parseSubnet reads the data of an option. ok is false if it is none of a family that is known.
func parseSubnet(data []byte) (s Subnet, scope uint8, ok bool) {
	if len(data) < 4 || data[0] != 0 {
		return Subnet{}, 0, false
	}
	s = Subnet{Family: data[1], Bits: data[2]}
	size := 4
	switch s.Family {
	case FamilyIPv4:
	case FamilyIPv6:
		size = 16
	default:
		return Subnet{}, 0, false
	}
	if int(s.Bits) > 8*size || len(data)-4 != (int(s.Bits)+7)/8 {
		return Subnet{}, 0, false
	}
	copy(s.Address[:], data[4:])
	return s, data[3], true
}

// validSubnets reports whether the options of a query have no client subnet that breaks the rules of RFC 7871 section 6, for which the answer is
// FORMERR: too few octets or too many, bits behind the prefix, a scope. Of families that are not known there is only their head to look at.
func validSubnets(options []byte) bool {
	for number, data, rest, ok := NextOption(options); ok; number, data, rest, ok = NextOption(rest) {
		if number != OptionSubnet {
			continue
		}
		if len(data) < 4 || data[3] != 0 {
			return false
		}
		family := binary.BigEndian.Uint16(data)
		if family != FamilyIPv4 && family != FamilyIPv6 {
			continue
		}
		if s, _, ok := parseSubnet(data); !ok || s != s.Prefix(s.Bits) {
			return false
		}
	}
	return true
}

// option returns the data of the first option of q with this number.
func (q *Query) option(number uint16) (data []byte, ok bool) {
	for n, data, rest, ok := NextOption(q.Options); ok; n, data, rest, ok = NextOption(rest) {
		if n == number {
			return data, true
		}
	}
	return nil, false
}

// SubnetRoom is how many octets AddSubnet adds to a response to q.
func (r *Response) SubnetRoom(q *Query) int {
	if !r.Tailored {
		return 0
	}
	data, ok := q.option(OptionSubnet)
	if !ok {
		return 0
	}
	return 4 + len(data)
}

// AddSubnet appends the client subnet of q to msg, as AddOption does, with the scope of r (RFC 7871 section 7.2.1: as the client sent it, and only if it did).
func (r *Response) AddSubnet(msg []byte, q *Query) []byte {
	data, ok := q.option(OptionSubnet)
	if !ok || !r.Tailored || len(data) > maxSubnetOption-4 {
		return msg
	}
	before := len(msg)
	if msg = r.AddOption(msg, OptionSubnet, data); len(msg) > before {
		msg[before+4+3] = r.Scope
	}
	return msg
}

var errSubnet = errors.New("message: the client subnet is not the one sent")

// ParseFor is Parse for the response to a query that told an upstream sent. A response with another client subnet is not the one to this query, which is an
// error (RFC 7871 section 7.3); one without any is for all clients. What the scope has beyond the bits that were sent, nobody has said anything
// about, so it ends with these (section 7.3.1).
func (r *Response) ParseFor(msg []byte, question *Question, sent *Subnet) error {
	return r.parse(msg, question, true, sent)
}

// heed takes the scope out of the options of a response to a query with sent, and reports whether they are for that.
func (r *Response) heed(sent *Subnet, options []byte) bool {
	for number, data, rest, ok := NextOption(options); ok; number, data, rest, ok = NextOption(rest) {
		if number != OptionSubnet || sent.Bits == 0 {
			continue
		}
		s, scope, ok := parseSubnet(data)
		if !ok || s.Bits != sent.Bits || !sent.Covers(&s) {
			return false
		}
		r.Scope = min(scope, sent.Bits)
	}
	return true
}
