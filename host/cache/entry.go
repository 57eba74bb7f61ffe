package cache

import (
	"encoding/binary"
	"slices"

	"github.com/weirdns/weir/host/message"
)

// entry is an item in the store: octets within a segment, without a pointer, so the garbage collector has nothing to look at. The lock of the
// shard guards them. Numbers are little-endian, as most processors have them.
//
//	 0 | hash of the key                                                     8 |
//	 8 | stored                                                              8 |
//	16 | recheck: until when the upstream is not asked again, since it failed 8 |
//	24 | life, 4                           | hits since it was stored        4 |
//	32 | room, 2        | message, 2       | TTLs, 2         | EDE           2 |
//	40 | key, 2         | class, 2         | upstream, 2     | what 1 | use  1 |
//	48 | key ... | message ... | offset of a TTL in the message, 2 | ... | EDE ... |
//
// room is how much the entry takes in its segment, in units of 8; the others in its line are sizes in octets. The message has ID 0 and no AA. What
// and use are bits:
//
//	what | RCODE   4 | silent 1 | tailored 1 | kind 2 |
//	use  | uses ... 2 | fetching 1 | dead 1 |
type entry []byte

const (
	atHash     = 0
	atStored   = 8
	atRecheck  = 16
	atLife     = 24
	atHits     = 28
	atRoom     = 32
	atMessage  = 34
	atTTLs     = 36
	atEDE      = 38
	atKey      = 40
	atClass    = 42
	atUpstream = 44
	atWhat     = 46
	atUse      = 47
	entryHead  = 48

	whatKind     = 3
	whatTailored = 4
	whatSilent   = 8
	whatRCODE    = 4 // bits below it

	useDead     = 1
	useFetching = 2 // it is being fetched anew before its end
	useUses     = 2 // bits below it
)

// unit is what places and rooms are multiples of, in octets.
const unit = 8

// size is how much room the item takes as an entry, in octets.
func (it *item) size() int {
	return inUnits(entryHead + len(it.key) + len(it.message) + len(it.ttls) + len(it.ede))
}

// inUnits rounds up.
func inUnits(octets int) int { return (octets + unit - 1) &^ (unit - 1) }

// write makes e, which has room octets, the entry of it. What was counted of an entry before is forgotten, but for its uses, which are now these.
func (e entry) write(hash uint64, it *item, room int, uses uint8) {
	le := binary.LittleEndian
	le.PutUint64(e[atHash:], hash)
	le.PutUint64(e[atStored:], uint64(it.stored))
	le.PutUint64(e[atRecheck:], 0)
	le.PutUint32(e[atLife:], it.life)
	le.PutUint32(e[atHits:], 0)
	le.PutUint16(e[atRoom:], uint16(room/unit))
	le.PutUint16(e[atMessage:], uint16(len(it.message)))
	le.PutUint16(e[atTTLs:], uint16(len(it.ttls)))
	le.PutUint16(e[atEDE:], uint16(len(it.ede)))
	le.PutUint16(e[atKey:], uint16(len(it.key)))
	le.PutUint16(e[atClass:], it.class)
	le.PutUint16(e[atUpstream:], it.upstream)
	e[atWhat] = byte(it.rcode)<<whatRCODE | byte(it.kind)
	if it.silent {
		e[atWhat] |= whatSilent
	}
	if it.tailored {
		e[atWhat] |= whatTailored
	}
	e[atUse] = uses << useUses
	n := entryHead + copy(e[entryHead:], it.key)
	msg := e[n:]
	n += copy(msg, it.message)
	n += copy(e[n:], it.ttls)
	copy(e[n:], it.ede)
	msg[0], msg[1] = 0, 0
	msg[2] &^= message.FlagAA >> 8 // the cache is no authority (RFC 1035 section 4.1.1)
	if it.kind == failure {
		clear(msg[6:12])
	}
}

func (e entry) word(at int) int { return int(binary.LittleEndian.Uint16(e[at:])) }

func (e entry) hash() uint64   { return binary.LittleEndian.Uint64(e[atHash:]) }
func (e entry) room() int      { return e.word(atRoom) * unit }
func (e entry) kind() kind     { return kind(e[atWhat] & whatKind) }
func (e entry) dead() bool     { return e[atUse]&useDead != 0 }
func (e entry) fetching() bool { return e[atUse]&useFetching != 0 }
func (e entry) uses() uint8    { return e[atUse] >> useUses }
func (e entry) recheck() int64 { return int64(binary.LittleEndian.Uint64(e[atRecheck:])) }
func (e entry) key() []byte    { return e[entryHead:][:e.word(atKey)] }

func (e entry) span() span {
	return span{stored: int64(binary.LittleEndian.Uint64(e[atStored:])), life: binary.LittleEndian.Uint32(e[atLife:])}
}

func (e entry) setRecheck(at int64) { binary.LittleEndian.PutUint64(e[atRecheck:], uint64(at)) }
func (e entry) setRoom(octets int)  { binary.LittleEndian.PutUint16(e[atRoom:], uint16(octets/unit)) }
func (e entry) setUses(n uint8)     { e[atUse] = e[atUse]&(1<<useUses-1) | n<<useUses }

// hit counts a hit, and returns how many there were.
func (e entry) hit() uint32 {
	n := binary.LittleEndian.Uint32(e[atHits:]) + 1
	binary.LittleEndian.PutUint32(e[atHits:], n)
	return n
}

// size is the octets of e that mean something.
func (e entry) size() int {
	return entryHead + e.word(atKey) + e.word(atMessage) + e.word(atTTLs) + e.word(atEDE)
}

// appendTo appends the message to dst, with its TTLs less age, and returns the response. Nothing is allocated if dst has room, and the upstream
// sent no text with an Extended DNS Error.
func (e entry) appendTo(dst []byte, age uint32) message.Response {
	r, ttls := e.response(dst)
	var note uint8
	if e.kind() == failure {
		note = e.note()
	}
	r.EDE = e.explained(note)
	for ; len(ttls) >= 2; ttls = ttls[2:] {
		ttl := r.Message[binary.LittleEndian.Uint16(ttls):]
		left := binary.BigEndian.Uint32(ttl)
		binary.BigEndian.PutUint32(ttl, left-min(left, age))
	}
	return r
}

// appendStaleTo is appendTo for a stale answer, in which all TTLs are ttl.
func (e entry) appendStaleTo(dst []byte, ttl uint32) message.Response {
	r, ttls := e.response(dst)
	r.EDE = e.explained(e.note())
	r.Message[3] &^= message.FlagAD // the signatures may be over as well
	for ; len(ttls) >= 2; ttls = ttls[2:] {
		binary.BigEndian.PutUint32(r.Message[binary.LittleEndian.Uint16(ttls):], ttl)
	}
	return r
}

func (e entry) response(dst []byte) (r message.Response, ttls []byte) {
	start := len(dst)
	msg := e[entryHead+e.word(atKey):]
	n := e.word(atMessage)
	dst = append(dst, msg[:n]...)
	r = message.Response{
		Message: dst[start:], RCODE: e.rcode(), Class: uint16(e.word(atClass)), Upstream: uint16(e.word(atUpstream)),
		Silent: e[atWhat]&whatSilent != 0, Cached: true,
	}
	if e[atWhat]&whatTailored != 0 {
		r.Tailored = true
		if k := e.key(); hasSubnet(k) {
			r.Scope = subnetOf(k).Bits
		}
	}
	return r, msg[n:][:e.word(atTTLs)]
}

func (e entry) rcode() uint16 { return uint16(e[atWhat] >> whatRCODE) }

// Notes are the Extended DNS Errors that weir adds itself when it gives an entry stale or, a failure, at all.
const (
	noNote = iota
	noteStale
	noteStaleNXDOMAIN
	noteCachedError
)

// note is what goes with a stale answer or a failure. RFC 8914 section 4.14 has "Cached Error" for SERVFAIL only.
func (e entry) note() uint8 {
	switch {
	case e.kind() == failure && e.rcode() == message.SERVFAIL:
		return noteCachedError
	case e.kind() == failure:
		return noNote
	case e.rcode() == message.NXDOMAIN:
		return noteStaleNXDOMAIN
	}
	return noteStale
}

// edeSize is the size of an Extended DNS Error without text.
const edeSize = 6

// ownEDE has the Extended DNS Errors for the notes, each followed by all those of an upstream that have no text: with what nearly all answers
// need ready, no answer has to take octets of the store along, which would not stay as they are.
var ownEDE = func() (own [4][64][]byte) {
	for note, code := range [4]uint16{noteStale: message.EDEStaleAnswer, noteStaleNXDOMAIN: message.EDEStaleNXDOMAIN, noteCachedError: message.EDECachedError} {
		for upstream := range own[note] {
			var b []byte
			if note != noNote {
				b = message.AppendEDE(b, code, "")
			}
			own[note][upstream] = slices.Clip(message.AppendEDE(b, uint16(upstream), ""))
		}
	}
	return own
}()

// explained returns the Extended DNS Error for note, then those of the upstream. They don't change, and live as long as anybody has them.
func (e entry) explained(note uint8) []byte {
	n := e.word(atEDE)
	theirs := e[e.size()-n:][:n]
	switch {
	case n == 0 && note == noNote:
		return nil
	case n == 0:
		return ownEDE[note][0][:edeSize:edeSize]
	case n == edeSize && theirs[4] == 0 && int(theirs[5]) < len(ownEDE[note]):
		return ownEDE[note][theirs[5]]
	case note == noNote:
		return slices.Clone(theirs)
	}
	return slices.Concat(ownEDE[note][0][:edeSize], theirs)
}
