//go:build !wasip1

package sdktest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/sdk"
)

// table is a table of the host, as simple as it can be: a map and a sorted list of keys, by abi/README.md section 6.
type table struct {
	name, kind string
	values     map[string][]byte // by canonical name in wire format
	keys       []string          // in canonical order
	prefixes   []prefix
}

// prefix is a prefix with its text.
type prefix struct {
	netip.Prefix
	text []byte
}

// newTable makes a table from the text of a source: a zone file for a zone, lines NAME [VALUE] for names, PREFIX [VALUE] for prefixes, and
// ADDRESS NAME... for hosts.
func newTable(name, kind, text string) (*table, error) {
	t := &table{name: name, kind: kind, values: map[string][]byte{}}
	switch kind {
	case abi.TableZone:
		if err := t.readZone(text); err != nil {
			return nil, err
		}
	case abi.TableNames:
		err := entries(text, func(key string, value []byte) error {
			if _, ok := dns.IsDomainName(key); !ok {
				return fmt.Errorf("%q is no name", key)
			}
			t.values[wire(key)] = value
			return nil
		})
		if err != nil {
			return nil, err
		}
	case abi.TablePrefixes:
		err := entries(text, func(key string, value []byte) error {
			p, err := netip.ParsePrefix(key)
			if a, e := netip.ParseAddr(key); e == nil {
				p, err = a.Prefix(a.BitLen())
			}
			t.prefixes = append(t.prefixes, prefix{p, value})
			return err
		})
		if err != nil {
			return nil, err
		}
	case abi.TableHosts:
		if err := t.readHosts(text); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("table %s: tests know no kind %q", name, kind)
	}
	for key := range t.values {
		t.keys = append(t.keys, key)
	}
	slices.SortFunc(t.keys, canonicalOrder[string, string])
	return t, nil
}

// entries calls add for each line of a list: its first word, and the text behind it. A comment begins with # at the beginning of a line or after
// white space. Errors get the line.
func entries(text string, add func(key string, value []byte) error) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		for i := range len(line) {
			if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
				line = line[:i]
				break
			}
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		if err := add(key, []byte(value)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// readZone fills the table from a zone file.
func (t *table) readZone(text string) error {
	sets := map[string]map[uint16][]dns.RR{}
	apex := ""
	z := dns.NewZoneParser(strings.NewReader(text), ".", t.name)
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		h := rr.Header()
		owner := wire(h.Name)
		if sets[owner] == nil {
			sets[owner] = map[uint16][]dns.RR{}
		}
		sets[owner][h.Rrtype] = append(sets[owner][h.Rrtype], rr)
		if h.Rrtype == dns.TypeSOA {
			apex = owner
		}
	}
	if err := z.Err(); err != nil {
		return err
	}
	if apex == "" {
		return fmt.Errorf("zone %s: has no SOA", t.name)
	}
	for owner := range sets {
		for n := owner; n != apex; n = parent(n) {
			if len(n) <= len(apex) {
				return fmt.Errorf("zone %s: %q is outside", t.name, owner)
			}
			if sets[n] == nil { // an empty non-terminal. RFC 4592 section 2.2.2
				sets[n] = map[uint16][]dns.RR{}
			}
		}
	}
	for owner, types := range sets {
		node, err := packNode(types)
		if err != nil {
			return err
		}
		if owner == apex {
			node[0] |= abi.NodeApex
			node[0] &^= abi.NodeCut
		}
		if sets["\x01*"+owner] != nil {
			node[0] |= abi.NodeWildcard
		}
		t.values[owner] = node
	}
	return nil
}

// hostsTTL is the TTL of records in tables of the kind hosts.
const hostsTTL = 300

// readHosts fills the table from a hosts file: an address and its names on each line, of which the first gets the PTR record.
func (t *table) readHosts(text string) error {
	sets := map[string]map[uint16][]dns.RR{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		address, err := netip.ParseAddr(words[0])
		reverse, rerr := dns.ReverseAddr(words[0])
		if err = errors.Join(err, rerr); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		add := func(owner, rrtype, data string) {
			if exact(owner) == "" {
				err = fmt.Errorf("%q is no name", owner)
				return
			}
			rr, rrerr := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", dns.Fqdn(owner), hostsTTL, rrtype, data))
			if rr == nil && rrerr == nil {
				rrerr = fmt.Errorf("%q begins a comment", owner)
			}
			if rrerr != nil {
				err = rrerr
				return
			}
			key, number := wire(owner), rr.Header().Rrtype
			if sets[key] == nil {
				sets[key] = map[uint16][]dns.RR{}
			}
			if !slices.ContainsFunc(sets[key][number], func(o dns.RR) bool { return dns.IsDuplicate(o, rr) }) {
				sets[key][number] = append(sets[key][number], rr)
			}
		}
		for _, name := range words[1:] {
			add(name, map[bool]string{true: "A", false: "AAAA"}[address.Is4()], words[0])
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		if add(reverse, "PTR", string(sdk.AppendText(nil, []byte(wire(words[1]))))); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	for owner, types := range sets {
		node, err := packNode(types)
		if err != nil {
			return err
		}
		t.values[owner] = node
	}
	return nil
}

// prefix returns the text of the longest prefix that holds an address, and its bits.
func (t *table) prefix(octets []byte) (value []byte, bits int, ok bool) {
	address, valid := netip.AddrFromSlice(octets)
	for _, p := range t.prefixes {
		if valid && p.Contains(address) && (!ok || p.Bits() > bits) {
			value, bits, ok = p.text, p.Bits(), true
		}
	}
	return value, bits, ok
}

// packNode makes a node from its RRsets, without the flags that depend on other nodes.
func packNode(sets map[uint16][]dns.RR) ([]byte, error) {
	types := make([]uint16, 0, len(sets))
	for t := range sets {
		types = append(types, t)
	}
	slices.Sort(types)
	head := binary.LittleEndian.AppendUint16([]byte{0, 0}, uint16(len(types)))
	var records []byte
	for _, t := range types {
		before := len(records)
		for _, rr := range sets[t] {
			buf := make([]byte, 65535)
			n, err := dns.PackRR(rr, buf, 0, nil, false)
			if err != nil {
				return nil, err
			}
			owner := len(wire(rr.Header().Name))
			records = append(append(records, 0xC0, 0x0C), buf[owner:n]...)
		}
		head = binary.LittleEndian.AppendUint16(head, t)
		head = binary.LittleEndian.AppendUint16(head, uint16(len(sets[t])))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(records)-before))
		switch t {
		case dns.TypeNS:
			head[0] |= abi.NodeCut
		case dns.TypeDNAME:
			head[0] |= abi.NodeDNAME
		case dns.TypeCNAME:
			head[0] |= abi.NodeCNAME
		}
	}
	if len(types) == 0 {
		head[0] |= abi.NodeEmpty
	}
	return append(head, records...), nil
}

// longest returns the value of the longest key that name is in, and the size of that key: from the top, not below a cut or DNAME in a
// zone. It allocates nothing, so that what allocates in a test is the filter.
func (t *table) longest(name []byte) (value []byte, size int, ok bool) {
	var offsets [128]int
	labels := split(name, &offsets)
	offsets[labels] = len(name) - 1
	for i := labels; i >= 0; i-- {
		suffix := name[offsets[i]:]
		v, found := t.values[string(suffix)]
		switch {
		case found:
			value, size, ok = v, len(suffix), true
			if t.kind == abi.TableZone && v[0]&(abi.NodeCut|abi.NodeDNAME) != 0 {
				return value, size, ok
			}
		case ok && t.kind == abi.TableZone:
			return value, size, ok // a zone has no gaps
		}
	}
	return value, size, ok
}

// next returns the first key after one in canonical order. Like longest, it allocates nothing.
func (t *table) next(key []byte) (string, bool) {
	i := 0
	if len(key) > 0 {
		var found bool
		if i, found = slices.BinarySearchFunc(t.keys, key, canonicalOrder[string, []byte]); found {
			i++
		}
	}
	if i == len(t.keys) {
		return "", false
	}
	return t.keys[i], true
}

// canonicalOrder compares names by their labels, from the root on. RFC 4034 section 6.1.
func canonicalOrder[A, B ~string | ~[]byte](a A, b B) int {
	var atA, atB [128]int
	m, n := split(a, &atA), split(b, &atB)
	for i := 1; i <= min(m, n); i++ {
		x, y := a[atA[m-i]+1:], b[atB[n-i]+1:]
		sizeX, sizeY := int(a[atA[m-i]]), int(b[atB[n-i]])
		for j := range min(sizeX, sizeY) {
			if c := cmp.Compare(x[j], y[j]); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(sizeX, sizeY); c != 0 {
			return c
		}
	}
	return cmp.Compare(m, n)
}

// split finds where the labels of a name begin, and returns how many there are.
func split[T ~string | ~[]byte](name T, at *[128]int) (n int) {
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		at[n] = i
		n++
	}
	return n
}

// parent returns a name in wire format without its first label.
func parent(name string) string { return name[1+int(name[0]):] }

// wire returns the canonical wire format of a name; a name that is none is a mistake in a test, and panics.
func wire(text string) string {
	name := []byte(exact(text))
	if len(name) == 0 {
		panic(fmt.Sprintf("sdktest: %q is no name", text))
	}
	for i, c := range name { // octets, not text: a label needn't be UTF-8, and no octet that tells a length is a letter
		if 'A' <= c && c <= 'Z' {
			name[i] = c | 0x20
		}
	}
	return string(name)
}

// exact returns the wire format of a name with its letters as they are, empty if it is none.
func exact(text string) string {
	buf := make([]byte, 256)
	n, err := dns.PackDomainName(dns.Fqdn(text), buf, 0, nil, false)
	if err != nil || n > sdk.MaxName {
		return ""
	}
	return string(buf[:n])
}
