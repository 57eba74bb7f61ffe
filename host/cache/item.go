package cache

import (
	"encoding/binary"

	"github.com/weirdns/weir/host/message"
)

// item is what is to be kept about a question. It has no octets of its own: [entry.write] copies them into the store.
type item struct {
	span
	key      []byte
	message  []byte // as the upstream sent it; of a failure, its header and question
	ttls     []byte // offset of each TTL in message, 2 octets little-endian each
	ede      []byte // Extended DNS Errors of the upstream
	rcode    uint16 // at most 15
	class    uint16
	upstream uint16
	kind     kind
	silent   bool
	tailored bool
}

// span is the time for which an item is good.
type span struct {
	stored int64  // when it begins, in nanoseconds of the cache's clock
	life   uint32 // seconds from then on
}

// end is when the life of the item ends.
func (s span) end() int64 { return s.stored + int64(s.life)*1e9 }

// age is how many whole seconds old it is.
func (s span) age(now int64) uint32 { return uint32(max(now-s.stored, 0) / 1e9) }

// over is how many whole seconds ago its life ended.
func (s span) over(now int64) int64 { return (now - s.end()) / 1e9 }

// fits reports whether the parts are as large as an entry can have them. Nothing that came from an upstream is larger.
func (it *item) fits() bool {
	return len(it.message) <= message.MaxSize && len(it.ede) <= message.MaxSize
}

// fewTTLs is room for the offsets of as many TTLs as nearly all messages have.
const fewTTLs = 2 * 64

// newItem makes the item for key k from a response that is to be kept. The item has the octets of k and r, which must not change until it is
// in the store, and offsets in buf if there is room.
func newItem(k []byte, r *message.Response, d decision, now int64, buf []byte) item {
	it := item{
		span: span{stored: now, life: d.life}, key: k, message: r.Message, ttls: buf[:0], ede: r.EDE,
		rcode: r.RCODE, class: r.Class, upstream: r.Upstream, kind: d.kind, silent: r.Silent, tailored: r.Tailored,
	}
	if d.kind == failure {
		it.message = r.Message[:12+len(qname(k))+4] // what records an error has are of no use
		return it
	}
	for rr := range message.Records(r.Message) {
		it.ttls = binary.LittleEndian.AppendUint16(it.ttls, uint16(rr.At))
	}
	return it
}
