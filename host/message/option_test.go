package message_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// finished returns a query with these options, and the response to it as it goes out, with size octets of records about.
func finished(t *testing.T, edns bool, options []byte, size int) (*message.Query, *message.Response, []byte) {
	t.Helper()
	wire := mt.Join(mt.Header(7, message.FlagRD, 1, 0, 0, 0), mt.Question("www.example", message.TypeA))
	if edns {
		wire[11] = 1
		wire = append(wire, mt.OPT(1232, 0, options...)...)
	}
	q, r := new(message.Query), new(message.Response)
	if rcode, ok := q.Parse(wire); !ok {
		t.Fatalf("the query got RCODE %d", rcode)
	}
	q.Transport = message.TLS
	r.SetRCODE(nil, q, message.NOERROR)
	if size > 0 {
		r.Message[7] = 1
		r.Message = append(r.Message, mt.Record(mt.Pointer(12), 65280, make([]byte, size)...)...)
	}
	r.EDE = message.AppendEDE(nil, message.EDEOther, "why")
	return q, r, r.Finish(q, q.Limit(1232))
}

func TestHasOption(t *testing.T) {
	q, _, _ := finished(t, true, []byte{0, 3, 0, 2, 0, 12, 0, 11, 0, 0}, 0) // the data of the first looks like another
	for number, want := range map[uint16]bool{3: true, message.OptionKeepalive: true, message.OptionPadding: false, 0: false} {
		if got := q.HasOption(number); got != want {
			t.Errorf("option %d: got %v, want %v", number, got, want)
		}
	}
	if q, _, _ := finished(t, false, nil, 0); q.HasOption(message.OptionPadding) {
		t.Error("a query without EDNS has an option")
	}
}

func TestAddOption(t *testing.T) {
	_, r, msg := finished(t, true, nil, 10)
	got := r.AddOption(msg, message.OptionKeepalive, []byte{0, 100})
	got = r.AddOption(got, 65001, []byte("abc"))
	m := new(dns.Msg)
	if err := m.Unpack(got); err != nil {
		t.Fatalf("%x: %v", got, err)
	}
	options := m.IsEdns0().Option
	if len(options) != 3 || options[1].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != 100 || string(options[2].(*dns.EDNS0_LOCAL).Data) != "abc" {
		t.Errorf("got %v", options)
	}
	_, r, msg = finished(t, false, nil, 10)
	if got := r.AddOption(msg, message.OptionKeepalive, nil); len(got) != len(msg) {
		t.Errorf("without EDNS: got %x", got)
	}
}

// TestRFC8467Block: padded responses have a multiple of 468 octets (section 4.1).
func TestRFC8467Block(t *testing.T) {
	const block = 468
	for size := range 3 * block {
		_, r, msg := finished(t, true, nil, size+1)
		before := len(msg)
		got := r.Pad(msg, block)
		if len(got)%block != 0 || len(got)-before > block+3 {
			t.Fatalf("%d octets became %d", before, len(got))
		}
		m := new(dns.Msg)
		if err := m.Unpack(got); err != nil {
			t.Fatalf("%d octets: %v", before, err)
		}
		o := m.IsEdns0().Option
		for _, c := range o[len(o)-1].(*dns.EDNS0_PADDING).Padding {
			if c != 0 {
				t.Fatalf("%d octets are padded with something else than zero", before)
			}
		}
	}
	_, r, msg := finished(t, false, nil, 10)
	if got := r.Pad(msg, block); len(got) != len(msg) {
		t.Errorf("without EDNS: got %d octets, want %d", len(got), len(msg))
	}
}

// TestPadLarge: near the end of what a message can have, there is less padding, or none.
func TestPadLarge(t *testing.T) {
	for _, left := range []int{0, 1, 3, 4, 5, 100, 500} {
		_, _, msg := finished(t, true, nil, 60000)
		_, r, msg := finished(t, true, nil, 60000+message.MaxSize-len(msg)-left)
		if len(msg) != message.MaxSize-left {
			t.Fatalf("got a message of %d octets", len(msg))
		}
		want := len(msg)
		if left >= 4 {
			want = min((len(msg)+4+467)/468*468, message.MaxSize)
		}
		got := r.Pad(msg, 468)
		if len(got) != want {
			t.Errorf("%d octets left: got %d, want %d", left, len(got), want)
		}
		if err := new(dns.Msg).Unpack(got); err != nil {
			t.Errorf("%d octets left: %v", left, err)
		}
	}
}

// TestParseEmpty: a query without a question is one only with a cookie, and nothing else besides.
func TestParseEmpty(t *testing.T) {
	cookie := mt.OPT(1232, 0, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)
	for _, tt := range []struct {
		name string
		msg  []byte
		want bool
	}{
		{"cookie", mt.Join(mt.Header(1, 0, 0, 0, 0, 1), cookie), true},
		{"no cookie", mt.Join(mt.Header(1, 0, 0, 0, 0, 1), mt.OPT(1232, 0)), false},
		{"no OPT", mt.Header(1, 0, 0, 0, 0, 0), false},
		{"a record", mt.Join(mt.Header(1, 0, 0, 0, 0, 1), mt.Record([]byte{0}, 1, 192, 0, 2, 1)), false},
		{"octets behind it", mt.Join(mt.Header(1, 0, 0, 0, 0, 1), cookie, []byte{0}), false},
		{"an answer", mt.Join(mt.Header(1, 0, 0, 1, 0, 1), mt.Record([]byte{0}, 1, 192, 0, 2, 1), cookie), false},
		{"two questions", mt.Join(mt.Header(1, 0, 2, 0, 0, 1), cookie), false},
		{"UPDATE", mt.Join(mt.Header(1, 5<<11, 0, 0, 0, 1), cookie), false},
		{"response", mt.Join(mt.Header(1, message.FlagQR, 0, 0, 0, 1), cookie), false},
		{"no header", []byte{1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q message.Query
			if _, ok := q.Parse(tt.msg); ok {
				t.Fatal("is a query with a question")
			}
			if got := q.ParseEmpty(tt.msg); got != tt.want || q.EDNS != tt.want || q.Name != nil {
				t.Errorf("got %v, EDNS: %v, QNAME %x; want %v", got, q.EDNS, q.Name, tt.want)
			}
		})
	}
}
