package sdk

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
)

func wireName(t testing.TB, text string) []byte {
	t.Helper()
	name, wrong := AppendName(nil, []byte(text))
	if wrong != "" {
		t.Fatal(wrong)
	}
	return name
}

func TestAnswer(t *testing.T) {
	for _, phase := range []byte{abi.PhaseQuery, abi.PhaseResponse} {
		c := asked(t, phase, "www.example.com.", dns.TypeA)
		var b Builder
		b.Reset(c)
		target := b.Target(Answer, QNAME, TypeCNAME, 300, wireName(t, "a.example.net"))
		b.Address(Answer, target, 60, []byte{192, 0, 2, 1})
		b.Address(Answer, target, 60, []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
		b.TXT(Answer, QNAME, 5, []byte(strings.Repeat("x", 256)))
		b.TXT(Answer, QNAME, 5, nil)
		b.MX(Answer, QNAME, 6, 10, wireName(t, "mx.example.com"))
		b.SRV(Answer, QNAME, 7, 1, 2, 443, wireName(t, "www.example.com"))
		b.NegativeSOA(c, len(wireName(t, "example.com")), 30)
		m := unpack(t, b.Message())
		want := `www.example.com. 300 IN CNAME a.example.net.; a.example.net. 60 IN A 192.0.2.1; a.example.net. 60 IN AAAA 2001:db8::1; ` +
			`www.example.com. 5 IN TXT "` + strings.Repeat("x", 255) + `" "x"; www.example.com. 5 IN TXT ""; ` +
			`www.example.com. 6 IN MX 10 mx.example.com.; www.example.com. 7 IN SRV 1 2 443 www.example.com.`
		if got := texts(m.Answer); got != want {
			t.Errorf("phase %d: got answers\n%s\nwant\n%s", phase, got, want)
		}
		if got, want := texts(m.Ns), "example.com. 30 IN SOA . . 1 3600 600 86400 30"; got != want {
			t.Errorf("phase %d: got authority %s, want %s", phase, got, want)
		}
	}
}

// TestAnswerFails: what is no record makes no response, instead of one that the host refuses.
func TestAnswerFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(b *Builder, c *Call)
	}{
		{"address", func(b *Builder, _ *Call) { b.Address(Answer, QNAME, 1, []byte{1, 2, 3}) }},
		{"target", func(b *Builder, _ *Call) { b.Target(Answer, QNAME, TypeCNAME, 1, []byte("\x03www")) }},
		{"no target", func(b *Builder, _ *Call) { b.Target(Answer, QNAME, TypeCNAME, 1, nil) }},
		{"text", func(b *Builder, _ *Call) { b.TXT(Answer, QNAME, 1, make([]byte, 65536)) }},
		{"apex", func(b *Builder, c *Call) { b.NegativeSOA(c, 200, 1) }},
		{"no apex", func(b *Builder, c *Call) { b.NegativeSOA(c, 0, 1) }},
		{"order", func(b *Builder, c *Call) { b.NegativeSOA(c, 1, 1); b.TXT(Answer, QNAME, 1, nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
			var b Builder
			b.Reset(c)
			tt.make(&b, c)
			if m := b.Message(); m != nil {
				t.Errorf("got %v, want none", unpack(t, m))
			}
		})
	}
}

// respond puts a response into a frame.
func respond(t testing.TB, rcode int, answer ...string) Response {
	t.Helper()
	c := asked(t, abi.PhaseResponse, "www.example.com.", dns.TypeA)
	m := message(t, answer...)
	m[2] |= 0x04 // AA
	m[3] = m[3]&0xF0 | byte(rcode)
	c.size, c.rcode = uint32(copy(c.message(), m)), uint16(rcode)
	return Response{c}
}

func TestCopy(t *testing.T) {
	r := respond(t, dns.RcodeNameError, "www.example.com. 9 CNAME a.example.com.", "a.example.com. 9 HTTPS 1 . alpn=h2", "a.example.com. 9 A 192.0.2.1")
	var b Builder
	b.Reset(r.Call)
	b.Copy(r, func(record Record) bool { return record.Type != TypeHTTPS })
	m := unpack(t, b.Message())
	if got, want := texts(m.Answer), "www.example.com. 9 IN CNAME a.example.com.; a.example.com. 9 IN A 192.0.2.1"; got != want {
		t.Errorf("got answers %s, want %s", got, want)
	}
	if !m.Authoritative || m.Rcode != dns.RcodeNameError {
		t.Errorf("got AA %v and RCODE %d, want those of the response", m.Authoritative, m.Rcode)
	}
}

func TestAnswerAllocates(t *testing.T) {
	c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
	r := respond(t, 0, "www.example.com. 9 CNAME a.example.com.", "a.example.com. 9 A 192.0.2.1")
	name, text := wireName(t, "a.example.net"), []byte("text")
	var b Builder
	b.Reset(r.Call)
	drop := TypeA
	b.Copy(r, func(record Record) bool { return record.Type != drop })
	if n := testing.AllocsPerRun(100, func() {
		b.Reset(c)
		target := b.Target(Answer, QNAME, TypeCNAME, 300, name)
		b.Address(Answer, target, 60, text)
		b.TXT(Answer, QNAME, 5, text)
		b.NegativeSOA(c, 5, 30)
		b.Reset(r.Call)
		b.Copy(r, func(record Record) bool { return record.Type != drop })
	}); n > 0 || b.Message() == nil {
		t.Errorf("got %v allocations, want none", n)
	}
}

// TestLines: what a line says arrives, whole, where it is meant to, and making one allocates nothing.
func TestLines(t *testing.T) {
	var h recorder
	defer Bind(Bind(&h))
	c := asked(t, abi.PhaseQuery, "www.example.com.", dns.TypeA)
	if c.Explain() != nil {
		t.Error("nobody explains, but there is a line")
	}
	c.flags |= abi.FlagExplain
	name, value := c.QNAME(), []byte("a value")
	say := func() {
		c.Explain().Text("name ").Name(name).Text(" ").Type(TypeAAAA).Text(" ").RCODE(REFUSED).Text(" ").Octets(value).Text(" ").Int(-7).End()
		LogLine(Warning).Text("log ").Octets(value).End()
		Log(Info, "plain")
	}
	if n := testing.AllocsPerRun(100, say); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
	if got, want := string(h.explained), "name www.example.com. AAAA REFUSED a value -7"; got != want {
		t.Errorf("explained %q, want %q", got, want)
	}
	if got, want := string(h.logged), "1 plain"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	LogLine(Error).Text(strings.Repeat("x", 2000)).End()
	if got := len(h.logged); got != 2+abi.MaxLogSize {
		t.Errorf("a long line: got %d octets, want %d", got-2, abi.MaxLogSize)
	}
}

// recorder is a host that remembers the last line of each kind.
type recorder struct {
	Host
	explained, logged []byte
}

func (r *recorder) Explain(line []byte) { r.explained = append(r.explained[:0], line...) }
func (r *recorder) Log(level uint32, line []byte) {
	r.logged = append(append(r.logged[:0], '0'+byte(level), ' '), line...)
}
