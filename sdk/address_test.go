package sdk

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// FuzzAddress compares with net/netip, which guests stay away from.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"192.0.2.1", "0.0.0.0", "255.255.255.255", "256.1.1.1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1..2.3", "1.2.3.", ".1.2.3", "", ".", ":",
		"::", "::1", "1::", "2001:db8::1", "2001:DB8:0:0:1:0:0:1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7:8:9", "1::2::3", ":::", "1:::2", ":1", "1:", "::ffff:192.0.2.1", "64:ff9b::192.0.2.33", "1:2:3:4:5:6:192.0.2.1",
		"1:2:3:4:5:6:7:192.0.2.1", "::12345", "::g", "fe80::1%eth0", "::192.0.2.1:1", "::192.0.2", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8",
		"0:0:0:0:0:0:0:0", "1:0:0:2:0:0:0:3", "1:0:2:3:4:5:6:7",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := netip.ParseAddr(text)
		ok := err == nil && want.Zone() == ""
		got, gotOK := AppendAddress([]byte("?"), []byte(text))
		if gotOK != ok || got[0] != '?' {
			t.Fatalf("AppendAddress(%q) = %x, %v; want %v, %v", text, got, gotOK, want, ok)
		}
		if !ok {
			if len(got) != 1 {
				t.Fatalf("AppendAddress(%q) left %x", text, got)
			}
			return
		}
		if !bytes.Equal(got[1:], want.AsSlice()) {
			t.Fatalf("AppendAddress(%q) = %x, want %x", text, got[1:], want.AsSlice())
		}
		if s := string(AppendAddressText(nil, got[1:])); s != want.String() {
			t.Fatalf("AppendAddressText(%x) = %q, want %q", got[1:], s, want)
		}
	})
}

func FuzzPrefix(f *testing.F) {
	for _, s := range []string{
		"192.0.2.0/24", "0.0.0.0/0", "192.0.2.1", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/024", "192.0.2.0/", "/24", "192.0.2.0/x", "::/0", "2001:db8::/32",
		"2001:db8::1/32", "::1/128", "::1/129", "::1", "10.0.0.0/8/8", "128.0.0.0/0", "192.0.2.0/-1", "192.0.2.0/+24", "192.0.2.0/999999999999999999999",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := netip.ParsePrefix(text)
		if addr, aerr := netip.ParseAddr(text); aerr == nil && addr.Zone() == "" {
			want, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		address, bits, wrong := ParsePrefix([]byte(text))
		if wrong != "" && err == nil && want != want.Masked() {
			if !strings.Contains(wrong, `"`+want.Masked().String()+`"`) {
				t.Fatalf("ParsePrefix(%q): %q, want it to say %s", text, wrong, want.Masked())
			}
			return
		}
		if (wrong == "") != (err == nil) {
			t.Fatalf("ParsePrefix(%q): %q, want %v %v", text, wrong, want, err)
		}
		if err == nil && (!bytes.Equal(address, want.Addr().AsSlice()) || bits != want.Bits()) {
			t.Fatalf("ParsePrefix(%q) = %x/%d, want %v", text, address, bits, want)
		}
	})
}
