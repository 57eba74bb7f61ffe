// Package messagetest has DNS messages for tests: those on which parsers have failed before, each with what weir does with it.
// The tables serve the parser's own tests, the seeds of fuzz targets, and the tests of every transport, which have to treat
// them in the same way.
package messagetest

import (
	"encoding/binary"
	"strings"

	"github.com/weirdns/weir/host/message"
)

// Query is a query and what [message.Query.Parse] says about it.
type Query struct {
	Name   string
	Octets []byte
	RCODE  uint16 // message.NOERROR when it is to go on, message.Ignore when there is no answer
	OPT    bool   // an answer has an OPT record
}

// Response is a response to [Question] and whether [message.Response.Parse] takes it.
type Response struct {
	Name   string
	Octets []byte
	OK     bool
}

// Canary is a query that every server answers, to see whether it still does.
func Canary() []byte { return Join(Header(0x4242, 0x0100, 1, 0, 0, 0), Question("canary.example", 1)) }

// Header makes the header of a message.
func Header(id, flags uint16, counts ...uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, flags)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

// Name returns the wire format of plain text without escapes.
func Name(text string) []byte {
	var b []byte
	if text = strings.TrimSuffix(text, "."); text != "" {
		for _, label := range strings.Split(text, ".") {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return append(b, 0)
}

// Question makes a question of class IN.
func Question(name string, qtype uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(Name(name), qtype), message.ClassIN)
}

// Pointer makes a compression pointer.
func Pointer(off int) []byte { return []byte{0xC0 | byte(off>>8), byte(off)} }

// Record makes a record of class IN with a TTL of 300 seconds. owner is in wire format.
func Record(owner []byte, rrtype uint16, rdata ...byte) []byte {
	b := binary.BigEndian.AppendUint16(append([]byte(nil), owner...), rrtype)
	b = append(b, 0, message.ClassIN, 0, 0, 0x01, 0x2C)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
	return append(b, rdata...)
}

// OPT makes an OPT record, RFC 6891 section 6.1.2. extended holds the extended RCODE, the version and the flags.
func OPT(size uint16, extended uint32, options ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, 0, message.TypeOPT}, size)
	b = binary.BigEndian.AppendUint32(b, extended)
	b = binary.BigEndian.AppendUint16(b, uint16(len(options)))
	return append(b, options...)
}

// Join puts parts together.
func Join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Repeat returns n copies of part.
func Repeat(n int, part ...byte) []byte {
	var b []byte
	for range n {
		b = append(b, part...)
	}
	return b
}

// LongName returns a name of exactly size octets in wire format, 2 to 300.
func LongName(size int) []byte {
	var b []byte
	for size--; size > 0; {
		n := min(size-1, message.MaxLabel)
		if size-1-n == 1 { // a label needs two octets
			n--
		}
		b = append(append(b, byte(n)), Repeat(n, 'x')...)
		size -= n + 1
	}
	return append(b, 0)
}

// Pointers returns n pointers, the first to off and each other one to the one before it. The first is at base.
func Pointers(n, base, off int) []byte {
	var b []byte
	for i := range n {
		b = append(b, Pointer(off)...)
		off = base + 2*i
	}
	return b
}
