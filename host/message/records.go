package message

import (
	"encoding/binary"
	"iter"
)

// Section is a section of a message with resource records.
type Section uint8

// The sections, in their order.
const (
	Answer Section = iota
	Authority
	Additional
)

// Record is one resource record of a checked message.
type Record struct {
	Section Section
	Type    uint16
	TTL     uint32 // as it stands there, even with its top bit set
	At      int    // where its TTL is in the message, four octets
	Data    []byte // RDATA, in the message; compressed names in it point to elsewhere in the message
}

// Records goes through the records of a message that [Response.Parse] has checked, in their order. Each costs the same however long the chain
// of pointers in its owner is, since these are not followed once more.
func Records(msg []byte) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		off := skipName(msg, headerSize) + 4
		answers := int(binary.BigEndian.Uint16(msg[6:]))
		authority := answers + int(binary.BigEndian.Uint16(msg[8:]))
		records := authority + int(binary.BigEndian.Uint16(msg[10:]))
		for i := range records {
			fixed := skipName(msg, off)
			if fixed+10 > len(msg) {
				return
			}
			f := msg[fixed : fixed+10 : fixed+10]
			off = fixed + 10 + int(binary.BigEndian.Uint16(f[8:]))
			if off > len(msg) {
				return
			}
			r := Record{
				Type: binary.BigEndian.Uint16(f), TTL: binary.BigEndian.Uint32(f[4:]), At: fixed + 4, Data: msg[fixed+10 : off : off],
			}
			if i >= authority {
				r.Section = Additional
			} else if i >= answers {
				r.Section = Authority
			}
			if !yield(r) {
				return
			}
		}
	}
}

// reach is what the owner of a record can be made of: a pointer has 14 bits, and what is read from there on has the length of a name.
const reach = 1<<14 + MaxName + 1

// Steady reports whether the owners in a message that [Response.Parse] has checked stay what they are when its TTLs change: none has octets of a TTL
// in it. A pointer may lead anywhere before it; RFC 1035 section 4.1.4 has it lead to a name, and nobody who means well does otherwise.
func Steady(msg []byte) bool {
	off := skipName(msg, headerSize) + 4
	for r := range Records(msg) {
		if !leadsToQNAME(msg, off) {
			return steady(msg)
		}
		off = r.At + 6 + len(r.Data)
	}
	return true
}

// leadsToQNAME reports whether the name at off has no pointer, or one to a label of the QNAME, as most have.
func leadsToQNAME(msg []byte, off int) bool {
	for off+1 < len(msg) && msg[off] <= MaxLabel {
		if msg[off] == 0 {
			return true
		}
		off += 1 + int(msg[off])
	}
	if off+1 >= len(msg) {
		return false
	}
	to := int(msg[off]&0x3F)<<8 | int(msg[off+1])
	label := headerSize
	for label < to && msg[label] != 0 {
		label += 1 + int(msg[label])
	}
	return label == to
}

// steady is Steady with any pointers.
func steady(msg []byte) bool {
	var ttls marks
	off := skipName(msg, headerSize) + 4
	for r := range Records(msg) {
		if !ttls.apart(msg, off) {
			return false
		}
		for i := range 4 {
			ttls.set(r.At + i)
		}
		off = r.At + 6 + len(r.Data)
	}
	return true
}

// marks are octets of a message, a bit each.
type marks [reach/64 + 2]uint64

func (m *marks) set(at int) {
	if at < reach {
		m[at/64] |= 1 << (at % 64)
	}
}

// any reports whether there is one among the next n octets, which are at most 64.
func (m *marks) any(at, n int) bool {
	next := m[at/64]>>(at%64) | m[at/64+1]<<(64-at%64)
	return next<<(64-n) != 0
}

// apart reports whether what the pointers of the name at off lead to has no marks.
func (m *marks) apart(msg []byte, off int) bool {
	led, segment := false, off
	for off < len(msg) && (off < reach || !led) {
		size, c := 1, int(msg[off])
		switch {
		case c > MaxLabel:
			size = 2
		case c > 0:
			size = 1 + c
		}
		if led && m.any(off, size) {
			return false
		}
		switch {
		case c == 0:
			return true
		case c <= MaxLabel:
			off += size
		case off+1 < len(msg):
			to := (c&0x3F)<<8 | int(msg[off+1])
			if to >= segment {
				return false
			}
			off, segment, led = to, to, true
		default:
			return false
		}
	}
	return false
}

// skipName returns the offset behind a name in a checked message, len(msg) if there is none.
func skipName(msg []byte, off int) int {
	for off < len(msg) {
		switch c := int(msg[off]); {
		case c == 0:
			return off + 1
		case c > MaxLabel:
			return min(off+2, len(msg))
		default:
			off += c + 1
		}
	}
	return len(msg)
}

// MaxAge returns how long, in seconds, a response that [Response.Finish] returned may be kept: the lowest TTL of its answer, or without one what
// the SOA record says about that (RFC 8484 section 5.1, RFC 2308 section 5). It is 0 for what must not be kept.
func MaxAge(msg []byte) uint32 {
	if rcode := uint16(msg[3] & 0xF); rcode != NOERROR && rcode != NXDOMAIN {
		return 0
	}
	age, found := uint32(0), false
	for r := range Records(msg) {
		ttl := r.TTL
		if ttl>>31 != 0 { // RFC 2181 section 8
			ttl = 0
		}
		switch {
		case r.Section == Answer:
		case r.Section == Authority && r.Type == TypeSOA && len(r.Data) >= 22 && binary.BigEndian.Uint16(msg[6:]) == 0:
			ttl = min(ttl, binary.BigEndian.Uint32(r.Data[len(r.Data)-4:]))
		default:
			continue
		}
		if !found || ttl < age {
			age, found = ttl, true
		}
	}
	return age
}
