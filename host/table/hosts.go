package table

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/message"
)

// hostsTTL is the TTL in seconds of what a hosts file says, which has none: a change is seen in minutes where clients cache. Filters may give another.
const hostsTTL = 300

// host is a line of a hosts file: an address and its names, the canonical one first. hosts(5)
type host struct {
	address netip.Addr // without a zone
	names   [][]byte   // canonical in the sense of RFC 4034, in wire format
}

var errNoNames = errors.New("there is no name behind the address: write one, or delete the line")

// parseHost takes a line apart that was cut behind its first word.
func parseHost(word, text string) (h host, err error) {
	if h.address, err = netip.ParseAddr(word); err != nil {
		return h, fmt.Errorf("%q is no address: write an address, and behind it its names", word)
	}
	h.address = h.address.Unmap()
	for name := range strings.FieldsSeq(text) {
		wire, err := message.ParseName(name)
		if err != nil {
			return h, fmt.Errorf("%w: write names behind the address", err)
		}
		h.names = append(h.names, wire)
	}
	if len(h.names) == 0 {
		return h, errNoNames
	}
	return h, nil
}

// checkHosts returns the first thing that is wrong with lines in the configuration.
func checkHosts(hosts []string) error {
	for i, line := range hosts {
		if _, err := parseHost(entry(line)); err != nil {
			return fmt.Errorf("hosts[%d]: %w", i, err)
		}
	}
	return nil
}

// loadHosts makes an index of a hosts file, or of lines in the configuration if there is no file.
func loadHosts(ctx context.Context, list file, hosts []string, limit int64) (*index, error) {
	r := &records{limit: limit}
	seen := make(map[netip.Addr]struct{})
	add := func(at position, word, text string) error {
		h, err := parseHost(word, text)
		if err != nil {
			return at.errorf("%v", err)
		}
		if h.address.Zone() != "" {
			return nil // means something on one machine only
		}
		return addHost(r, at, h, seen)
	}
	if list.path != "" {
		if err := lines(ctx, list, add); err != nil {
			return nil, err
		}
	}
	for i, line := range hosts {
		word, text := entry(line)
		if err := add(position{"hosts", i + 1}, word, text); err != nil {
			return nil, err
		}
	}
	r.sort()
	z := &zoneBuilder{records: r, seen: make(map[string]struct{})} // only its group is of use: there is no apex, and no names between
	b := newBuilder(false, int64(len(r.arena))+int64(len(r.offsets))*nodeOverhead, limit)
	err := r.owners(func(key []byte, offsets []uint32) error {
		z.name = appendName(z.name[:0], key)
		if err := z.group(offsets); err != nil {
			return err
		}
		b.begin(z.name, labelCount(key), false)
		var err error
		if b.x.arena, err = abi.AppendNode(b.x.arena, 0, z.sets...); err != nil {
			return r.at(offsets[0]).errorf("%s: %v", keyString(key), err)
		}
		if !b.end() {
			return r.at(offsets[0]).errorf("%v, which is %d: raise it, or split the table", errTooLarge, limit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.index(), nil
}

// addHost adds the records of a line. The name of an address is the first one of its first line, as gethostbyaddr(3) has it: lists of
// names to block give one address to all of them.
func addHost(r *records, at position, h host, seen map[netip.Addr]struct{}) error {
	data, rrtype := h.address.AsSlice(), dns.TypeA
	if h.address.Is6() {
		rrtype = dns.TypeAAAA
	}
	for _, name := range h.names {
		if err := r.add(at, rrtype, hostsTTL, name, data); err != nil {
			return err
		}
	}
	if _, ok := seen[h.address]; ok || h.address.IsUnspecified() {
		return nil
	}
	seen[h.address] = struct{}{}
	return r.add(at, dns.TypePTR, hostsTTL, reverseName(h.address), h.names[0])
}

// reverseName returns the name in in-addr.arpa (RFC 1035 section 3.5) or ip6.arpa (RFC 3596 section 2.5) of an address.
func reverseName(a netip.Addr) []byte {
	octets, name := a.AsSlice(), []byte(nil)
	for i := len(octets) - 1; i >= 0; i-- {
		c := octets[i]
		if len(octets) == 4 {
			label := fmt.Append(nil, c)
			name = append(append(name, byte(len(label))), label...)
			continue
		}
		const digits = "0123456789abcdef"
		name = append(name, 1, digits[c&15], 1, digits[c>>4])
	}
	if len(octets) == 4 {
		return append(name, "\x07in-addr\x04arpa\x00"...)
	}
	return append(name, "\x03ip6\x04arpa\x00"...)
}
