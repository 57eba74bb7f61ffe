package message_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestRFC9267Responses: of each way in which parsers of responses have failed, the result is an error (sections 2 to 6).
func TestRFC9267Responses(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range mt.Responses() {
		t.Run(tt.Name, func(t *testing.T) {
			if seen[tt.Name] {
				t.Fatal("the name is in the table twice")
			}
			seen[tt.Name] = true
			var r message.Response
			err := r.Parse(bytes.Clone(tt.Octets), mt.Asked())
			if (err == nil) != tt.OK {
				t.Fatalf("got %v, want that it is accepted: %v", err, tt.OK)
			}
			if err != nil {
				return
			}
			var m dns.Msg
			if err := m.Unpack(r.Message); err != nil && !strings.HasPrefix(tt.Name, "malformed RDATA") {
				t.Fatalf("what Parse left, %x, is malformed: %v", r.Message, err)
			}
			if m.IsEdns0() != nil {
				t.Error("there is an OPT record left")
			}
			// What is left passes the stricter check, for it has no OPT record.
			var own message.Response
			if err := own.ParseOwn(r.Message, mt.Asked()); err != nil {
				t.Errorf("ParseOwn of what Parse left: %v", err)
			}
		})
	}
}

func TestParseOwnRefusesOPT(t *testing.T) {
	msg := mt.Join(mt.Header(1, message.FlagQR, 1, 0, 0, 1), mt.Asked().AppendWire(nil), mt.OPT(1232, 0))
	var r message.Response
	if err := r.ParseOwn(msg, mt.Asked()); err == nil {
		t.Error("got no error for an OPT record")
	}
}

// TestParseOwnClears: truncation and validation are not a filter's business.
func TestParseOwnClears(t *testing.T) {
	msg := mt.Join(mt.Header(1, message.FlagQR|message.FlagAA|message.FlagTC|message.FlagAD, 1, 0, 0, 0), mt.Asked().AppendWire(nil))
	var r message.Response
	if err := r.ParseOwn(msg, mt.Asked()); err != nil {
		t.Fatal(err)
	}
	if got, want := binary.BigEndian.Uint16(r.Message[2:]), uint16(message.FlagQR|message.FlagAA); got != want {
		t.Errorf("flags %04x, want %04x", got, want)
	}
}

func TestResponseParseTooLarge(t *testing.T) {
	rdata := make([]byte, 65000)
	for size, ok := range map[int]bool{message.MaxSize: true, message.MaxSize + 1: false} {
		q := mt.Asked().AppendWire(nil)
		rest := size - 12 - len(q) - 12 - 65000 - 11
		msg := mt.Join(mt.Header(1, message.FlagQR, 1, 2, 0, 0), q, mt.Record(mt.Pointer(12), 16, rdata...), mt.Record([]byte{0}, 16, rdata[:rest]...))
		if len(msg) != size {
			t.Fatalf("the test made %d octets, not %d", len(msg), size)
		}
		var r message.Response
		if err := r.Parse(msg, mt.Asked()); (err == nil) != ok {
			t.Errorf("%d octets: got %v, want that it is accepted: %v", size, err, ok)
		}
	}
}

func TestResponseFields(t *testing.T) {
	q := mt.Asked().AppendWire(nil)
	a := mt.Record(mt.Pointer(12), message.TypeA, 192, 0, 2, 1)
	cname := mt.Record(mt.Pointer(12), message.TypeCNAME, 0)
	ns := mt.Record([]byte{0}, message.TypeNS, 0)
	soa := mt.Record([]byte{0}, message.TypeSOA, make([]byte, 22)...)
	ede := func(code byte, text string) []byte { return message.AppendEDE(nil, uint16(code), text) }
	cookie := []byte{0, 10, 0, 2, 1, 2}
	msg := func(rcode, an, nscount, ar uint16, rest ...[]byte) []byte {
		return mt.Join(mt.Header(1, message.FlagQR|rcode, 1, an, nscount, ar), q, mt.Join(rest...))
	}
	tests := []struct {
		name         string
		msg          []byte
		rcode, class uint16
		ede          []byte
		left         int // octets of the message that remain
	}{
		{"data", msg(0, 1, 0, 0, a), 0, 0, nil, 12 + len(q) + len(a)},
		{"NODATA with SOA", msg(0, 0, 1, 0, soa), 0, message.ClassNODATA, nil, 12 + len(q) + len(soa)},
		{"NODATA with SOA and NS", msg(0, 0, 2, 0, ns, soa), 0, message.ClassNODATA, nil, 12 + len(q) + len(soa) + len(ns)},
		{"NODATA without anything", msg(0, 0, 0, 0), 0, message.ClassNODATA, nil, 12 + len(q)},
		{"NODATA behind CNAME", msg(0, 1, 1, 0, cname, ns), 0, message.ClassNODATA, nil, 12 + len(q) + len(cname) + len(ns)},
		{"data of the type in authority only", msg(0, 0, 1, 0, a), 0, message.ClassNODATA, nil, 12 + len(q) + len(a)},
		{"data of the type in additional only", msg(0, 0, 0, 1, a), 0, message.ClassNODATA, nil, 12 + len(q) + len(a)},
		{"CNAME and data", msg(0, 2, 0, 0, cname, a), 0, 0, nil, 12 + len(q) + len(cname) + len(a)},
		{"referral", msg(0, 0, 1, 0, ns), 0, 0, nil, 12 + len(q) + len(ns)},
		{"NXDOMAIN", msg(3, 0, 1, 0, soa), 3, 3, nil, 12 + len(q) + len(soa)},
		{"NXDOMAIN behind CNAME", msg(3, 1, 0, 0, cname), 3, 3, nil, 12 + len(q) + len(cname)},
		{"SERVFAIL", msg(2, 0, 0, 0), 2, 2, nil, 12 + len(q)},
		{"BADVERS", msg(0, 0, 0, 1, mt.OPT(512, 1<<24)), 16, 16, nil, 12 + len(q)},
		{"BADCOOKIE", msg(7, 0, 0, 1, mt.OPT(512, 1<<24)), 23, 23, nil, 12 + len(q)},
		{"RCODE 24", msg(8, 0, 0, 1, mt.OPT(512, 1<<24)), 24, message.ClassOther, nil, 12 + len(q)},
		{"RCODE 4095", msg(15, 0, 0, 1, mt.OPT(512, 0xFF<<24)), 4095, message.ClassOther, nil, 12 + len(q)},
		{"EDE among options", msg(2, 0, 0, 1, mt.OPT(512, 0, mt.Join(cookie, ede(22, "x"), cookie)...)), 2, 2, ede(22, "x"), 12 + len(q)},
		{"two EDEs", msg(2, 0, 0, 1, mt.OPT(512, 0, mt.Join(ede(22, ""), ede(23, "y"))...)), 2, 2, mt.Join(ede(22, ""), ede(23, "y")), 12 + len(q)},
		{"EDE without a code", msg(2, 0, 0, 1, mt.OPT(512, 0, 0, 15, 0, 1, 0)), 2, 2, nil, 12 + len(q)},
		{"EDE of 600 octets", msg(2, 0, 0, 1, mt.OPT(512, 0, mt.Join([]byte{0, 15, 2, 88}, make([]byte, 600), ede(1, ""))...)), 2, 2, ede(1, ""), 12 + len(q)},
		{"records behind OPT", msg(0, 1, 0, 3, a, a, mt.OPT(512, 0), a), 0, 0, nil, 12 + len(q) + 2*len(a)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := message.Response{Silent: true, Cached: true, Upstream: 3, EDE: []byte{1}}
			if err := r.Parse(tt.msg, mt.Asked()); err != nil {
				t.Fatal(err)
			}
			if r.RCODE != tt.rcode || r.Class != tt.class || !bytes.Equal(r.EDE, tt.ede) || len(r.Message) != tt.left {
				t.Errorf("got RCODE %d, class %d, EDE %x, %d octets; want %d, %d, %x, %d",
					r.RCODE, r.Class, r.EDE, len(r.Message), tt.rcode, tt.class, tt.ede, tt.left)
			}
			if r.Upstream != message.None || r.Silent || r.Cached {
				t.Errorf("fields of the response before are left: %+v", r)
			}
		})
	}
}

func TestAnyHasDataOfAnyType(t *testing.T) {
	q := mt.Asked()
	q.Type = message.TypeANY
	msg := mt.Join(mt.Header(1, message.FlagQR, 1, 1, 0, 0), q.AppendWire(nil), mt.Record(mt.Pointer(12), 16, 0))
	var r message.Response
	if err := r.Parse(msg, q); err != nil || r.Class != message.NOERROR {
		t.Errorf("got class %d, %v; want 0", r.Class, err)
	}
}

func TestAnswers(t *testing.T) {
	asked := mt.Asked()
	good := mt.Join(mt.Header(0x1234, message.FlagQR, 1, 9, 9, 9), asked.AppendWire(nil), []byte("anything"))
	if !message.Answers(good, 0x1234, asked) {
		t.Fatal("the response is not recognized")
	}
	// Each octet that counts, changed, makes it another message; each other one does not.
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0xFF
		matters := i < 3 || i == 4 || i == 5 || 12 <= i && i < len(good)-len("anything")
		if message.Answers(bad, 0x1234, asked) == matters {
			t.Errorf("octet %d changed: answers is %v", i, !matters)
		}
		if i == 2 || i > 11 && i < 29 { // one bit is enough, the case of a letter too
			for bit := range 8 {
				bad[i] = good[i] ^ 1<<bit
				want := i == 2 && bit < 3 // AA, TC, RD
				if message.Answers(bad, 0x1234, asked) != want {
					t.Errorf("octet %d, bit %d changed: answers is %v", i, bit, !want)
				}
			}
		}
	}
	for n := range len(good) - len("anything") {
		if message.Answers(good[:n], 0x1234, asked) {
			t.Errorf("the first %d octets count as a response", n)
		}
	}
	if message.Truncated(good) {
		t.Error("TC is not set, Truncated says so")
	}
	good[2] |= 2
	if !message.Truncated(good) {
		t.Error("TC is set, Truncated does not say so")
	}
}

// TestRFC8914Text: EXTRA-TEXT is UTF-8 without an end, and of 100 octets at most (section 2).
func TestRFC8914Text(t *testing.T) {
	long := strings.Repeat("ä", 60) // 120 octets
	tests := []struct{ name, text, want string }{
		{"no text", "", ""},
		{"text", "blocked", "blocked"},
		{"100 octets", strings.Repeat("x", 100), strings.Repeat("x", 100)},
		{"101 octets", strings.Repeat("x", 101), strings.Repeat("x", 100)},
		{"two octets a character", long, long[:100]},
		{"a character across the limit", "x" + long, "x" + long[:98]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := message.AppendEDE([]byte("?"), 15, tt.text)
			want := fmt.Sprintf("?\x00\x0f\x00%c\x00\x0f%s", rune(2+len(tt.want)), tt.want)
			if string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if !utf8.Valid(got[7:]) {
				t.Error("the text is no UTF-8")
			}
			if code := message.EDECode(got[1:]); code != 15 {
				t.Errorf("EDECode: got %d", code)
			}
		})
	}
}

func TestEDECode(t *testing.T) {
	tests := []struct {
		name, options string
		want          uint16
	}{
		{"none", "", message.None},
		{"first", "\x00\x0f\x00\x02\x00\x12", 18},
		{"behind another", "\x00\x0a\x00\x00\x00\x0f\x00\x02\x00\x12", 18},
		{"the first of two", "\x00\x0f\x00\x02\x00\x01\x00\x0f\x00\x02\x00\x02", 1},
		{"other options only", "\x00\x0a\x00\x03abc", message.None},
		{"too short", "\x00\x0f\x00\x01\x00\x00", message.None},
		{"a length beyond the end", "\x00\x0a\x00\x09abc", message.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := message.EDECode([]byte(tt.options)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestFinish(t *testing.T) {
	a := mt.Record(mt.Pointer(12), message.TypeA, 192, 0, 2, 1)                      // 16 octets
	txt := mt.Record(mt.Pointer(12), 16, mt.Join([]byte{87}, mt.Repeat(87, 'x'))...) // 100 octets
	asked := mt.Question("wWw.eXample.com", message.TypeA)                           // 21 octets
	lower := mt.Question("www.example.com", message.TypeA)                           //
	ede := message.AppendEDE(nil, 15, "blocked")                                     // 13 octets
	response := func(flags uint16, an, ns, ar uint16, rest ...[]byte) []byte {
		return mt.Join(mt.Header(0xFFFF, message.FlagQR|flags, 1, an, ns, ar), lower, mt.Join(rest...))
	}
	type want struct {
		an, ns, ar int // without the OPT
		rcode      int
		flags      string
		ede        bool
	}
	tests := []struct {
		name  string
		flags uint16 // of the query
		edns  []byte
		msg   []byte
		rcode uint16
		ede   []byte
		limit int
		want  want
	}{
		{"no EDNS", message.FlagRD, nil, response(0, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "rd ra"}},
		{"EDNS", message.FlagRD, mt.OPT(1232, 0), response(0, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "rd ra"}},
		{"EDNS with DO", 0, mt.OPT(1232, 0x8000), response(0, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "ra do"}},
		{"AD for who asks with AD", message.FlagAD, nil, response(message.FlagAD, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "ra ad"}},
		{"AD for who asks with DO", 0, mt.OPT(1232, 0x8000), response(message.FlagAD, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "ra ad do"}},
		{"no AD for EDNS without DO", 0, mt.OPT(1232, 0), response(message.FlagAD, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "ra"}},
		{"no AD when nothing is left", message.FlagAD, nil, response(message.FlagAD, 6, 0, 0, txt, txt, txt, txt, txt, txt), 0, nil, 512, want{flags: "ra tc"}},
		{"CD copied, AD and Z of the query not", message.FlagCD | message.FlagAD | message.FlagZ, nil, response(0, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "ra cd"}},
		{"AA passes; AD to nobody who did not ask, Z and RD of the response do not", 0, nil, response(message.FlagAA|message.FlagAD|message.FlagZ|message.FlagRD, 1, 0, 0, a), 0, nil, 512, want{an: 1, flags: "aa ra"}},
		{"TC passes", 0, nil, response(message.FlagTC, 0, 0, 0), 0, nil, 512, want{flags: "ra tc"}},
		{"RCODE", 0, nil, response(0, 0, 0, 0), message.NXDOMAIN, nil, 512, want{rcode: 3, flags: "ra"}},
		{"RCODE of the message does not count", 0, nil, response(5, 0, 0, 0), message.NXDOMAIN, nil, 512, want{rcode: 3, flags: "ra"}},
		{"extended RCODE", 0, mt.OPT(1232, 0), response(0, 0, 0, 0), message.BADCOOKIE, nil, 512, want{rcode: 23, flags: "ra"}},
		{"extended RCODE without EDNS", 0, nil, response(0, 0, 0, 0), message.BADCOOKIE, nil, 512, want{rcode: 2, flags: "ra"}},
		{"EDE", 0, mt.OPT(1232, 0), response(0, 0, 0, 0), 2, ede, 512, want{rcode: 2, flags: "ra", ede: true}},
		{"EDE without EDNS", 0, nil, response(0, 0, 0, 0), 2, ede, 512, want{rcode: 2, flags: "ra"}},

		{"just fits", 0, nil, response(0, 4, 0, 0, txt, txt, txt, txt), 0, nil, 433, want{an: 4, flags: "ra"}},
		{"one too large", 0, nil, response(0, 4, 0, 0, txt, txt, txt, txt), 0, nil, 432, want{flags: "ra tc"}},
		{"just fits with OPT", 0, mt.OPT(1232, 0), response(0, 4, 0, 0, txt, txt, txt, txt), 0, nil, 444, want{an: 4, flags: "ra"}},
		{"OPT makes it too large", 0, mt.OPT(1232, 0), response(0, 4, 0, 0, txt, txt, txt, txt), 0, nil, 443, want{flags: "ra tc"}},
		{"fits without additional", 0, nil, response(0, 1, 1, 2, txt, a, txt, txt), 0, nil, 433 - 284, want{an: 1, ns: 1, flags: "ra"}},
		{"too large without additional", 0, nil, response(0, 1, 1, 2, txt, a, txt, txt), 0, nil, 148, want{flags: "ra tc"}},
		{"EDE just fits", 0, mt.OPT(1232, 0), response(0, 4, 0, 0, txt, txt, txt, txt), 0, ede, 457, want{an: 4, flags: "ra", ede: true}},
		{"EDE goes before the records", 0, mt.OPT(1232, 0), response(0, 4, 0, 0, txt, txt, txt, txt), 0, ede, 456, want{an: 4, flags: "ra"}},
		{"additional goes before EDE", 0, mt.OPT(1232, 0), response(0, 3, 0, 1, txt, txt, txt, txt), 0, ede, 456, want{an: 3, flags: "ra", ede: true}},
		{"truncated with OPT", message.FlagRD, mt.OPT(512, 0x8000), response(message.FlagAA, 6, 0, 0, txt, txt, txt, txt, txt, txt), 0, ede, 512, want{flags: "aa rd ra tc do"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query := mt.Join(mt.Header(0xABCD, tt.flags, 1, 0, 0, 0), asked, tt.edns)
			if tt.edns != nil {
				query[11] = 1
			}
			var q message.Query
			if rcode, ok := q.Parse(query); !ok {
				t.Fatal(message.RCODEString(rcode))
			}
			// The response is in the middle of a buffer with room for the OPT; what is around it belongs to others.
			room := 11 + len(tt.ede)
			buf := mt.Join(mt.Repeat(16, '?'), tt.msg, mt.Repeat(room, '!'), mt.Repeat(16, '?'))
			r := message.Response{Message: buf[16 : 16+len(tt.msg) : 16+len(tt.msg)+room], RCODE: tt.rcode, EDE: bytes.Clone(tt.ede)}
			out := r.Finish(&q, tt.limit)
			if &out[0] != &buf[16] {
				t.Error("the response was not made in place")
			}
			if !bytes.Equal(buf[:16], mt.Repeat(16, '?')) || !bytes.Equal(buf[len(buf)-16:], mt.Repeat(16, '?')) {
				t.Error("octets around the response have changed")
			}
			if !bytes.Equal(r.EDE, tt.ede) {
				t.Error("EDE, which is shared, has changed")
			}
			if len(out) > tt.limit {
				t.Errorf("got %d octets, the limit is %d", len(out), tt.limit)
			}
			checkFinished(t, out, &q)
			var m dns.Msg
			if err := m.Unpack(out); err != nil {
				t.Fatalf("%x: %v", out, err)
			}
			got := want{an: len(m.Answer), ns: len(m.Ns), ar: len(m.Extra), rcode: m.Rcode}
			var flags []string
			for _, f := range []struct {
				set  bool
				name string
			}{{m.Authoritative, "aa"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.Truncated, "tc"},
				{m.CheckingDisabled, "cd"}, {m.AuthenticatedData, "ad"}, {m.Zero, "z"}} {
				if f.set {
					flags = append(flags, f.name)
				}
			}
			if opt := m.IsEdns0(); opt != nil {
				got.ar--
				got.ede = len(opt.Option) == 1 && opt.Option[0].Option() == dns.EDNS0EDE
				if opt.Do() {
					flags = append(flags, "do")
				}
			}
			got.flags = strings.Join(flags, " ")
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// checkFinished checks what holds for every response to q.
func checkFinished(t *testing.T, out []byte, q *message.Query) {
	t.Helper()
	if got := binary.BigEndian.Uint16(out); got != q.ID {
		t.Errorf("ID: got %x, want %x", got, q.ID)
	}
	if out[2]&0x80 == 0 {
		t.Error("QR is not set")
	}
	if !bytes.HasPrefix(out[12:], q.AppendWire(nil)) {
		t.Errorf("question: got %q, want %q", out[12:], q.AppendWire(nil))
	}
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		return // RDATA of an upstream, which nobody has looked at
	}
	opt := m.IsEdns0()
	if (opt != nil) != q.EDNS {
		t.Errorf("OPT in the response: %v, in the query: %v", opt != nil, q.EDNS)
	}
	if opt != nil && (opt.UDPSize() != 1232 || opt.Version() != 0 || opt.Z() != 0 || opt.Do() != q.DO) {
		t.Errorf("OPT: got %v", opt)
	}
}

func TestSetRCODEAppends(t *testing.T) {
	var q message.Query
	q.Parse(mt.Canary())
	dst := append(make([]byte, 0, 512), "???"...)
	var r message.Response
	r.SetRCODE(dst, &q, message.REFUSED)
	if string(dst) != "???" || &r.Message[0] != &dst[:4][3] {
		t.Error("the response is not behind what was in the buffer")
	}
	if r.RCODE != message.REFUSED || r.Class != message.REFUSED || r.Upstream != message.None {
		t.Errorf("got %+v", r)
	}
	r.SetRCODE(nil, &q, message.NOERROR)
	if r.Class != message.ClassNODATA {
		t.Errorf("class of an empty NOERROR: got %d, want NODATA", r.Class)
	}
}
