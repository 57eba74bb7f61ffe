// Package rate bounds how many responses a network gets, so that a server is of little use for sending much to an address that is not the
// sender's, and one client can't have what is there for all (response rate limiting).
//
// Each network has a theoretical arrival time (GCRA, the leaky bucket of ITU-T I.371 as a meter): a response moves it on by the time that one
// has at the limit, and who is further ahead of the clock than a burst gets no more. So a network is one number, a table of them has a
// fixed size, and one that has had nothing for a while needs no place:
//
//	hash of the network ──► set of 8 words, a cache line ──► | tag, 20 bits | theoretical arrival time, 44 bits |
//
// A network that is new takes the place in its set that has the least to lose, which is nothing unless 8 networks of one set are served at a time. There are no locks:
// words are compared and swapped.
package rate

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	sets = 8192 // 65,536 networks, half a MiB
	ways = 8

	unit     = 64 // nanoseconds: the times have 13 days, and one that is older is taken for idle
	timeBits = 44
	timeMask = 1<<timeBits - 1
)

// Limit is what a network may have.
type Limit struct {
	PerSecond int // responses, 1 to MaxPerSecond
	Burst     int // responses at once, at least 1
	// The octets of an address that make a network: prefixes, at most 32 and 64 bits.
	IPv4, IPv6 int
}

// MaxPerSecond is the highest limit: a response has 15 units of time.
const MaxPerSecond = 1_000_000

// MaxBurst is how long a burst may be, in the time that it has at the limit.
const MaxBurst = time.Hour

// Limiter counts the responses of networks. It is safe for concurrent use, and nobody waits in it.
type Limiter struct {
	interval int64 // of a response, in units
	ahead    int64 // how far the theoretical arrival time may be ahead, in units
	v4, v6   uint64
	seeds    [2]uint64
	epoch    time.Time
	table    [sets][ways]atomic.Uint64
}

// New makes a limiter that begins at epoch, a time with a monotonic reading.
func New(l Limit, epoch time.Time) *Limiter {
	interval := max(int64(time.Second)/unit/int64(l.PerSecond), 1)
	return &Limiter{
		interval: interval, ahead: int64(l.Burst-1) * interval,
		v4: ^uint64(0) << (32 - l.IPv4) & (1<<32 - 1), v6: ^uint64(0) << (64 - l.IPv6),
		seeds: [2]uint64{rand.Uint64(), rand.Uint64() | 1}, epoch: epoch,
	}
}

// Take reports whether the network of client may have a response now, and counts it then. What is refused does not count, so that who goes on
// asking gets as many as the limit is.
func (l *Limiter) Take(client netip.Addr, now time.Time) bool {
	hash := l.hash(client)
	set := &l.table[hash%sets]
	tag := hash >> timeBits << timeBits
	at := int64(now.Sub(l.epoch)) / unit
	for range ways {
		word, debt, n := l.find(set, tag, at)
		if debt > l.ahead {
			return false
		}
		if set[n].CompareAndSwap(word, tag|uint64(at+debt+l.interval)&timeMask) {
			return true
		}
	}
	return true // so many others at the same place at the same time: they have counted
}

// find returns the place of a network, or the one that it may take: what is there, how far its time is ahead, which is 0 for one that is
// taken, and where.
func (l *Limiter) find(set *[ways]atomic.Uint64, tag uint64, at int64) (word uint64, debt int64, n int) {
	least := int64(1) << timeBits
	for i := range set {
		w := set[i].Load()
		d := l.debt(w, at)
		if w&^timeMask == tag && w != 0 {
			return w, d, i
		}
		if d < least {
			word, least, n = w, d, i
		}
	}
	return word, 0, n
}

// debt is how far the theoretical arrival time in a word is ahead of the clock.
func (l *Limiter) debt(word uint64, at int64) int64 {
	const sign = 64 - timeBits
	d := int64((word-uint64(at))<<sign) >> sign // the clock of a word goes round
	if d < 0 || d > l.ahead+l.interval {
		return 0
	}
	return d
}

// hash is that of the network of an address. Whoever does not know the seeds can't choose networks that share a set.
func (l *Limiter) hash(client netip.Addr) uint64 {
	var network uint64
	if client = client.Unmap(); client.Is4() {
		a := client.As4()
		network = (uint64(a[0])<<24|uint64(a[1])<<16|uint64(a[2])<<8|uint64(a[3]))&l.v4 | 1<<32 // in ::/32 nobody is
	} else {
		a := client.As16()
		for _, octet := range a[:8] {
			network = network<<8 | uint64(octet)
		}
		network &= l.v6
	}
	high, low := bits.Mul64(network^l.seeds[0], l.seeds[1])
	high, low = bits.Mul64(high^low^l.seeds[1], l.seeds[0]|1)
	return high ^ low
}
