package sdk

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// message makes a message with these records in the answer section, names compressed.
func message(t testing.TB, records ...string) Message {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	m.Response, m.Compress = true, true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// read says all that the typed functions say of a record.
func read(r *Records) string {
	var s []string
	say := func(format string, a ...any) { s = append(s, fmt.Sprintf(format, a...)) }
	if owner, ok := r.AppendOwner(nil); ok {
		say("%s", AppendText(nil, owner))
	}
	if address, ok := r.Address(); ok {
		a, _ := netip.AddrFromSlice(address)
		say("address %s", a)
	}
	if target, ok := r.AppendTarget(nil); ok {
		say("target %s", AppendText(nil, target))
	}
	if n, ok := r.Preference(); ok {
		say("preference %d", n)
	}
	if priority, weight, port, ok := r.SRV(); ok {
		say("srv %d %d %d", priority, weight, port)
	}
	if soa, ok := r.SOA(); ok {
		say("soa %d", soa)
	}
	for t := r.Strings(); t.Next(); {
		say("string %q", t.Text)
	}
	return strings.Join(s, ", ")
}

func TestTypedRecords(t *testing.T) {
	for _, tt := range []struct{ record, want string }{
		{"www.example.com. 1 A 192.0.2.1", "www.example.com., address 192.0.2.1"},
		{"WWW.example.com. 1 AAAA 2001:db8::1", "WWW.example.com., address 2001:db8::1"},
		{"www.example.com. 1 CNAME a.example.com.", "www.example.com., target a.example.com."},
		{"example.com. 1 NS ns.example.com.", "example.com., target ns.example.com."},
		{"example.com. 1 DNAME example.net.", "example.com., target example.net."},
		{"1.2.0.192.in-addr.arpa. 1 PTR www.example.com.", "1.2.0.192.in-addr.arpa., target www.example.com."},
		{"example.com. 1 MX 10 mx.example.com.", "example.com., target mx.example.com., preference 10"},
		{"_x._tcp.example.com. 1 SRV 1 2 443 www.example.com.", "_x._tcp.example.com., target www.example.com., srv 1 2 443"},
		{"example.com. 1 HTTPS 1 . alpn=h2", "example.com., target ., preference 1"},
		{"example.com. 1 SVCB 0 svc.example.net.", "example.com., target svc.example.net., preference 0"},
		{"example.com. 1 SOA ns host 7 3600 600 86400 60", "example.com., soa {7 3600 600 86400 60}"},
		{`example.com. 1 TXT "one" "" "two"`, `example.com., string "one", string "", string "two"`},
		{"example.com. 1 CAA 0 issue x", "example.com."},
		{"example.com. 1 CH A \\# 4 01020304", "example.com."},
	} {
		t.Run(tt.record, func(t *testing.T) {
			m := message(t, tt.record)
			r := m.Records()
			if !r.Next() {
				t.Fatal("got no record")
			}
			if got := read(&r); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			owner, _ := r.AppendOwner(nil)
			Canonicalize(owner)
			if !r.OwnerIs(owner) || r.OwnerIs([]byte("\x05other\x00")) {
				t.Errorf("OwnerIs: want %q and nothing else", owner)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		high byte
		low  byte
		want string
	}{
		{"none", 0, 0, "0 false false false false false false"},
		{"all", 0xFF, 0xFF, "15 true true true true true true"},
		{"AA", 0x84, 0, "0 true false false false false false"},
		{"TC", 0x82, 0, "0 false true false false false false"},
		{"RD", 0x01, 0, "0 false false true false false false"},
		{"RA", 0x80, 0x80, "0 false false false true false false"},
		{"AD", 0, 0x20, "0 false false false false true false"},
		{"CD", 0, 0x10, "0 false false false false false true"},
		{"NOTIFY", 0x20, 0, "4 false false false false false false"},
	} {
		m := Message{0, 0, tt.high, tt.low, 0, 0, 0, 0, 0, 0, 0, 0}
		if got := fmt.Sprint(m.Opcode(), m.AA(), m.TC(), m.RD(), m.RA(), m.AD(), m.CD()); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	if m := (Message{1, 2, 3}); m.AA() || m.RD() || m.Opcode() != 0 {
		t.Error("a message without a header has bits")
	}
}

// FuzzTypedRecords: no octets make the typed functions read outside of a record, or panic.
func FuzzTypedRecords(f *testing.F) {
	for _, r := range []string{"example.com. 1 MX 10 mx.example.com.", `example.com. 1 TXT "a" "b"`, "x.example.com. 1 SRV 1 2 3 y.example.com.",
		"example.com. 1 SOA ns host 7 3600 600 86400 60", "example.com. 1 HTTPS 1 . alpn=h2", "example.com. 1 AAAA ::1"} {
		f.Add([]byte(message(f, r)))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		for r := Message(octets).Records(); r.Next(); {
			if len(r.RDATA()) != r.End-r.Data {
				t.Fatal("RDATA has another size")
			}
			read(&r)
		}
	})
}

func TestTypedRecordsAllocate(t *testing.T) {
	m := message(t, "www.example.com. 1 CNAME a.example.com.", "a.example.com. 1 A 192.0.2.1", `a.example.com. 1 TXT "x" "y"`, "a.example.com. 1 MX 1 b.example.com.")
	var room [MaxName]byte
	zone := []byte("\x01a\x07example\x03com\x00")
	sum := 0
	if n := testing.AllocsPerRun(100, func() {
		for r := m.Records(); r.Next(); {
			if address, ok := r.Address(); ok {
				sum += len(address)
			}
			if target, ok := r.AppendTarget(room[:0]); ok {
				sum += len(target)
			}
			for s := r.Strings(); s.Next(); {
				sum += len(s.Text)
			}
			if r.OwnerIs(zone) {
				sum++
			}
		}
	}); n > 0 || sum == 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestWalk(t *testing.T) {
	s := set(t, "www.example.com. 1 A 192.0.2.1", "www.example.com. 1 A 192.0.2.2", "www.example.com. 1 A 192.0.2.3")
	var got []string
	for w := s.Walk(); w.Next(); {
		got = append(got, fmt.Sprintf("%d", w.RDATA))
	}
	if got, want := strings.Join(got, " "), "[192 0 2 1] [192 0 2 2] [192 0 2 3]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for n := range len(s.Records) { // an RRset that is cut off has fewer records, and no others
		count := 0
		for w := (RRset{3, s.Records[:n]}).Walk(); w.Next(); {
			count++
		}
		if count != n/16 {
			t.Errorf("of %d octets: got %d records, want %d", n, count, n/16)
		}
	}
}
