package table

import (
	"bytes"
	"context"
	"slices"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// maxRRset is how large an RRset can be, with its owners as pointers: it has to fit into a message with a header and a question of its name.
const maxRRset = message.MaxSize - 12 - 4

// loadZone makes an index of a zone file, and returns the files that it read, even if there is an error. before is the apex that the zone must
// have, in wire format, or nil.
func loadZone(ctx context.Context, path, origin string, limit int64, before []byte) (x *index, files []file, err error) {
	r := &records{limit: limit}
	if files, err = parseZone(ctx, r, path, origin); err != nil {
		return nil, files, err
	}
	z := &zoneBuilder{records: r, seen: make(map[string]struct{})}
	if err := z.findApex(path); err != nil {
		return nil, files, err
	}
	if apex := appendName(nil, z.apex); before != nil && !bytes.Equal(apex, before) {
		return nil, files, z.soa.errorf("the zone is %s now, and was %s: undo that, or reload the configuration", message.NameString(apex), message.NameString(before))
	}
	r.sort()
	if err := ctx.Err(); err != nil {
		return nil, files, err
	}
	z.builder = newBuilder(true, int64(len(r.arena))+int64(len(r.offsets))*nodeOverhead, limit)
	if err := r.owners(z.owner); err != nil {
		return nil, files, err
	}
	x = z.builder.index()
	if err := z.checkGlue(x); err != nil {
		return nil, files, err
	}
	return x, files, nil
}

// nodeOverhead is how much larger the entry of an owner with one record is than that record in [records].
const nodeOverhead = entryHeader + 1 + 4 + 8 + 12 - recordHeader

// zoneBuilder makes nodes of the sorted records of a zone. In canonical order, a name comes right behind its ancestors and before all else, so
// that one pass with the path from the apex to the present name sees empty non-terminals, and what is below zone cuts and DNAMEs.
type zoneBuilder struct {
	records *records
	builder *builder
	apex    []byte // its order key
	soa     position
	path    []step
	servers []server

	// Room for one node at a time.
	name []byte
	sets []abi.RRset
	data [][]byte
	seen map[string]struct{}
}

// step is a node on the path.
type step struct {
	key   []byte // its order key
	entry uint32 // its offset in the index
	depth int    // labels
	cut   uint32 // the first NS record of the topmost zone cut, at the node or above it
	dname uint32 // the DNAME record at the node or above it
}

// none stands for no record: a record has more than an octet, so none begins there.
const none = ^uint32(0)

// server is an NS record of a zone cut.
type server struct {
	record uint32
	cut    uint32 // entry of the zone cut
}

// findApex finds the SOA record, and checks that all names are in the zone that it begins.
func (z *zoneBuilder) findApex(path string) error {
	r, soa := z.records, none
	for _, offset := range r.offsets {
		switch {
		case r.rrtype(offset) != dns.TypeSOA:
		case soa == none:
			soa = offset
			z.apex, z.soa = r.key(offset), r.at(offset)
		case !bytes.Equal(r.key(offset), z.apex) || !bytes.Equal(r.data(offset), r.data(soa)):
			// The very same record is at the end of what a zone transfer gives. RFC 5936 section 2.2
			return r.at(offset).errorf("a second SOA record, beside that in %s: a file has one zone", z.soa)
		}
	}
	if soa == none {
		return position{path, 1}.errorf("there is no SOA record: write one for the apex, as in @ 300 SOA ns hostmaster 1 3600 600 86400 60")
	}
	for _, offset := range r.offsets {
		if !bytes.HasPrefix(r.key(offset), z.apex) {
			return r.at(offset).errorf("%s is not in the zone %s of the SOA record in %s: move it to its own zone, or look for a missing $ORIGIN",
				keyString(r.key(offset)), keyString(z.apex), z.soa)
		}
	}
	return nil
}

// owner adds the node of an owner, and before it the empty non-terminals above it (RFC 4592 section 2.2.2).
func (z *zoneBuilder) owner(key []byte, offsets []uint32) error {
	for len(z.path) > 0 && !bytes.HasPrefix(key, z.top().key) {
		z.path = z.path[:len(z.path)-1]
	}
	if len(z.path) > 0 {
		for end := len(z.top().key); ; {
			end += bytes.IndexByte(key[end:], 0) + 1
			if end == len(key) {
				break
			}
			if err := z.add(key[:end], nil, z.records.at(offsets[0])); err != nil {
				return err
			}
		}
	}
	return z.add(key, offsets, z.records.at(offsets[0]))
}

func (z *zoneBuilder) top() *step { return &z.path[len(z.path)-1] }

// add adds the node with an order key, and puts it at the end of the path. at is where it comes from.
func (z *zoneBuilder) add(key []byte, offsets []uint32, at position) error {
	s := step{key: key, cut: none, dname: none}
	z.name = appendName(z.name[:0], key)
	var flags uint8
	if len(z.path) == 0 {
		flags = abi.NodeApex
		s.depth = labelCount(key)
	} else {
		above := z.top()
		s.depth, s.cut, s.dname = above.depth+1, above.cut, above.dname
	}
	hidden := s.cut != none || s.dname != none
	if err := z.group(offsets); err != nil {
		return err
	}
	if err := z.checkPlace(&s, offsets); err != nil {
		return err
	}
	if err := z.checkNode(&s, offsets, flags&abi.NodeApex != 0); err != nil {
		return err
	}
	s.entry = z.builder.begin(z.name, s.depth, hidden)
	x := &z.builder.x
	var err error
	if x.arena, err = abi.AppendNode(x.arena, flags, z.sets...); err != nil {
		return at.errorf("%s: %v", keyString(key), err)
	}
	if !z.builder.end() {
		return at.errorf("%v, which is %d: raise it, or split the table", errTooLarge, z.builder.limit)
	}
	if flags == 0 && z.name[0] == 1 && z.name[1] == '*' { // RFC 4592 section 2.1.1
		x.value(z.top().entry)[0] |= abi.NodeWildcard
	}
	if s.cut != none && !hidden {
		for _, offset := range offsets {
			if z.records.rrtype(offset) == dns.TypeNS {
				z.servers = append(z.servers, server{offset, s.entry})
			}
		}
	}
	z.path = append(z.path, s)
	return nil
}

// group makes RRsets of the records of an owner, in z.sets: duplicates are dropped (RFC 2181 section 5), the TTL is the lowest (section 5.2).
func (z *zoneBuilder) group(offsets []uint32) error {
	r := z.records
	z.sets, z.data = z.sets[:0], slices.Grow(z.data[:0], len(offsets)) // does not move while RRsets point into it
	for len(offsets) > 0 {
		set := abi.RRset{Type: r.rrtype(offsets[0]), TTL: r.ttl(offsets[0])}
		begin, size, n := len(z.data), 0, 0
		clear(z.seen)
		for ; n < len(offsets) && r.rrtype(offsets[n]) == set.Type; n++ {
			set.TTL = min(set.TTL, r.ttl(offsets[n]))
			data := r.data(offsets[n])
			if z.duplicate(z.data[begin:], data) {
				continue
			}
			z.data = append(z.data, data)
			if size += 12 + len(data); size+len(z.name) > maxRRset {
				return r.at(offsets[n]).errorf("the records of %s of type %s are too many for a message, which has at most %d octets: delete some",
					keyString(r.key(offsets[n])), dns.Type(set.Type), message.MaxSize)
			}
		}
		set.Data = z.data[begin:len(z.data):len(z.data)]
		z.sets = append(z.sets, set)
		offsets = offsets[n:]
	}
	return nil
}

// duplicate reports whether an RRset has this RDATA already. A few are compared one by one; for more, z.seen remembers.
func (z *zoneBuilder) duplicate(set [][]byte, data []byte) bool {
	const few = 16
	if len(set) < few {
		return slices.ContainsFunc(set, func(d []byte) bool { return bytes.Equal(d, data) })
	}
	if len(z.seen) == 0 {
		for _, d := range set {
			z.seen[string(d)] = struct{}{}
		}
	}
	if _, ok := z.seen[string(data)]; ok {
		return true
	}
	z.seen[string(data)] = struct{}{}
	return false
}

// labelCount returns the number of labels of a name by its order key.
func labelCount(key []byte) int { return bytes.Count(key, []byte{0}) }

func keyString(key []byte) string { return message.NameString(appendName(nil, key)) }
