package message_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

var differentialRounds = flag.Int("rounds", 20000, "messages that the differential tests compare")

// The two parsers may differ only as this list says. What weir refuses beyond the other library it refuses for a reason:
const (
	strictCounts   = "QDCOUNT other than 1, or counts that differ from the records: RFC 9619 section 4"
	strictQuestion = "a question without its type or class, which the other library takes at the end of a message"
	strictOctets   = "octets behind the last record: two parsers could see two messages"
	strictOPT      = "OPT twice, elsewhere than in the additional section, or not at the root: RFC 6891 section 6.1.1"
	strictPointer  = "compressed question, or a pointer that does not lead strictly backwards or leads into the header: RFC 1035 section 4.1.4"
	strictMany     = "more than 16 options or 126 pointers: nobody sends them"
	strictType     = "a transaction that a proxy can't do: AXFR, IXFR, TSIG, SIG(0), QTYPE OPT"
	laxRDATA       = "RDATA of records: weir passes it on and does not look at it (RFC 3597)"
)

// generator makes random messages of good form with the other library and then damages some of them.
type generator struct{ *rand.Rand }

func (g generator) name() string {
	labels := []string{"example", "com", "a", "WWW", `x\.y`, `\000`, "_tcp", "*", strings.Repeat("l", 63)}
	var s string
	for range g.IntN(4) {
		s += labels[g.IntN(len(labels))] + "."
	}
	return dns.Fqdn(s)
}

func (g generator) record(owner string) dns.RR {
	h := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: g.Uint32()}
	switch g.IntN(8) {
	case 0:
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: []byte{192, 0, 2, byte(g.IntN(256))}}
	case 1:
		h.Rrtype = dns.TypeCNAME
		return &dns.CNAME{Hdr: h, Target: g.name()}
	case 2:
		h.Rrtype = dns.TypeSOA
		return &dns.SOA{Hdr: h, Ns: g.name(), Mbox: g.name(), Minttl: 5}
	case 3:
		h.Rrtype = dns.TypeTXT
		return &dns.TXT{Hdr: h, Txt: []string{strings.Repeat("t", g.IntN(200))}}
	case 4:
		h.Rrtype = dns.TypeHTTPS
		return &dns.HTTPS{SVCB: dns.SVCB{Hdr: h, Priority: 1, Target: g.name()}}
	case 5:
		h.Rrtype = dns.TypeMX
		return &dns.MX{Hdr: h, Preference: 1, Mx: g.name()}
	case 6:
		h.Rrtype = dns.TypeNS
		return &dns.NS{Hdr: h, Ns: g.name()}
	}
	h.Rrtype = 65280
	return &dns.RFC3597{Hdr: h, Rdata: "c00cc00c"}
}

func (g generator) opt() *dns.OPT {
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	o.SetUDPSize(uint16(g.Uint32()))
	o.SetDo(g.IntN(2) == 0)
	for range g.IntN(4) {
		switch g.IntN(3) {
		case 0:
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: uint16(g.IntN(30)), ExtraText: strings.Repeat("e", g.IntN(20))})
		case 1:
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		default:
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: 65001, Data: make([]byte, g.IntN(9))})
		}
	}
	return o
}

func (g generator) query() []byte {
	m := new(dns.Msg)
	m.Id = uint16(g.Uint32())
	m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = g.IntN(2) == 0, g.IntN(2) == 0, g.IntN(2) == 0
	m.Question = []dns.Question{{Name: g.name(), Qtype: uint16(1 + g.IntN(300)), Qclass: dns.ClassINET}}
	if g.IntN(3) > 0 {
		m.Extra = append(m.Extra, g.opt())
	}
	if g.IntN(8) == 0 {
		m.Extra = append(m.Extra, g.record(g.name()))
	}
	return g.pack(m)
}

func (g generator) response(q dns.Question) []byte {
	m := new(dns.Msg)
	m.Response, m.Rcode = true, g.IntN(6)
	m.Question = []dns.Question{q}
	m.Compress = g.IntN(2) == 0
	for range g.IntN(4) {
		m.Answer = append(m.Answer, g.record(q.Name))
	}
	for range g.IntN(3) {
		m.Ns = append(m.Ns, g.record(g.name()))
	}
	for range g.IntN(3) {
		m.Extra = append(m.Extra, g.record(g.name()))
	}
	if g.IntN(2) == 0 {
		m.Extra = slices.Insert(m.Extra, g.IntN(len(m.Extra)+1), dns.RR(g.opt()))
		if g.IntN(3) == 0 {
			m.Rcode = g.IntN(4096)
		}
	}
	return g.pack(m)
}

func (g generator) pack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("the generator made a message that can't be packed: %v\n%v", err, m))
	}
	return b
}

// damage changes one thing of half of the messages.
func (g generator) damage(b []byte) []byte {
	switch g.IntN(12) {
	case 0:
		b[g.IntN(len(b))] ^= 1 << g.IntN(8)
	case 1:
		b[g.IntN(len(b))] = byte(g.Uint32())
	case 2:
		b = b[:g.IntN(len(b)+1)]
	case 3:
		b = append(b, byte(g.Uint32()))
	case 4:
		i := g.IntN(len(b))
		b = slices.Insert(b, i, byte(g.Uint32()))
	case 5:
		if i := g.IntN(len(b)); i+1 < len(b) {
			binary.BigEndian.PutUint16(b[i:], 0xC000|uint16(g.IntN(len(b)+2)))
		}
	}
	return b
}

func TestDifferentialQuery(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	differences := map[string]int{}
	for range *differentialRounds {
		msg := g.damage(g.query())
		var q message.Query
		rcode, ok := q.Parse(bytes.Clone(msg))
		if rcode == message.Ignore || rcode == message.NOTIMP {
			continue // decided by the header alone
		}
		var m dns.Msg
		err := m.Unpack(bytes.Clone(msg))
		switch {
		case ok && err != nil:
			if !rdataOnly(msg) {
				t.Fatalf("weir takes %x, the other library says %v", msg, err)
			}
			differences[laxRDATA]++
		case !ok && err == nil:
			why := strictQuery(msg, &m, rcode)
			if why == "" {
				t.Fatalf("weir says %s to %x, the other library reads\n%v", message.RCODEString(rcode), msg, &m)
			}
			differences[why]++
		case ok:
			compareQuery(t, msg, &q, &m)
			differences["none"]++
		}
	}
	t.Log(differences)
	if differences["none"] < *differentialRounds/2 {
		t.Errorf("only %d of %d messages were compared", differences["none"], *differentialRounds)
	}
}

func compareQuery(t *testing.T, msg []byte, q *message.Query, m *dns.Msg) {
	t.Helper()
	name := make([]byte, 256)
	n, err := dns.PackDomainName(m.Question[0].Name, name, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	opt := m.IsEdns0()
	if q.ID != m.Id || q.RD() != m.RecursionDesired || q.CD() != m.CheckingDisabled || !bytes.Equal(q.Name, name[:n]) ||
		q.Type != m.Question[0].Qtype || q.Class != m.Question[0].Qclass || q.Labels != dns.CountLabel(m.Question[0].Name) ||
		q.EDNS != (opt != nil) || opt != nil && (q.DO != opt.Do() || q.UDPSize != opt.UDPSize()) {
		t.Fatalf("%x: weir reads %+v, the other library\n%v", msg, q, m)
	}
}

// rdataOnly reports whether RDATA is all that the other library stumbles over: it takes the message when every record has a type whose RDATA
// is any octets.
func rdataOnly(msg []byte) bool {
	msg = bytes.Clone(msg)
	off := 12
	skip := func() {
		for msg[off] != 0 {
			if msg[off] >= 0xC0 {
				off++
				break
			}
			off += int(msg[off]) + 1
		}
		off++
	}
	skip()
	for off += 4; off < len(msg); off += 10 + int(binary.BigEndian.Uint16(msg[off+8:])) {
		skip()
		binary.BigEndian.PutUint16(msg[off:], 65280)
	}
	var m dns.Msg
	return m.Unpack(msg) == nil
}

func strictQuery(msg []byte, m *dns.Msg, rcode uint16) string {
	counts := 0
	for _, i := range []int{6, 8, 10} {
		counts += int(binary.BigEndian.Uint16(msg[i:]))
	}
	opts, special := 0, false
	for i, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		switch rr.Header().Rrtype {
		case dns.TypeOPT:
			if opts++; i < len(m.Answer)+len(m.Ns) || rr.Header().Name != "." {
				opts += 2
			}
		case dns.TypeTSIG, dns.TypeSIG:
			special = true
		}
	}
	switch {
	case len(m.Question) != 1 || len(m.Answer)+len(m.Ns)+len(m.Extra) != counts:
		return strictCounts
	case opts > 1:
		return strictOPT
	case rcode == message.BADVERS && m.IsEdns0().Version() != 0:
		return "BADVERS: not a difference in parsing"
	case special, m.Question[0].Qtype == dns.TypeAXFR, m.Question[0].Qtype == dns.TypeIXFR, m.Question[0].Qtype == dns.TypeOPT:
		return strictType
	}
	return strictForm(msg, m)
}

// strictForm explains what one sees only in the octets: it walks them once more, in the plainest way.
func strictForm(msg []byte, m *dns.Msg) string {
	off, name := 12, func(off int, question bool) (int, bool) {
		for off < len(msg) && msg[off] != 0 {
			if msg[off] >= 0xC0 {
				if question {
					return off, false
				}
				_, _, err := message.AppendName(nil, msg, off)
				return off + 2, err == nil
			}
			off += int(msg[off]) + 1
		}
		return off + 1, true
	}
	var ok bool
	if off, ok = name(off, true); !ok {
		return strictPointer
	}
	if off += 4; off > len(msg) {
		return strictQuestion
	}
	for range len(m.Answer) + len(m.Ns) + len(m.Extra) {
		start := off
		if off, ok = name(off, false); !ok {
			return strictPointer
		}
		if binary.BigEndian.Uint16(msg[off:]) == dns.TypeOPT && off != start+1 {
			return strictOPT
		}
		off += 10 + int(binary.BigEndian.Uint16(msg[off+8:]))
	}
	if off < len(msg) {
		return strictOctets
	}
	if o := m.IsEdns0(); o != nil && len(o.Option) > 16 {
		return strictMany
	}
	return ""
}

func TestDifferentialResponse(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	differences := map[string]int{}
	for range *differentialRounds {
		asked := dns.Question{Name: g.name(), Qtype: dns.TypeA, Qclass: dns.ClassINET}
		msg := g.damage(g.response(asked))
		name := make([]byte, 256)
		n, err := dns.PackDomainName(asked.Name, name, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		question := &message.Question{Name: name[:n], Key: message.AppendCanonical(nil, name[:n]), Type: dns.TypeA, Class: dns.ClassINET}
		var r message.Response
		parseErr := r.Parse(bytes.Clone(msg), question)
		var m dns.Msg
		err = m.Unpack(bytes.Clone(msg))
		switch {
		case parseErr == nil && err != nil:
			if !rdataOnly(msg) {
				t.Fatalf("weir takes %x, the other library says %v", msg, err)
			}
			differences[laxRDATA]++
		case parseErr != nil && err == nil:
			why := strictResponse(msg, &m, asked)
			if why == "" {
				t.Fatalf("weir says %v to %x, the other library reads\n%v", parseErr, msg, &m)
			}
			differences[why]++
		case parseErr == nil:
			if compareResponse(t, msg, &r, &m, question) {
				differences["none"]++
			} else {
				differences[laxRDATA]++
			}
		}
	}
	t.Log(differences)
	if differences["none"] < *differentialRounds/2 {
		t.Errorf("only %d of %d messages were compared", differences["none"], *differentialRounds)
	}
}

func strictResponse(msg []byte, m *dns.Msg, asked dns.Question) string {
	if !m.Response || m.Opcode != 0 {
		return "header of another kind of message"
	}
	if len(m.Question) == 1 && (!strings.EqualFold(m.Question[0].Name, asked.Name) || m.Question[0].Qtype != asked.Qtype || m.Question[0].Qclass != asked.Qclass) {
		return "another question"
	}
	if why := strictQuery(msg, m, message.FORMERR); why != "" && why != strictType {
		return why
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if rr.Header().Rrtype == dns.TypeTSIG {
			return strictType
		}
	}
	return strictForm(msg, m)
}

// compareResponse reports whether the records are the same; if not, it is because of names in RDATA that point into the header, which
// weir leaves alone as long as it need not write them anew.
func compareResponse(t *testing.T, msg []byte, r *message.Response, m *dns.Msg, question *message.Question) bool {
	t.Helper()
	if !bytes.Equal(r.Message[12:], msg[12:len(r.Message)]) {
		t.Fatalf("%x: weir keeps other octets, %x", msg, r.Message)
	}
	// Without its OPT and what is behind that, the other library's message is the one that weir keeps.
	var ede []byte
	if i := slices.IndexFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT }); i >= 0 {
		for _, o := range m.Extra[i].(*dns.OPT).Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				ede = append(ede, 0, 15, 0, byte(2+len(e.ExtraText)), byte(e.InfoCode>>8), byte(e.InfoCode))
				ede = append(ede, e.ExtraText...)
			}
		}
		m.Extra = m.Extra[:i]
	}
	if int(r.RCODE) != m.Rcode || !bytes.Equal(r.EDE, ede) {
		t.Fatalf("%x: weir reads %s and EDE %x, the other library %v and %x", msg, message.RCODEString(r.RCODE), r.EDE, m.Rcode, ede)
	}
	var kept dns.Msg
	if err := kept.Unpack(r.Message); err != nil {
		t.Fatalf("%x: what weir keeps, %x: %v", msg, r.Message, err)
	}
	kept.Rcode = m.Rcode
	if kept.String() != m.String() {
		if _, err := r.AppendRestored(nil, question, question); err != nil {
			return false
		}
		t.Fatalf("%x: weir keeps\n%v\nthe other library has\n%v", msg, &kept, m)
	}
	return true
}
