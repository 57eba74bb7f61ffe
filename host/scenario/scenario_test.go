package scenario

import (
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParse(t *testing.T) {
	got, err := Parse(`
# a comment
@127.0.0.1:53 from 127.0.1.1 over tcp www.test A -> NOERROR aa "www.other.test." 192.0.2.1 | TTL at most 5
svc.test HTTPS -> NOERROR ...
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("got %d queries, want 2", len(got))
	}
	q := got[0]
	if q.Listener != "127.0.0.1:53" || q.From.String() != "127.0.1.1" || !q.TCP || q.Name != "www.test." || q.Type != dns.TypeA || q.RCODE != "NOERROR" ||
		!q.AA || !reflect.DeepEqual(q.Answers, []string{"www.other.test.", "192.0.2.1"}) || q.Note != "TTL at most 5" {
		t.Errorf("got %+v", q)
	}
	if !got[1].Some || got[1].AA || got[1].Answers != nil {
		t.Errorf("got %+v", got[1])
	}
	for _, bad := range []string{"www.test A NOERROR", "www.test -> NOERROR", "www.test NOTYPE -> NOERROR", "by www.test A -> NOERROR", "www.test A -> "} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) did not fail", bad)
		}
	}
}

func TestCheck(t *testing.T) {
	rr := func(s string) dns.RR {
		r, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	response := func(change func(m *dns.Msg)) *dns.Msg {
		m := new(dns.Msg).SetQuestion("www.test.", dns.TypeA)
		m.Response = true
		m.SetEdns0(1232, false)
		m.Answer = []dns.RR{rr("www.test. 30 IN A 192.0.2.1")}
		change(m)
		return m
	}
	for _, tt := range []struct {
		name, line string
		change     func(m *dns.Msg)
		wrong      string // part of the complaint, empty: none
	}{
		{name: "right", line: "www.test A -> NOERROR 192.0.2.1", change: func(*dns.Msg) {}},
		{name: "rcode", line: "www.test A -> NXDOMAIN", change: func(*dns.Msg) {}, wrong: "RCODE NOERROR"},
		{name: "aa", line: "www.test A -> NOERROR aa", change: func(*dns.Msg) {}, wrong: "AA false"},
		{name: "answers", line: "www.test A -> NOERROR 192.0.2.2", change: func(*dns.Msg) {}, wrong: "answers"},
		{name: "some", line: "www.test A -> NOERROR ...", change: func(m *dns.Msg) { m.Answer = nil }, wrong: "no answer"},
		{name: "none", line: "www.test A -> NOERROR | NODATA with the SOA", change: func(*dns.Msg) {}, wrong: "want none"},
		{name: "soa", line: "www.test A -> NOERROR | NODATA with the SOA", change: func(m *dns.Msg) { m.Answer = nil }, wrong: "no SOA"},
		{name: "ttl at most", line: "www.test A -> NOERROR 192.0.2.1 | TTL at most 5", change: func(*dns.Msg) {}, wrong: "TTL 30"},
		{name: "ttl", line: "www.test A -> NOERROR 192.0.2.1 | TTL 60", change: func(*dns.Msg) {}, wrong: "TTL 30"},
		{name: "ede", line: "www.test A -> NOERROR | an EDE says why", change: func(*dns.Msg) {}, wrong: "no EDE"},
		{name: "which ede", line: "www.test A -> NOERROR | with EDE 18 (Prohibited) or 20", change: func(m *dns.Msg) {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: 20})
		}},
		{name: "case", line: "www.test A -> NOERROR", change: func(m *dns.Msg) { m.Question[0].Name = "WWW.test." }, wrong: "came back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			queries, err := Parse(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			err = queries[0].check(response(tt.change))
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("got %v, want %q", err, tt.wrong)
			}
		})
	}
}
