package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
)

// The conformance guest returns the verdict that its cookie says, and has a question at 80000, so one module covers the whole table of
// abi/README.md section 3. In the response phase it adds one to the cookie.
const conformance = `
	(data (i32.const 80000) "\04next\04test\00\00\1C\00\01")
	(func (export "query") (result i64) (i64.load (i32.const 1040)))
	(func (export "response") (result i64) (local $v i64)
		(local.set $v (i64.load (i32.const 1040)))
		(i64.store (i32.const 1040) (i64.add (local.get $v) (i64.const 1)))
		(local.get $v))
	(func (export "configure") (param i32) (result i64) (i64.const 0x103FFFFFF))`

func TestConformance(t *testing.T) {
	const outside = 131072
	schema := `{"properties": {"upstreams": {"items": {"format": "weir-upstream"}}}}`
	r := newRig(t, 0)
	open := func(grants string) *Filter {
		module := assemble(t, `(memory (export "memory") 2) (func (export "weir_abi_1") (result i32) (i32.const 1024))`+conformance+
			fmt.Sprintf(`(@custom "weir" %s)`, quoteWAT(fmt.Sprintf(`{"name":"test","version":"1.0.0","abi":1,"grants":[%s],"schema":%s}`, grants, schema))))
		f, err := r.Open(t.Context(), "test", Config{Config: map[string]any{"upstreams": []any{"c", "a"}}},
			Environment{Module: module, Bundled: true, Upstreams: []string{"a", "b", "c"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		return f
	}
	all := open(`"forward", "ask", "rewrite"`)
	if want := (chain.Interest{Query: true, Classes: 1<<26 - 1}); all.Interest() != want {
		t.Errorf("Interest() = %+v, want %+v", all.Interest(), want)
	}
	question := []byte("\x04next\x04test\x00\x00\x1C\x00\x01")
	const q, resp = 1, 2
	for _, tt := range []struct {
		name   string
		phases int // the ones in which it is allowed
		v      uint64
		want   chain.Verdict
		octets []byte
		ede    bool
		needs  string // the grant
	}{
		{name: "next", phases: q | resp, v: 0},
		{name: "next with an argument", v: abi.Pack(abi.Next, 1, 0, 0)},
		{name: "next with an offset", v: abi.Pack(abi.Next, 0, 0, 1)},
		{name: "respond with an RCODE", phases: q | resp, v: abi.Pack(abi.Respond, 5, 0, 0), want: chain.Verdict{Action: chain.Respond, RCODE: 5}, ede: true},
		{name: "respond with an extended RCODE", phases: q | resp, v: abi.Pack(abi.Respond, 23, 0, 0), want: chain.Verdict{Action: chain.Respond, RCODE: 23}, ede: true},
		{name: "respond with octets", phases: q | resp, v: abi.Pack(abi.Respond, 0, uint16(len(question)), 80000), want: chain.Verdict{Action: chain.Respond}, octets: question, ede: true},
		{name: "respond with the last octets", phases: q | resp, v: abi.Pack(abi.Respond, 0, 4, outside-4), want: chain.Verdict{Action: chain.Respond}, octets: make([]byte, 4), ede: true},
		{name: "respond beyond the memory", v: abi.Pack(abi.Respond, 0, 5, outside-4)},
		{name: "respond at the end of 32 bits", v: abi.Pack(abi.Respond, 0, 2, 1<<32-1)},
		{name: "respond with both", v: abi.Pack(abi.Respond, 5, uint16(len(question)), 80000)},
		{name: "respond with an RCODE and an offset", v: abi.Pack(abi.Respond, 5, 0, 80000)},
		{name: "forward to the first", phases: q | resp, v: abi.Pack(abi.Forward, 0, 0, 0), want: chain.Verdict{Action: chain.Forward, Upstream: 2}, needs: "forward"},
		{name: "forward to the second", phases: q | resp, v: abi.Pack(abi.Forward, 0, 0, 1), want: chain.Verdict{Action: chain.Forward, Upstream: 0}, needs: "forward"},
		{name: "forward to the third", v: abi.Pack(abi.Forward, 0, 0, 2)},
		{name: "forward with a length", v: abi.Pack(abi.Forward, 0, 1, 0)},
		{name: "forward the original", phases: resp, v: abi.Pack(abi.Forward, abi.ForwardOriginal, 0, 0), want: chain.Verdict{Action: chain.Forward, Upstream: 2, Options: chain.Original}, needs: "forward"},
		{name: "forward and settle", phases: resp, v: abi.Pack(abi.Forward, abi.ForwardSettle, 0, 0), want: chain.Verdict{Action: chain.Forward, Upstream: 2, Options: chain.Settle}, needs: "forward"},
		{name: "forward and keep", phases: resp, v: abi.Pack(abi.Forward, abi.ForwardKeep, 0, 0), want: chain.Verdict{Action: chain.Forward, Upstream: 2, Options: chain.Keep}, needs: "forward"},
		{name: "forward with an unknown bit", v: abi.Pack(abi.Forward, 8, 0, 0)},
		{name: "rewrite", phases: q, v: abi.Pack(abi.Rewrite, 0, uint16(len(question)), 80000), want: chain.Verdict{Action: chain.Rewrite}, octets: question, needs: "rewrite"},
		{name: "rewrite to too little", v: abi.Pack(abi.Rewrite, 0, 4, 80000)},
		{name: "rewrite to too much", v: abi.Pack(abi.Rewrite, 0, 260, 80000)},
		{name: "rewrite with an argument", v: abi.Pack(abi.Rewrite, 1, uint16(len(question)), 80000)},
		{name: "rewrite beyond the memory", v: abi.Pack(abi.Rewrite, 0, uint16(len(question)), outside-4)},
		{name: "drop", phases: q | resp, v: abi.Pack(abi.Drop, 0, 0, 0), want: chain.Verdict{Action: chain.Drop}},
		{name: "drop with a length", v: abi.Pack(abi.Drop, 0, 1, 0)},
		{name: "ask", phases: q | resp, v: abi.Pack(abi.Ask, 0, uint16(len(question)), 80000), want: chain.Verdict{Action: chain.Ask}, octets: question, needs: "ask"},
		{name: "ask with an argument", v: abi.Pack(abi.Ask, 1, uint16(len(question)), 80000)},
		{name: "kept", phases: resp, v: abi.Pack(abi.Kept, 0, 0, 0), want: chain.Verdict{Action: chain.Kept}},
		{name: "kept with an offset", v: abi.Pack(abi.Kept, 0, 0, 1)},
		{name: "unknown", v: abi.Pack(7, 0, 0, 0)},
	} {
		for phase, call := range map[int]func() *chain.Call{q: func() *chain.Call { return query(t) }, resp: func() *chain.Call { return response(t, message.NXDOMAIN) }} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, phase), func(t *testing.T) {
				c := call()
				c.Cookie = tt.v
				got, err := all.Call(c)
				if err := all.fill(); err != nil { // what faults took
					t.Fatal(err)
				}
				all.quarantine.history.Store(0)
				if tt.phases&phase == 0 {
					if err == nil {
						t.Fatalf("Call = %+v, want a fault", got)
					}
					return
				}
				cookie, ede := tt.v, uint16(message.None)
				if phase == resp {
					cookie++
				}
				if err != nil || got != tt.want || !bytes.Equal(c.Octets, tt.octets) || c.Cookie != cookie || c.EDE != ede {
					t.Errorf("Call = %+v, %v, octets %x, cookie %#x, EDE %d; want %+v, octets %x, cookie %#x, EDE %d",
						got, err, c.Octets, c.Cookie, c.EDE, tt.want, tt.octets, cookie, ede)
				}
				if tt.needs != "" {
					c := call()
					c.Cookie = tt.v
					if _, err := open(``).Call(c); err == nil {
						t.Errorf("without the grant %s, it is no fault", tt.needs)
					}
				}
			})
		}
	}
}

// quoteWAT writes a text as a string of the text format.
func quoteWAT(s string) string {
	var b bytes.Buffer
	b.WriteByte('"')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%02x`, c)
	}
	b.WriteByte('"')
	return b.String()
}

// FuzzVerdict: whatever a guest returns, decode gives a verdict of the table with octets from the memory, or an error; and the octets that
// were there before stay.
func FuzzVerdict(f *testing.F) {
	f.Add(uint64(0), uint8(1), []byte("memory"))
	f.Add(abi.Pack(abi.Respond, 0, 5, 1), uint8(1), []byte("memory"))
	f.Add(abi.Pack(abi.Ask, 0, 5, 0), uint8(2), []byte("memory"))
	f.Add(abi.Pack(abi.Forward, 3, 0, 1), uint8(2), []byte{})
	f.Add(uint64(1<<64-1), uint8(2), []byte{})
	f.Fuzz(func(t *testing.T, v uint64, phase uint8, memory []byte) {
		phase = phase%2 + 1
		var octets []byte
		var got chain.Verdict
		var err error
		fuzzing.Bounded(t, len(memory), 1<<10, func() {
			octets = []byte("before")
			got, err = decode(v, phase, grantForward|grantAsk|grantRewrite, []uint16{7, 9}, memory, &octets)
		})
		if !bytes.HasPrefix(octets, []byte("before")) {
			t.Fatalf("the octets are %q", octets)
		}
		octets = octets[len("before"):]
		if err != nil {
			return
		}
		verdict, _, length, offset := abi.Unpack(v)
		if got.Action > chain.Kept || uint8(got.Action) != verdict {
			t.Fatalf("verdict %#x gives %+v", v, got)
		}
		if len(octets) > 0 && (len(octets) != int(length) || !bytes.Equal(octets, memory[offset:int(offset)+int(length)])) {
			t.Fatalf("octets %x of %#x are not those of the memory", octets, v)
		}
		// What decode accepted can be written again.
		var again uint64
		switch got.Action {
		case chain.Respond:
			again = abi.Pack(verdict, uint8(got.RCODE), uint16(len(octets)), offset)
		case chain.Forward:
			again = abi.Pack(verdict, uint8(got.Options), 0, uint32(map[int]int{7: 0, 9: 1}[got.Upstream]))
		default:
			again = abi.Pack(verdict, 0, uint16(len(octets)), offset)
		}
		if again != v {
			t.Fatalf("%#x is read as %+v with %d octets, which is %#x", v, got, len(octets), again)
		}
	})
}

// The frame survives whatever queries and responses are written to it, and nothing around it is touched.
func FuzzFrame(f *testing.F) {
	wire := append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03wWw\x07Example\x04test\x00\x00\x01\x00\x01"...)
	f.Add(wire, []byte{192, 0, 2, 1}, uint64(7), uint16(0), false)
	f.Add(wire, make([]byte, 16), uint64(1<<63), uint16(3), true)
	const guard = 64
	clean := bytes.Repeat([]byte{'?'}, guard+abi.FrameTotal+guard)
	memory := bytes.Clone(clean)
	f.Fuzz(func(t *testing.T, wire, client []byte, cookie uint64, rcode uint16, asked bool) {
		var q message.Query
		if _, ok := q.Parse(wire); !ok {
			return
		}
		c := &chain.Call{Query: &q, Cookie: cookie, Limit: 512 + rcode%1000, Attempt: uint8(cookie), EDE: message.None}
		q.Client = clientOf(client, rcode)
		msg, phase := q.Message, byte(abi.PhaseQuery)
		if rcode != 0 {
			c.Response, c.Asked = new(message.Response), asked
			c.Response.SetRCODE(nil, &q, rcode%4096)
			c.Response.Upstream = rcode % 4
			msg, phase = c.Response.Message, abi.PhaseResponse
		}
		copy(memory, clean)
		fuzzing.Bounded(t, 0, 1<<10, func() { writeFrame((*frame)(memory[guard:]), c, []uint16{1, abi.None, 0}) })
		if !bytes.HasPrefix(memory, clean[:guard]) || !bytes.HasSuffix(memory, clean[:guard]) {
			t.Fatal("octets around the frame were written")
		}
		fr := memory[guard : guard+abi.FrameTotal]
		le := binary.LittleEndian
		size, qname := int(le.Uint32(fr[abi.FrameSize:])), int(le.Uint16(fr[abi.FrameQnameSize:]))
		if !bytes.Equal(fr[abi.FrameMessage:abi.FrameMessage+size], msg) {
			t.Error("the message is not the one that was written")
		}
		if behind := fr[abi.FrameMessage+size:]; !bytes.Equal(behind, clean[:len(behind)]) {
			t.Fatal("something was written behind the message")
		}
		if !bytes.Equal(fr[abi.FrameQname:abi.FrameQname+qname], q.Key) || int(le.Uint16(fr[abi.FrameQuestion:])) != headerSize+qname+4 {
			t.Error("the QNAME is not the one of the query")
		}
		if fr[abi.FramePhase] != phase || le.Uint16(fr[abi.FrameQtype:]) != q.Type || le.Uint16(fr[abi.FrameLimit:]) != c.Limit || fr[abi.FrameAttempt] != c.Attempt {
			t.Errorf("phase %d, QTYPE %d, limit %d, attempt %d; want %d, %d, %d, %d", fr[abi.FramePhase], le.Uint16(fr[abi.FrameQtype:]),
				le.Uint16(fr[abi.FrameLimit:]), fr[abi.FrameAttempt], phase, q.Type, c.Limit, c.Attempt)
		}
		if got, _ := readFrame((*frame)(fr)); got != cookie {
			t.Errorf("the cookie is %#x, want %#x", got, cookie)
		}
		if upstream := le.Uint16(fr[abi.FrameUpstream:]); phase == abi.PhaseResponse && upstream != []uint16{1, abi.None, 0, abi.None}[c.Response.Upstream] {
			t.Errorf("the upstream is %d for the host's %d", upstream, c.Response.Upstream)
		}
		a := q.Client.Addr().Unmap()
		family, address := byte(0), make([]byte, 16)
		if a.IsValid() {
			family = byte(6)
			if a.Is4() {
				family = 4
			}
			copy(address, a.AsSlice())
		}
		if fr[abi.FrameFamily] != family || !bytes.Equal(fr[abi.FrameAddress:abi.FrameAddress+16], address) || le.Uint16(fr[abi.FramePort:]) != q.Client.Port() {
			t.Errorf("the client is %d %x, want %d %x", fr[abi.FrameFamily], fr[abi.FrameAddress:abi.FrameAddress+16], family, address)
		}
		for i, b := range fr[abi.FrameLimit+2 : abi.FrameHeader] {
			if b != 0 {
				t.Fatalf("the reserved octet %d is %d", i, b)
			}
		}
	})
}

// BenchmarkFrame is what a call pays to show the guest its query.
func BenchmarkFrame(b *testing.B) {
	var q message.Query
	if _, ok := q.Parse([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x04test\x00\x00\x01\x00\x01")); !ok {
		b.Fatal("this is a query")
	}
	for _, client := range []string{"192.0.2.1", "2001:db8::1"} {
		b.Run(client, func(b *testing.B) {
			b.ReportAllocs()
			q.Client = netip.AddrPortFrom(netip.MustParseAddr(client), 5353)
			f, c := new(frame), &chain.Call{Query: &q}
			for b.Loop() {
				writeFrame(f, c, nil)
			}
		})
	}
}
