//go:build linux

package main

import "encoding/binary"

const (
	headerSize = 12
	typeA      = 1
	classIN    = 1
)

// record is the answer of the upstreams: the owner points to the question, A, IN, an hour, 192.0.2.1.
var record = [...]byte{0xc0, headerSize, 0, typeA, 0, classIN, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1}

// appendQuery appends a query with RD for the A records of a name, which ends without a dot.
func appendQuery(dst []byte, id uint16, name string) []byte {
	dst = append(dst, byte(id>>8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for len(name) > 0 {
		end := 0
		for end < len(name) && name[end] != '.' {
			end++
		}
		dst = append(dst, byte(end))
		dst = append(dst, name[:end]...)
		name = name[min(end+1, len(name)):]
	}
	return append(dst, 0, 0, typeA, 0, classIN)
}

// answer makes a response of the query in the first size octets of m, and returns its size, or 0 if that is no query. What was behind the
// question, an OPT record, is left out.
func answer(m []byte, size int, mode string) int {
	end := headerSize
	for end < size && m[end] != 0 {
		end += 1 + int(m[end])
	}
	end += 5 // the root label, the type and the class
	if end > size || end+len(record) > len(m) {
		return 0
	}
	m[2] |= 0x80           // QR
	m[3] = 0x80            // RA, NOERROR
	clear(m[6:headerSize]) // the counts of records
	if mode == nxdomain {
		m[3] |= rcodeNXDOMAIN
		return end
	}
	if binary.BigEndian.Uint16(m[end-4:]) != typeA {
		return end
	}
	m[7] = 1
	return end + copy(m[end:], record[:])
}

const rcodeNXDOMAIN = 3

// rcode returns the RCODE of a response.
func rcode(m []byte) int { return int(m[3] & 15) }
