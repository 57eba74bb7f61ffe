package table

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// index is a snapshot of a table whose keys are names. Its slices hold no pointers, and are never written after [builder.index].
//
// The arena holds the entries in canonical order, so that the next of a key is what lies behind it, from offset 1 on:
//
//	offset size field
//	   0    4   octets of the value, little-endian
//	   4    1   octets of the key
//	   5    1   1 if hidden: below a zone cut or a DNAME
//	   6    k   the key, a canonical name
//	 6+k        the value
type index struct {
	arena []byte
	// slots is a hash table with linear probing: the high half of a slot is from the hash, so that hardly any other key has to be looked at,
	// and the low half is the offset of an entry. 0 is a free slot.
	slots []uint64
	// blocks holds the offset of every 16th entry, to find where a name that isn't a key would be.
	blocks []uint32
	count  int
	// depth is the number of labels of the longest key that isn't hidden, and top that of the first key: for a zone, its apex.
	depth, top int
	// depths has bit n if a key has n labels, and bit 63 if one has 63 or more. Most lists have keys of one or two depths.
	depths uint64
	zone   bool
	// The seed makes sure that nobody can choose names that collide.
	seed maphash.Seed
}

const (
	entryHeader = 6
	blockSize   = 16
)

// key and value return what is in the entry at an offset.
func (x *index) key(at uint32) []byte {
	e := x.arena[at:]
	return e[entryHeader : entryHeader+int(e[4])]
}

func (x *index) value(at uint32) []byte {
	e := x.arena[at:]
	begin := entryHeader + int(e[4])
	end := begin + int(binary.LittleEndian.Uint32(e))
	return e[begin:end:end]
}

func (x *index) hidden(at uint32) bool { return x.arena[at+5] != 0 }

// behind returns the offset of the next entry, or false if there is none.
func (x *index) behind(at uint32) (uint32, bool) {
	e := x.arena[at:]
	next := int(at) + entryHeader + int(e[4]) + int(binary.LittleEndian.Uint32(e))
	return uint32(next), next < len(x.arena)
}

// find returns the offset of the entry with this key.
func (x *index) find(key []byte) (at uint32, ok bool) {
	hash := maphash.Bytes(x.seed, key)
	i, _ := bits.Mul64(hash, uint64(len(x.slots)))
	for {
		slot := x.slots[i]
		if slot == 0 {
			return 0, false
		}
		if uint32(slot>>32) == uint32(hash) && string(x.key(uint32(slot))) == string(key) {
			return uint32(slot), true
		}
		if i++; i == uint64(len(x.slots)) {
			i = 0
		}
	}
}

// Get returns the value of exactly this key.
func (x *index) Get(key []byte) (value []byte, ok bool) {
	at, ok := x.find(key)
	if !ok {
		return nil, false
	}
	return x.value(at), true
}

// Longest returns the value of the longest key that is the name or an ancestor of it, and the size of that key. In a zone, it
// does not go below a zone cut or a DNAME: what is there is hidden.
func (x *index) Longest(name []byte) (matched int, value []byte, ok bool) {
	var at labels
	n, ok := split(name, &at)
	if !ok || x.count == 0 {
		return 0, nil, false
	}
	var found uint32
	if x.zone {
		found, ok = x.encloser(name, &at, n)
	} else {
		found, ok = x.ancestor(name, &at, n)
	}
	if !ok {
		return 0, nil, false
	}
	return int(x.arena[found+4]), x.value(found), true
}

// ancestor looks for the name and its ancestors, from the longest that a key can be.
func (x *index) ancestor(name []byte, at *labels, n int) (found uint32, ok bool) {
	for depth := min(n, x.depth); depth > 0; depth-- {
		if x.depths>>min(depth, 63)&1 == 0 {
			continue
		}
		if found, ok = x.find(name[at[n-depth]:]); ok {
			return found, true
		}
	}
	if x.depths&1 == 0 {
		return 0, false
	}
	return x.find(name[len(name)-1:])
}

// encloser looks for the closest encloser in a zone. With each name that isn't hidden, the zone has all its ancestors up to the apex,
// so that after a first look at the name itself, the depth can be halved each time: at most 8 looks for any name.
func (x *index) encloser(name []byte, at *labels, n int) (found uint32, ok bool) {
	const apex = 1 // offset of its entry
	rest := len(name) - int(x.arena[apex+4])
	if n < x.top || rest < 0 || string(name[rest:]) != string(x.key(apex)) {
		return 0, false
	}
	if x.top > 0 && int(at[n-x.top]) != rest { // the octets are those of the apex, but begin inside of a label
		return 0, false
	}
	found, low, high := apex, x.top, min(n, x.depth)+1
	for depth := high - 1; low < depth; depth = (low + high) / 2 {
		if e, ok := x.find(name[at[n-depth]:]); ok && !x.hidden(e) {
			found, low = e, depth
		} else {
			high = depth
		}
	}
	return found, true
}

// Next returns the first key after this one in canonical order, and its value. An empty key comes before all.
func (x *index) Next(key []byte) (next, value []byte, ok bool) {
	if x.count == 0 {
		return nil, nil, false
	}
	at := uint32(1)
	if len(key) > 0 {
		if at, ok = x.after(key); !ok {
			return nil, nil, false
		}
	}
	next = x.key(at)
	return next[:len(next):len(next)], x.value(at), true
}

// after returns the offset of the first entry after a name.
func (x *index) after(name []byte) (at uint32, ok bool) {
	if at, ok = x.find(name); ok {
		return x.behind(at)
	}
	var parts labels
	if _, ok := split(name, &parts); !ok {
		return 0, false
	}
	var room [maxOrderKey]byte
	want := appendOrderKey(room[:0], name)
	low, high := 0, len(x.blocks) // the last block that begins before the name
	for low < high {
		if middle := (low + high) / 2; x.before(x.blocks[middle], want) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return x.blocks[0], true
	}
	for at, ok = x.blocks[low-1], true; ok && x.before(at, want); {
		at, ok = x.behind(at)
	}
	return at, ok
}

// before reports whether the key of an entry comes before the name with an order key.
func (x *index) before(at uint32, want []byte) bool {
	var room [maxOrderKey]byte
	return bytes.Compare(appendOrderKey(room[:0], x.key(at)), want) < 0
}

// Prefix finds nothing: the keys are names.
func (x *index) Prefix([]byte) (bits int, value []byte, ok bool) { return 0, nil, false }

// Len returns the number of keys.
func (x *index) Len() int { return x.count }

// octets returns the memory of the index.
func (x *index) octets() int { return cap(x.arena) + 8*cap(x.slots) + 4*cap(x.blocks) }

// builder makes an index from entries that come in canonical order.
type builder struct {
	x     index
	limit int64 // of the arena
	open  uint32
}

// newBuilder returns a builder for an index, with room for about size octets of entries.
func newBuilder(zone bool, size, limit int64) *builder {
	b := &builder{limit: limit}
	b.x.zone = zone
	b.x.seed = maphash.MakeSeed()
	b.x.arena = append(make([]byte, 0, min(size, limit)+1), 0)
	return b
}

// begin begins an entry; the caller appends its value to the arena, and calls end. It returns the offset of the entry.
func (b *builder) begin(name []byte, depth int, hidden bool) (at uint32) {
	x := &b.x
	b.open = uint32(len(x.arena))
	if x.count%blockSize == 0 {
		x.blocks = append(x.blocks, b.open)
	}
	if x.count == 0 {
		x.top = depth
	}
	flag := byte(1)
	x.depths |= 1 << min(depth, 63)
	if !hidden {
		flag = 0
		x.depth = max(x.depth, depth)
	}
	x.count++
	x.arena = append(x.arena, 0, 0, 0, 0, byte(len(name)), flag)
	x.arena = append(x.arena, name...)
	return b.open
}

// end ends an entry. It is false if the limit is exceeded.
func (b *builder) end() bool {
	e := b.x.arena[b.open:]
	binary.LittleEndian.PutUint32(e, uint32(len(e)-entryHeader-int(e[4])))
	return int64(len(b.x.arena)) <= b.limit
}

// index returns the index. The builder is of no more use.
func (b *builder) index() *index {
	x := &b.x
	if spare := cap(x.arena) - len(x.arena); spare > len(x.arena)/8 {
		x.arena = bytes.Clone(x.arena)
	}
	x.blocks = append(make([]uint32, 0, len(x.blocks)), x.blocks...)
	x.slots = make([]uint64, 2*x.count+1) // half full: most names that are looked for aren't there, and to see that takes 2.5 steps (8.5 at three quarters)
	at, ok := uint32(1), x.count > 0
	for ok {
		hash := maphash.Bytes(x.seed, x.key(at))
		i, _ := bits.Mul64(hash, uint64(len(x.slots)))
		for x.slots[i] != 0 {
			if i++; i == uint64(len(x.slots)) {
				i = 0
			}
		}
		x.slots[i] = hash<<32 | uint64(at)
		at, ok = x.behind(at)
	}
	return x
}
