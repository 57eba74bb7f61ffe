package meter

import (
	"errors"
	"unicode/utf8"
)

var (
	errShort   = errors.New("unexpected end")
	errInteger = errors.New("integer is too long or too large")
	errName    = errors.New("name is not UTF-8")
)

// reader reads the binary format. The first error sticks: later reads return zeros, so that callers check once where
// they are about to believe what they read. Counts are never believed before their octets are there.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.pos = len(r.b)
}

func (r *reader) done() bool { return r.pos >= len(r.b) }

func (r *reader) octet() byte {
	if r.pos >= len(r.b) {
		r.fail(errShort)
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// octets returns the next n octets, which alias the module.
func (r *reader) octets(n uint32) []byte {
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail(errShort)
		return nil
	}
	b := r.b[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b
}

// u32 reads an unsigned LEB128 integer of at most 32 bits.
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 { // nearly all are small
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	var v uint32
	for shift := 0; ; shift += 7 {
		c := r.octet()
		v |= uint32(c&0x7f) << shift
		if shift == 28 && c > 0x0f {
			r.fail(errInteger)
			return 0
		}
		if c < 0x80 {
			return v
		}
	}
}

// signed reads a signed LEB128 integer of at most the given number of octets.
func (r *reader) signed(octets int) int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		c := r.octet()
		v |= int64(c&0x7f) << shift
		if c < 0x80 {
			if shift < 57 {
				v = v << (57 - shift) >> (57 - shift)
			}
			return v
		}
		if octets--; octets == 0 {
			r.fail(errInteger)
			return 0
		}
	}
}

// count reads the length of a vector whose items have at least one octet each.
func (r *reader) count() int {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)-r.pos) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// vector returns the octets of a vector of octets.
func (r *reader) vector() []byte { return r.octets(r.u32()) }

func (r *reader) name() string {
	b := r.vector()
	if !utf8.Valid(b) {
		r.fail(errName)
		return ""
	}
	return string(b)
}

// appendUint appends an unsigned LEB128 integer.
func appendUint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendInt appends a signed LEB128 integer.
func appendInt(b []byte, v int64) []byte {
	for v < -64 || v > 63 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v)&0x7f)
}

// appendVector appends octets after their number.
func appendVector(b, v []byte) []byte { return append(appendUint(b, uint64(len(v))), v...) }

// appendName appends a name after its length.
func appendName(b []byte, s string) []byte { return append(appendUint(b, uint64(len(s))), s...) }
