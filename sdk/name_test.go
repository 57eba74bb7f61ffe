package sdk

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestAppendName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tt := range []struct{ name, text, want, wrong string }{
		{"root", ".", "\x00", ""},
		{"with the dot", "example.com.", "\x07example\x03com\x00", ""},
		{"without the dot", "example.com", "\x07example\x03com\x00", ""},
		{"capitals", "ExAmPlE.COM", "\x07example\x03com\x00", ""},
		{"escaped dot", `a\.b.c`, "\x03a.b\x01c\x00", ""},
		{"escaped number", `\000\255\065`, "\x03\x00\xffa\x00", ""},
		{"underscore", "_dns._udp", "\x04_dns\x04_udp\x00", ""},
		{"label of 63", long, "\x3f" + long + "\x00", ""},
		{"255 octets", long + "." + long + "." + long + "." + long[:61], "\x3f" + long + "\x3f" + long + "\x3f" + long + "\x3d" + long[:61] + "\x00", ""},
		{"256 octets", long + "." + long + "." + long + "." + long[:62], "", "longer than 255"},
		{"label of 64", long + "a", "", "more than 63"},
		{"empty", "", "", "empty"},
		{"two dots", "a..b", "", "empty label"},
		{"leading dot", ".a", "", "empty label"},
		{"blank", "a b", "", "blank"},
		{"line break", "a\n", "", "blank or control"},
		{"UTF-8", "é", "", "ASCII"},
		{"half an escape", `a\`, "", "escape"},
		{"short escape", `a\12`, "", "escape"},
		{"escape too high", `a\256`, "", "escape"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, wrong := AppendName([]byte("before"), []byte(tt.text))
			if string(got) != "before"+tt.want || (wrong == "") != (tt.wrong == "") || !strings.Contains(wrong, tt.wrong) {
				t.Errorf("got %q, %q; want %q, %q", got, wrong, "before"+tt.want, tt.wrong)
			}
		})
	}
}

// FuzzAppendName: what is taken is a canonical name, which miekg/dns reads in the same way, and survives the way back.
func FuzzAppendName(f *testing.F) {
	for _, s := range []string{".", "example.com", `a\.b.c.`, `\000\255`, "a..b", strings.Repeat("a.", 127)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, wrong := AppendName(nil, []byte(text))
		if wrong != "" {
			if len(name) != 0 {
				t.Fatalf("got %q with %q", name, wrong)
			}
			return
		}
		if CheckName(name) != len(name) {
			t.Fatalf("%q: got %q, which is no name", text, name)
		}
		buf := make([]byte, 256)
		n, err := dns.PackDomainName(dns.Fqdn(text), buf, 0, nil, false)
		if err != nil {
			t.Fatalf("%q: miekg/dns says %v", text, err)
		}
		Canonicalize(buf[:n])
		if string(buf[:n]) != string(name) {
			t.Fatalf("%q: got %q, miekg/dns %q", text, name, buf[:n])
		}
		again, wrong := AppendName(nil, AppendText(nil, name))
		if wrong != "" || string(again) != string(name) {
			t.Fatalf("%q and back: got %q, %s", name, again, wrong)
		}
	})
}

func TestIsWithin(t *testing.T) {
	for _, tt := range []struct {
		name, zone string
		want       bool
	}{
		{"example.com", "example.com", true},
		{"www.example.com", "example.com", true},
		{"www.example.com", "com", true},
		{"www.example.com", ".", true},
		{".", ".", true},
		{"notexample.com", "example.com", false},
		{"com", "example.com", false},
		{"example.org", "com", false},
		{`a\003com`, "com", false},
	} {
		name, _ := AppendName(nil, []byte(tt.name))
		zone, _ := AppendName(nil, []byte(tt.zone))
		if got := IsWithin(name, zone); got != tt.want {
			t.Errorf("IsWithin(%s, %s): got %v, want %v", tt.name, tt.zone, got, tt.want)
		}
	}
}

func TestRegistry(t *testing.T) {
	for n, name := range dns.RcodeToString {
		if name == "BADSIG" || n > 23 { // 16 has two names; above are those of TSIG, which have none for 16
			continue
		}
		if got, ok := ParseRCODE([]byte(strings.ToLower(name))); name != "NOTIMPL" && (!ok || int(got) != n) {
			t.Errorf("ParseRCODE(%s): got %d, %v, want %d", name, got, ok, n)
		}
	}
	for n, name := range dns.TypeToString {
		got, ok := ParseType([]byte(name))
		if name == "None" || name == "Reserved" || name == "NSAP-PTR" && !ok {
			continue
		}
		if !ok || uint16(got) != n {
			t.Errorf("ParseType(%s): got %d, %v, want %d", name, got, ok, n)
		}
	}
	for _, name := range []string{"TYPE0", "TYPE65535", "type1"} {
		if _, ok := ParseType([]byte(name)); !ok {
			t.Errorf("ParseType(%s): got none", name)
		}
	}
	for _, name := range []string{"", "TYPE", "TYPE65536", "TYPE-1", "TYPE+1", "AAAAA"} {
		if got, ok := ParseType([]byte(name)); ok {
			t.Errorf("ParseType(%q): got %d, want none", name, got)
		}
	}
	if got := string(AppendType(AppendRCODE(AppendRCODE(nil, 16), 3841), 65280)); got != "BADVERSRCODE3841TYPE65280" {
		t.Errorf("got %s", got)
	}
}
