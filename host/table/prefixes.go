package table

import (
	"cmp"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
)

// prefixes is a snapshot of a list of prefixes. Its slices hold no pointers, and are never written after [loadPrefixes].
type prefixes struct {
	v4, v6 spans
	count  int
	// arena holds the value of each prefix, from offset 1 on: octets (4, little-endian), bits of the prefix (1), and the text.
	arena []byte
}

// spans cuts the addresses of a family into spans that have the same longest prefix, so that one binary search finds it, however many prefixes
// and lengths there are. Span i goes from starts[i] to before starts[i+1].
//
//	10.0.0.0/8         ├──────────────┬───────┬──────┤
//	10.1.0.0/16                       ├───────┤
//	entries        0   │  /8          │ /16   │ /8   │ 0
type spans struct {
	starts  []address
	entries []uint32 // offset in the arena; 0 where no prefix is
}

// address is an address as a number: an IPv4 address is in the upper half of high.
type address struct{ high, low uint64 }

func (a address) compare(b address) int {
	if c := cmp.Compare(a.high, b.high); c != 0 {
		return c
	}
	return cmp.Compare(a.low, b.low)
}

// parseAddress makes a number of 4 or 16 octets.
func parseAddress(octets []byte) address {
	if len(octets) == 4 {
		return address{high: uint64(binary.BigEndian.Uint32(octets)) << 32}
	}
	return address{binary.BigEndian.Uint64(octets), binary.BigEndian.Uint64(octets[8:])}
}

// after returns the first address behind those that begin with the first bits of a, which has zeros behind them. It is false if there is none.
func (a address) after(bits int) (next address, ok bool) {
	switch {
	case bits == 0:
		return address{}, false
	case bits <= 64:
		next = address{high: a.high + 1<<(64-bits)}
		return next, next.high != 0
	}
	next = address{a.high, a.low + 1<<(128-bits)}
	if next.low == 0 {
		next.high++
	}
	return next, next != address{}
}

// find returns the entry of the span that an address is in.
func (s *spans) find(a address) uint32 {
	low, high := 0, len(s.starts)
	for low < high {
		if middle := int(uint(low+high) / 2); s.starts[middle].compare(a) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return 0
	}
	return s.entries[low-1]
}

// Prefix returns the value of the longest prefix that holds the address, and the bits of the prefix. 4 octets are looked for among IPv4 prefixes
// only, 16 among IPv6 prefixes only.
func (p *prefixes) Prefix(octets []byte) (bits int, value []byte, ok bool) {
	family := &p.v4
	switch len(octets) {
	case 4:
	case 16:
		family = &p.v6
	default:
		return 0, nil, false
	}
	entry := family.find(parseAddress(octets))
	if entry == 0 {
		return 0, nil, false
	}
	e := p.arena[entry:]
	end := 5 + int(binary.LittleEndian.Uint32(e))
	return int(e[4]), e[5:end:end], true
}

// Get finds nothing: the keys are no names. So do Longest and Next.
func (p *prefixes) Get([]byte) (value []byte, ok bool)                  { return nil, false }
func (p *prefixes) Longest([]byte) (matched int, value []byte, ok bool) { return 0, nil, false }
func (p *prefixes) Next([]byte) (next, value []byte, ok bool)           { return nil, nil, false }

// Len returns the number of prefixes.
func (p *prefixes) Len() int { return p.count }

func (p *prefixes) octets() int {
	return cap(p.arena) + 16*(cap(p.v4.starts)+cap(p.v6.starts)) + 4*(cap(p.v4.entries)+cap(p.v6.entries))
}

// prefixLine is a line of a list of prefixes.
type prefixLine struct {
	start address
	bits  int
	line  int
	entry uint32
}

// loadPrefixes reads a list of prefixes. An address stands for itself alone.
func loadPrefixes(ctx context.Context, list file, limit int64) (*prefixes, error) {
	p := &prefixes{arena: make([]byte, 1)}
	var v4, v6 []prefixLine
	err := lines(ctx, list, func(at position, word, text string) error {
		prefix, err := netip.ParsePrefix(word)
		if addr, aerr := netip.ParseAddr(word); aerr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return at.errorf("%q is no prefix: write one as 192.0.2.0/24 or 2001:db8::/32, and behind it a text if there is one", word)
		}
		if prefix != prefix.Masked() {
			return at.errorf("%s has bits set behind its length: write %s", word, prefix.Masked())
		}
		if int64(len(p.arena)+5+len(text)) > limit {
			return at.errorf("%v, which is %d: raise it, or split the table", errTooLarge, limit)
		}
		l := prefixLine{bits: prefix.Bits(), line: at.line, entry: uint32(len(p.arena))}
		p.arena = binary.LittleEndian.AppendUint32(p.arena, uint32(len(text)))
		p.arena = append(p.arena, byte(l.bits))
		p.arena = append(p.arena, text...)
		if prefix.Addr().Is4() {
			octets := prefix.Addr().As4()
			l.start = parseAddress(octets[:])
			v4 = append(v4, l)
		} else {
			octets := prefix.Addr().As16()
			l.start = parseAddress(octets[:])
			v6 = append(v6, l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, family := range []struct {
		lines []prefixLine
		spans *spans
	}{{v4, &p.v4}, {v6, &p.v6}} {
		unique, err := p.unique(list.path, family.lines)
		if err != nil {
			return nil, err
		}
		p.count += len(unique)
		family.spans.build(unique)
	}
	p.arena = slices.Clip(p.arena)
	return p, nil
}

// unique sorts lines by address, the shorter prefix first, and drops duplicates.
func (p *prefixes) unique(path string, lines []prefixLine) ([]prefixLine, error) {
	slices.SortFunc(lines, func(a, b prefixLine) int {
		return cmp.Or(a.start.compare(b.start), cmp.Compare(a.bits, b.bits), cmp.Compare(a.line, b.line))
	})
	kept := lines[:0]
	for _, l := range lines {
		if n := len(kept); n > 0 && kept[n-1].start == l.start && kept[n-1].bits == l.bits {
			if p.text(kept[n-1].entry) != p.text(l.entry) {
				return nil, position{path, l.line}.errorf("the prefix is in line %d with another text: delete one of them", kept[n-1].line)
			}
			continue
		}
		kept = append(kept, l)
	}
	return kept, nil
}

func (p *prefixes) text(entry uint32) string {
	e := p.arena[entry:]
	return string(e[5 : 5+binary.LittleEndian.Uint32(e)])
}

// build makes the spans of sorted prefixes. Prefixes are nested or disjoint, so a stack of those that hold the present address is enough.
func (s *spans) build(lines []prefixLine) {
	type open struct {
		end   address
		last  bool // there is no address behind it
		entry uint32
	}
	var stack []open
	put := func(start address, entry uint32) {
		if n := len(s.starts); n > 0 && s.starts[n-1] == start {
			s.entries[n-1] = entry // nothing is between
			return
		}
		s.starts, s.entries = append(s.starts, start), append(s.entries, entry)
	}
	closeTo := func(start address, all bool) {
		for n := len(stack); n > 0 && (all || !stack[n-1].last && stack[n-1].end.compare(start) <= 0); n-- {
			top := stack[n-1]
			stack = stack[:n-1]
			if top.last {
				continue
			}
			var below uint32
			if n > 1 {
				below = stack[n-2].entry
			}
			put(top.end, below)
		}
	}
	for _, l := range lines {
		closeTo(l.start, false)
		put(l.start, l.entry)
		end, ok := l.start.after(l.bits)
		stack = append(stack, open{end, !ok, l.entry})
	}
	closeTo(address{}, true)
	s.starts, s.entries = slices.Clip(s.starts), slices.Clip(s.entries)
}
