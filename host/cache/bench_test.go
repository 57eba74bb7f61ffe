package cache

import (
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

func queries(n int) []*message.Query {
	qs := make([]*message.Query, n)
	for i := range qs {
		qs[i] = ask("host-"+strconv.Itoa(i)+".example.", dns.TypeA, time.Now().Add(time.Hour))
	}
	return qs
}

// instant answers at once.
var instant = &echo{}

func BenchmarkHit(b *testing.B) {
	c := open(b, preset("weir"), instant, nil)
	q := queries(1)[0]
	c.Resolve(b.Context(), q, nil)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Cached(q, dst); !ok {
			b.Fatal("miss")
		}
	}
}

func BenchmarkHitParallel(b *testing.B) {
	c := open(b, preset("weir"), instant, nil)
	q := queries(1)[0]
	c.Resolve(b.Context(), q, nil)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		dst := make([]byte, 0, 512)
		for p.Next() {
			if _, ok := c.Cached(q, dst); !ok {
				b.Fatal("miss")
			}
		}
	})
}

// BenchmarkUniform asks for 100,000 names in turn, so that little is in the processor's caches; making the query, some 30 ns, is part of it.
func BenchmarkUniform(b *testing.B) {
	c := open(b, preset("weir"), instant, nil)
	keys := make([][]byte, 100_000)
	var all []byte
	for i, q := range queries(len(keys)) {
		if _, err := c.Resolve(b.Context(), q, nil); err != nil {
			b.Fatal(err)
		}
		start := len(all)
		all = appendKey(all, q)
		keys[i] = all[start:]
	}
	dst, buf := make([]byte, 0, 512), make([]byte, 0, 512)
	var q message.Query
	misses, i := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 7919) % len(keys)
		queryOf(&q, keys[i], buf)
		if _, ok := c.Cached(&q, dst); !ok {
			misses++
		}
	}
	if misses > 0 {
		b.Errorf("%d misses: the cache is to have room for all", misses)
	}
}

// BenchmarkLookupMiss is what Cached takes when there is nothing.
func BenchmarkLookupMiss(b *testing.B) {
	c := open(b, preset("weir"), instant, nil)
	q := queries(1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Cached(q, nil); ok {
			b.Fatal("hit")
		}
	}
}

// BenchmarkMiss is all that the cache adds to a query for the upstream: the flight, the wait for it, the entry, an eviction.
func BenchmarkMiss(b *testing.B) {
	c := open(b, preset("coredns"), instant, nil)
	qs := queries(50_000)
	dst := make([]byte, 0, 512)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 1) % len(qs)
		if _, err := c.Resolve(b.Context(), qs[i], dst); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFull is a miss, with a name of its own, in a cache that is full of 250,000 others: looked up in vain, kept, and another one evicted.
func BenchmarkFull(b *testing.B) {
	const capacity = 250_000
	c := open(b, preset("weir", func(c *Config) { c.Success.Capacity, c.Success.Octets = capacity, 256<<20 }), instant, nil)
	q := ask("uniqueid.example.", dns.TypeA, time.Now().Add(time.Hour))
	key := appendKey(nil, q)
	buf, dst := make([]byte, 0, 512), make([]byte, 0, 512)
	var n uint64
	ask := func() {
		binary.BigEndian.PutUint64(key[1:], n*0x9E3779B97F4A7C15&0x7F7F7F7F7F7F7F7F|0x6060606060606060)
		n++
		queryOf(q, key, buf)
		if _, ok := c.Cached(q, dst); ok {
			return
		}
		if _, err := c.Resolve(b.Context(), q, dst); err != nil {
			b.Fatal(err)
		}
	}
	for n < 2*capacity {
		ask()
	}
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

// BenchmarkLarge decides on and stores an answer of 64 KB whose 4,000 owners each are at the end of the longest chain of pointers.
func BenchmarkLarge(b *testing.B) {
	q := queries(1)[0]
	msg := append(make([]byte, 12, 65535), q.AppendWire(nil)...)
	msg[2], msg[5] = 0x80, 1
	record := func(owner []byte, rdata ...byte) {
		msg = append(append(msg, owner...), 0, 1, 0, 1, 0, 0, 1, 44, byte(len(rdata)>>8), byte(len(rdata)))
		msg = append(msg, rdata...)
	}
	at := len(msg) + 11
	chain := []byte{0xC0, 12}
	for i := range 124 {
		p := at + 2*i
		chain = append(chain, 0xC0|byte(p>>8), byte(p))
	}
	record([]byte{0}, chain...)
	last := at + len(chain) - 2
	records := 1
	for ; len(msg) < 65000; records++ {
		record([]byte{0xC0 | byte(last>>8), byte(last)}, 192, 0, 2, 1)
	}
	msg[6], msg[7] = byte(records>>8), byte(records)
	var r message.Response
	if err := r.Parse(msg, &q.Question); err != nil {
		b.Fatal(err)
	}
	c := open(b, preset("weir"), instant, nil)
	k := appendKey(nil, q)
	hash := c.store.hash(k)
	b.ReportAllocs()
	for b.Loop() {
		if _, kept := c.settle(k, hash, q, &r, nil, c.since(nil)); !kept {
			b.Fatal("not kept")
		}
	}
}
