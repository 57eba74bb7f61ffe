package sdk

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
)

// asked makes an instance with a question in its frame.
func asked(t testing.TB, phase byte, name string, qtype uint16) *Call {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Id = 1
	m.SetEdns0(1232, true)
	octets, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	canonical, wrong := AppendName(nil, []byte(name))
	if wrong != "" {
		t.Fatal(wrong)
	}
	c := call(canonical)
	c.phase, c.qtype, c.qclass, c.flags = phase, qtype, 1, 0
	c.ede = abi.None
	c.table, c.matched, c.value, c.valueSize = 0, 0, 0, 0
	c.size, c.question = uint32(len(octets)), uint16(headerSize+len(canonical)+4)
	copy(c.message(), octets)
	return c
}

// set makes an RRset of a node from records in presentation format.
func set(t testing.TB, records ...string) RRset {
	t.Helper()
	var s RRset
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 70000)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		s.Records = append(append(s.Records, 0xC0, 0x0C), buf[CheckName(buf):n]...)
		s.Count++
	}
	return s
}

// unpack reads a response, and returns it in short.
func unpack(t testing.TB, m Message) *dns.Msg {
	t.Helper()
	got := new(dns.Msg)
	if err := got.Unpack(m); err != nil {
		t.Fatalf("response %x: %v", []byte(m), err)
	}
	return got
}

func texts(rrs []dns.RR) string {
	var s []string
	for _, rr := range rrs {
		s = append(s, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(s, "; ")
}

func TestBuilder(t *testing.T) {
	for _, phase := range []byte{abi.PhaseQuery, abi.PhaseResponse} {
		c := asked(t, phase, "www.Example.com.", dns.TypeA)
		var b Builder
		b.Reset(c)
		b.SetAA(true)
		at := b.RRset(Answer, QNAME, set(t, "x. 300 CNAME target.example.com."), -1)
		b.RRset(Answer, at+12, set(t, "x. 300 A 192.0.2.1", "x. 300 A 192.0.2.2"), 7)
		b.SOA(QNAME+4, set(t, "x. 300 SOA ns. host. 1 2 3 4 60"), -1)
		data := b.RR(Authority, QNAME+4, TypeNS, 5, []byte("\x02ns\x00"))
		b.RR(Additional, data, TypeTXT, 6, []byte("\x01a"))
		got := unpack(t, b.Message())
		if !got.Response || !got.Authoritative || !got.RecursionDesired || got.Rcode != 0 || got.IsEdns0() != nil {
			t.Errorf("phase %d: got header %v", phase, got.MsgHdr)
		}
		if name := got.Question[0].Name; name != "www.Example.com." && phase == abi.PhaseQuery || !strings.EqualFold(name, "www.example.com.") {
			t.Errorf("phase %d: got question %s", phase, name)
		}
		for _, tt := range []struct{ section, got, want string }{
			{"answer", strings.ToLower(texts(got.Answer)), "www.example.com. 300 in cname target.example.com.; target.example.com. 7 in a 192.0.2.1; target.example.com. 7 in a 192.0.2.2"},
			{"authority", strings.ToLower(texts(got.Ns)), "example.com. 60 in soa ns. host. 1 2 3 4 60; example.com. 5 in ns ns."},
			{"additional", texts(got.Extra), `ns. 6 IN TXT "a"`},
		} {
			if tt.got != tt.want {
				t.Errorf("phase %d: %s: got %s, want %s", phase, tt.section, tt.got, tt.want)
			}
		}
	}
}

// TestBuilderFails: what can't be built makes the whole response fail, and the client gets SERVFAIL.
func TestBuilderFails(t *testing.T) {
	big := RRset{Count: 1, Records: make([]byte, 60000)}
	for _, tt := range []struct {
		name  string
		build func(*Builder)
	}{
		{"too large", func(b *Builder) { b.RRset(Answer, QNAME, big, -1); b.RRset(Answer, QNAME, big, -1) }},
		{"wrong order", func(b *Builder) {
			b.RR(Authority, QNAME, TypeA, 1, []byte{1, 2, 3, 4})
			b.RR(Answer, QNAME, TypeA, 1, []byte{1, 2, 3, 4})
		}},
		{"RDATA too large", func(b *Builder) { b.RR(Answer, QNAME, TypeTXT, 1, make([]byte, 65536)) }},
		{"two SOA", func(b *Builder) { b.SOA(QNAME, RRset{Count: 2, Records: make([]byte, 100)}, -1) }},
		{"torn records", func(b *Builder) { b.RRset(Answer, QNAME, RRset{Count: 1, Records: make([]byte, 11)}, 1) }},
		{"a record that points forward", func(b *Builder) {
			b.Record(Answer, Message("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x01\x00\x01\xc0\x11\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00"), Record{Owner: 17, Data: 29, End: 29})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := asked(t, abi.PhaseQuery, "example.com.", dns.TypeA)
			var b Builder
			b.Reset(c)
			tt.build(&b)
			if m := b.Message(); m != nil {
				t.Errorf("got a message of %d octets, want none", len(m))
			}
			if got, want := c.Respond(b.Message()), Verdict(abi.Pack(abi.Respond, 2, 0, 0)); got != want {
				t.Errorf("got verdict %#x, want %#x", got, want)
			}
			b.Reset(c)
			if b.Message() == nil {
				t.Error("still fails after Reset")
			}
		})
	}
}

// TestBuilderFarOwner: an owner that no pointer reaches is written out.
func TestBuilderFarOwner(t *testing.T) {
	c := asked(t, abi.PhaseQuery, "example.com.", dns.TypeA)
	var b Builder
	b.Reset(c)
	for range 70 {
		b.RR(Authority, QNAME, TypeTXT, 1, append([]byte{250}, make([]byte, 250)...))
	}
	at := b.RRset(Authority, QNAME, set(t, "x. 300 NS ns.example.net."), -1)
	b.RRset(Additional, at+12, set(t, "x. 300 A 192.0.2.1", "x. 300 A 192.0.2.2"), 9)
	if got, want := texts(unpack(t, b.Message()).Extra), "ns.example.net. 9 IN A 192.0.2.1; ns.example.net. 9 IN A 192.0.2.2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// nodeOf makes a node of RRsets in ascending order of type. abi/README.md section 6.
func nodeOf(flags byte, types []Type, sets ...RRset) (node []byte) {
	node = append(node, flags, 0, byte(len(sets)), 0)
	for i, s := range sets {
		node = binary.LittleEndian.AppendUint16(node, uint16(types[i]))
		node = binary.LittleEndian.AppendUint16(node, uint16(s.Count))
		node = binary.LittleEndian.AppendUint32(node, uint32(len(s.Records)))
	}
	for _, s := range sets {
		node = append(node, s.Records...)
	}
	return node
}

// find has a host find a node of the QNAME, or of an ancestor with so many octets, with gap octets between the message and the value.
func find(c *Call, node []byte, matched, gap int) {
	c.matched = uint16(matched)
	at := messageAt + int(c.size) + gap
	c.value, c.valueSize = uint32(abi.FrameQname+at), uint32(len(node))
	for i := range c.octets[at:] {
		c.octets[at+i] = '?' // what lies behind the node, as far as it may be read, must not show
	}
	copy(c.octets[at:], node)
}

// TestAnswerFound: the short way makes the same octets as a builder, for records of all sizes, wherever the RRset is in the node.
func TestAnswerFound(t *testing.T) {
	a, aaaa := set(t, "x. 300 A 192.0.2.1", "x. 300 A 192.0.2.2"), set(t, "x. 300 AAAA 2001:db8::1")
	for size := range 300 {
		txt := set(t, "x. 300 TXT "+strings.Repeat("a", min(size, 255)), "x. 300 TXT b")
		if size == 0 {
			txt = set(t, "x. 300 TXT b")
		}
		for name, node := range map[string][]byte{
			"alone": nodeOf(0, []Type{TypeTXT}, txt), "first": nodeOf(NodeWildcard, []Type{TypeTXT, TypeAAAA}, txt, aaaa), "last": nodeOf(0, []Type{TypeA, TypeTXT}, a, txt),
		} {
			c := asked(t, abi.PhaseQuery, "www.Example.com.", dns.TypeTXT)
			find(c, node, len(c.QNAME()), size%8)
			v, ok := Query{c}.AnswerFound()
			got := bytes.Clone(c.result)
			c = asked(t, abi.PhaseQuery, "www.Example.com.", dns.TypeTXT)
			var b Builder
			b.Reset(c)
			b.SetAA(true)
			b.RRset(Answer, QNAME, txt, -1)
			if want := b.Message(); !ok || !bytes.Equal(got, want) || v != c.Respond(want) {
				t.Fatalf("%s, size %d: got %v, %#x,\n%x, want\n%x", name, size, ok, v, got, []byte(want))
			}
		}
	}
}

// TestAbsent: only what surely isn't there is absent.
func TestAbsent(t *testing.T) {
	s := set(t, "x. 300 A 192.0.2.1")
	for _, tt := range []struct {
		name  string
		flags uint8
		less  int // octets that matched is less than the QNAME
		own   bool
		want  bool
	}{
		{"the QNAME itself", 0, 0, false, false},
		{"an ancestor", 0, 4, false, true},
		{"the apex", NodeApex, 4, false, true},
		{"an empty non-terminal", NodeEmpty, 4, false, true},
		{"an alias above", NodeCNAME, 4, false, true},
		{"a zone cut above", NodeCut, 4, false, false},
		{"a DNAME above", NodeDNAME, 4, false, false},
		{"a wildcard", NodeWildcard | NodeApex, 4, false, false},
		{"a name of the filter's own", 0, 4, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
			find(c, nodeOf(tt.flags, []Type{TypeA}, s), len(c.QNAME())-tt.less, 0)
			c.own = 1
			if tt.own {
				c.own = c.table
			}
			if got := (Query{c}).Absent(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			c.value = 0
			if (Query{c}).Absent() {
				t.Error("absent, although there is no value")
			}
		})
	}
}

// TestAnswerFoundElse: what isn't a simple answer is left alone, and so is the message.
func TestAnswerFoundElse(t *testing.T) {
	s := set(t, "x. 300 A 192.0.2.1")
	plain := nodeOf(0, []Type{TypeA}, s)
	for _, tt := range []struct {
		name  string
		qtype uint16
		node  []byte
		less  int // octets that matched is less than the QNAME
		class uint16
		want  bool
	}{
		{"an answer", dns.TypeA, plain, 0, 1, true},
		{"NODATA", dns.TypeAAAA, plain, 0, 1, false},
		{"an ancestor", dns.TypeA, plain, 4, 1, false},
		{"another class", dns.TypeA, plain, 0, 3, false},
		{"a zone cut", dns.TypeA, nodeOf(NodeCut, []Type{TypeA}, s), 0, 1, false},
		{"an apex", dns.TypeA, nodeOf(NodeApex, []Type{TypeA}, s), 0, 1, false},
		{"an empty non-terminal", dns.TypeA, nodeOf(NodeEmpty, nil), 0, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := asked(t, abi.PhaseQuery, "www.example.com.", tt.qtype)
			c.qclass = tt.class
			find(c, tt.node, len(c.QNAME())-tt.less, 0)
			before := bytes.Clone(c.Message())
			if _, ok := (Query{c}).AnswerFound(); ok != tt.want {
				t.Errorf("got %v, want %v", ok, tt.want)
			}
			if !tt.want && !bytes.Equal(c.Message(), before) {
				t.Error("the message was changed")
			}
		})
	}
	c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
	if _, ok := (Query{c}).AnswerFound(); ok {
		t.Error("got an answer without a look-up")
	}
	if _, _, _, ok := (Query{c}).Found(); ok {
		t.Error("Found without a look-up")
	}
	find(c, plain, 5, 0)
	c.table = 3
	if table, value, matched, ok := (Query{c}).Found(); table != 3 || !bytes.Equal(value, plain) || matched != 5 || !ok {
		t.Errorf("Found = %d, %x, %d, %v; want 3, %x, 5, true", table, value, matched, ok, plain)
	}
	c.value = 0
	if _, value, _, ok := (Query{c}).Found(); value != nil || !ok {
		t.Errorf("without room, Found gives %x, %v; want nil, true", value, ok)
	}
}

// FuzzRecord: a record that miekg/dns reads from a message is copied so that it reads the same; nothing panics.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{
		"a.example.com. 60 A 192.0.2.1", "a.example.com. 60 MX 1 b.example.com.", "a.example.com. 60 SOA a.example.com. b.example.com. 1 2 3 4 5",
		"a.example.com. 60 SRV 1 2 3 b.example.com.", `a.example.com. 60 NAPTR 1 2 "a" "b" "c" b.example.com.`, `a.example.com. 60 TYPE65280 \# 2 C00C`,
		"a.example.com. 60 PX 1 a.example.com. b.example.com.", "a.example.com. 60 MINFO a.example.com. b.example.com.",
	} {
		m := new(dns.Msg)
		m.SetQuestion("a.example.com.", dns.TypeA)
		m.Response, m.Compress = true, true
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = []dns.RR{rr}
		octets, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(octets)
	}
	c := asked(f, abi.PhaseQuery, "q.", dns.TypeA)
	f.Fuzz(func(t *testing.T, octets []byte) {
		m := Message(octets)
		if len(octets) > maxMessage {
			return
		}
		want := new(dns.Msg)
		readable := want.Unpack(octets) == nil && len(want.Question) == 1
		var b Builder
		b.Reset(c)
		n := 0
		for r := m.Records(); r.Next(); n++ {
			b.Record(r.Section, m, r.Record)
			switch uint16(r.Type) {
			case dns.TypeHIP, dns.TypeIPSECKEY, dns.TypeAMTRELAY:
				return // may have names too, where a pointer is not followed
			}
		}
		if !readable || b.Message() == nil {
			return
		}
		if all := len(want.Answer) + len(want.Ns) + len(want.Extra); n != all {
			return // miekg/dns forgives counts that are too high
		}
		got := unpack(t, b.Message())
		if texts(got.Answer) != texts(want.Answer) || texts(got.Ns) != texts(want.Ns) || texts(got.Extra) != texts(want.Extra) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	})
}

func TestRecordTypes(t *testing.T) {
	for _, text := range []string{
		"A 192.0.2.1", "AAAA 2001:db8::1", "NS b.example.com.", "CNAME b.example.com.", "DNAME b.example.com.", "PTR b.example.com.", "MB b.example.com.",
		"MG b.example.com.", "MR b.example.com.", "MF b.example.com.", "MD b.example.com.", "MINFO a.example.com. b.example.com.", "MX 1 b.example.com.",
		"RP a.example.com. b.example.com.", "AFSDB 1 b.example.com.", "RT 1 b.example.com.", "KX 1 b.example.com.", "PX 1 a.example.com. b.example.com.",
		"SRV 1 2 3 b.example.com.", `NAPTR 1 2 "a" "" "cc" b.example.com.`, "SOA a.example.com. b.example.com. 1 2 3 4 5", `TXT "a" "b"`,
		"HTTPS 1 b.example.com. alpn=h2", "NSEC b.example.com. A TYPE65280",
	} {
		m := new(dns.Msg)
		m.SetQuestion("a.example.com.", dns.TypeANY)
		m.Response, m.Compress = true, true
		rr, err := dns.NewRR("www.a.example.com. 60 " + text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = []dns.RR{rr, rr}
		octets, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var b Builder
		b.Reset(asked(t, abi.PhaseQuery, "q.", dns.TypeA))
		for r := Message(octets).Records(); r.Next(); {
			b.Record(r.Section, octets, r.Record)
		}
		if got, want := texts(unpack(t, b.Message()).Answer), texts(m.Answer); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
