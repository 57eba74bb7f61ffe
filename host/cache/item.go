package cache

import (
	"encoding/binary"
	"slices"

	"github.com/weirdns/weir/host/message"
)

// item is what is known about a question. It does not change once it is made, so a reader that has taken it out of the store under the lock
// reads its octets without.
type item struct {
	// data holds
	//
	//	| key ... | message ... | offset of a TTL in the message, 2 | ... |
	data []byte
	// ede holds Extended DNS Errors: one that goes with a stale answer, then those of the upstream. That of a failure has only
	// what goes with it. Most items share theirs.
	ede      []byte
	stored   int64  // when, in nanoseconds of the cache's clock
	life     uint32 // seconds from then on
	key      uint16 // octets of each part
	message  uint16
	rcode    uint16
	class    uint16
	upstream uint16
	kind     kind
	silent   bool
}

// edeSize is the size of an Extended DNS Error without text.
const edeSize = 6

var (
	edeStale         = slices.Clip(message.AppendEDE(nil, message.EDEStaleAnswer, ""))
	edeStaleNXDOMAIN = slices.Clip(message.AppendEDE(nil, message.EDEStaleNXDOMAIN, ""))
	edeCachedError   = slices.Clip(message.AppendEDE(nil, message.EDECachedError, ""))
)

// newItem makes the item for key k from a response that is to be kept. It copies what it needs.
func newItem(k []byte, r *message.Response, d decision, now int64) item {
	msg, ttls := r.Message, 0
	if d.kind == failure {
		msg = msg[:12+len(k)-keyTail+4] // what records an error has are of no use
	} else {
		for range message.Records(msg) {
			ttls++
		}
	}
	data := make([]byte, 0, len(k)+len(msg)+2*ttls)
	data = append(data, k...)
	data = append(data, msg...)
	if d.kind != failure {
		for r := range message.Records(msg) {
			data = binary.BigEndian.AppendUint16(data, uint16(r.At))
		}
	}
	kept := data[len(k):]
	kept[0], kept[1] = 0, 0
	kept[2] &^= message.FlagAA >> 8 // the cache is no authority (RFC 1035 section 4.1.1)
	if d.kind == failure {
		clear(kept[6:12])
	}
	it := item{
		data: data, stored: now, life: d.life, key: uint16(len(k)), message: uint16(len(msg)),
		rcode: r.RCODE, class: r.Class, upstream: r.Upstream, kind: d.kind, silent: r.Silent,
	}
	it.ede = join(it.note(), r.EDE)
	return it
}

// note is the Extended DNS Error that weir adds when it gives the item stale or, a failure, at all. RFC 8914 section 4.14 has "Cached Error" for
// SERVFAIL only.
func (it *item) note() []byte {
	switch {
	case it.kind == failure && it.rcode == message.SERVFAIL:
		return edeCachedError
	case it.kind == failure:
		return nil
	case it.rcode == message.NXDOMAIN:
		return edeStaleNXDOMAIN
	}
	return edeStale
}

func join(a, b []byte) []byte {
	if len(b) == 0 {
		return a
	}
	return append(append(make([]byte, 0, len(a)+len(b)), a...), b...)
}

// end is when the life of the item ends.
func (it *item) end() int64 { return it.stored + int64(it.life)*1e9 }

// age is how many whole seconds old it is.
func (it *item) age(now int64) uint32 { return uint32(max(now-it.stored, 0) / 1e9) }

// appendTo appends the message to dst, with its TTLs less age, and returns the response. Nothing is allocated if dst has room.
func (it *item) appendTo(dst []byte, age uint32) message.Response {
	r := it.response(dst)
	if it.kind != failure {
		r.EDE = it.ede[edeSize:]
	}
	for ttls := it.ttls(); len(ttls) >= 2; ttls = ttls[2:] {
		ttl := r.Message[binary.BigEndian.Uint16(ttls):]
		left := binary.BigEndian.Uint32(ttl)
		binary.BigEndian.PutUint32(ttl, left-min(left, age))
	}
	return r
}

// appendStaleTo is appendTo for a stale answer, in which all TTLs are ttl.
func (it *item) appendStaleTo(dst []byte, ttl uint32) message.Response {
	r := it.response(dst)
	for ttls := it.ttls(); len(ttls) >= 2; ttls = ttls[2:] {
		binary.BigEndian.PutUint32(r.Message[binary.BigEndian.Uint16(ttls):], ttl)
	}
	return r
}

func (it *item) response(dst []byte) message.Response {
	start := len(dst)
	dst = append(dst, it.data[it.key:int(it.key)+int(it.message)]...)
	return message.Response{
		Message: dst[start:], RCODE: it.rcode, Class: it.class, EDE: it.ede, Upstream: it.upstream, Silent: it.silent, Cached: true,
	}
}

func (it *item) ttls() []byte { return it.data[int(it.key)+int(it.message):] }
