package sdk

import "math/bits"

// Suffixes maps zones to numbers, and finds the longest of them that a name is in. It is what a filter asks "which rule is for
// this name?" with. The zero value is empty and ready for use. Set is called in Configure; lookups allocate nothing, but are
// not safe for concurrent use, as an instance of a filter is not.
//
// The zones are in one hash table with open addressing. It is known of how many labels there are zones; only suffixes of so many
// labels are looked up, the longest first. A zone is found only if all its octets are equal, so a collision costs time and
// nothing else.
//
//	3www 4corp 7example 0      4 labels: no zone has 4 labels, skip one
//	     4corp 7example 0      3 labels: are there zones of 3 labels?  hash, look up, compare
//	           7example 0      2 labels: and so on
//
// # How it is written
//
// WebAssembly that Go makes has no loops and branches: a jump within a function sets a number and goes through one table of all
// places, and a call costs more than that; comparing strings of 24 octets costs eight calls. So a lookup is one function
// that calls nothing, and goes straight where it can: zones of up to 32 octets, which nearly all are, are hashed and compared
// without a jump, with loads of eight octets from which masks cut what is too much.
// Each suffix is hashed for itself, because most lists have zones of one or two different numbers of labels; a hash that
// grows from label to label was slower.
type Suffixes struct {
	slots   []slot // length is a power of two, at most half are taken
	keys    []byte // the zones, one after the other, and readAhead octets
	count   int    //
	depths  uint64 // bit n: there is a zone of n labels; bit 63: of 63 or more
	deepest int    // labels of the zone that has most

	room room // for names that don't lie in a room
}

// room is a name with octets behind it that may be read.
type room [MaxName + 1 + readAhead]byte

// readAhead is how many octets are read behind a name at most.
const readAhead = 40

// A slot of the table, 16 octets. tag is 0 if it is free: no name has no octets.
type slot struct {
	tag   uint64 // low half of the hash, and the size of the zone below it
	key   uint32 // offset in keys
	value int32
}

// Len returns how many zones there are.
func (s *Suffixes) Len() int { return s.count }

// Set gives a zone, a canonical name, a value. If it had one, that is left as it is and returned, with false.
func (s *Suffixes) Set(zone []byte, value int) (earlier int, ok bool) {
	if CheckName(zone) != len(zone) {
		panic("sdk: Suffixes.Set: not a name in wire format")
	}
	if 2*(s.count+1) > len(s.slots) {
		s.grow()
	}
	clear(s.room[copy(s.room[:], zone):])
	labels := 0
	for at := 0; zone[at] != 0; at += 1 + int(zone[at]) {
		labels++
	}
	tag := hash(&s.room, 0, len(zone))<<32 | uint64(len(zone))
	i := int(tag>>32) & (len(s.slots) - 1)
	for ; s.slots[i].tag != 0; i = (i + 1) & (len(s.slots) - 1) {
		if o := &s.slots[i]; o.tag == tag && string(s.keys[o.key:int(o.key)+len(zone)]) == string(zone) {
			return int(o.value), false
		}
	}
	s.keys = s.keys[:max(0, len(s.keys)-readAhead)]
	s.slots[i] = slot{tag, uint32(len(s.keys)), int32(value)}
	s.keys = append(s.keys, s.room[:len(zone)+readAhead]...)
	s.count++
	s.depths |= 1 << min(labels, 63)
	s.deepest = max(s.deepest, labels)
	return value, true
}

// grow doubles the table.
func (s *Suffixes) grow() {
	old := s.slots
	s.slots = make([]slot, max(16, 2*len(old)))
	for _, o := range old {
		if o.tag == 0 {
			continue
		}
		i := int(o.tag>>32) & (len(s.slots) - 1)
		for s.slots[i].tag != 0 {
			i = (i + 1) & (len(s.slots) - 1)
		}
		s.slots[i] = o
	}
}

// Longest returns the value of the longest zone that name, a canonical name, is in, and the size of that zone: it is
// name[len(name)-size:]. It is false if name is in none, or no name. For the QNAME, [Call.Longest] is faster.
func (s *Suffixes) Longest(name []byte) (value, size int, ok bool) {
	if s.count == 0 || CheckName(name) != len(name) || len(name) == 0 {
		return 0, 0, false
	}
	copy(s.room[:], name)
	labels := 0
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		labels++
	}
	return s.search(&s.room, len(name), labels)
}

// Longest is [Suffixes.Longest] for the QNAME. It is written for the way that most lookups go: the first candidate is within four
// labels of the name, and is there, or there is no other. All else is for search.
func (c *Call) Longest(s *Suffixes) (value, size int, ok bool) {
	b, n, labels := (*room)(c.octets[:]), int(c.qnameSize), int(c.labels)
	if labels >= 63 {
		return s.search(b, n, labels)
	}
	candidates := s.depths & (2<<uint(labels) - 1)
	if candidates == 0 {
		return 0, 0, false
	}
	depth := 63 - bits.LeadingZeros64(candidates)
	k := labels - depth // labels to skip
	if k > 4 {
		return s.search(b, n, labels)
	}
	at := (1 + int(b[0])) & (-k >> 63)
	at += (1 + int(b[at&0xFF])) & ((1 - k) >> 63)
	at += (1 + int(b[at&0xFF])) & ((2 - k) >> 63)
	at += (1 + int(b[at&0xFF])) & ((3 - k) >> 63)
	size = n - at
	name := b[at&0xFF:]
	x0 := load64(name) & masks[(size+32)&0x1FF]
	x1 := load64(name[8:]) & masks[(size+24)&0x1FF]
	x2 := load64(name[16:]) & masks[(size+16)&0x1FF]
	x3 := load64(name[24:]) & masks[(size+8)&0x1FF]
	h := x0*multiplier0 ^ x1*multiplier1 ^ x2*multiplier2 ^ x3*multiplier3
	h = (h ^ h>>32) * multiplier0 >> 32
	o := &s.slots[h&uint64(len(s.slots)-1)]
	if size > 32 || o.tag != h<<32|uint64(size) {
		if size <= 32 && o.tag == 0 && candidates == 1<<uint(depth) {
			return 0, 0, false
		}
		return s.search(b, n, labels)
	}
	key := s.keys[o.key:]
	if x0^load64(key)&masks[(size+32)&0x1FF]|x1^load64(key[8:])&masks[(size+24)&0x1FF]|
		x2^load64(key[16:])&masks[(size+16)&0x1FF]|x3^load64(key[24:])&masks[(size+8)&0x1FF] != 0 {
		return s.search(b, n, labels)
	}
	return int(o.value), size, true
}

// search looks up the name of n octets and so many labels at the beginning of b, which is well formed.
//
//go:noinline
func (s *Suffixes) search(b *room, n, labels int) (value, size int, ok bool) {
	at := 0
	for depth := min(labels, s.deepest); ; depth-- {
		// The next number of labels of which there are zones, 63 standing for all above.
		if depth < 63 {
			depth = 63 - bits.LeadingZeros64(s.depths&(2<<(uint(depth)&63)-1))
			if depth < 0 {
				return 0, 0, false
			}
		}
		for ; labels > depth; labels-- {
			skip := 1 + int(b[at&0xFF])
			at, n = at+skip, n-skip
		}
		h := hash(b, at, n)
		tag := h<<32 | uint64(n)
		for i := h; ; i++ {
			o := &s.slots[i&uint64(len(s.slots)-1)]
			if o.tag == tag && differ(b[at:], s.keys[o.key:], n) == 0 {
				return int(o.value), n, true
			}
			if o.tag == 0 {
				break
			}
		}
	}
}

// hash returns the hash of the suffix of n octets at an offset.
func hash(b *room, start, n int) uint64 {
	name := b[start&0xFF:]
	h := (load64(name)&masks[(n+32)&0x1FF])*multiplier0 ^ (load64(name[8:])&masks[(n+24)&0x1FF])*multiplier1 ^
		(load64(name[16:])&masks[(n+16)&0x1FF])*multiplier2 ^ (load64(name[24:])&masks[(n+8)&0x1FF])*multiplier3
	for i := 32; i < n; i += 8 {
		h = (h ^ h>>32 ^ load64(name[i:])&masks[(n-i+32)&0x1FF]) * multiplier1
	}
	return (h ^ h>>32) * multiplier0 >> 32
}

// differ is 0 if two suffixes of n octets are equal.
func differ(name, key []byte, n int) (d uint64) {
	for i := 0; i < n; i += 8 {
		d |= (load64(name[i:]) ^ load64(key[i:])) & masks[(n-i+32)&0x1FF]
	}
	return d
}

// Multipliers of the hash: odd, with well spread bits.
const (
	multiplier0 = 0xd6e8feb86659fd93
	multiplier1 = 0x9e3779b97f4a7c15
	multiplier2 = 0xc2b2ae3d27d4eb4f
	multiplier3 = 0x165667b19e3779f9
)

// masks[32+n] has the bits of the first n octets of a load of eight: none if n is below 1, all if it is above 7.
var masks = func() (m [512]uint64) {
	for n := 1; n < len(m)-32; n++ {
		m[32+n] = ^uint64(0) >> (64 - 8*min(n, 8))
	}
	return m
}()

// load64 reads eight octets. The compiler makes one load of it, for WebAssembly too.
func load64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}
