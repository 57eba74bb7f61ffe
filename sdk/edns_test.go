package sdk

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
)

// withOptions makes a call whose query has these octets as its EDNS options.
func withOptions(t testing.TB, options []byte) Query {
	t.Helper()
	c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
	c.flags = abi.FlagEDNS
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	octets[11] = 1
	octets = append(octets, 0, 0, 41, 4, 208, 0, 0, 0, 0, byte(len(options)>>8), byte(len(options)))
	octets = append(octets, options...)
	c.size = uint32(copy(c.message(), octets))
	return Query{c}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name, options, want string
	}{
		{"none", "", ""},
		{"one", "\x00\x0a\x00\x08abcdefgh", "10=abcdefgh "},
		{"three", "\x00\x03\x00\x00\x00\x0c\x00\x02\x00\x00\xfd\xe9\x00\x01x", "3= 12=\x00\x00 65001=x "},
		{"too long", "\x00\x03\x00\x01a\x00\x0a\x00\x08abc", "3=a "},
		{"half a header", "\x00\x03\x00\x01a\x00\x0a\x00", "3=a "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := withOptions(t, []byte(tt.options))
			got := ""
			for o := q.Options(); o.Next(); {
				got += fmt.Sprintf("%d=%s ", o.Code, o.Data)
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	q := withOptions(t, []byte("\x00\x03\x00\x00"))
	q.flags = 0
	if o := q.Options(); o.Next() {
		t.Error("without EDNS: got an option")
	}
}

func TestClientSubnet(t *testing.T) {
	for _, tt := range []struct{ name, option, want string }{
		{"IPv4", "\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02", "192.0.2.0/24"},
		{"IPv6", "\x00\x08\x00\x0b\x00\x02\x38\x00\x20\x01\x0d\xb8\x00\x01\x02", "2001:db8:1:200::/56"},
		{"behind another", "\x00\x03\x00\x00\x00\x08\x00\x06\x00\x01\x09\x00\x0a\x80", "10.128.0.0/9"},
		{"everybody", "\x00\x08\x00\x04\x00\x01\x00\x00", "0.0.0.0/0"},
		{"bits behind the prefix", "\x00\x08\x00\x06\x00\x01\x09\x00\x0a\xc0", ""},
		{"too few octets", "\x00\x08\x00\x06\x00\x01\x18\x00\xc0\x00", ""},
		{"too many octets", "\x00\x08\x00\x08\x00\x01\x18\x00\xc0\x00\x02\x01", ""},
		{"too many bits", "\x00\x08\x00\x09\x00\x01\x21\x00\xc0\x00\x02\x01\x00", ""},
		{"family", "\x00\x08\x00\x07\x00\x03\x18\x00\xc0\x00\x02", ""},
		{"short", "\x00\x08\x00\x03\x00\x01\x18", ""},
		{"none", "\x00\x03\x00\x00", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := withOptions(t, []byte(tt.option))
			var room [16]byte
			address, bits, ok := q.ClientSubnet(&room)
			got := ""
			if ok {
				a, _ := netip.AddrFromSlice(address)
				got = netip.PrefixFrom(a, bits).String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzOptions: the walk agrees with another implementation on what is well formed, and ends within the octets on what is not.
func FuzzOptions(f *testing.F) {
	f.Add([]byte("\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02\x00\x0a\x00\x08abcdefgh"))
	f.Add([]byte("\x00\x0a\xff\xff"))
	f.Add([]byte("\x00\x08\x00\x04\x00\x02\x80\x00"))
	f.Fuzz(func(t *testing.T, options []byte) {
		if len(options) > 2000 {
			return
		}
		q := withOptions(t, options)
		var got []byte
		for o := q.Options(); o.Next(); {
			got = append(got, byte(o.Code>>8), byte(o.Code), byte(len(o.Data)>>8), byte(len(o.Data)))
			got = append(got, o.Data...)
		}
		if !bytes.HasPrefix(options, got) {
			t.Errorf("got %x, want a beginning of %x", got, options)
		}
		m := new(dns.Msg)
		var room [16]byte
		address, bits, ok := q.ClientSubnet(&room)
		if m.Unpack(q.Message()) != nil {
			return
		}
		if len(got) != len(options) {
			t.Errorf("got %d octets of options, of %d that are well formed", len(got), len(options))
		}
		for _, o := range m.IsEdns0().Option {
			if s, isSubnet := o.(*dns.EDNS0_SUBNET); isSubnet {
				a, _ := netip.AddrFromSlice(address)
				if want, _ := netip.AddrFromSlice(s.Address); ok && (int(s.SourceNetmask) != bits || want.Unmap() != a.Unmap()) {
					t.Errorf("got %v/%d, want %v/%d", a, bits, s.Address, s.SourceNetmask)
				}
				break
			}
		}
	})
}

func TestOptionsAllocate(t *testing.T) {
	q := withOptions(t, []byte("\x00\x03\x00\x00\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02"))
	var room [16]byte
	sum := 0
	if n := testing.AllocsPerRun(100, func() {
		for o := q.Options(); o.Next(); {
			sum += len(o.Data)
		}
		_, bits, _ := q.ClientSubnet(&room)
		sum += bits
	}); n > 0 || sum == 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
