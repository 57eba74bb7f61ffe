package table

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/weirdns/weir/abi"
)

func TestLists(t *testing.T) {
	dir := write(t, map[string]string{
		"n": "# comment\nExample.COM\tsome text # comment\r\n\n  a.example.   \n.  the root\na.example\n\\035.example x#y\n",
		"p": "192.0.2.7\n10.0.0.0/8 ten\n 10.1.0.0/16\tmore # comment\n2001:db8::/32 doc\n10.0.0.0/8  ten\n::/0 all\n::ffff:0:0/96 mapped\n",
	})
	names := open(t, Config{Names: "n"}, dir)
	if names.Kind() != abi.TableNames || names.Name() != "test" || names.Stats().Keys != 4 {
		t.Errorf("table of names: kind %q, name %q, %+v", names.Kind(), names.Name(), names.Stats())
	}
	for _, tt := range []struct{ name, longest, text string }{
		{"example.com", "example.com", "some text"},
		{"www.example.com", "example.com", "some text"},
		{"x.a.example", "a.example", ""},
		{"\\035.example", "\\035.example", "x#y"},
		{"test", ".", "the root"},
		{".", ".", "the root"},
	} {
		matched, text, ok := names.Snapshot().Longest(wire(t, tt.name))
		if !ok || matched != len(wire(t, tt.longest)) || string(text) != tt.text {
			t.Errorf("Longest(%s) = %d, %q, %v, want %s, %q", tt.name, matched, text, ok, tt.longest, tt.text)
		}
	}
	prefixes := open(t, Config{Prefixes: "p"}, dir)
	if prefixes.Kind() != abi.TablePrefixes || prefixes.Stats().Keys != 6 {
		t.Errorf("table of prefixes: kind %q, %+v", prefixes.Kind(), prefixes.Stats())
	}
	for _, tt := range []struct {
		address string
		bits    int
		text    string
	}{
		{"10.0.0.0", 8, "ten"}, {"10.255.255.255", 8, "ten"}, {"10.1.0.0", 16, "more"}, {"10.1.255.255", 16, "more"}, {"10.2.0.0", 8, "ten"},
		{"9.255.255.255", -1, ""}, {"11.0.0.0", -1, ""}, {"192.0.2.7", 32, ""}, {"192.0.2.8", -1, ""},
		{"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 32, "doc"}, {"2001:db9::", 0, "all"}, {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, "all"},
		{"::ffff:10.1.2.3", 96, "mapped"},
	} {
		bits, text, ok := prefixes.Snapshot().Prefix(netip.MustParseAddr(tt.address).AsSlice())
		if ok != (tt.bits >= 0) || ok && bits != tt.bits || string(text) != tt.text {
			t.Errorf("Prefix(%s) = %d, %q, %v, want %d, %q", tt.address, bits, text, ok, tt.bits, tt.text)
		}
	}
}

func TestBadLists(t *testing.T) {
	for _, tt := range []struct{ name, key, text, want string }{
		{"empty label", "names", "a..b", `f:1: "a..b" has an empty label: write a name, and behind it a text if there is one`},
		{"two texts", "names", "a x\n\nA. y\n", `f:3: a. is in f:1 with another text: delete one of them`},
		{"line", "names", "a\n" + strings.Repeat("b", 9000), `f:2: the line has more than 8192 octets: write one entry on each line`},
		{"no prefix", "prefixes", "\n10.0.0/8", `f:2: "10.0.0/8" is no prefix: write one as 192.0.2.0/24 or 2001:db8::/32, and behind it a text if there is one`},
		{"zone of an address", "prefixes", "fe80::1%eth0", `f:1: "fe80::1%eth0" is no prefix: write one as 192.0.2.0/24 or 2001:db8::/32, and behind it a text if there is one`},
		{"bits", "prefixes", "10.1.0.0/8", `f:1: 10.1.0.0/8 has bits set behind its length: write 10.0.0.0/8`},
		{"two texts of a prefix", "prefixes", "::/0 x\n10.0.0.0/8\n::/0 y", `f:3: the prefix is in line 1 with another text: delete one of them`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(write(t, map[string]string{"f": tt.text}))
			c := Config{Names: "f"}
			if tt.key == "prefixes" {
				c = Config{Prefixes: "f"}
			}
			if _, err := Open("test", c, "", nil); err == nil || err.Error() != tt.want {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestRandomPrefixes compares with a walk over all prefixes.
func TestRandomPrefixes(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		// Few different octets, so that prefixes nest and meet, also at both ends.
		random := func() netip.Addr {
			octet := func() byte { return []byte{0, 1, 127, 128, 255}[r.IntN(5)] }
			if r.IntN(2) == 0 {
				return netip.AddrFrom4([4]byte{octet(), octet(), octet(), octet()})
			}
			var a [16]byte
			for i := range a {
				a[i] = []byte{0, 255}[r.IntN(2)]
			}
			a[7], a[8] = octet(), octet()
			return netip.AddrFrom16(a)
		}
		all := map[netip.Prefix]string{}
		var text strings.Builder
		for i := range r.IntN(40) {
			a := random()
			p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
			if _, ok := all[p]; !ok {
				all[p] = fmt.Sprint(i)
				fmt.Fprintf(&text, "%s %d\n", p, i)
			}
		}
		s := open(t, Config{Prefixes: "p"}, write(t, map[string]string{"p": text.String()})).Snapshot()
		check := func(a netip.Addr) {
			want, wantText := -1, ""
			for p, text := range all {
				if p.Contains(a) && p.Bits() > want {
					want, wantText = p.Bits(), text
				}
			}
			bits, got, ok := s.Prefix(a.AsSlice())
			if ok != (want >= 0) || ok && (bits != want || string(got) != wantText) {
				t.Fatalf("seed %d: Prefix(%s) = %d, %q, %v, want %d, %q, of\n%s", seed, a, bits, got, ok, want, wantText, text.String())
			}
		}
		for range 200 {
			check(random())
		}
		for p := range all { // both ends, and what is beside them
			check(p.Addr())
			if before := p.Addr().Prev(); before.IsValid() {
				check(before)
			}
			last := p.Addr().AsSlice()
			for i := p.Bits(); i < 8*len(last); i++ {
				last[i/8] |= 0x80 >> (i % 8)
			}
			end, _ := netip.AddrFromSlice(last)
			check(end)
			if after := end.Next(); after.IsValid() {
				check(after)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config Config
		want   string
	}{
		{"nothing", Config{}, "zonefile: is missing: name a zone file, a hosts file, or a file with names or prefixes"},
		{"two", Config{Zonefile: "z", Prefixes: "p"}, "prefixes: there is zonefile already: a table has one source"},
		{"three", Config{Zonefile: "z", Names: "n", Prefixes: "p"}, "names: there is zonefile already: a table has one source"},
		{"origin of names", Config{Names: "n", Origin: "x"}, "origin: is for zone files only: delete it"},
		{"bad origin", Config{Zonefile: "z", Origin: "a..b"}, `origin: "a..b" has an empty label`},
		{"limit", Config{Zonefile: "z", MaxOctets: 1 << 32}, "max_octets: 4294967296 is not between 0 and 4294967295"},
		{"hosts beside a file", Config{Hostsfile: "h", Hosts: []string{"192.0.2.1 a"}}, "hosts: there is hostsfile already: a table has one source"},
		{"good hosts", Config{Hosts: []string{"192.0.2.1\ta b # c"}}, "<nil>"},
		{"good", Config{Zonefile: "z", Origin: "x", MaxOctets: 1 << 20}, "<nil>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := fmt.Sprint(tt.config.Validate()); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
