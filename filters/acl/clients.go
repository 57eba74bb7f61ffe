package main

import "slices"

// clients is a set of addresses: the ranges that its prefixes are, sorted, so that one binary search is enough however many there are.
type clients struct{ v4, v6 []span }

// span is the addresses from first to last.
type span struct{ first, last address }

// address is an address as a number: an IPv4 address is in the upper half of high.
type address struct{ high, low uint64 }

func number(octets []byte) (a address) {
	for i := range 8 {
		a.high <<= 8
		if i < len(octets) {
			a.high |= uint64(octets[i])
		}
	}
	if len(octets) > 8 {
		for _, c := range octets[8:] {
			a.low = a.low<<8 | uint64(c)
		}
	}
	return a
}

func (a address) below(b address) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

// add adds the addresses that share their first bits with one of 4 or 16 octets. All are added before sort is called.
func (c *clients) add(octets []byte, bits int) {
	s := span{first: number(octets)}
	s.last = s.first
	s.last.high |= ^uint64(0) >> min(bits, 64) // a shift by 64 gives 0
	s.last.low |= ^uint64(0) >> max(bits-64, 0)
	if len(octets) == 4 {
		c.v4 = append(c.v4, s)
	} else {
		c.v6 = append(c.v6, s)
	}
}

// sort makes the set ready for use. Prefixes are disjoint or one holds the other, so what lies within another goes.
func (c *clients) sort() {
	for _, spans := range []*[]span{&c.v4, &c.v6} {
		slices.SortFunc(*spans, func(a, b span) int {
			switch {
			case a.first.below(b.first), a.first == b.first && b.last.below(a.last):
				return -1
			case a == b:
				return 0
			}
			return 1
		})
		kept := (*spans)[:0]
		for _, s := range *spans {
			if n := len(kept); n == 0 || kept[n-1].last.below(s.first) {
				kept = append(kept, s)
			}
		}
		*spans = kept
	}
}

// contain reports whether an address of 4 or 16 octets is in the set.
func (c *clients) contain(octets []byte) bool {
	spans := c.v6
	if len(octets) == 4 {
		spans = c.v4
	}
	a := number(octets)
	low, high := 0, len(spans)
	for low < high {
		if middle := int(uint(low+high) / 2); a.below(spans[middle].first) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low > 0 && !spans[low-1].last.below(a)
}
