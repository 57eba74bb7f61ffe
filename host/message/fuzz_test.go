package message_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// FuzzQuery: no octets make Parse panic, what it accepts is the same message upstream, and everything that has a header and is no response gets
// a well-formed answer (RFC 8906).
func FuzzQuery(f *testing.F) {
	for _, q := range mt.Queries() {
		f.Add(q.Octets)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		var q message.Query
		var rcode uint16
		var ok bool
		fuzzing.Bounded(t, len(msg), 1<<10, func() {
			q = message.Query{}
			rcode, ok = q.Parse(msg)
		})
		if !bytes.Equal(msg, before) {
			t.Fatal("Parse changed the query")
		}
		if ignored := len(msg) < 12 || msg[2]&0x80 != 0; ignored != (rcode == message.Ignore) {
			t.Fatalf("got %s, want that it is ignored: %v", message.RCODEString(rcode), ignored)
		}
		if ok != (rcode == message.NOERROR) {
			t.Fatalf("got %s and %v", message.RCODEString(rcode), ok)
		}
		if rcode == message.Ignore {
			return
		}
		checkErrorResponse(t, &q, before, rcode, q.EDNS)
		if !ok {
			return
		}
		if !message.EqualName(q.Name, q.Key) || len(q.Name) > message.MaxName || len(q.Options) > len(msg) {
			t.Fatalf("got %+v", q)
		}
		var up, again message.Query
		if rcode, ok := up.Parse(q.AppendUpstream(nil, 1, 1232)); !ok || !bytes.Equal(up.Name, q.Name) || up.Type != q.Type || up.Class != q.Class || up.DO != q.DO {
			t.Fatalf("upstream reads another query: %s, %+v", message.RCODEString(rcode), up)
		}
		if !again.SetQuestion(&q, nil, q.Name, q.Type, q.Class) {
			t.Fatal("SetQuestion refuses a name that Parse took")
		}
		if rcode, ok := up.Parse(again.Message); !ok || !bytes.Equal(up.Options, q.Options) || !bytes.Equal(up.Name, q.Name) {
			t.Fatalf("SetQuestion, then Parse: %s, %+v", message.RCODEString(rcode), up)
		}
	})
}

// FuzzResponse: no octets make Parse panic; what it accepts stays accepted, and Finish keeps it below any limit, with the records intact as far
// as they fit.
func FuzzResponse(f *testing.F) {
	for _, r := range mt.Responses() {
		f.Add(r.Octets, uint16(512), true)
	}
	f.Fuzz(func(t *testing.T, msg []byte, limit uint16, edns bool) {
		var r message.Response
		var err error
		fuzzing.Bounded(t, len(msg), 1<<10, func() {
			r = message.Response{}
			err = r.Parse(bytes.Clone(msg), mt.Asked())
		})
		if err != nil {
			return
		}
		if len(r.EDE) > 512 || r.RCODE > 4095 || r.Class > message.ClassOther {
			t.Fatalf("got %+v", r)
		}
		var again message.Response
		if err := again.ParseOwn(bytes.Clone(r.Message), mt.Asked()); err != nil {
			t.Fatalf("ParseOwn of what Parse left: %v", err)
		}
		query := mt.Join(mt.Header(0x5678, message.FlagRD, 1, 0, 0, 0), mt.Question("wWw.example.com", message.TypeA))
		if edns {
			query[11] = 1
			query = append(query, mt.OPT(1232, 0)...)
		}
		var q message.Query
		q.Parse(query)
		most := max(int(limit), 512)
		was := message.Truncated(r.Message)
		records := bytes.Clone(r.Message[q.QuestionSize():])
		out := r.Finish(&q, most)
		if len(out) > most {
			t.Fatalf("got %d octets, the limit is %d", len(out), most)
		}
		checkFinished(t, out, &q)
		if err := again.Parse(bytes.Clone(out), mt.Asked()); err != nil {
			t.Fatalf("Parse of what Finish made: %v", err)
		}
		if !bytes.HasPrefix(records, again.Message[q.QuestionSize():]) {
			t.Fatal("Finish changed the records")
		}
		if message.Truncated(out) && !was && len(again.Message) != q.QuestionSize() {
			t.Fatal("TC is set, and there are records")
		}
	})
}

// FuzzName: AppendName and checkName agree, the result is a valid name, and it is read again as it is.
func FuzzName(f *testing.F) {
	pad := make([]byte, 12)
	for _, name := range [][]byte{{0}, mt.Name("www.example.com"), mt.LongName(255), mt.LongName(256), {0xC0, 12}, {0xC0, 14, 0}, {1, 'a', 0xC0, 12},
		mt.Join([]byte{0}, mt.Pointers(126, 13, 12)), mt.Join([]byte{0}, mt.Pointers(127, 13, 12)), {0x40}, {0x80}, {0xC0}} {
		f.Add(mt.Join(pad, name), 12)
		f.Add(mt.Join(pad, name), len(pad)+max(len(name)-2, 0))
	}
	f.Fuzz(func(t *testing.T, msg []byte, off int) {
		if off < 0 {
			return
		}
		var name []byte
		var end, checkEnd int
		var err, checkErr error
		fuzzing.Bounded(t, 0, 1<<10, func() { // whatever the message has, names have 255 octets
			name, end, err = message.AppendName([]byte("?"), msg, off)
			checkEnd, checkErr = message.CheckName(msg, off)
		})
		if !errors.Is(err, checkErr) || err == nil && end != checkEnd {
			t.Fatalf("AppendName: %d, %v; checkName: %d, %v", end, err, checkEnd, checkErr)
		}
		if name[0] != '?' || len(name) > 1+message.MaxName {
			t.Fatalf("got %q", name)
		}
		if err != nil {
			return
		}
		name = name[1:]
		if end <= off || end > len(msg) {
			t.Fatalf("end: got %d, the name is at %d of %d", end, off, len(msg))
		}
		again, end, err := message.AppendName(nil, name, 0)
		if err != nil || end != len(name) || !bytes.Equal(again, name) {
			t.Fatalf("%q is read again as %q, %v", name, again, err)
		}
		text := message.NameString(name)
		back, err := message.ParseName(text)
		if err != nil || !bytes.Equal(back, message.AppendCanonical(nil, name)) {
			t.Fatalf("%q is written as %s, which is read as %q, %v", name, text, back, err)
		}
		if !message.InZone(back, back) || !message.InZone(back, []byte{0}) {
			t.Fatalf("%s is not in its own zone", text)
		}
	})
}

// FuzzRestored: what AppendRestored makes of any response that was accepted is a well-formed response to the other question with as many
// records, and so is what it makes of that.
func FuzzRestored(f *testing.F) {
	for _, r := range mt.Responses() {
		f.Add(r.Octets, []byte("\x01a\x00"))
	}
	var from message.Query
	from.Parse(mt.Canary())
	room := append(make([]byte, 0, 2*message.MaxSize), '?')
	f.Fuzz(func(t *testing.T, msg, name []byte) {
		var q message.Query
		if !q.SetQuestion(&from, nil, name, message.TypeA, message.ClassIN) {
			return
		}
		var r, restored message.Response
		if r.Parse(bytes.Clone(msg), mt.Asked()) != nil {
			return
		}
		before := bytes.Clone(r.Message)
		var out []byte
		var err error
		fuzzing.Bounded(t, len(msg)+len(name), 1<<10, func() { out, err = r.AppendRestored(room, mt.Asked(), &q.Question) })
		if out[0] != '?' || !bytes.Equal(r.Message, before) {
			t.Fatal("AppendRestored changed what it must not")
		}
		if err != nil {
			if len(out) != 1 {
				t.Fatalf("an error leaves %d octets", len(out))
			}
			return
		}
		if err := restored.ParseOwn(out[1:], &q.Question); err != nil {
			t.Fatalf("Parse of what was restored: %v", err)
		}
		if !bytes.Equal(restored.Message[6:12], r.Message[6:12]) || r.RCODE <= 0xF && restored.Class != r.Class {
			t.Fatalf("got the counts %x and class %d, want %x and %d", restored.Message[6:12], restored.Class, r.Message[6:12], r.Class)
		}
		if _, err := restored.AppendRestored(nil, &q.Question, mt.Asked()); err != nil && len(out) < 30000 {
			t.Fatalf("and back again: %v", err)
		}
	})
}
