package cache

import (
	"slices"

	"github.com/weirdns/weir/host/message"
)

// Where an upstream is told the networks of clients (RFC 7871), its answer to a question may be for some of them only. Such an answer has a key with
// the network that it is for, behind that of the question:
//
//	| key of the question ... | ADDRESS, 16 | bits, 1 | family << 4, keySubnet |
//
// and a query has one with all of the network that the upstream is told. What is for everybody has the key of the question alone. All are under the hash
// of the question, so they are next to each other in the index, and a lookup takes the best of those that cover the client: nobody needs to note which
// prefixes there are, and what is evicted leaves no trace.
const (
	subnetTail = 16 + 1 + 1
	keySubnet  = 1 << 3 // beside the bits of a key; a question has it clear
)

const (
	// maxSubnets is how many answers to one question there may be for networks. It bounds what clients that make up networks can have of
	// the room, and what a lookup has to go through.
	maxSubnets = 64
	// maxTold is how many queries for one question, that tell of different networks, may be with the upstream at a time. Each is one more chance
	// for whoever forges responses (CVE-2025-5994), and one more query that the upstream gets for nothing.
	maxTold = 16
)

// hasSubnet reports whether k is a key with a network.
func hasSubnet(k []byte) bool { return k[len(k)-1]&keySubnet != 0 }

// questionOf is the part of k that is about the question.
func questionOf(k []byte) []byte {
	if hasSubnet(k) {
		return k[:len(k)-subnetTail]
	}
	return k
}

// qname is the QNAME in k, canonical.
func qname(k []byte) []byte {
	k = questionOf(k)
	return k[:len(k)-keyTail]
}

// appendSubnet makes the key of a question one for a network.
func appendSubnet(k []byte, s message.Subnet) []byte {
	k = append(k, s.Address[:]...)
	return append(k, s.Bits, s.Family<<4|keySubnet)
}

// subnetOf is the network in k, which has one.
func subnetOf(k []byte) (s message.Subnet) {
	tail := k[len(k)-subnetTail:]
	copy(s.Address[:], tail)
	s.Bits, s.Family = tail[16], tail[17]>>4
	return s
}

// validSubnet reports whether a network from a snapshot is one that an answer can be for.
func validSubnet(k []byte) bool {
	s := subnetOf(k)
	most := uint8(0)
	switch s.Family {
	case message.FamilyIPv4:
		most = 32
	case message.FamilyIPv6:
		most = 128
	}
	return k[len(k)-1] == s.Family<<4|keySubnet && s.Bits <= most && s == s.Prefix(s.Bits)
}

// flightHash is the hash by which queries that ask for the same are found.
func (c *Cache) flightHash(k []byte, hash uint64) uint64 {
	if !hasSubnet(k) {
		return hash
	}
	return c.store.hash(k)
}

// tells reports whether a query with key k tells the upstream of a network.
func tells(k []byte) bool { return hasSubnet(k) && k[len(k)-2] > 0 }

// covers reports whether what has the key k can be given to a query with the key asked. Networks are told apart from clients that
// do not want theirs told, and from those of which there is nothing to tell: what they got may be for the network of weir itself, and what is for everybody
// says so (RFC 7871 section 7.3.1).
func covers(k, asked []byte) bool {
	n := len(asked) - subnetTail
	if len(k) != len(asked) {
		return string(k) == string(asked[:n])
	}
	have, want := k[n:], asked[n:]
	bits := have[16]
	return have[17] == want[17] && bits <= want[16] && (bits > 0 || want[16] == 0) && message.SameBits(have, want, int(bits)) &&
		string(k[:n]) == string(asked[:n])
}

// cover returns the best entry for a query with key k: an answer that is live, else one that can still be given, else a failure; of several the one for the
// smallest network (RFC 7871 section 7.3.2). It is nil when there is none.
func (s *store) cover(sh *shard, k []byte, hash uint64, now int64) (best entry) {
	rank := 0
	sh.each(hash, func(_ place, e entry) bool {
		key := e.key()
		if !covers(key, k) {
			return true
		}
		r := 0
		switch over := e.span().end() <= now; {
		case !over && e.kind() != failure:
			r = 3 << 9
		case over && s.usable(e, now):
			r = 2 << 9
		case !over:
			r = 1 << 9
		default:
			return true
		}
		if hasSubnet(key) {
			r += 1 + int(key[len(key)-2])
		}
		if r > rank {
			rank, best = r, e
		}
		return true
	})
	return best
}

// each calls do for the entries that may have this hash, until it returns false.
func (sh *shard) each(hash uint64, do func(p place, e entry) bool) {
	x := &sh.index
	if len(x.slots) == 0 {
		return
	}
	tag := uint32(hash)
	for i := x.first(tag); x.slots[i] != 0; i = x.after(i) {
		if slot := x.slots[i]; uint32(slot>>32) == tag && !do(place(slot), sh.at(place(slot))) {
			return
		}
	}
}

// find returns the entry that answers a query with key k, or nil.
func (s *store) find(sh *shard, k []byte, hash uint64, now int64) entry {
	if s.subnets {
		return s.cover(sh, k, hash, now)
	}
	_, e := sh.get(k, hash)
	return e
}

// settleTold is what settle does for a query with key k, whose network the upstream was told.
func (c *Cache) settleTold(k []byte, hash uint64, r *message.Response, d decision, now int64) (kept bool) {
	var room [maxKey]byte
	key := k
	if d.kind != failure { // of a failure nobody knows whom else it is for
		key = narrowed(room[:0], k, r.Scope)
	}
	switch {
	case d.keep:
		var buf [fewTTLs]byte
		it := newItem(key, r, d, now, buf[:])
		return c.store.insertTold(k, hash, &it, now)
	case d.kind == failure:
		c.store.fail(k, hash, now)
	case d.settles:
		c.store.supersede(k, hash, key)
		c.store.remove(key, hash)
	}
	return false
}

// narrowed appends the key for an answer with this scope to a query with key k. What was said to a client of which the upstream was told nothing is
// for such clients only.
func narrowed(dst, k []byte, scope uint8) []byte {
	s := subnetOf(k)
	switch {
	case s.Bits == 0:
		return append(dst, k...)
	case scope == 0:
		return append(dst, questionOf(k)...)
	}
	return appendSubnet(append(dst, questionOf(k)...), s.Prefix(scope))
}

// insertTold is insert for an answer to a query with key k, which may be for more networks than that of k. What was there for smaller ones around
// it is over.
func (s *store) insertTold(k []byte, hash uint64, it *item, now int64) bool {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if it.kind == failure {
		if s.failed(s.cover(sh, k, hash, now), now) {
			return false
		}
	} else {
		sh.supersede(k, hash, it.key)
	}
	if hasSubnet(it.key) {
		s.displace(sh, it.key, hash, now)
	}
	return s.put(sh, hash, it, now)
}

// supersede forgets what is known for networks that are smaller than that of key and have the client of k in them.
func (s *store) supersede(k []byte, hash uint64, key []byte) {
	sh := s.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.supersede(k, hash, key)
}

func (sh *shard) supersede(k []byte, hash uint64, key []byte) {
	least := 0
	if hasSubnet(key) {
		least = int(subnetOf(key).Bits) + 1
	}
	for { // what drop moves in the index can't be gone through
		var p place
		var old entry
		sh.each(hash, func(at place, e entry) bool {
			if old := e.key(); hasSubnet(old) && int(subnetOf(old).Bits) >= least && covers(old, k) && string(old) != string(key) {
				p = at
				return false
			}
			return true
		})
		if p == 0 {
			return
		}
		old = sh.at(p)
		sh.drop(p, old)
	}
}

// displace makes room among the answers to a question for one with key k: the one goes that is worth least, which is what nobody has asked for
// again, so that those who make up networks displace each other.
func (s *store) displace(sh *shard, k []byte, hash uint64, now int64) {
	n, question := 0, questionOf(k)
	var least place
	worth, end := 0, int64(0)
	known := false
	sh.each(hash, func(p place, e entry) bool {
		key := e.key()
		if !hasSubnet(key) || string(questionOf(key)) != string(question) {
			return true
		}
		known = known || string(key) == string(k)
		n++
		w, t := int(e.uses()), e.span().end()
		switch {
		case t <= now && !s.usable(e, now):
			w = -2
		case e.kind() == failure:
			w = -1
		}
		if least == 0 || w < worth || w == worth && t < end {
			least, worth, end = p, w, t
		}
		return true
	})
	if n >= maxSubnets && !known {
		sh.drop(least, sh.at(least))
		sh.displaced++
	}
}

// releaseTold is release for a query with key k: the answer that was to be fetched anew is one of those that cover it.
func (sh *shard) releaseTold(k []byte, hash uint64) {
	sh.each(hash, func(_ place, e entry) bool {
		if covers(e.key(), k) {
			e[atUse] &^= useFetching
		}
		return true
	})
}

// forNetwork says for a trace whom an answer to k with this scope is for.
func (c *Cache) forNetwork(k []byte, r *message.Response) string {
	if !hasSubnet(k) {
		return ""
	}
	switch s := subnetOf(k); {
	case s.Bits == 0 || r.Silent:
		return ""
	case r.Scope == 0:
		return ", for all networks"
	default:
		return ", for " + s.Prefix(r.Scope).String()
	}
}

// boardUntold boards a flight for a query with key k, of whose network the upstream is not to be told, since it is being told of too many others: as for
// a client that does not want it told. What there is for such clients will do as well.
// untold is how many bits of the network it was not told, if that is so. If it is answered, held has what there is.
func (c *Cache) boardUntold(t *message.Transaction, held *found, k []byte, hash uint64, now int64, leads int32) (f *flight, part role, untold uint8) {
	c.untold.Add(1)
	var room [maxKey]byte
	key := appendSubnet(append(room[:0], questionOf(k)...), message.Hidden)
	var other found
	look := func() bool {
		c.store.lookup(&other, key, hash, now, t.Dst, false)
		return other.state == live
	}
	landings := c.flights.landings.Load()
	if !look() {
		switch f, part = c.flights.board(key, hash, c.flightHash(key, hash), now, landings, look, leads); part {
		case answered:
		case alone:
			return f, part, 0
		default:
			return f, part, subnetOf(k).Bits
		}
	}
	if other.fetch {
		c.prefetch(key, hash)
	}
	held.state, held.kind, held.span, held.response, held.fetch = live, other.kind, other.span, other.response, false
	return nil, answered, subnetOf(k).Bits
}

// limitScope has a response be for no more than so many bits of the client's network, if the upstream was not told those.
func limitScope(r *message.Response, untold uint8) {
	if untold > 0 {
		r.Scope = untold
	}
}

// hiding is q from a client that does not want its network told.
func hiding(q *message.Query) *message.Query {
	h := *q
	if !q.EDNS {
		h.EDNS, h.UDPSize = true, message.OwnSize
	}
	h.Options = hidden
	return &h
}

var hidden = slices.Clip(message.Hidden.AppendOption(nil, 0))
