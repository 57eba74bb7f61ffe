package message_test

import (
	"bytes"
	"testing"

	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// samples are a query as browsers' resolvers send it and a response with a CNAME, eight addresses and an OPT.
func samples() (query, response []byte) {
	question := mt.Question("www.example.com", message.TypeA)
	query = mt.Join(mt.Header(7, message.FlagRD, 1, 0, 0, 1), question, mt.OPT(1232, 0, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8))
	response = mt.Join(mt.Header(7, message.FlagQR|message.FlagRD|message.FlagRA, 1, 9, 0, 1), question,
		mt.Record(mt.Pointer(12), message.TypeCNAME, 3, 'c', 'd', 'n', 0xC0, 16))
	at := len(question) + 12 + 12
	for i := range 8 {
		response = append(response, mt.Record(mt.Pointer(at), message.TypeA, 192, 0, 2, byte(i))...)
	}
	return query, append(response, mt.OPT(1232, 0)...)
}

// TestAllocations: nothing on the query path allocates.
func TestAllocations(t *testing.T) {
	query, response := samples()
	var q, other message.Query
	var r message.Response
	work := make([]byte, len(response), 4096)
	buf := make([]byte, 0, 4096)
	name := mt.Name("b.example.org")
	q.Parse(query)
	tests := []struct {
		name string
		f    func()
	}{
		{"Query.Parse", func() { q.Parse(query) }},
		{"Query.SetQuestion", func() { other.SetQuestion(&q, buf, name, message.TypeA, message.ClassIN) }},
		{"Query.AppendUpstream", func() { q.AppendUpstream(buf, 1, 1232) }},
		{"Response.Parse", func() { copy(work[:len(response)], response); r.Parse(work[:len(response)], &q.Question) }},
		{"Answers", func() { message.Answers(response, 7, &q.Question) }},
		{"Response.Finish", func() {
			copy(work[:len(response)], response)
			r.Parse(work[:len(response)], &q.Question)
			r.Finish(&q, 1232)
		}},
		{"Response.Finish, truncated", func() {
			copy(work[:len(response)], response)
			r.Parse(work[:len(response)], &q.Question)
			r.Finish(&q, 100)
		}},
		{"Response.SetRCODE", func() { r.SetRCODE(buf, &q, message.REFUSED) }},
		{"Response.AppendRestored", func() {
			copy(work[:len(response)], response)
			r.Parse(work[:len(response)], &q.Question)
			r.AppendRestored(buf, &q.Question, &other.Question)
		}},
		{"EqualName, InZone", func() { message.EqualName(q.Name, q.Key); message.InZone(q.Key, name) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, tt.f); got != 0 {
				t.Errorf("got %v allocations, want none", got)
			}
		})
	}
}

func BenchmarkQueryParse(b *testing.B) {
	query, _ := samples()
	var q message.Query
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := q.Parse(query); !ok {
			b.Fatal("refused")
		}
	}
}

func BenchmarkResponseParse(b *testing.B) {
	query, response := samples()
	var q message.Query
	var r message.Response
	q.Parse(query)
	work := make([]byte, len(response))
	b.ReportAllocs()
	for b.Loop() {
		copy(work, response)
		if err := r.Parse(work, &q.Question); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResponseParseHostile is 64 KB with 125 pointers for each of 4,000 owners.
func BenchmarkResponseParseHostile(b *testing.B) {
	msg := hostile(4000, 125)
	work := bytes.Clone(msg)
	var r message.Response
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Parse(work, mt.Asked()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFinish(b *testing.B) {
	query, response := samples()
	var q message.Query
	var parsed message.Response
	q.Parse(query)
	if err := parsed.Parse(bytes.Clone(response), &q.Question); err != nil {
		b.Fatal(err)
	}
	work := append(make([]byte, 0, 4096), parsed.Message...)
	b.ReportAllocs()
	for b.Loop() {
		r := parsed
		r.Message = append(work[:0], parsed.Message...)
		r.Finish(&q, 1232)
	}
}

func BenchmarkAppendUpstream(b *testing.B) {
	query, _ := samples()
	var q message.Query
	q.Parse(query)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = q.AppendUpstream(buf[:0], 1, 1232)
	}
}

func BenchmarkAppendRestored(b *testing.B) {
	query, response := samples()
	var q message.Query
	var r message.Response
	q.Parse(query)
	if err := r.Parse(response, &q.Question); err != nil {
		b.Fatal(err)
	}
	asked := question("a.longer.name.example.net")
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = r.AppendRestored(buf[:0], &q.Question, asked); err != nil {
			b.Fatal(err)
		}
	}
}
