package sdk

import "math/bits"

// Suffixes maps zones to numbers, and finds the longest of them that a name is in. It is what a filter asks "which rule is for
// this name?" with. The zero value is empty and ready for use. Set is called in Configure; Longest allocates nothing, but
// is not safe for concurrent use, as an instance of a filter is not.
//
// The zones are in one hash table with open addressing. The hash of a zone is that of its parent, mixed with its first label,
// so the hashes of all suffixes of a name take one pass over its labels, from the root on:
//
//	www.corp.example.   3 "www" 4 "corp" 7 "example" 0
//	                                     <- h1 = mix(h0, label)   1 label:  is there a zone of 1 label?  look it up
//	                             <------- h2 = mix(h1, label)     2 labels: no zone has 2 labels: go on
//	                    <---------------- h3
//
// The pass ends at the depth of the deepest zone, and depths at which there is no zone are not looked up. A zone is found
// only if all its octets are equal, so a collision costs time and nothing else.
type Suffixes struct {
	slots   []slot     // length is a power of two, at most half are taken
	keys    []byte     // the zones, one after the other
	count   int        //
	depths  [2]uint64  // bit n: there is a zone of n labels
	deepest int        // the highest of these
	offsets [128]uint8 // of the labels of the name that is looked up; a name has at most 127 (RFC 1035 section 2.3.4)
}

// A slot of the table, 16 octets. size is 0 if it is free: no name has no octets.
type slot struct {
	hash  uint32
	key   uint32 // offset in keys
	value int32
	size  uint32
}

// Len returns how many zones there are.
func (s *Suffixes) Len() int { return s.count }

// Set gives a zone, a canonical name, a value. If it had one, that is left as it is and returned, with false.
func (s *Suffixes) Set(zone []byte, value int) (earlier int, ok bool) {
	labels, valid := s.split(zone)
	if !valid {
		panic("sdk: Suffixes.Set: not a name in wire format")
	}
	if 2*(s.count+1) > len(s.slots) {
		s.grow()
	}
	h := s.hash(zone, labels)
	i := s.find(h, zone)
	if s.slots[i].size != 0 {
		return int(s.slots[i].value), false
	}
	s.slots[i] = slot{hash: h, key: uint32(len(s.keys)), value: int32(value), size: uint32(len(zone))}
	s.keys = append(s.keys, zone...)
	s.count++
	s.depths[labels>>6] |= 1 << (labels & 63)
	s.deepest = max(s.deepest, labels)
	return value, true
}

// Longest returns the value of the longest zone that name, a canonical name, is in, and the size of that zone: it is
// name[len(name)-size:]. It is false if name is in none, or no name.
func (s *Suffixes) Longest(name []byte) (value, size int, ok bool) {
	if s.count == 0 {
		return 0, 0, false
	}
	labels, valid := s.split(name)
	if !valid {
		return 0, 0, false
	}
	h := uint64(seed)
	end := len(name) - 1
	for depth := 0; ; depth++ {
		if s.depths[depth>>6&1]>>(depth&63)&1 != 0 {
			zone := name[end:]
			if slot := &s.slots[s.find(fold(h), zone)]; slot.size != 0 {
				value, size, ok = int(slot.value), len(zone), true
			}
		}
		if depth == s.deepest || depth == labels {
			return value, size, ok
		}
		start := int(s.offsets[(labels-depth-1)&127])
		h = mixLabel(h, name, start, end)
		end = start
	}
}

// split writes the offsets of the labels of a name, and returns how many there are.
func (s *Suffixes) split(name []byte) (labels int, ok bool) {
	if len(name) > MaxName {
		return 0, false
	}
	for off := 0; off < len(name); labels++ {
		n := int(name[off])
		if n == 0 {
			return labels, off == len(name)-1
		}
		if n > 63 {
			return 0, false
		}
		s.offsets[labels&127] = uint8(off)
		off += 1 + n
	}
	return 0, false
}

// hash returns the hash of a whole name, after split.
func (s *Suffixes) hash(name []byte, labels int) uint32 {
	h := uint64(seed)
	end := len(name) - 1
	for i := labels - 1; i >= 0; i-- {
		start := int(s.offsets[i])
		h = mixLabel(h, name, start, end)
		end = start
	}
	return fold(h)
}

// find returns the slot that holds a zone, or the free one where it would be.
func (s *Suffixes) find(h uint32, zone []byte) int {
	mask := len(s.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		slot := &s.slots[i]
		if slot.size == 0 {
			return i
		}
		if slot.hash == h && int(slot.size) == len(zone) && string(s.keys[slot.key:][:len(zone)]) == string(zone) {
			return i
		}
	}
}

// grow doubles the table.
func (s *Suffixes) grow() {
	old := s.slots
	s.slots = make([]slot, max(16, 2*len(old)))
	mask := len(s.slots) - 1
	for _, o := range old {
		if o.size == 0 {
			continue
		}
		i := int(o.hash) & mask
		for s.slots[i].size != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = o
	}
}

const (
	seed       = 0x9e3779b97f4a7c15 // the golden ratio; any number without a pattern would do
	multiplier = 0xd6e8feb86659fd93 // odd, with well spread bits
)

// mixLabel mixes the label name[start:end], with its length octet, into h, eight octets at a time.
func mixLabel(h uint64, name []byte, start, end int) uint64 {
	for ; end-start > 8; start += 8 {
		h = mix(h, load64(name[start:]))
	}
	return mix(h, loadUpTo64(name, start, end))
}

func mix(h, x uint64) uint64 {
	h = (h ^ x) * multiplier
	return bits.RotateLeft64(h, 29)
}

// fold makes the index and the check of a slot from a hash.
func fold(h uint64) uint32 {
	h *= multiplier
	return uint32(h >> 32)
}

// load64 reads eight octets. The compiler makes one load of it, for WebAssembly too.
func load64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// loadUpTo64 reads b[start:end], one to eight octets, with one load of eight octets: from start on and cut off behind end, or, if
// that would read behind b, the last eight of b and shifted.
func loadUpTo64(b []byte, start, end int) uint64 {
	cut := uint(64-8*(end-start)) & 63
	if start+8 <= len(b) {
		return load64(b[start:]) << cut >> cut
	}
	if behind := len(b) - 8; behind >= 0 {
		return load64(b[behind:]) >> (uint(8*(start-behind)) & 63) << cut >> cut
	}
	var x uint64
	for i := end - 1; i >= start; i-- {
		x = x<<8 | uint64(b[i])
	}
	return x
}
