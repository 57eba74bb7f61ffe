package listener

import (
	"net/netip"
	"slices"
)

// maxScopes keeps the indexes of scopes below message.None.
const maxScopes = 65535

// Scopes finds the scope of a client: the one with the longest prefix that holds its address. It does not change once it is made, so it is
// safe for concurrent use.
//
// Prefixes nest or are disjoint, so they cut the addresses into ranges that have one scope each. A lookup is a binary search
// for the range: its cost does not depend on how many prefix lengths there are, and it does not allocate.
//
//	10.0.0.0/8 = 0, 10.1.0.0/16 = 1:    | none | 10.0.0.0: 0 | 10.1.0.0: 1 | 10.2.0.0: 0 | 11.0.0.0: none ...
type Scopes struct {
	starts []netip.Addr // where a range begins, ascending; IPv4 is before IPv6. Empty without prefixes, as for most listeners
	scopes []int        // the scope of each range, -1 for none
}

// NewScopes returns the matcher for prefixes, where prefixes[i] selects scopes[i]. The slices have the same length and are not kept. Of equal
// prefixes the first counts; prefixes that are not valid are left out. IPv4 prefixes in IPv6 form (::ffff:10.0.0.0/104) never match, since
// addresses are looked up in their IPv4 form.
func NewScopes(prefixes []netip.Prefix, scopes []int) *Scopes {
	type entry struct {
		prefix netip.Prefix
		scope  int
	}
	var entries []entry
	for i, p := range prefixes {
		if p.IsValid() {
			entries = append(entries, entry{p.Masked(), scopes[i]})
		}
	}
	if len(entries) == 0 {
		return new(Scopes)
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		if c := a.prefix.Addr().Compare(b.prefix.Addr()); c != 0 {
			return c
		}
		return a.prefix.Bits() - b.prefix.Bits() // the enclosing prefix first
	})
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.prefix == b.prefix })

	s := &Scopes{}
	var open []entry // the prefixes around the present address, innermost last
	closeUntil := func(inside func(netip.Prefix) bool) {
		for len(open) > 0 && !inside(open[len(open)-1].prefix) {
			end := last(open[len(open)-1].prefix).Next()
			open = open[:len(open)-1]
			scope := -1
			if len(open) > 0 {
				scope = open[len(open)-1].scope
			}
			if end.IsValid() {
				s.add(end, scope)
			}
		}
	}
	s.add(netip.IPv4Unspecified(), -1)
	v6 := false
	for _, e := range entries {
		closeUntil(func(p netip.Prefix) bool { return p.Contains(e.prefix.Addr()) })
		if !v6 && e.prefix.Addr().Is6() {
			v6 = true
			s.add(netip.IPv6Unspecified(), -1)
		}
		s.add(e.prefix.Addr(), e.scope)
		open = append(open, e)
	}
	closeUntil(func(netip.Prefix) bool { return false })
	if !v6 {
		s.add(netip.IPv6Unspecified(), -1)
	}
	return s
}

// add begins a range. One that begins where the last one does takes its place.
func (s *Scopes) add(start netip.Addr, scope int) {
	if n := len(s.starts); n > 0 && s.starts[n-1] == start {
		s.scopes[n-1] = scope
		return
	}
	s.starts, s.scopes = append(s.starts, start), append(s.scopes, scope)
}

// last returns the last address of a masked prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Find returns the scope of a client, and false when no prefix holds its address. An IPv4 address may come in IPv6 form; a zone does
// not matter.
func (s *Scopes) Find(client netip.Addr) (scope int, ok bool) {
	if len(s.starts) == 0 {
		return -1, false
	}
	client = client.Unmap().WithZone("")
	i, exact := slices.BinarySearchFunc(s.starts, client, netip.Addr.Compare)
	if !exact {
		i--
	}
	if i < 0 { // the zero Addr
		return -1, false
	}
	return s.scopes[i], s.scopes[i] >= 0
}
