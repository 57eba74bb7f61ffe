package cache

import "slices"

// segment holds entries, one behind the other.
type segment struct {
	octets []byte
	used   int
	next   uint32 // the one that came after it in its log; 0 is none
	home   uint8  // the number of its log
}

const (
	// segmentOctets is the size of a segment. Of each log, less than that is lost at either end.
	segmentOctets = 16 << 10
	// largeEntry is the size from which an entry has a segment to itself, lest many end half empty.
	largeEntry = segmentOctets / 4

	placeBits = 11 // of a place, for the unit in the segment; segmentOctets has that many units
)

// log is a queue of entries: they come in at one end, and go out at the other in the same order, save that a large one may go before a few
// that came before it. What has died in between goes out like the others. The zero value is empty.
type log struct {
	first, last uint32 // segments; 0 is none
	open        uint32 // the one that has room for more, most often the last
	passed      int    // octets of the first that have gone out
	octets      int    // between the ends, what is dead or lost included
	entries     int    // live ones
	memory      int    // octets of its segments
}

// at returns the entry at p, to the end of its segment.
func (sh *shard) at(p place) entry {
	return entry(sh.segments[p>>placeBits].octets[int(p&(1<<placeBits-1))*unit:])
}

// logOf returns the log that the entry at p is in.
func (sh *shard) logOf(p place) *log { return &sh.logs[sh.segments[p>>placeBits].home] }

// push makes room of at least size octets, a multiple of a unit, at the end of a log. The entry there is to be written by the caller, and has
// this room.
func (sh *shard) push(to uint8, size int) (p place, e entry, room int) {
	l := &sh.logs[to]
	n := l.open
	if size >= largeEntry {
		n = sh.extend(to, size)
		size = len(sh.segments[n].octets)
	} else if n == 0 || sh.segments[n].used+size > segmentOctets {
		if n != 0 {
			l.octets += sh.segments[n].lost()
		}
		n = sh.extend(to, segmentOctets)
		l.open = n
	}
	seg := &sh.segments[n]
	p = place(int(n)<<placeBits | seg.used/unit)
	seg.used += size
	l.octets += size
	l.entries++
	return p, sh.at(p), size
}

// lost is what can't be used any more once a segment is not the open one.
func (seg *segment) lost() int { return len(seg.octets) - seg.used }

// extend puts a segment of at least size octets at the end of a log, and returns its number.
func (sh *shard) extend(to uint8, size int) uint32 {
	l := &sh.logs[to]
	var octets []byte
	if last := len(sh.spare) - 1; size == segmentOctets && last >= 0 {
		octets, sh.spare = sh.spare[last], sh.spare[:last]
	} else {
		octets = slices.Grow(octets, size)
		octets = octets[:cap(octets)&^(unit-1)] // what the allocator would lose
	}
	var n uint32
	if last := len(sh.numbers) - 1; last >= 0 {
		n, sh.numbers = sh.numbers[last], sh.numbers[:last]
	} else {
		if len(sh.segments) == 0 {
			sh.segments = make([]segment, 1, 16) // 0 is none
		}
		n = uint32(len(sh.segments))
		sh.segments = append(sh.segments, segment{})
	}
	sh.segments[n] = segment{octets: octets, home: to}
	if l.last == 0 {
		l.first = n
	} else {
		sh.segments[l.last].next = n
	}
	l.last = n
	l.memory += len(octets)
	return n
}

// oldest is the entry that goes out next, dead or not. There must be one: some octets are between the ends.
func (sh *shard) oldest(l *log) (place, entry) {
	p := place(int(l.first)<<placeBits | l.passed/unit)
	return p, sh.at(p)
}

// pass has the oldest entry, of room octets, go out. Its octets are good until the next push.
func (sh *shard) pass(l *log, room int) {
	n := l.first
	seg := &sh.segments[n]
	l.passed += room
	l.octets -= room
	if l.passed < seg.used {
		return
	}
	if n == l.open {
		l.open = 0
	} else {
		l.octets -= seg.lost()
	}
	l.first, l.passed = seg.next, 0
	if l.first == 0 {
		l.last = 0
	}
	l.memory -= len(seg.octets)
	if len(seg.octets) == segmentOctets && len(sh.spare) < cap(sh.spare) {
		sh.spare = append(sh.spare, seg.octets)
	}
	*seg = segment{}
	sh.numbers = append(sh.numbers, n)
}
