package message

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/fuzzing"
)

// withSubnet is a query with the option client subnet, in hex; "" is without.
func withSubnet(t testing.TB, option string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.test.", dns.TypeA)
	m.SetEdns0(1232, false)
	if option != "" {
		data, err := hex.DecodeString(option)
		if err != nil {
			t.Fatal(err)
		}
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: OptionSubnet, Data: data}}
	}
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// TestRFC7871Malformed: a client subnet with too few or too many octets, with bits behind its prefix or with a scope gets FORMERR (RFC 7871 section 6).
func TestRFC7871Malformed(t *testing.T) {
	for _, tt := range []struct {
		name, option string
		ok           bool
	}{
		{"none", "", true},
		{"IPv4", "00011800c00002", true},
		{"IPv4, all", "00012000c00002ff", true},
		{"IPv4, odd length", "00011900c0000280", true},
		{"IPv6", "0002380020010db8000001", true},
		{"opt-out", "00010000", true},
		{"opt-out without family", "00000000", true},
		{"other family", "00091800c00002", true},
		{"head in part", "000118", false},
		{"too few octets", "00011800c000", false},
		{"too many octets", "00011800c0000200", false},
		{"IPv4 too long", "00012100c000020100", false},
		{"IPv6 too long", "00028100" + "20010db800000000000000000000000000", false},
		{"bits behind the prefix", "00011900c00002c0", false},
		{"scope", "00011818c00002", false},
		{"scope of other family", "00091801c00002", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q Query
			rcode, ok := q.Parse(withSubnet(t, tt.option))
			if want := uint16(FORMERR); ok != tt.ok || !ok && rcode != want {
				t.Errorf("got ok %t, %s, want %t", ok, RCODEString(rcode), tt.ok)
			}
		})
	}
}

// TestRFC7871OptionBack: a client gets its client subnet back as it sent it, with the scope of the answer, if it sent one and it was used, and never otherwise
// (RFC 7871 section 7.2.1).
func TestRFC7871OptionBack(t *testing.T) {
	for _, tt := range []struct {
		name, option string
		tailored     bool
		want         string
	}{
		{"used", "00012000c00002ff", true, "00080008" + "00012014c00002ff"},
		{"not used", "00012000c00002ff", false, ""},
		{"not sent", "", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q Query
			if rcode, ok := q.Parse(withSubnet(t, tt.option)); !ok {
				t.Fatalf("RCODE %d", rcode)
			}
			var r Response
			r.SetRCODE(nil, &q, NOERROR)
			r.Tailored, r.Scope = tt.tailored, 20
			out := r.Finish(&q, MaxSize)
			size := len(out)
			out = r.AddSubnet(out, &q)
			if got := hex.EncodeToString(out[size:]); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got, want := r.SubnetRoom(&q), len(out)-size; got != want {
				t.Errorf("room %d, want %d", got, want)
			}
			if err := new(dns.Msg).Unpack(out); err != nil {
				t.Errorf("response can't be read: %v", err)
			}
		})
	}
}

func TestSubnetPrefix(t *testing.T) {
	all := Subnet{Family: FamilyIPv6, Bits: 128, Address: [16]byte{0: 0xFF, 1: 0xFF, 2: 0xFF, 3: 0xFF, 14: 0xFF, 15: 0xFF}}
	for bits := range uint8(129) {
		s := all.Prefix(bits)
		want := netip.PrefixFrom(netip.AddrFrom16(all.Address), int(bits)).Masked()
		if netip.AddrFrom16(s.Address) != want.Addr() || s.Bits != bits {
			t.Errorf("/%d: got %s", bits, s)
		}
		if !s.Covers(&all) {
			t.Errorf("%s does not cover all of it", s)
		}
		if bits > 0 {
			other := all
			other.Address[(bits-1)/8] ^= 0x80 >> ((bits - 1) % 8)
			if s.Covers(&other) {
				t.Errorf("%s covers what differs in its last bit", s)
			}
		}
		if s.Covers(&Subnet{Family: FamilyIPv4, Bits: 32, Address: all.Address}) {
			t.Errorf("%s covers another family", s)
		}
	}
}

// TestSubnetAllocates: what is done for each query allocates nothing.
func TestSubnetAllocates(t *testing.T) {
	var q Query
	if rcode, ok := q.Parse(withSubnet(t, "00012000c00002ff")); !ok {
		t.Fatalf("RCODE %d", rcode)
	}
	room := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		s := SubnetLimits{24, 56}.Of(&q)
		room = s.AppendOption(room[:0], 0)
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzSubnet: an option that is taken is what is sent on, as far as the limits go, and what comes back is read.
func FuzzSubnet(f *testing.F) {
	for _, option := range []string{"00011800c00002", "00012000c00002ff", "0002380020010db8000001", "00010000", "00091800c00002"} {
		data, err := hex.DecodeString(option)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		options := append([]byte{0, OptionSubnet, byte(len(data) >> 8), byte(len(data))}, data...)
		if len(data) > 1000 {
			return
		}
		q := Query{Options: options}
		var s Subnet
		valid := false
		fuzzing.Bounded(t, 0, 1<<10, func() {
			if valid = validSubnets(options); valid {
				s = SubnetLimits{32, 128}.Of(&q)
			}
		})
		if !valid {
			return
		}
		if data[0] == 0 && (data[1] == FamilyIPv4 || data[1] == FamilyIPv6) && data[2] != 0 {
			if got := s.AppendOption(nil, 0); string(got) != string(options) {
				t.Errorf("got %x, want %x", got, options)
			}
		} else if s != Hidden {
			t.Errorf("%x: got %s, want it hidden", data, s)
		}
		var r Response
		if !r.heed(&s, s.AppendOption(nil, 7)) || r.Scope != min(7, s.Bits) {
			t.Errorf("%s: scope %d", s, r.Scope)
		}
	})
}
