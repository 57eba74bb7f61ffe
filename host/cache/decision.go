package cache

import (
	"encoding/binary"
	"time"

	"github.com/weirdns/weir/host/message"
)

// kind is what an entry holds.
type kind uint8

const (
	success kind = iota // an answer with data
	denial              // NXDOMAIN or NODATA
	failure             // the upstream failed
	kinds
)

var kindNames = [kinds]string{"success", "denial", "failure"}

// decision is what becomes of a response.
type decision struct {
	kind    kind
	keep    bool
	settles bool   // it is the upstream's word about the question, so whatever was known before is over
	life    uint32 // seconds for which it is kept
	why     string // it is not kept
}

// decide says what becomes of r, and clamps the TTLs of its records: a client sees the same ones whether or not the answer was in the cache.
func (c *Config) decide(r *message.Response) decision {
	switch {
	case message.Truncated(r.Message):
		return decision{why: "it is truncated"} // RFC 2181 section 9
	case r.RCODE > 0xF:
		return decision{why: "its RCODE is about EDNS, and not about the question"}
	case r.RCODE != message.NOERROR && r.RCODE != message.NXDOMAIN:
		return c.decideFailure()
	}
	if r.RCODE == message.NOERROR && r.Class != message.ClassNODATA {
		if binary.BigEndian.Uint16(r.Message[6:]) == 0 {
			return decision{why: "it is a referral"}
		}
		d := decision{kind: success, settles: true}
		d.clamp(&c.Success, r.Message, lowestTTL(r.Message))
		return d
	}
	d := decision{kind: denial, settles: true}
	ttl, ok := denialTTL(r.Message)
	if !ok {
		d.why = "it denies without a SOA record" // RFC 2308 section 5
		return d
	}
	d.clamp(&c.Denial, r.Message, ttl)
	return d
}

// decideFailure is decide for what RFC 8767 section 5 calls a failure to refresh: anything besides NOERROR and NXDOMAIN, or nothing at all. All
// of that is a resolution failure in RFC 9520 section 2 too.
func (c *Config) decideFailure() decision {
	d := decision{kind: failure, life: seconds(c.ServfailTTL)}
	switch {
	case d.life == 0:
		d.why = "servfail_ttl is 0"
	case c.Denial.Capacity == 0:
		d.why = "denial.capacity is 0"
	default:
		d.keep = true
	}
	return d
}

// clamp settles how long a message with this lowest TTL is kept, and sets the TTLs of its records to what is left of them then. Records of
// the answer and authority sections all get the life of the entry, as RFC 2181 section 5.2 has it for RRsets; those in the additional section may
// have less, and reach 0 first.
func (d *decision) clamp(l *Limits, msg []byte, ttl uint32) {
	if l.Capacity == 0 {
		d.why = d.kind.String() + ".capacity is 0"
		return
	}
	least, most := seconds(l.MinTTL), seconds(l.MaxTTL)
	limit := most
	if d.life = min(max(ttl, least), most); d.life > 0 {
		d.keep = true
		limit = d.life
	} else {
		d.why = "its TTL is 0"
	}
	if !message.Steady(msg) { // it would say something else each second
		d.keep, d.why = false, "a name in it is made of a TTL"
		return
	}
	for r := range message.Records(msg) {
		binary.BigEndian.PutUint32(msg[r.At:], min(max(value(r.TTL), least), limit))
	}
}

func (k kind) String() string { return kindNames[k] }

// value is what a TTL on the wire means: with its top bit set, nothing (RFC 2181 section 8). RFC 8767 section 4 would have it be a long
// time, to be capped; nobody sends such a TTL on purpose, so the careful reading stands.
func value(ttl uint32) uint32 {
	if ttl>>31 != 0 {
		return 0
	}
	return ttl
}

// lowestTTL is the lowest TTL in the answer and authority sections.
func lowestTTL(msg []byte) uint32 {
	ttl := uint32(1<<31 - 1)
	for r := range message.Records(msg) {
		if r.Section != message.Additional {
			ttl = min(ttl, value(r.TTL))
		}
	}
	return ttl
}

// denialTTL is how long a denial holds: the lowest of the TTLs, aliases on the way to it included, and of the MINIMUM of its SOA
// (RFC 2308 section 5). Without SOA there is no saying.
func denialTTL(msg []byte) (ttl uint32, ok bool) {
	ttl = lowestTTL(msg)
	for r := range message.Records(msg) {
		if r.Section == message.Authority && r.Type == message.TypeSOA && len(r.Data) >= minSOA {
			ttl = min(ttl, value(binary.BigEndian.Uint32(r.Data[len(r.Data)-4:])))
			ok = true
		}
	}
	return ttl, ok
}

// minSOA is the least RDATA of a SOA record, RFC 1035 section 3.3.13: two names and five numbers, MINIMUM the last.
const minSOA = 2 + 5*4

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
