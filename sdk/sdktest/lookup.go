//go:build !wasip1

package sdktest

import (
	"encoding/binary"

	"github.com/weirdns/weir/abi"
)

// Lookup is what the host of tests does before a call of query, for a filter that asks for the look-up. A filter must give the same
// verdicts whatever it is.
type Lookup uint8

// The kinds of look-ups.
const (
	FullLookup Lookup = iota // what the contract says
	NoRoom                   // the value is never in the frame, as behind a message that leaves no room for it
	NoLookup                 // none: query is called for every query; but a filter with names of its own has only the look-up to find them
)

// Inside is for instances that are a whole host, which does the look-up itself.
const Inside Lookup = 0xFF

// Lookups are all that this package does, for a test that goes through them.
var Lookups = []Lookup{FullLookup, NoRoom, NoLookup}

// String returns a name for a test.
func (l Lookup) String() string {
	if l == Inside {
		return "inside"
	}
	return [...]string{"look-up", "no room", "no look-up"}[l]
}

// With makes the host of the instances that open makes do that look-up. Without With, it does what the contract says.
func With(l Lookup, open Open) Open {
	return func(h *Host) (Instance, error) {
		i, err := open(h)
		return with{i, l}, err
	}
}

type with struct {
	Instance
	lookup Lookup
}

// found is what a look-up found: nothing if matched is 0.
type found struct {
	table, matched int
	value          []byte
	own            bool // it is one of the filter's own names
}

// look looks a canonical name up, in the zone that is nearest to it, or else in the first list of names or hosts file that holds it, or the
// own names.
// abi/README.md section 4.
func (h *Host) look(name string) (f found, ok bool) {
	apex := 0
	for i, t := range h.tables {
		if t.kind != abi.TableZone || len(t.keys[0]) <= apex {
			continue
		}
		if value, size, ok := t.longest([]byte(name)); ok {
			f, apex = found{i, size, value, false}, len(t.keys[0])
		}
	}
	if apex > 0 {
		return f, true
	}
	for i, t := range h.tables {
		if t.kind != abi.TableNames && t.kind != abi.TableHosts { // the own names come last
			continue
		}
		if value, size, ok := t.longest([]byte(name)); ok {
			return found{i, size, value, t == h.own}, true
		}
	}
	return f, false
}

// write puts what was found into a frame whose message has size octets.
func (f found) write(frame []byte, size int, l Lookup) {
	if f.matched == 0 {
		return
	}
	le := binary.LittleEndian
	le.PutUint16(frame[abi.FrameTable:], uint16(f.table))
	le.PutUint16(frame[abi.FrameMatched:], uint16(f.matched))
	if f.own {
		le.PutUint32(frame[abi.FrameValue:], le.Uint32(f.value))
		return
	}
	at := (abi.FrameMessage + size + 7) &^ 7
	if l == NoRoom || at+len(f.value) > abi.FrameTotal-1 {
		return
	}
	le.PutUint32(frame[abi.FrameValue:], uint32(at))
	le.PutUint32(frame[abi.FrameValueSize:], uint32(len(f.value)))
	copy(frame[at:], f.value)
}
