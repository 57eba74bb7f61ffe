package cache

import (
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
