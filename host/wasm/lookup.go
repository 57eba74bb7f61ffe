package wasm

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// lookup finds what the tables of a filter have for a QNAME, before the filter is called: abi/README.md section 4. It is made when the
// filter is opened, and only read afterwards: the apex of a zone stays what it is as long as its table lives. It allocates nothing.
type lookup struct {
	tables []Table
	few    []apex            // up to fewZones of them, the longest apex first
	many   map[string]uint16 // or tables by apex
	depths []int             // labels of the apexes in many, each number once, the highest first
	names  []uint16          // tables of names and hosts files, in their order
	own    Snapshot          // the filter's own names, nil if there are none
	ownAt  uint16            // their index
}

type apex struct {
	name  []byte
	table uint16
}

// fewZones is up to how many zones comparing with each apex is faster than a map, which costs some 20 ns for each depth.
const fewZones = 8

// match is what a look-up found.
type match struct {
	snapshot Snapshot // nil if there is nothing
	table    uint16
	matched  int
	value    []byte
}

// newLookup returns the look-up in tables and in the filter's own names, whose index is ownAt; nil if there are none, and no zone, no list of names
// and no hosts file is among the tables.
func newLookup(tables []Table, ownAt uint16, own Snapshot) *lookup {
	l := &lookup{tables: tables, own: own, ownAt: ownAt}
	var zones []apex
	for n, t := range tables {
		switch t.Kind() {
		case abi.TableZone:
			if name, _, ok := t.Snapshot().Next(nil); ok {
				zones = append(zones, apex{bytes.Clone(name), uint16(n)})
			}
		case abi.TableNames, abi.TableHosts:
			l.names = append(l.names, uint16(n))
		}
	}
	if len(zones)+len(l.names) == 0 && own == nil {
		return nil
	}
	if len(zones) <= fewZones {
		// A stable order: of two tables with the same zone, the first is taken.
		slices.SortStableFunc(zones, func(a, b apex) int { return cmp.Compare(len(b.name), len(a.name)) })
		l.few = zones
		return l
	}
	l.many = make(map[string]uint16, len(zones))
	for _, z := range zones {
		if _, ok := l.many[string(z.name)]; !ok {
			l.many[string(z.name)] = z.table
			l.depths = append(l.depths, labelsOf(z.name))
		}
	}
	slices.SortFunc(l.depths, func(a, b int) int { return b - a })
	l.depths = slices.Compact(l.depths)
	return l
}

// labelsOf is the number of labels of a name, without the root label.
func labelsOf(name []byte) (n int) {
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		n++
	}
	return n
}

// find looks up a canonical name, and fills m.
func (l *lookup) find(name []byte, labels int, m *match) bool {
	if n, ok := l.zone(name, labels); ok && m.find(name, n, l.tables[n].Snapshot()) {
		return true
	}
	for _, n := range l.names {
		if m.find(name, n, l.tables[n].Snapshot()) {
			return true
		}
	}
	return l.own != nil && m.find(name, l.ownAt, l.own)
}

// find looks up a canonical name in one table.
func (m *match) find(name []byte, number uint16, s Snapshot) (ok bool) {
	if m.matched, m.value, ok = s.Longest(name); ok {
		m.snapshot, m.table = s, number
	}
	return ok
}

// zone returns the table whose apex is the longest that the name is in.
func (l *lookup) zone(name []byte, labels int) (table uint16, ok bool) {
	for i := range l.few {
		if message.InZone(name, l.few[i].name) {
			return l.few[i].table, true
		}
	}
	for _, depth := range l.depths {
		if depth > labels {
			continue
		}
		for ; labels > depth; labels-- {
			name = name[1+int(name[0]):]
		}
		if table, ok = l.many[string(name)]; ok {
			return table, true
		}
	}
	return 0, false
}

// writeFound pins the table for the call, and writes what was found into the frame, the value behind the message or, of an own name, as a number.
// What does not fit there is left to the guest.
func (i *instance) writeFound(m *match, size int) {
	i.pin(m.table, m.snapshot)
	put := binary.LittleEndian
	put.PutUint16(i.frame[abi.FrameTable:], m.table)
	put.PutUint16(i.frame[abi.FrameMatched:], uint16(m.matched))
	if int(m.table) == len(i.tables)-1 { // an own name: its number
		put.PutUint32(i.frame[abi.FrameValue:], put.Uint32(m.value))
		return
	}
	at := (abi.FrameMessage + size + 7) &^ 7
	if at+len(m.value) > abi.FrameMessage+message.MaxSize {
		return
	}
	i.octets -= len(m.value)
	put.PutUint32(i.frame[abi.FrameValue:], uint32(at))
	put.PutUint32(i.frame[abi.FrameValueSize:], uint32(len(m.value)))
	copy(i.frame[at:], m.value)
}
