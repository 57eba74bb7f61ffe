package cookie

import (
	"encoding/binary"
	"math/bits"
)

// key is a secret as SipHash has it.
type key struct{ k0, k1 uint64 }

func newKey(secret *[SecretSize]byte) key {
	return key{binary.LittleEndian.Uint64(secret[:]), binary.LittleEndian.Uint64(secret[8:])}
}

// hash is SipHash-2-4 (Aumasson and Bernstein, 2012). What is hashed here has 20 or 32 octets.
func (k *key) hash(b []byte) uint64 {
	v := state{k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d, k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573}
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		v.mix(binary.LittleEndian.Uint64(b))
	}
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	v.mix(last)
	v.c ^= 0xff
	for range 4 {
		v.round()
	}
	return v.a ^ v.b ^ v.c ^ v.d
}

type state struct{ a, b, c, d uint64 }

func (v *state) mix(m uint64) {
	v.d ^= m
	v.round()
	v.round()
	v.a ^= m
}

func (v *state) round() {
	v.a += v.b
	v.b = bits.RotateLeft64(v.b, 13) ^ v.a
	v.a = bits.RotateLeft64(v.a, 32)
	v.c += v.d
	v.d = bits.RotateLeft64(v.d, 16) ^ v.c
	v.a += v.d
	v.d = bits.RotateLeft64(v.d, 21) ^ v.a
	v.c += v.b
	v.b = bits.RotateLeft64(v.b, 17) ^ v.c
	v.c = bits.RotateLeft64(v.c, 32)
}
