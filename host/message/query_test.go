package message_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestRFC9267Queries: of each way in which parsers of queries have failed, the result is an RCODE and an answer that is well formed (sections 2 to 6).
func TestRFC9267Queries(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range mt.Queries() {
		t.Run(tt.Name, func(t *testing.T) {
			if seen[tt.Name] {
				t.Fatal("the name is in the table twice")
			}
			seen[tt.Name] = true
			msg := bytes.Clone(tt.Octets)
			var q message.Query
			rcode, ok := q.Parse(msg)
			if rcode != tt.RCODE || ok != (tt.RCODE == message.NOERROR) {
				t.Fatalf("got %s, %v; want %s", message.RCODEString(rcode), ok, message.RCODEString(tt.RCODE))
			}
			if !bytes.Equal(msg, tt.Octets) {
				t.Error("Parse changed the octets of the query")
			}
			if rcode != message.Ignore {
				checkErrorResponse(t, &q, tt.Octets, rcode, tt.OPT)
			}
		})
	}
}

// checkErrorResponse reads the answer to a refused query with the other library.
func checkErrorResponse(t *testing.T, q *message.Query, query []byte, rcode uint16, opt bool) {
	t.Helper()
	var r message.Response
	r.SetRCODE(nil, q, rcode)
	out := r.Finish(q, q.Limit(1232))
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatalf("the answer %x is malformed: %v", out, err)
	}
	if out[0] != query[0] || out[1] != query[1] {
		t.Errorf("ID of the answer: got %x, want %x", out[:2], query[:2])
	}
	if !m.Response || m.Rcode != int(rcode) || m.Opcode != int(query[2]>>3&15) {
		t.Errorf("got %v, want a response with %s and the opcode of the query", &m.MsgHdr, message.RCODEString(rcode))
	}
	if got := m.IsEdns0() != nil; got != opt {
		t.Errorf("OPT in the answer: got %v, want %v", got, opt)
	}
	if len(m.Answer)+len(m.Ns) != 0 {
		t.Errorf("the answer has records: %v", &m)
	}
}

func TestQueryParseFields(t *testing.T) {
	msg := mt.Join(mt.Header(0xBEEF, message.FlagRD|message.FlagCD|message.FlagAD, 1, 0, 0, 1),
		mt.Question("Www.Example.COM", message.TypeAAAA), mt.OPT(1400, 0x8000, 0, 10, 0, 2, 7, 8))
	var q message.Query
	q.EDNS, q.Labels = true, 99
	if rcode, ok := q.Parse(msg); !ok {
		t.Fatalf("got %s", message.RCODEString(rcode))
	}
	check := func(field string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", field, got, want)
		}
	}
	check("ID", q.ID, 0xBEEF)
	check("Flags", q.Flags, 0x0130)
	check("Name", q.Name, []byte("\x03Www\x07Example\x03COM\x00"))
	check("Key", q.Key, []byte("\x03www\x07example\x03com\x00"))
	check("Type", q.Type, 28)
	check("Class", q.Class, 1)
	check("Labels", q.Labels, 3)
	check("EDNS", q.EDNS, true)
	check("DO", q.DO, true)
	check("UDPSize", q.UDPSize, 1400)
	check("Options", q.Options, []byte{0, 10, 0, 2, 7, 8})
	check("RD", q.RD(), true)
	check("CD", q.CD(), true)
	check("QuestionSize", q.QuestionSize(), 12+17+4)
	check("Message", q.Message, msg)

	// Nothing of it is left after the next Parse.
	q.Parse(mt.Join(mt.Header(1, 0, 1, 0, 0, 0), mt.Question(".", message.TypeA)))
	check("EDNS", q.EDNS, false)
	check("DO", q.DO, false)
	check("UDPSize", q.UDPSize, 0)
	check("Options", len(q.Options), 0)
	check("Labels", q.Labels, 0)
	check("RD", q.RD(), false)
	check("CD", q.CD(), false)
	q.Parse(mt.Header(1, 0, 0, 0, 0, 0))
	check("Name", q.Name == nil, true)
	check("Type", q.Type, 0)
}

func TestQueryLimit(t *testing.T) {
	tests := []struct {
		name      string
		transport message.Transport
		size      uint16
		most      int
		want      int
	}{
		{"no EDNS", message.UDP, 0, 1232, 512},
		{"below 512", message.UDP, 100, 1232, 512},
		{"between", message.UDP, 1000, 1232, 1000},
		{"above most", message.UDP, 65535, 1232, 1232},
		{"TCP", message.TCP, 512, 1232, message.MaxSize},
		{"HTTPS", message.HTTPS, 0, 1232, message.MaxSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := message.Query{Transport: tt.transport, UDPSize: tt.size}
			if got := q.Limit(tt.most); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSetQuestion(t *testing.T) {
	tests := []struct {
		name  string
		qname []byte
		ok    bool
	}{
		{"short", mt.Name("b.example"), true},
		{"upper case", mt.Name("B.EXAMPLE"), true},
		{"root", []byte{0}, true},
		{"255 octets", mt.LongName(255), true},
		{"256 octets", mt.LongName(256), false},
		{"empty", nil, false},
		{"no root", []byte("\x01a"), false},
		{"octets behind the root", []byte("\x01a\x00\x00"), false},
		{"label beyond the end", []byte("\x05a\x00"), false},
		{"pointer", []byte{0xC0, 12}, false},
		{"label of 64 octets", mt.Join([]byte{64}, mt.Repeat(64, 'a'), []byte{0}), false},
	}
	for _, tt := range tests {
		for _, edns := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " EDNS ", edns), func(t *testing.T) {
				var from, to, back message.Query
				msg := mt.Join(mt.Header(7, message.FlagRD|message.FlagCD, 1, 0, 0, 0), mt.Question("a.example", message.TypeA))
				if edns {
					msg[11] = 1
					msg = append(msg, mt.OPT(1400, 0x8000, 0, 10, 0, 1, 9)...)
				}
				from.Parse(msg)
				from.Client, from.Transport, from.Listener, from.Scope = netip.MustParseAddrPort("192.0.2.1:53"), message.TCP, 3, 4
				from.Deadline, from.Trace = time.Unix(5, 0), new(message.Trace)
				to.ID, to.Name = 1, []byte{0}
				if got := to.SetQuestion(&from, make([]byte, 100), tt.qname, message.TypeAAAA, 3); got != tt.ok {
					t.Fatalf("got %v, want %v", got, tt.ok)
				}
				if !tt.ok {
					if to.ID != 1 || to.Message != nil {
						t.Error("an invalid name changed the query")
					}
					return
				}
				if rcode, ok := back.Parse(to.Message); !ok {
					t.Fatalf("Parse of %x: %s", to.Message, message.RCODEString(rcode))
				}
				if !bytes.Equal(to.Name, tt.qname) || to.Type != message.TypeAAAA || to.Class != 3 {
					t.Errorf("got the question %q %d %d", to.Name, to.Type, to.Class)
				}
				back.Client, back.Transport, back.Listener, back.Scope = from.Client, from.Transport, from.Listener, from.Scope
				back.Deadline, back.Trace = from.Deadline, from.Trace
				if got, want := fmt.Sprintf("%+v", &to), fmt.Sprintf("%+v", &back); got != want {
					t.Errorf("got %s\nwant %s", got, want)
				}
			})
		}
	}
}

func TestAppendUpstream(t *testing.T) {
	guard := []byte("??")
	for _, tt := range mt.Queries() {
		for _, size := range []uint16{0, 512, 1232} {
			t.Run(fmt.Sprint(tt.Name, " ", size), func(t *testing.T) {
				var q message.Query
				if _, ok := q.Parse(tt.Octets); !ok {
					t.Skip("not a query to send on")
				}
				out := q.AppendUpstream(bytes.Clone(guard), 0xABCD, size)
				if !bytes.HasPrefix(out, guard) {
					t.Fatal("what was in the buffer has changed")
				}
				out = out[len(guard):]
				var m dns.Msg
				if err := m.Unpack(out); err != nil {
					t.Fatalf("%x: %v", out, err)
				}
				if m.Id != 0xABCD || m.Response || m.Opcode != 0 || m.Truncated || m.Authoritative || m.RecursionAvailable || m.Zero {
					t.Errorf("header: %v", &m.MsgHdr)
				}
				if got := binary.BigEndian.Uint16(out[2:]); got != q.Flags&(message.FlagRD|message.FlagCD|message.FlagAD) {
					t.Errorf("flags: got %#x of %#x", got, q.Flags)
				}
				if got := out[12:q.QuestionSize()]; !bytes.Equal(got, tt.Octets[12:q.QuestionSize()]) {
					t.Errorf("question: got %x", got)
				}
				opt := m.IsEdns0()
				if (opt != nil) != (size > 0) {
					t.Fatalf("OPT: got %v with size %d", opt, size)
				}
				if opt != nil && (opt.UDPSize() != size || opt.Do() != q.DO || len(opt.Option) != 0 || opt.Version() != 0 || opt.Z() != 0) {
					t.Errorf("OPT: got %v", opt)
				}
				// What goes upstream is the same message to the parser that let it pass.
				var again message.Query
				if rcode, ok := again.Parse(out); !ok || !bytes.Equal(again.Key, q.Key) {
					t.Errorf("Parse of what goes upstream: %s", message.RCODEString(rcode))
				}
			})
		}
	}
}

func TestTransportString(t *testing.T) {
	for tr, want := range map[message.Transport]string{message.UDP: "udp", message.TCP: "tcp", message.TLS: "tls", message.HTTPS: "https", message.QUIC: "quic", 5: "unknown", 255: "unknown"} {
		if got := tr.String(); got != want {
			t.Errorf("Transport(%d): got %q, want %q", tr, got, want)
		}
	}
}

func TestRCODEString(t *testing.T) {
	for rcode := range uint16(24) {
		want := dns.RcodeToString[int(rcode)]
		switch {
		case want == "BADSIG":
			want = "BADVERS" // both are 16
		case want == "STATEFULTYPENOTIMPL" || rcode == 11:
			want = "DSOTYPENI"
		case want == "":
			want = fmt.Sprint("RCODE", rcode)
		}
		if got := message.RCODEString(rcode); got != want {
			t.Errorf("%d: got %q, want %q", rcode, got, want)
		}
	}
	if got := message.RCODEString(4000); got != "RCODE4000" {
		t.Errorf("got %q", got)
	}
}

func TestTraceIsBounded(t *testing.T) {
	var tr message.Trace
	for i := range 1000 {
		tr.Add(message.Step{Part: "part"}, "line %d", i)
	}
	if len(tr.Steps) != 256 || tr.Steps[255].Text != "line 255" || !strings.HasPrefix(tr.Steps[0].Part, "part") {
		t.Errorf("got %d lines, the last %v; want 256", len(tr.Steps), tr.Steps[len(tr.Steps)-1])
	}
}
