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
