package upstream

import (
	"crypto/rand"
	"encoding/binary"
)

// random gives unpredictable numbers, for IDs, the case of letters and choices. They come from crypto/rand, that is from the
// kernel, 512 octets at a time: what math/rand/v2 is made of is as good, but its documentation promises nothing against an
// attacker, and bought in bulk the real thing costs a few nanoseconds per query. Not safe for concurrent use: each exchange
// and each socket has its own, so there is no lock besides theirs.
type random struct {
	left int // octets of buf that were not given out
	buf  [512]byte
}

func (r *random) uint16() uint16 {
	if r.left == 0 {
		_, _ = rand.Read(r.buf[:]) // never fails, by its documentation
		r.left = len(r.buf)
	}
	r.left -= 2
	return binary.BigEndian.Uint16(r.buf[r.left:])
}

// intN returns a number below n, which is below 1000: then the bias is below 1.6 %, which no policy notices.
func (r *random) intN(n int) int { return int(r.uint16()) * n >> 16 }
