package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/internal/race"
	"github.com/weirdns/weir/host/message"
)

// raw is an upstream that says these octets.
type raw struct{ octets []byte }

func (u *raw) Resolve(_ context.Context, q *message.Query, dst []byte) (message.Response, error) {
	var r message.Response
	err := r.Parse(append(dst, u.octets...)[len(dst):], &q.Question)
	return r, err
}

// malicious makes responses to q that say as much as they can about other names.
type malicious struct {
	*rand.Rand
	names [][]byte // canonical
}

func (m *malicious) response(q *message.Query) []byte {
	msg := make([]byte, 12, 512)
	binary.BigEndian.PutUint16(msg[2:], 0x8080|uint16(m.Uint32())&0x0730) // any of AA, RD, Z, AD, CD; rarely TC
	if m.IntN(16) == 0 {
		msg[2] |= 0x02
	}
	msg[3] |= []byte{0, 0, 0, 0, 3, 3, 2, 5}[m.IntN(8)]
	msg[5] = 1
	msg = q.AppendWire(msg)
	for section := range 3 {
		n := m.IntN(4)
		binary.BigEndian.PutUint16(msg[6+2*section:], uint16(n))
		for range n {
			if m.IntN(2) == 0 {
				msg = append(msg, 0xC0, 12)
			} else {
				msg = append(msg, m.names[m.IntN(len(m.names))]...)
			}
			rrtype := []uint16{1, 2, 5, 6, 28, 39, 16, 46}[m.IntN(8)]
			msg = binary.BigEndian.AppendUint16(msg, rrtype)
			msg = binary.BigEndian.AppendUint16(msg, 1)
			msg = binary.BigEndian.AppendUint32(msg, []uint32{0, 1, 60, 86400, 1 << 31, 1<<32 - 1}[m.IntN(6)])
			rdata := m.names[m.IntN(len(m.names))]
			if rrtype == 6 {
				rdata = append(slices.Concat(rdata, rdata), make([]byte, 20)...)
				binary.BigEndian.PutUint32(rdata[len(rdata)-4:], m.Uint32()%3600)
			}
			msg = binary.BigEndian.AppendUint16(msg, uint16(len(rdata)))
			msg = append(msg, rdata...)
		}
	}
	return msg
}

// TestPoisoning has an upstream that puts records of all names and types into each of its answers. There must never be an entry for a
// question that was not asked, nor one that holds another question's answer.
func TestPoisoning(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	texts := []string{"bank.example.", "www.bank.example.", "evil.example.", "example.", "a.evil.example.", ".", "ns.bank.example."}
	m := &malicious{Rand: random}
	for _, text := range texts {
		name, err := message.ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		m.names = append(m.names, name)
	}
	types := []uint16{dns.TypeA, dns.TypeNS, dns.TypeCNAME, dns.TypeSOA, dns.TypeAAAA, dns.TypeANY}
	rounds := race.Rounds(100_000, 5000)
	if testing.Short() {
		rounds = 5000
	}
	var now clock
	for range rounds / 20 {
		upstream := &raw{}
		c := open(t, preset("coredns"), upstream, now.now)
		said := make(map[string][]byte) // the last octets that the upstream said to a question
		for range 20 {
			// Names below evil.example are asked for; the bank is what the answers are about.
			q := ask(texts[2+2*random.IntN(2)], types[random.IntN(len(types))], now.now())
			k := string(appendKey(nil, q))
			if _, ok := c.Cached(q, nil); ok {
				continue
			}
			upstream.octets = m.response(q)
			said[k] = slices.Clone(upstream.octets)
			if _, err := c.Resolve(t.Context(), q, nil); err != nil {
				t.Fatalf("the generator's message can't be read: %v", err)
			}
		}
		for i := range c.store.shards {
			sh := &c.store.shards[i]
			for _, slot := range sh.index.slots {
				if slot == 0 {
					continue
				}
				e := sh.at(place(slot))
				octets, asked := said[string(e.key())]
				if !asked {
					t.Fatalf("there is an entry for a question that was not asked: % x", e.key())
				}
				if kept := e[entryHead+len(e.key()):][:e.word(atMessage)]; !sameButTTLs(kept, octets, e.kind()) {
					t.Fatalf("the entry for % x is not what the upstream said:\n% x\n% x", e.key(), kept, octets)
				}
			}
		}
		for _, text := range []string{"bank.example.", "www.bank.example.", "ns.bank.example."} {
			for _, qtype := range types {
				if _, ok := c.Cached(ask(text, qtype, now.now()), nil); ok {
					t.Fatalf("%s %d is answered, and was never asked", text, qtype)
				}
			}
		}
		c.Close()
	}
}

// sameButTTLs compares what is kept with what was said.
func sameButTTLs(kept, said []byte, k kind) bool {
	said = slices.Clone(said)
	kept = slices.Clone(kept)
	if k == failure {
		said = said[:len(kept)]
		clear(said[6:12])
	} else {
		for _, msg := range [][]byte{kept, said} {
			for r := range message.Records(msg) {
				clear(msg[r.At:][:4])
			}
		}
	}
	said[2] &^= 4 // AA
	return string(kept) == string(said)
}

// TestRandomQuestions looks for one question in the place of another.
func TestRandomQuestions(t *testing.T) {
	rounds := race.Rounds(200_000, 20_000)
	if testing.Short() {
		rounds = 20_000
	}
	var now clock
	random := rand.New(rand.NewPCG(5, 6))
	c := open(t, preset("coredns"), &echo{}, now.now)
	dst := make([]byte, 0, 512)
	var q message.Query
	buf := make([]byte, 0, 512)
	for range rounds {
		// Few enough questions that many are asked again, and names whose octets run into the types behind them.
		k := []byte{1, byte(random.IntN(64)), 1, byte(random.IntN(64)), 0, 0, byte(1 + random.IntN(4)), 0, byte(1 + random.IntN(2)), byte(random.IntN(8))}
		queryOf(&q, k, buf)
		q.Deadline = now.now().Add(1e9)
		r, ok := c.Cached(&q, dst)
		if !ok {
			var err error
			if r, err = c.Resolve(t.Context(), &q, dst); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Message[len(r.Message)-len(k):]; string(got) != string(appendKey(nil, &q)) {
			t.Fatalf("the question % x got the answer to % x (cached %t)", k, got, r.Cached)
		}
	}
	if s := c.Stats(); s.Hits[0] == 0 || s.Misses == 0 || s.Evictions[0] == 0 {
		t.Errorf("got %+v: the test is to have hits, misses and evictions", s)
	}
}

// echo answers with one record that holds the key of the question.
type echo struct{}

func (echo) Resolve(_ context.Context, q *message.Query, dst []byte) (message.Response, error) {
	start := len(dst)
	dst = append(dst, 0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0)
	dst = q.AppendWire(dst)
	dst = append(dst, 0xC0, 12, byte(q.Type>>8), byte(q.Type), byte(q.Class>>8), byte(q.Class), 0, 0, 1, 0, 0, 0)
	at := len(dst)
	dst = appendKey(dst, q)
	dst[at-1] = byte(len(dst) - at)
	var r message.Response
	err := r.Parse(dst[start:], &q.Question)
	return r, err
}

// FuzzStore has any octets as a response: what is kept and given again is the same message, still one that can be read, and with no
// TTL above what the configuration allows.
func FuzzStore(f *testing.F) {
	q := ask("www.example.", dns.TypeA, epoch)
	random := &malicious{Rand: rand.New(rand.NewPCG(7, 8)), names: [][]byte{{0}, q.Key}}
	for range 16 {
		f.Add(random.response(q), uint32(3))
	}
	for _, records := range [][]string{
		{"an www.example. 300 IN A 192.0.2.1", "ede 3"}, {soa}, {"an www.example. 60 IN CNAME a.example.", soa}, {"tc"},
	} {
		packed, err := respond(q, 0, records...).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint32(7))
	}
	config := preset("acs", func(c *Config) { c.ServfailTTL = 5e9 })
	f.Fuzz(func(t *testing.T, octets []byte, age uint32) {
		var r, again message.Response
		var err error
		fuzzing.Bounded(t, len(octets), 1<<10, func() {
			r = message.Response{}
			err = r.Parse(slices.Clone(octets), &q.Question)
		})
		if err != nil {
			return
		}
		d := config.decide(&r)
		if !d.keep {
			return
		}
		if d.life < 1 || d.life > 30 {
			t.Fatalf("kept for %d s", d.life)
		}
		age %= d.life
		k := appendKey(nil, q)
		it := newItem(k, &r, d, 0, nil)
		room := it.size() + 2*unit
		guarded := bytes.Repeat([]byte("?"), unit+room+unit)
		e := entry(guarded[unit:][:room])
		e.write(0, &it, room, 0)
		if before, behind := guarded[:unit], guarded[unit+it.size():]; strings.Trim(string(before)+string(behind), "?") != "" {
			t.Fatal("octets around the entry changed")
		}
		before := slices.Clone(guarded)
		given := e.appendTo([]byte("dst"), age)
		if err := again.ParseOwn(slices.Clone(given.Message), &q.Question); err != nil {
			t.Fatalf("what is given can't be read: %v", err)
		}
		if again.RCODE != r.RCODE&0xF || given.Class != r.Class || given.Message[2]&4 != 0 {
			t.Errorf("got %+v, want %+v", given, r)
		}
		if !sameButTTLs(given.Message, append([]byte{0, 0}, r.Message[2:]...), d.kind) {
			t.Errorf("got\n% x, want but for TTLs\n% x", given.Message, r.Message)
		}
		for rr := range message.Records(given.Message) {
			if rr.TTL > d.life-age || rr.Section != message.Additional && rr.TTL != d.life-age {
				t.Errorf("TTL %d in section %d, with %d s left", rr.TTL, rr.Section, d.life-age)
			}
		}
		for rr := range message.Records(e.appendStaleTo(nil, 30).Message) {
			if rr.TTL != 30 {
				t.Errorf("stale with TTL %d", rr.TTL)
			}
		}
		if string(before) != string(guarded) {
			t.Error("giving the entry changed it")
		}
	})
}
