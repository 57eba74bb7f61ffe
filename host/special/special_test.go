package special_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
	"github.com/weirdns/weir/host/special"
)

func parse(t testing.TB, name string, qtype, class uint16) *message.Query {
	t.Helper()
	wire, err := message.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	msg := mt.Join(mt.Header(7, message.FlagRD, 1, 0, 0, 1), wire, []byte{byte(qtype >> 8), byte(qtype), byte(class >> 8), byte(class)}, mt.OPT(1232, 0))
	q := new(message.Query)
	if rcode, ok := q.Parse(msg); !ok {
		t.Fatalf("%s: %s", name, message.RCODEString(rcode))
	}
	return q
}

func TestFind(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"localhost", "localhost."},
		{"LocalHost", "localhost."},
		{"www.localhost", "localhost."},
		{"localhost.example", ""},
		{"notlocalhost", ""},
		{`not\.localhost`, ""},
		{`x\009localhost.t`, ""},
		{"invalid", "invalid."},
		{"www.invalid", "invalid."},
		{"facebookcorewwwi.onion", "onion."},
		{"x.alt", "alt."},
		{"salt", ""},
		{"test", ""},
		{"www.test", ""},
		{"printer.local", ""},
		{"home.arpa", "home.arpa."},
		{"printer.home.arpa", "home.arpa."},
		{"nohome.arpa", ""},
		{"arpa", ""},
		{"in-addr.arpa", ""},
		{"1.0.0.10.in-addr.arpa", "10.in-addr.arpa."},
		{"10.in-addr.arpa", "10.in-addr.arpa."},
		{"110.in-addr.arpa", ""},
		{"1.15.172.in-addr.arpa", ""},
		{"1.16.172.in-addr.arpa", "16.172.in-addr.arpa."},
		{"1.31.172.in-addr.arpa", "31.172.in-addr.arpa."},
		{"1.32.172.in-addr.arpa", ""},
		{"7.168.192.in-addr.arpa", "168.192.in-addr.arpa."},
		{"63.100.in-addr.arpa", ""},
		{"64.100.in-addr.arpa", "64.100.in-addr.arpa."},
		{"127.100.in-addr.arpa", "127.100.in-addr.arpa."},
		{"128.100.in-addr.arpa", ""},
		{"1.0.0.127.in-addr.arpa", "127.in-addr.arpa."},
		{"8.8.8.8.in-addr.arpa", ""},
		{"1.d.f.ip6.arpa", "d.f.ip6.arpa."},
		{"0.8.e.f.ip6.arpa", "8.e.f.ip6.arpa."},
		{"0.c.e.f.ip6.arpa", ""},
		{"1.8.b.d.0.1.0.0.2.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa."},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa."},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", ""},
		{"_dns.resolver.arpa", "resolver.arpa."},
		{".", ""},
		{"www.example.com", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if z := special.Find(&parse(t, tt.name, message.TypeA, message.ClassIN).Question); z != nil {
				got = z.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if special.Find(&parse(t, tt.name, message.TypeA, 3).Question) != nil {
				t.Error("found in class CHAOS")
			}
		})
	}
}

func TestRespond(t *testing.T) {
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string // RDATA of the answer; empty for a SOA record in the authority section
	}{
		{"localhost", dns.TypeA, 0, "localhost.\t10800\tIN\tA\t127.0.0.1"},
		{"localhost", dns.TypeAAAA, 0, "localhost.\t10800\tIN\tAAAA\t::1"},
		{"WWW.localhost", dns.TypeA, 0, "www.localhost.\t10800\tIN\tA\t127.0.0.1"},
		{"localhost", dns.TypeANY, 0, "localhost.\t10800\tIN\tA\t127.0.0.1"},
		{"localhost", dns.TypeMX, 0, ""},
		{"localhost", dns.TypeNS, 0, ""},
		{"invalid", dns.TypeA, dns.RcodeNameError, ""},
		{"x.onion", dns.TypeAAAA, dns.RcodeNameError, ""},
		{"onion", dns.TypeSOA, dns.RcodeNameError, ""},
		{"home.arpa", dns.TypeSOA, 0, "home.arpa.\t10800\tIN\tSOA\thome.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"home.arpa", dns.TypeANY, 0, "home.arpa.\t10800\tIN\tSOA\thome.arpa. nobody.invalid. 1 3600 1200 604800 10800"},
		{"home.arpa", dns.TypeNS, 0, "home.arpa.\t10800\tIN\tNS\thome.arpa."},
		{"home.arpa", dns.TypeA, 0, ""},
		{"a.home.arpa", dns.TypeSOA, dns.RcodeNameError, ""},
		{"1.0.0.10.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
		{"resolver.arpa", dns.TypeA, 0, ""},
		{"_dns.resolver.arpa", dns.TypeSVCB, 0, ""},
		{"_dns.resolver.arpa", dns.TypeA, 0, ""},
		{"x._dns.resolver.arpa", dns.TypeSVCB, dns.RcodeNameError, ""},
		{"x.resolver.arpa", dns.TypeSVCB, dns.RcodeNameError, ""},
	} {
		t.Run(tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			q := parse(t, tt.name, tt.qtype, message.ClassIN)
			z := special.Find(&q.Question)
			r := z.Respond(q, []byte("before"))
			kind := r.Class
			var checked message.Response
			if err := checked.Parse(append([]byte(nil), r.Message...), &q.Question); err != nil || checked.Class != kind || checked.RCODE != r.RCODE {
				t.Fatalf("got %x, class %d: parsed as class %d, %v", r.Message, kind, checked.Class, err)
			}
			m := new(dns.Msg)
			if err := m.Unpack(r.Finish(q, 1232)); err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(m.Answer) == 1 {
				got = m.Answer[0].String()
			}
			if m.Rcode != tt.rcode || got != tt.want {
				t.Errorf("got %v, want %s and %q", m, dns.RcodeToString[tt.rcode], tt.want)
			}
			if tt.want == "" && (len(m.Answer) > 0 || len(m.Ns) != 1 || m.Ns[0].Header().Name != z.String() || m.Ns[0].Header().Rrtype != dns.TypeSOA) {
				t.Errorf("got %v, want a SOA record of %s", m, z)
			}
			if e, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || e.InfoCode != message.EDESynthesized {
				t.Errorf("got %v, want the EDE Synthesized", m.IsEdns0())
			}
		})
	}
}

// TestLongOwner: the SOA record's owner is a pointer to what is beyond octet 255 of the message.
func TestLongOwner(t *testing.T) {
	name := ""
	for len(name) < 240 {
		name += "x."
	}
	q := parse(t, name+"home.arpa", message.TypeA, message.ClassIN)
	r := special.Find(&q.Question).Respond(q, nil)
	m := new(dns.Msg)
	if err := m.Unpack(r.Finish(q, 1232)); err != nil || m.Ns[0].Header().Name != "home.arpa." {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestAllocations(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, name := range []string{"www.example.com", "www.localhost", "1.0.0.10.in-addr.arpa", "www.example.net"} {
		q := parse(t, name, message.TypeA, message.ClassIN)
		if n := testing.AllocsPerRun(100, func() {
			if z := special.Find(&q.Question); z != nil {
				z.Respond(q, buf)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, name := range []string{"www.example.com", "www.example.net", "4.3.2.1.in-addr.arpa", "www.localhost"} {
		b.Run(name, func(b *testing.B) {
			q := parse(b, name, message.TypeA, message.ClassIN)
			b.ReportAllocs()
			for b.Loop() {
				special.Find(&q.Question)
			}
		})
	}
}
