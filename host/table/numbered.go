package table

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Numbered returns a snapshot whose keys are these names, canonical, in wire format and each there once, and whose values are their indexes,
// as four octets, little-endian. It keeps nothing of names.
func Numbered(names [][]byte) Snapshot {
	type entry struct {
		order  []byte
		number int
	}
	entries := make([]entry, len(names))
	size := int64(0)
	for i, name := range names {
		entries[i] = entry{appendOrderKey(nil, name), i}
		size += int64(len(name)) + entryHeader + 4
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.order, b.order) })
	b := newBuilder(false, size, size+1)
	for _, e := range entries {
		name := names[e.number]
		b.begin(name, bytes.Count(e.order, []byte{0}), false)
		b.x.arena = binary.LittleEndian.AppendUint32(b.x.arena, uint32(e.number))
		b.end() // within the limit, which is what they take
	}
	return b.index()
}
