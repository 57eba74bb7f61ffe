package sdk

import "github.com/weirdns/weir/abi"

// Builder makes a response, section by section, in wire format. The zero value is ready for use; a filter has one, and resets
// it for each response. What does not fit into 65,535 octets, or comes in the wrong order, makes the whole response
// fail: [Builder.Message] is then nil, which [Call.Respond] turns into a SERVFAIL.
//
// The host truncates what is too large for the client, and adds EDNS: a builder has to do with neither.
type Builder struct {
	message []byte // the room for it
	size    int
	section Section
	failed  bool
	own     []byte // room where the frame is in use
	name    []byte // scratch
}

// Reset begins the response to the question of c. In the query phase, it is made in the frame, over the query, which costs
// nothing, and c.Message is overwritten; in the response phase in memory of its own.
func (b *Builder) Reset(c *Call) {
	b.section, b.failed = Answer, false
	if c.phase == 1 {
		b.message = c.message()
		b.size = int(c.question)
		b.message[2] = 0x80 | b.message[2]&0x01 // QR, and RD as it was. RFC 1035 section 4.1.1
	} else {
		if b.own == nil {
			b.own = make([]byte, maxMessage)
		}
		b.message = b.own
		name := c.QNAME()
		b.size = headerSize + len(name) + 4
		copy(b.message[headerSize:], name)
		q := b.message[headerSize+len(name) : b.size]
		q[0], q[1], q[2], q[3] = byte(c.qtype>>8), byte(c.qtype), byte(c.qclass>>8), byte(c.qclass)
		b.message[0], b.message[1] = 0, 0
		b.message[2] = 0x80 | c.octets[messageAt+2]&0x01
	}
	h := b.message[3:headerSize]
	h[0], h[1], h[2] = 0, 0, 1
	h[3], h[4], h[5], h[6], h[7], h[8] = 0, 0, 0, 0, 0, 0
}

// AnswerFound responds with what the host found before the call ([Lookup]): the RRset of the QTYPE at the QNAME, as it is in the zone, with
// AA set. ok is false if that isn't all there is to the answer: the value is not there or not that of the QNAME itself, the node
// is a zone cut or an apex, it has no such RRset, or the class is not IN. A [Builder] makes the same response; this is how nearly all
// answers from zones are, in one straight function, see [Suffixes]. The node lies behind where its RRset goes to, so octets are
// read before they are written over.
func (q Query) AnswerFound() (v Verdict, ok bool) {
	c := q.Call
	if c.matched != c.qnameSize || c.value == 0 || c.qclass != 1 {
		return 0, false
	}
	node := int(c.value) - abi.FrameQname
	head := load64(c.octets[node:])
	sets := int(head >> 16 & 0xFFFF)
	if head&(NodeCut|NodeApex) != 0 || sets == 0 {
		return 0, false
	}
	from := node + 4 + 8*sets
	e := load64(c.octets[node+4:])
	for i := 1; uint16(e) != c.qtype; i++ {
		if i >= sets {
			return 0, false
		}
		from += int(e >> 32)
		e = load64(c.octets[node+4+8*i:])
	}
	size, to := int(e>>32), messageAt+int(c.question)
	c.octets[messageAt+2] = 0x84 | c.octets[messageAt+2]&0x01 // QR, AA, and RD as it was. RFC 1035 section 4.1.1
	c.octets[messageAt+3] = 0
	store64(c.octets[messageAt+4:], 1<<8|e>>24&0xFF<<16|e>>16&0xFF<<24) // one question, the answers, nothing else
	if size <= 32 && from+32 <= frameTail {
		f, t := c.octets[from:from+32], c.octets[to:to+32]
		store64(t, load64(f))
		store64(t[8:], load64(f[8:]))
		store64(t[16:], load64(f[16:]))
		store64(t[24:], load64(f[24:]))
	} else {
		copy(c.octets[to:], c.octets[from:from+size])
	}
	return c.pack(abi.Respond, 0, c.octets[messageAt:to+size]), true
}

// SetAA sets or clears the bit AA, which is clear at first.
func (b *Builder) SetAA(aa bool) {
	b.message[2] &^= 0x04
	if aa {
		b.message[2] |= 0x04
	}
}

// AA reports whether the bit AA is set.
func (b *Builder) AA() bool { return b.message[2]&0x04 != 0 }

// SetRCODE sets the RCODE, which is NOERROR at first. The header has room for those below 16; others become SERVFAIL.
func (b *Builder) SetRCODE(rcode RCODE) {
	if rcode > 15 {
		rcode = SERVFAIL
	}
	b.message[3] = b.message[3]&0xF0 | byte(rcode)
}

// Size returns how many octets the response has so far: the offset of the next record.
func (b *Builder) Size() int { return b.size }

// Count returns how many records a section has so far.
func (b *Builder) Count(s Section) int { return Message(b.message[:headerSize]).Count(s) }

// Message returns the response. It is valid until the next Reset, and in the query phase until the function of the filter returns.
func (b *Builder) Message() Message {
	if b.failed {
		return nil
	}
	return Message(b.message[:b.size])
}

// Octets returns size octets of the response, from an offset on, as they are so far.
func (b *Builder) Octets(offset, size int) []byte { return b.message[offset : offset+size] }

// QNAME is the offset of the QNAME in every response, as an owner.
const QNAME = headerSize

// RRset copies an RRset of a [Node] to a section, in bulk. owner is the offset of its owner name in the response, for instance
// [QNAME]. ttl, in seconds, replaces the TTL, unless it is negative. It returns the offset of the first record, where the
// owner takes two octets unless it lies behind what a compression pointer reaches.
func (b *Builder) RRset(s Section, owner int, set RRset, ttl int64) (offset int) {
	offset = b.size
	if owner > maxPointer {
		b.expanded(s, owner, set, ttl)
		return offset
	}
	if !b.room(s, len(set.Records), set.Count) {
		return offset
	}
	to := b.message[offset : offset+len(set.Records)]
	copy(to, set.Records)
	b.size += len(to)
	if owner != QNAME || ttl >= 0 {
		b.patch(to, owner, ttl)
	}
	return offset
}

// patch sets owner and TTL of records with owners of two octets.
func (b *Builder) patch(records []byte, owner int, ttl int64) {
	for len(records) > 0 {
		if len(records) < 12 {
			b.failed = true
			return
		}
		records[0], records[1] = byte(0xC0|owner>>8), byte(owner)
		if ttl >= 0 {
			putTTL(records, uint32(ttl))
		}
		end := 12 + int(records[10])<<8 + int(records[11])
		if end > len(records) {
			b.failed = true
			return
		}
		records = records[end:]
	}
}

// expanded is RRset for an owner that is too far away for a pointer.
func (b *Builder) expanded(s Section, owner int, set RRset, ttl int64) {
	size := CheckName(b.message[owner:b.size])
	name := b.message[owner : owner+size]
	for records := set.Records; len(records) >= 12; {
		end := 12 + int(records[10])<<8 + int(records[11])
		if end > len(records) || size == 0 || !b.room(s, size+end-2, 1) {
			b.failed = true
			return
		}
		copy(b.message[b.size:], name)
		to := b.message[b.size+size-2 : b.size+size+end-2]
		copy(to[2:], records[2:end])
		if ttl >= 0 {
			putTTL(to, uint32(ttl))
		}
		b.size += size + end - 2
		records = records[end:]
	}
}

// putTTL sets the TTL of the record whose owner of two octets is at the beginning of r.
func putTTL(r []byte, ttl uint32) {
	_ = r[9]
	r[6], r[7], r[8], r[9] = byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl)
}

// SOA copies an RRset of type SOA for a negative response: its TTL is the lower one of its own and its MINIMUM (RFC 2308
// section 3). ttl replaces its own, unless it is negative.
func (b *Builder) SOA(owner int, set RRset, ttl int64) {
	r := set.Records
	if set.Count != 1 || len(r) < 12+20 {
		b.failed = true
		return
	}
	if ttl < 0 {
		ttl = int64(r[6])<<24 | int64(r[7])<<16 | int64(r[8])<<8 | int64(r[9])
	}
	m := r[len(r)-4:]
	minimum := int64(m[0])<<24 | int64(m[1])<<16 | int64(m[2])<<8 | int64(m[3])
	b.RRset(Authority, owner, set, min(ttl, minimum))
}

// RR appends a record of class IN with the owner at an offset of the response. It returns the offset of the RDATA, where a name in
// it can be the owner of another record.
func (b *Builder) RR(s Section, owner int, t Type, ttl uint32, rdata []byte) (offset int) {
	at := b.size
	if owner > maxPointer || len(rdata) > 0xFFFF {
		b.failed = true
		return at
	}
	if !b.room(s, 12+len(rdata), 1) {
		return at
	}
	r := b.message[at : at+12+len(rdata)]
	r[0], r[1], r[2], r[3], r[4], r[5] = byte(0xC0|owner>>8), byte(owner), byte(t>>8), byte(t), 0, 1
	putTTL(r, ttl)
	r[10], r[11] = byte(len(rdata)>>8), byte(len(rdata))
	copy(r[12:], rdata)
	b.size += len(r)
	return at + 12
}

// Records appends records that are in wire format, as they are: their names are whole, or end in a pointer to one of this response.
func (b *Builder) Records(s Section, records []byte, count int) {
	if b.room(s, len(records), count) {
		b.size += copy(b.message[b.size:], records)
	}
}

// Record copies a record from a message, expanding the names in it.
func (b *Builder) Record(s Section, m Message, r Record) {
	at := b.size
	if !b.name255(m, r.Owner) || !b.room(s, len(b.name)+10, 1) {
		b.failed = true
		return
	}
	copy(b.message[at:], b.name)
	at += len(b.name)
	f := b.message[at : at+10]
	f[0], f[1], f[2], f[3] = byte(r.Type>>8), byte(r.Type), byte(r.Class>>8), byte(r.Class)
	f[4], f[5], f[6], f[7] = byte(r.TTL>>24), byte(r.TTL>>16), byte(r.TTL>>8), byte(r.TTL)
	b.size = at + 10
	from := r.Data
	fixed, names := layout(r.Type, m[r.Data:r.End])
	if names > 0 {
		b.append(m[from:min(from+fixed, r.End)])
		from += fixed
	}
	for range names {
		name, behind, ok := m.ExpandName(b.name[:0], from)
		b.name = name
		if !ok || behind > r.End {
			b.failed = true
			return
		}
		b.append(name)
		from = behind
	}
	if from > r.End {
		b.failed = true
		return
	}
	b.append(m[from:r.End])
	size := b.size - at - 10
	if size > 0xFFFF {
		b.failed = true
		return
	}
	f[8], f[9] = byte(size>>8), byte(size)
}

// name255 expands a name into b.name, which gets room for the longest one once.
func (b *Builder) name255(m Message, at int) (ok bool) {
	if b.name == nil {
		b.name = make([]byte, 0, MaxName)
	}
	b.name, _, ok = m.ExpandName(b.name[:0], at)
	return ok
}

// layout says how many octets of RDATA come before the names that may be compressed, and how many names those are: the types
// of RFC 1035, those that RFC 3597 section 4 says to expand, and those that must not be compressed, but whose names a server that
// does it nevertheless would otherwise make point to somewhere else.
func layout(t Type, rdata []byte) (fixed, names int) {
	switch t {
	case 2, 3, 4, 5, 7, 8, 9, 12, 23, 30, 39, 47, 249, 250: // NS MD MF CNAME MB MG MR PTR NSAP-PTR NXT DNAME NSEC TKEY TSIG
		return 0, 1
	case 6, 14, 17, 58: // SOA MINFO RP TALINK
		return 0, 2
	case 15, 18, 21, 36, 64, 65, 107: // MX AFSDB RT KX SVCB HTTPS LP
		return 2, 1
	case 26: // PX
		return 2, 2
	case 33: // SRV
		return 6, 1
	case 66: // DSYNC
		return 5, 1
	case 24, 46: // SIG RRSIG
		return 18, 1
	case 35: // NAPTR: order, preference, and three character strings
		at := 4
		for range 3 {
			if at >= len(rdata) {
				return len(rdata), 1 // no room for the name: the record is refused
			}
			at += 1 + int(rdata[at])
		}
		return at, 1
	}
	return 0, 0
}

// append appends octets to the last record.
func (b *Builder) append(octets []byte) {
	if b.failed || b.size+len(octets) > len(b.message) {
		b.failed = true
		return
	}
	copy(b.message[b.size:], octets)
	b.size += len(octets)
}

// room counts records, if there is room for so many octets of them.
func (b *Builder) room(s Section, octets, records int) bool {
	if b.failed || s < b.section || b.size+octets > len(b.message) {
		b.failed = true
		return false
	}
	b.section = s
	at := 6 + 2*int(s)
	c := b.message[at : at+2]
	n := int(c[0])<<8 + int(c[1]) + records
	if n > 0xFFFF {
		b.failed = true
		return false
	}
	c[0], c[1] = byte(n>>8), byte(n)
	return true
}

// store64 writes eight octets, in the order of load64.
func store64(b []byte, x uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
	b[4], b[5], b[6], b[7] = byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56)
}
