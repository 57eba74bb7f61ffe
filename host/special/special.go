// Package special knows the names that RFCs set aside: those that nobody has in the DNS (localhost, invalid, onion, alt), those that are about the resolver
// itself (resolver.arpa), and the zones that each network has for itself, such as the reverse zones of private addresses (RFC 6303). It makes the answers
// of a server that holds them; whether an upstream is asked instead is for others to decide.
package special

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirdns/weir/host/message"
)

// Kind is why names of a zone are not to be asked for.
type Kind uint8

// The kinds.
const (
	// Nobody: nobody has these names, whatever a server says.
	Nobody Kind = iota
	// Neighbour: the names are about the server that is asked, so another one can't answer (RFC 9462 section 6.1).
	Neighbour
	// Local: the names mean something else in each network. Servers outside know nothing about them, and learn what clients look for.
	Local
)

// Zone is a zone that is set aside.
type Zone struct {
	Name []byte // canonical
	RFC  int    // that says so
	Kind Kind

	empty    uint16 // RCODE for names that have no data
	loopback bool   // all names have the addresses of the host itself
	services bool   // _dns below is there
	ede      []byte
}

// ttl of all records, in seconds: that which RFC 6303 section 3 has in its SOA record.
const ttl = 10800

var zones = make(map[string]*Zone)

func add(name string, z Zone) {
	var err error
	if z.Name, err = message.ParseName(name); err != nil {
		panic(err) // the names are below
	}
	z.ede = message.AppendEDE(nil, message.EDESynthesized, fmt.Sprintf("%s is set aside by RFC %d", message.NameString(z.Name), z.RFC))
	zones[string(z.Name)] = &z
}

func init() {
	add("localhost", Zone{RFC: 6761, loopback: true})
	add("invalid", Zone{RFC: 6761, empty: message.NXDOMAIN})
	add("onion", Zone{RFC: 7686, empty: message.NXDOMAIN})
	add("alt", Zone{RFC: 9476, empty: message.NXDOMAIN})
	add("resolver.arpa", Zone{RFC: 9462, Kind: Neighbour, empty: message.NXDOMAIN, services: true})
	local := func(rfc int, names ...string) {
		for _, name := range names {
			add(name, Zone{RFC: rfc, Kind: Local, empty: message.NXDOMAIN})
		}
	}
	local(8375, "home.arpa")
	local(6303, "10.in-addr.arpa", "168.192.in-addr.arpa") // section 4.1: private addresses
	for i := 16; i < 32; i++ {
		local(6303, strconv.Itoa(i)+".172.in-addr.arpa")
	}
	for i := 64; i < 128; i++ { // addresses that providers share
		local(7793, strconv.Itoa(i)+".100.in-addr.arpa")
	}
	// Section 4.2: addresses of this host, of the link, for documentation, and of everybody.
	local(6303, "0.in-addr.arpa", "127.in-addr.arpa", "254.169.in-addr.arpa", "2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa",
		"255.255.255.255.in-addr.arpa")
	// Sections 4.3 to 4.6: the same of IPv6.
	zeros := strings.Repeat("0.", 31) + "ip6.arpa"
	local(6303, "0."+zeros, "1."+zeros, "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa", "b.e.f.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa")
}

// Find returns the zone that a question is in, or nil. It costs next to nothing for most names, and allocates nothing.
func Find(q *message.Question) *Zone {
	if q.Class != message.ClassIN || !mayBe(q.Key) {
		return nil
	}
	for name := q.Key; len(name) > 1; name = name[int(name[0])+1:] {
		if z := zones[string(name)]; z != nil {
			return z
		}
	}
	return nil
}

// mayBe reports whether a name ends as those in a zone do, which most don't. What looks like the last label may be the end of a longer one.
func mayBe(name []byte) bool {
	if len(name) < 2 {
		return false
	}
	switch name[len(name)-2] { // the last letter decides for nearly all
	case 'a':
		return ends(name, "\x04arpa\x00")
	case 'd':
		return ends(name, "\x07invalid\x00")
	case 'n':
		return ends(name, "\x05onion\x00")
	case 't':
		return ends(name, "\x03alt\x00") || ends(name, "\x09localhost\x00")
	}
	return false
}

func ends(name []byte, with string) bool {
	return len(name) >= len(with) && string(name[len(name)-len(with):]) == with
}

// String returns the name of the zone.
func (z *Zone) String() string { return message.NameString(z.Name) }

// Respond makes the response to q, whose question is in z, and appends it to dst: an address of the host itself for localhost (RFC 6761 section 6.3), the
// SOA and NS records of an empty zone at its apex (RFC 6303 section 3), and else that there is no such name or no such data, with the SOA record by which
// clients know how long that holds (RFC 2308). An Extended DNS Error says why (RFC 8914).
func (z *Zone) Respond(q *message.Query, dst []byte) (r message.Response) {
	rcode, apex := z.empty, len(q.Key) == len(z.Name)
	if apex && z.Kind != Nobody || z.services && string(q.Key[:len(q.Key)-len(z.Name)]) == "\x04_dns" {
		rcode = message.NOERROR
	}
	r.SetRCODE(dst, q, rcode)
	at, section := len(q.Key)-len(z.Name), message.Answer
	switch isType := func(t uint16) bool { return q.Type == t || q.Type == message.TypeANY }; {
	case z.loopback && isType(message.TypeA):
		r.Message = append(header(r.Message, message.TypeA, 0), 0, 4, 127, 0, 0, 1)
	case z.loopback && q.Type == message.TypeAAAA:
		r.Message = append(header(r.Message, message.TypeAAAA, 0), 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	case apex && z.Kind != Nobody && q.Type == message.TypeNS:
		r.Message = binary.BigEndian.AppendUint16(header(r.Message, message.TypeNS, at), uint16(len(z.Name)))
		r.Message = append(r.Message, z.Name...)
	case apex && z.Kind != Nobody && isType(message.TypeSOA):
		r.Message = z.appendSOA(r.Message, at)
	default:
		r.Message, section = z.appendSOA(r.Message, at), message.Authority
	}
	if section == message.Answer {
		r.Class = message.NOERROR
	}
	r.Message[7+2*section] = 1 // ANCOUNT or NSCOUNT
	r.EDE = z.ede
	return r
}

// header appends the beginning of a record, up to its TTL. Its owner is the QNAME without so many octets.
func header(msg []byte, rrtype uint16, at int) []byte {
	msg = binary.BigEndian.AppendUint16(msg, uint16(0xC000|questionOffset+at))
	msg = binary.BigEndian.AppendUint16(msg, rrtype)
	msg = append(msg, 0, message.ClassIN)
	return binary.BigEndian.AppendUint32(msg, ttl)
}

// questionOffset is where the QNAME is in a message.
const questionOffset = 12

// nobody is the RNAME of RFC 6303 section 3.
var nobody = []byte("\x06nobody\x07invalid\x00")

// appendSOA appends the SOA record of RFC 6303 section 3, whose MNAME is the zone.
func (z *Zone) appendSOA(msg []byte, at int) []byte {
	msg = header(msg, message.TypeSOA, at)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(z.Name)+len(nobody)+20))
	msg = append(append(msg, z.Name...), nobody...)
	for _, n := range [...]uint32{1, 3600, 1200, 604800, ttl} {
		msg = binary.BigEndian.AppendUint32(msg, n)
	}
	return msg
}
