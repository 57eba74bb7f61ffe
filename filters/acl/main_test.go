package main

import (
	"net/netip"
	"testing"

	"github.com/weirdns/weir/sdk/sdktest"
)

func TestCases(t *testing.T) { sdktest.Run(t, "testdata/*.txtar", sdktest.Native(newFilter)) }

func TestAllocations(t *testing.T) { sdktest.Allocations(t, "testdata/*.txtar", newFilter) }

// TestClients compares the set with its prefixes, at their borders.
func TestClients(t *testing.T) {
	for _, texts := range [][]string{
		nil,
		{"0.0.0.0/0", "::/0"},
		{"10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "10.255.255.255/32", "11.0.0.0/32", "9.255.255.255/32"},
		{"192.0.2.0/25", "192.0.2.128/25", "192.0.2.64/26", "255.255.255.255/32", "0.0.0.0/32"},
		{"2001:db8::/32", "2001:db8:0:0:8000::/65", "2001:db9::/64", "2001:db9:0:1::/128", "ffff:ffff:ffff:ffff::/64", "::/128"},
		{"2001:db8::/63", "2001:db8:0:2::/64", "2001:db8:0:3:8000::/65", "::ffff:0:0/96"},
	} {
		var set clients
		var prefixes []netip.Prefix
		var ask []netip.Addr
		for _, text := range texts {
			p := netip.MustParsePrefix(text)
			prefixes = append(prefixes, p)
			set.add(p.Addr().AsSlice(), p.Bits())
			last := p.Addr().AsSlice()
			for i := p.Bits(); i < len(last)*8; i++ {
				last[i/8] |= 0x80 >> (i % 8)
			}
			end, _ := netip.AddrFromSlice(last)
			for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), p.Addr().Next(), end, end.Next(), end.Prev()} {
				if a.IsValid() {
					ask = append(ask, a)
				}
			}
		}
		set.sort()
		for _, a := range append(ask, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")) {
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := set.contain(a.AsSlice()); got != want {
				t.Errorf("%v contain %v: got %v, want %v", texts, a, got, want)
			}
		}
	}
}
