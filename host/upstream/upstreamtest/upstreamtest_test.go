package upstreamtest

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestServer(t *testing.T) {
	s := Start(t, `127.0.0.1:0 udp tcp: redis.mesh. A -> NOERROR 240.0.0.100 ttl 60; mail.test. MX -> NOERROR "10 a.test." "20 b.test."; `+
		`t.test. TXT -> NOERROR "one; two"; *.gone.test. * -> NXDOMAIN ttl 7; big.test. TXT -> truncated; forged.test. A -> wrong-id 192.0.2.66; `+
		`quiet.test. * -> silence; late.test. A -> after 30 NOERROR 192.0.2.9; any.test. * -> NOERROR 192.0.2.1; bad.test. * -> SERVFAIL`)
	tests := []struct {
		name, qname, qtype, network string
		want                        string // RCODE and RDATA, or an error
	}{
		{"address", "redis.mesh.", "A", "udp", "NOERROR 240.0.0.100"},
		{"case", "ReDis.mesh.", "A", "tcp", "NOERROR 240.0.0.100"},
		{"no rule", "redis.mesh.", "AAAA", "udp", "REFUSED"},
		{"quoted", "mail.test.", "MX", "udp", "NOERROR 10 a.test. 20 b.test."},
		{"semicolon in quotes", "t.test.", "TXT", "udp", `NOERROR "one; two"`},
		{"below", "a.b.gone.test.", "A", "udp", "NXDOMAIN"},
		{"not below", "gone.test.", "A", "udp", "REFUSED"},
		{"wrong id", "forged.test.", "A", "udp", "error"},
		{"silence", "quiet.test.", "A", "udp", "error"},
		{"late", "late.test.", "A", "udp", "NOERROR 192.0.2.9"},
		{"late over tcp", "late.test.", "A", "tcp", "NOERROR 192.0.2.9"},
		{"any type", "any.test.", "A", "udp", "NOERROR 192.0.2.1"},
		{"any type, other", "any.test.", "MX", "udp", "NOERROR"},
		{"rcode", "bad.test.", "A", "udp", "SERVFAIL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query := new(dns.Msg)
			query.SetQuestion(tt.qname, dns.StringToType[tt.qtype])
			client := dns.Client{Net: tt.network, Timeout: 5 * time.Second}
			if tt.want == "error" {
				client.Timeout = 50 * time.Millisecond
			}
			response, _, err := client.ExchangeContext(t.Context(), query, s.Addr.String())
			got := "error"
			if err == nil {
				got = dns.RcodeToString[response.Rcode]
				for _, rr := range response.Answer {
					got += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
				}
			}
			if got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
	if s.UDP() == 0 || s.TCP() != 2 {
		t.Errorf("counted %d over UDP and %d over TCP, want some and 2", s.UDP(), s.TCP())
	}
}

func TestTruncated(t *testing.T) {
	s := Start(t, "127.0.0.1:0 udp tcp: * * -> truncated")
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT} {
		query := new(dns.Msg)
		query.SetQuestion("big.test.", qtype)
		over := func(network string) *dns.Msg {
			client := dns.Client{Net: network}
			response, _, err := client.ExchangeContext(t.Context(), query, s.Addr.String())
			if err != nil {
				t.Fatalf("%s: %v", network, err)
			}
			return response
		}
		if r := over("udp"); !r.Truncated || len(r.Answer) != 0 {
			t.Errorf("%s over UDP: TC %t with %d records, want TC and none", dns.Type(qtype), r.Truncated, len(r.Answer))
		}
		if r := over("tcp"); r.Truncated || r.Len() <= 1232 {
			t.Errorf("%s over TCP: TC %t with %d octets, want a whole answer larger than 1232", dns.Type(qtype), r.Truncated, r.Len())
		}
	}
}

func TestNegativeHasSOA(t *testing.T) {
	spec, err := ParseLine("127.0.0.1:0 udp: *.zone.test. A -> NXDOMAIN ttl 600; * * -> NOERROR")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.zone.test.": "zone.test.\t600", "b.test.": ".\t300"} {
		query := new(dns.Msg)
		response, _ := spec.respond(query.SetQuestion(name, dns.TypeA), false)
		if len(response.Ns) != 1 || !strings.HasPrefix(response.Ns[0].String(), want) {
			t.Errorf("%s: authority %v, want an SOA %q", name, response.Ns, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no rules", "127.0.0.1:53 udp", "line 1: "},
		{"second line", "# c\n127.0.0.1:53 udp: * * -> silence\nx", "line 3: "},
		{"no port", "127.0.0.1 udp: * * -> silence", "missing port"},
		{"protocol", "127.0.0.1:53 tls: * * -> silence", `protocol "tls"`},
		{"type", "127.0.0.1:53 udp: * B -> silence", `unknown type "B"`},
		{"outcome", "127.0.0.1:53 udp: * A -> NONE", `unknown outcome "NONE"`},
		{"rdata", "127.0.0.1:53 udp: * A -> NOERROR x", "A x"},
		{"ttl", "127.0.0.1:53 udp: * A -> NOERROR ttl x", `ttl "x"`},
		{"after", "127.0.0.1:53 udp: * A -> after x NOERROR", `after "x"`},
		{"no arrow", "127.0.0.1:53 udp: * A silence", "NAME TYPE -> OUTCOME"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(strings.NewReader(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestListenTwice(t *testing.T) {
	s := Start(t, "127.0.0.1:0 tcp: * * -> silence")
	if _, err := Listen(Spec{Address: s.Addr.String(), Protocols: []string{"tcp"}}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server on %s: got %v, want an error", s.Addr, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`127.0.0.1:53 udp tcp: a. A -> after 5 NOERROR 192.0.2.1 ttl 1; * * -> truncated "x"`)
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range specs {
			query := new(dns.Msg)
			s.respond(query.SetQuestion("a.", dns.TypeA), true)
		}
	})
}
