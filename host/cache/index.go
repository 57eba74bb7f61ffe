package cache

// index finds places of entries by hash: a table of open addressing, with linear probing, that is never more than two thirds full. A slot has what
// there is to know, so that neither a look-up for what is not there nor a growing table touches an entry:
//
//	| tag: the lower half of the hash, 32 | place, 32 |
//
// A slot of 0 is empty. The zero index is, too.
type index struct {
	slots []uint64
	used  int
}

// place is where an entry is: the number of its segment, and how far into that it begins, in units.
type place uint32

const (
	firstSlots = 64
	// indexOctets is what an entry costs in the index at most: a table that has just grown by a quarter is a little over half full.
	indexOctets = 16
)

// first is the slot at which a tag is looked for first. Unlike with a mask, a table may so have any size, and grow in small steps.
func (x *index) first(tag uint32) int { return int(uint64(tag) * uint64(len(x.slots)) >> 32) }

func (x *index) after(i int) int {
	if i++; i < len(x.slots) {
		return i
	}
	return 0
}

func slotOf(tag uint32, p place) uint64 { return uint64(tag)<<32 | uint64(p) }

// add puts an entry into the index that is not in it.
func (x *index) add(tag uint32, p place) {
	if 3*(x.used+1) > 2*len(x.slots) {
		x.grow()
	}
	x.put(slotOf(tag, p))
	x.used++
}

func (x *index) put(slot uint64) {
	i := x.first(uint32(slot >> 32))
	for x.slots[i] != 0 {
		i = x.after(i)
	}
	x.slots[i] = slot
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]uint64, max(len(old)+len(old)/4, firstSlots))
	for _, slot := range old {
		if slot != 0 {
			x.put(slot)
		}
	}
}

// find returns the slot of an entry that is in the index.
func (x *index) find(tag uint32, p place) int {
	i := x.first(tag)
	for x.slots[i] != slotOf(tag, p) {
		i = x.after(i)
	}
	return i
}

// move notes that an entry is elsewhere.
func (x *index) move(tag uint32, from, to place) { x.slots[x.find(tag, from)] = slotOf(tag, to) }

// remove takes an entry out. Those behind it that would have been in its slot move up, so that no trace of it makes probing longer.
func (x *index) remove(tag uint32, p place) {
	gap := x.find(tag, p)
	x.used--
	for i := x.after(gap); x.slots[i] != 0; i = x.after(i) {
		home := x.first(uint32(x.slots[i] >> 32))
		if x.distance(home, i) >= x.distance(gap, i) {
			x.slots[gap] = x.slots[i]
			gap = i
		}
	}
	x.slots[gap] = 0
}

// distance is how many slots i is behind from.
func (x *index) distance(from, i int) int {
	if i >= from {
		return i - from
	}
	return i - from + len(x.slots)
}
