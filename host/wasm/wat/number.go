package wat

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// integer reads a literal of 8, 16, 32 or 64 bits; the text format lets each be written signed or unsigned.
func integer(n *node, bits int) int64 {
	s := strings.ReplaceAll(n.text, "_", "")
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = hex, 16
	}
	v, err := strconv.ParseUint(digits, base, bits)
	if n.kind != atom || err != nil || negative && v > 1<<(bits-1) {
		fail(n.line, "want an integer of %d bits, not %q", bits, n.text)
	}
	if negative {
		return -int64(v)
	}
	// Sign-extend, so that 0xffffffff and -1 encode alike.
	return int64(v) << (64 - bits) >> (64 - bits)
}

// index reads an unsigned integer of 32 bits.
func index(n *node) uint32 {
	v, err := strconv.ParseUint(strings.ReplaceAll(n.text, "_", ""), 0, 32)
	if n.kind != atom || err != nil {
		fail(n.line, "want a number, not %q", n.text)
	}
	return uint32(v)
}

// float reads a literal of 32 or 64 bits and returns its bit pattern.
func float(n *node, bits int) uint64 {
	s := strings.ReplaceAll(n.text, "_", "")
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	mantissa := 52
	if bits == 32 {
		mantissa = 23
	}
	var pattern uint64
	payload, isNaN := strings.CutPrefix(digits, "nan")
	switch {
	case n.kind == atom && isNaN:
		exponent := uint64(1)<<(bits-1-mantissa) - 1
		pattern = exponent<<mantissa | 1<<(mantissa-1)
		if hex, ok := strings.CutPrefix(payload, ":0x"); ok {
			v, err := strconv.ParseUint(hex, 16, mantissa)
			if err != nil || v == 0 {
				fail(n.line, "want a NaN payload of %d bits, not %q", mantissa, n.text)
			}
			pattern = exponent<<mantissa | v
		} else if payload != "" {
			fail(n.line, "want a number, not %q", n.text)
		}
	default:
		if strings.HasPrefix(digits, "0x") && !strings.ContainsAny(digits, "pP") {
			digits += "p0" // Go wants the exponent that Wasm makes optional.
		}
		v, err := strconv.ParseFloat(digits, bits)
		if n.kind != atom || err != nil || strings.HasPrefix(digits, "-") {
			fail(n.line, "want a floating-point number of %d bits, not %q", bits, n.text)
		}
		if pattern = math.Float64bits(v); bits == 32 {
			pattern = uint64(math.Float32bits(float32(v)))
		}
	}
	if negative {
		pattern |= 1 << (bits - 1)
	}
	return pattern
}

// appendUint appends an unsigned LEB128 integer.
func appendUint[T ~uint8 | ~uint16 | ~uint32 | ~int](b []byte, v T) []byte {
	return binary.AppendUvarint(b, uint64(v))
}

// appendInt appends a signed LEB128 integer.
func appendInt(b []byte, v int64) []byte {
	for v < -64 || v > 63 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v)&0x7f)
}

// appendBytes appends octets after their number.
func appendBytes[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(appendUint(b, len(s)), s...)
}
