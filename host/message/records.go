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

// Records goes through the records of a message that [Response.Parse] has checked, in their order.
func Records(msg []byte) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		off, err := checkName(msg, headerSize)
		off += 4
		answers := int(binary.BigEndian.Uint16(msg[6:]))
		authority := answers + int(binary.BigEndian.Uint16(msg[8:]))
		records := authority + int(binary.BigEndian.Uint16(msg[10:]))
		for i := 0; i < records && err == nil; i++ {
			var r record
			if r, err = parseRecord(msg, off); err != nil {
				return
			}
			section := Answer
			if i >= authority {
				section = Additional
			} else if i >= answers {
				section = Authority
			}
			if !yield(Record{Section: section, Type: r.Type, TTL: r.TTL, At: r.fixed + 4, Data: r.data(msg)}) {
				return
			}
			off = r.end
		}
	}
}
