package message_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

func TestRecords(t *testing.T) {
	m := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	m.Response, m.Compress = true, true
	for _, s := range []struct {
		to   *[]dns.RR
		text string
	}{
		{&m.Answer, "www.example. 300 IN CNAME host.example."},
		{&m.Answer, "host.example. 60 IN A 192.0.2.1"},
		{&m.Ns, "example. 86400 IN NS ns.example."},
		{&m.Extra, "ns.example. 4294967295 IN A 192.0.2.53"},
	} {
		rr, err := dns.NewRR(s.text)
		if err != nil {
			t.Fatal(err)
		}
		*s.to = append(*s.to, rr)
	}
	m.Extra[0].Header().Ttl = 1<<32 - 1
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		section message.Section
		rrtype  uint16
		ttl     uint32
		size    int
	}
	want := []seen{
		{message.Answer, 5, 300, 7},
		{message.Answer, 1, 60, 4},
		{message.Authority, 2, 86400, 5},
		{message.Additional, 1, 1<<32 - 1, 4},
	}
	i := 0
	for r := range message.Records(msg) {
		if i == len(want) {
			t.Fatal("more records than there are")
		}
		if got := (seen{r.Section, r.Type, r.TTL, len(r.Data)}); got != want[i] {
			t.Errorf("record %d: got %+v, want %+v", i, got, want[i])
		}
		if got := uint32(msg[r.At])<<24 | uint32(msg[r.At+1])<<16 | uint32(msg[r.At+2])<<8 | uint32(msg[r.At+3]); got != want[i].ttl {
			t.Errorf("record %d: at %d there is %d, want the TTL %d", i, r.At, got, want[i].ttl)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("got %d records, want %d", i, len(want))
	}
	for range message.Records(msg) {
		break // stops when told
	}
}
