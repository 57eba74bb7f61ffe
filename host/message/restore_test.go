package message_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// rewritten and asked are the two questions of most tests here: weir asked for b.example.org instead of www.example.com.
func question(name string) *message.Question {
	return &message.Question{Name: mt.Name(name), Key: mt.Name(strings.ToLower(name)), Type: message.TypeA, Class: message.ClassIN}
}

func TestAppendRestored(t *testing.T) {
	// The response in zone file format as it comes from upstream, and what the client has to see.
	tests := []struct{ name, records, want string }{
		{"address", "b.example.org. A 192.0.2.1", "www.example.com. A 192.0.2.1"},
		{"other case", "B.Example.ORG. A 192.0.2.1", "www.example.com. A 192.0.2.1"},
		{"CNAME", "b.example.org. CNAME c.example.org.\nc.example.org. A 192.0.2.1", "www.example.com. CNAME c.example.org.\nc.example.org. A 192.0.2.1"},
		{"names in RDATA stay", "b.example.org. CNAME b.example.org.", "www.example.com. CNAME b.example.org."},
		{"owners below stay", "x.b.example.org. A 192.0.2.1", "x.b.example.org. A 192.0.2.1"},
		{"NS", "example.org. NS b.example.org.", "example.org. NS b.example.org."},
		{"PTR", "b.example.org. PTR x.b.example.org.", "www.example.com. PTR x.b.example.org."},
		{"DNAME", "example.org. DNAME b.example.org.", "example.org. DNAME b.example.org."},
		{"SOA", "example.org. SOA ns.example.org. root.b.example.org. 1 2 3 4 5", "example.org. SOA ns.example.org. root.b.example.org. 1 2 3 4 5"},
		{"MX", "b.example.org. MX 10 mx.b.example.org.", "www.example.com. MX 10 mx.b.example.org."},
		{"SRV", "b.example.org. SRV 1 2 3 mx.b.example.org.", "www.example.com. SRV 1 2 3 mx.b.example.org."},
		{"NAPTR", `b.example.org. NAPTR 1 2 "s" "SIP+D2U" "" b.example.org.`, `www.example.com. NAPTR 1 2 "s" "SIP+D2U" "" b.example.org.`},
		{"MINFO", "b.example.org. MINFO a.example.org. b.example.org.", "www.example.com. MINFO a.example.org. b.example.org."},
		{"RP", "b.example.org. RP a.example.org. b.example.org.", "www.example.com. RP a.example.org. b.example.org."},
		{"AFSDB", "b.example.org. AFSDB 1 b.example.org.", "www.example.com. AFSDB 1 b.example.org."},
		{"RT", "b.example.org. RT 1 b.example.org.", "www.example.com. RT 1 b.example.org."},
		{"KX", "b.example.org. KX 1 b.example.org.", "www.example.com. KX 1 b.example.org."},
		{"PX", "b.example.org. PX 1 a.example.org. b.example.org.", "www.example.com. PX 1 a.example.org. b.example.org."},
		{"TXT", `b.example.org. TXT "b.example.org."`, `www.example.com. TXT "b.example.org."`},
		{"HTTPS", "b.example.org. HTTPS 1 x.example.org. alpn=h2", "www.example.com. HTTPS 1 x.example.org. alpn=h2"},
		{"RRSIG", "b.example.org. RRSIG A 8 3 300 20300101000000 20290101000000 1 example.org. AAAA", "www.example.com. RRSIG A 8 3 300 20300101000000 20290101000000 1 example.org. AAAA"},
		{"unknown type", `b.example.org. TYPE65280 \# 4 c00cc00c`, `www.example.com. TYPE65280 \# 4 c00cc00c`},
		{"root", ". NS .", ". NS ."},
	}
	for _, tt := range tests {
		for _, compress := range []bool{false, true} {
			for _, asked := range []string{"www.example.com", ".", "a.very.much.longer.name.than.the.other.one.example", string(mt.Repeat(60, 'x')) + ".example"} {
				t.Run(tt.name+" for "+asked, func(t *testing.T) {
					in := parseRecords(t, tt.records)
					want := parseRecords(t, strings.ReplaceAll(tt.want, "www.example.com.", dns.Fqdn(asked)))
					m := new(dns.Msg).SetQuestion("b.example.org.", dns.TypeA)
					m.Response, m.Authoritative, m.AuthenticatedData, m.Compress = true, true, true, compress
					m.Answer, m.Ns, m.Extra = in, in[:1], in[:1]
					msg, err := m.Pack()
					if err != nil {
						t.Fatal(err)
					}
					var r message.Response
					if err := r.Parse(msg, question("b.example.org")); err != nil {
						t.Fatal(err)
					}
					before := bytes.Clone(r.Message)
					out, err := r.AppendRestored([]byte("??"), question("b.example.org"), question(asked))
					if err != nil || string(out[:2]) != "??" {
						t.Fatalf("got %q, %v", out, err)
					}
					if !bytes.Equal(r.Message, before) {
						t.Error("the response has changed")
					}
					if out[2+3]&message.FlagAD != 0 {
						t.Error("AD is set: nobody has validated the answer to this question")
					}
					var back message.Response
					if err := back.ParseOwn(out[2:], question(asked)); err != nil {
						t.Fatalf("Parse of what was restored: %v", err)
					}
					var got dns.Msg
					if err := got.Unpack(out[2:]); err != nil {
						t.Fatalf("%x: %v", out[2:], err)
					}
					if got.Question[0].Name != dns.Fqdn(asked) || !got.Authoritative {
						t.Errorf("got %v", &got)
					}
					compareRecords(t, "answer", got.Answer, want)
					compareRecords(t, "authority", got.Ns, want[:1])
					compareRecords(t, "additional", got.Extra, want[:1])
				})
			}
		}
	}
}

func parseRecords(t *testing.T, text string) (rrs []dns.RR) {
	t.Helper()
	for line := range strings.Lines(text) {
		owner, rest, _ := strings.Cut(line, " ")
		rr, err := dns.NewRR(owner + " 300 IN " + rest)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

func compareRecords(t *testing.T, section string, got, want []dns.RR) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %v, want %v", section, got, want)
	}
	for i := range got {
		if got[i].String() != want[i].String() {
			t.Errorf("%s: got %v, want %v", section, got[i], want[i])
		}
	}
}

func TestAppendRestoredErrors(t *testing.T) {
	q := question("b.example.org")
	head := func(records uint16) []byte {
		return mt.Join(mt.Header(1, message.FlagQR, 1, records, 0, 0), q.AppendWire(nil))
	}
	end := len(head(0))
	tests := []struct {
		name string
		msg  []byte
	}{
		{"CNAME without RDATA", mt.Join(head(1), mt.Record(mt.Pointer(12), message.TypeCNAME))},
		{"CNAME reaches into the next record", mt.Join(head(2), mt.Record(mt.Pointer(12), message.TypeCNAME, 3, 'a'), mt.Record(mt.Pointer(12), message.TypeA, 1, 2, 3, 4))},
		{"CNAME loop", mt.Join(head(1), mt.Record(mt.Pointer(12), message.TypeCNAME, mt.Pointer(end+12)...))},
		{"MX of one octet", mt.Join(head(1), mt.Record(mt.Pointer(12), 15, 0))},
		{"SRV of five octets", mt.Join(head(1), mt.Record(mt.Pointer(12), 33, 0, 0, 0, 0, 0))},
		{"SOA with one name", mt.Join(head(1), mt.Record(mt.Pointer(12), message.TypeSOA, 0))},
		{"NAPTR without strings", mt.Join(head(1), mt.Record(mt.Pointer(12), 35, 0, 1, 0, 1))},
		{"NAPTR string beyond the end", mt.Join(head(1), mt.Record(mt.Pointer(12), 35, 0, 1, 0, 1, 0, 0, 9, 0))},
		{"NAPTR without a name", mt.Join(head(1), mt.Record(mt.Pointer(12), 35, 0, 1, 0, 1, 0, 0, 0))},
		{"larger than DNS", func() []byte {
			long := mt.Record(mt.LongName(255), 65280, mt.Repeat(250, 1)...)
			msg := mt.Join(head(400), long)
			for range 399 {
				msg = append(msg, mt.Record(mt.Pointer(end), message.TypeA, 1, 2, 3, 4)...)
			}
			return msg
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r message.Response
			if err := r.Parse(tt.msg, q); err != nil {
				t.Fatal(err)
			}
			out, err := r.AppendRestored([]byte("??"), q, question("a"))
			if err == nil || string(out) != "??" {
				t.Errorf("got %q, %v; want an error and the buffer as it was", out, err)
			}
		})
	}
}
