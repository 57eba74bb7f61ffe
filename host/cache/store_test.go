package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/internal/race"
	"github.com/weirdns/weir/host/message"
)

// filler puts made-up items into a store.
type filler struct {
	*store
	now int64
	buf [512]byte
}

func (f *filler) key(n uint64) ([]byte, uint64) {
	k := binary.BigEndian.AppendUint64([]byte{8}, n)
	k = append(k, 0, 0, 1, 0, 1, keyRD)
	return k, f.hash(k)
}

func (f *filler) put(n uint64, kind kind, size int) bool {
	k, hash := f.key(n)
	it := item{key: k, message: make([]byte, max(size, 12)), span: span{stored: f.now, life: 300}, kind: kind}
	return f.insert(hash, &it, f.now)
}

func (f *filler) has(n uint64) bool {
	k, hash := f.key(n)
	var got found
	f.lookup(&got, k, hash, f.now, f.buf[:0], false)
	return got.state == live
}

// check walks through all that the store holds, and compares it with its own counts and its bounds.
func (f *filler) check(t *testing.T) (entries [2]int) {
	t.Helper()
	for i := range f.shards {
		sh := &f.shards[i]
		inUse := 0
		for j := range sh.queues {
			q := &sh.queues[j]
			octets := 0
			for _, home := range []uint8{q.small, q.main} {
				l := &sh.logs[home]
				got := log{first: l.first, open: l.open, passed: l.passed}
				open := l.open == 0
				for n, passed := l.first, l.passed; n != 0; n, passed = sh.segments[n].next, 0 {
					seg := &sh.segments[n]
					open = open || n == l.open
					got.last = n
					got.memory += len(seg.octets)
					inUse++
					if seg.home != home {
						t.Fatalf("shard %d: a segment of log %d says that it is in %d", i, home, seg.home)
					}
					if n != l.open {
						got.octets += len(seg.octets) - seg.used
					}
					for ; passed < seg.used; passed += sh.at(place(int(n)<<placeBits | passed/unit)).room() {
						p := place(int(n)<<placeBits | passed/unit)
						e := sh.at(p)
						got.octets += e.room()
						if e.room() < inUnits(e.size()) {
							t.Fatalf("shard %d: an entry of %d octets in a room of %d", i, e.size(), e.room())
						}
						if e.dead() {
							continue
						}
						got.entries++
						if at, _ := sh.get(e.key(), e.hash()); at != p || e.hash() != f.hash(e.key()) || sh.queue(e.kind()) != q {
							t.Fatalf("shard %d: an entry is not where it should be", i)
						}
					}
				}
				if !open || got != *l {
					t.Fatalf("shard %d: counted %+v, the log says %+v", i, got, *l)
				}
				entries[j] += got.entries
				octets += got.octets
			}
			if n := sh.logs[q.small].entries + sh.logs[q.main].entries; n > q.capacity || n > q.most || octets+indexOctets*q.most > q.limit {
				t.Fatalf("shard %d: %d entries of %d octets (%d at most) are above the bounds, %d of %d", i, n, octets, q.most, q.capacity, q.limit)
			}
		}
		if n := sh.logs[0].entries + sh.logs[1].entries + sh.logs[2].entries + sh.logs[3].entries; n != sh.index.used {
			t.Fatalf("shard %d: %d entries in the index, %d in the queues", i, sh.index.used, n)
		}
		if n := max(len(sh.segments)-1, 0); n != inUse+len(sh.numbers) {
			t.Fatalf("shard %d: %d segments, of which %d are in use and %d are not", i, n, inUse, len(sh.numbers))
		}
		sh.index.check(t)
	}
	return entries
}

// check looks whether each entry is found on the way from its first slot, and whether there is as much room as promised.
func (x *index) check(t *testing.T) {
	t.Helper()
	used := 0
	for i, slot := range x.slots {
		if slot == 0 {
			continue
		}
		used++
		for j := x.first(uint32(slot >> 32)); j != i; j = x.after(j) {
			if x.slots[j] == 0 {
				t.Fatalf("slot %d: there is an empty one before it", i)
			}
		}
	}
	if used != x.used || 3*used > 2*len(x.slots) {
		t.Fatalf("%d slots of %d are used, the index says %d", used, len(x.slots), x.used)
	}
}

func TestBounds(t *testing.T) {
	for _, test := range []struct {
		name              string
		capacity, octets  int
		size              int // of messages
		inserts           uint64
		atLeast, atMost   int // entries that stay
		nothingLeftToKeep bool
	}{
		{"few", 10_000, 16 << 20, 100, 5_000, 5_000, 5_000, false},
		{"by number", 10_000, 16 << 20, 100, 100_000, 9_900, 10_000, false},
		{"by octets", 10_000, 1 << 20, 1000, 20_000, 800, 1 << 20 / 1000, false},
		{"one", 1, 1 << 20, 100, 100, 1, 1, false},
		{"three", 3, 1 << 20, 100, 100, 3, 3, false},
		{"large", 10_000, 1 << 20, 65_000, 100, 10, 16, false},
		{"none", 0, 0, 100, 100, 0, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := preset("weir", func(c *Config) { c.Success.Capacity, c.Success.Octets = test.capacity, test.octets })
			f := &filler{store: newStore(&c)}
			for n := range test.inserts {
				if kept := f.put(n, success, test.size); kept == test.nothingLeftToKeep {
					t.Fatalf("item %d: kept %t", n, kept)
				}
			}
			if got := f.check(t); got[0] < test.atLeast || got[0] > test.atMost || got[1] != 0 {
				t.Errorf("got %v entries, want %d to %d", got, test.atLeast, test.atMost)
			}
		})
	}
}

// TestTooLarge replaces an item by one for which there is no room: neither stays.
func TestTooLarge(t *testing.T) {
	c := preset("weir", func(c *Config) { c.Success.Octets, c.Success.Capacity = 1<<20, 1000 })
	f := &filler{store: newStore(&c)}
	f.shards[0].queues[0].largest = 1000
	if !f.put(1, success, 100) || f.put(1, success, 2000) || f.has(1) {
		t.Error("got an item that is too large, or the one before it")
	}
	f.check(t)
}

// TestFlood has names that are asked once, between names that are asked again and again: the latter stay, and a flood of denials takes nothing
// from answers with data at all.
func TestFlood(t *testing.T) {
	c := preset("coredns")
	for _, test := range []struct {
		name string
		kind kind
		want float64 // hit rate of the names in use
	}{
		{"of names that exist", success, 0.95},
		{"of names that don't", denial, 1},
		{"of failures", failure, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &filler{store: newStore(&c)}
			random := rand.New(rand.NewPCG(9, 10))
			const hot = 2000
			for range 4 {
				for n := range uint64(hot) {
					if !f.has(n) {
						f.put(n, success, 100)
					}
				}
			}
			hits, tries := 0, 0
			for n := range uint64(race.Rounds(200_000, 50_000)) {
				f.put(1<<32+n, test.kind, 100)
				if n%4 == 0 {
					m := random.Uint64N(hot)
					if tries++; f.has(m) {
						hits++
					} else {
						f.put(m, success, 100)
					}
				}
			}
			f.check(t)
			if got := float64(hits) / float64(tries); got < test.want {
				t.Errorf("hit rate of names in use %.3f, want %.2f", got, test.want)
			}
		})
	}
}

// TestSmallCache has room for three names, all in use: a new one gets its chance.
func TestSmallCache(t *testing.T) {
	c := preset("weir", func(c *Config) { c.Success.Capacity = 3 })
	f := &filler{store: newStore(&c)}
	for n := range uint64(10) {
		f.put(n, success, 100)
		for range 2 { // so it counts as in use
			if !f.has(n) {
				t.Fatalf("item %d left at once", n)
			}
		}
	}
	f.check(t)
}

// TestNewsEndRecheck has an upstream that fails and then is well again: when that answer is over, it is asked.
func TestNewsEndRecheck(t *testing.T) {
	c := preset("weir")
	f := &filler{store: newStore(&c)}
	k, hash := f.key(1)
	brief := item{key: k, message: make([]byte, 12), span: span{life: 5}}
	f.insert(hash, &brief, 0)
	f.fail(k, hash, 0)
	f.insert(hash, &brief, 0)
	var got found
	if f.lookup(&got, k, hash, int64(6*time.Second), nil, false); got.state != stale {
		t.Errorf("got state %d, want %d", got.state, stale)
	}
}

// TestExpiredLeaveFirst fills a cache with items that were popular and are over.
func TestExpiredLeaveFirst(t *testing.T) {
	c := preset("coredns", func(c *Config) { c.Success.Capacity = 100 })
	f := &filler{store: newStore(&c)}
	for n := range uint64(100) {
		f.put(n, success, 100)
		for range 3 {
			f.has(n)
		}
	}
	f.now = int64(301 * time.Second)
	for n := range uint64(90) {
		f.put(1000+n, success, 100)
	}
	for n := range uint64(90) {
		if !f.has(1000 + n) {
			t.Fatalf("new item %d left before those that are over", n)
		}
	}
	f.check(t)
}

func TestHitAllocatesNothing(t *testing.T) {
	var now clock
	upstream := says(0, "an www.example. 300 IN CNAME a.example.", "an a.example. 300 IN A 192.0.2.1", "ede 5")
	c := open(t, preset("weir"), upstream, now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	c.Resolve(t.Context(), q, nil)
	other := ask("other.example.", dns.TypeA, now.now())
	dst := make([]byte, 0, 512)
	for _, test := range []struct {
		name string
		q    *message.Query
		want bool
		pass time.Duration
	}{
		{"hit", q, true, 0},
		{"miss", other, false, 0},
		{"prefetched", q, true, 299 * time.Second},
		{"stale at once", q, true, 2 * time.Second},
	} {
		now.pass(test.pass)
		if test.name == "stale at once" {
			c.store.fail(appendKey(nil, q), c.store.hash(appendKey(nil, q)), c.since(nil))
		}
		got := testing.AllocsPerRun(100, func() {
			if _, ok := c.Cached(test.q, dst); ok != test.want {
				t.Fatalf("%s: found %t, want %t", test.name, ok, test.want)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations, want none", test.name, got)
		}
	}
}

// never answers for no time.
type never struct{}

func (never) Resolve(_ context.Context, q *message.Query, dst []byte) (message.Response, error) {
	r, err := instant.Resolve(context.Background(), q, dst)
	for rr := range message.Records(r.Message) {
		clear(r.Message[rr.At:][:4])
	}
	return r, err
}

func TestMissAllocatesLittle(t *testing.T) {
	c := open(t, preset("weir"), never{}, nil)
	q := ask("www.example.", dns.TypeA, time.Now().Add(time.Hour))
	dst := make([]byte, 0, 512)
	// The channel that wakes who waits. What else there is comes from the race detector, which has pools lose some of what they get.
	if got := testing.AllocsPerRun(500, func() { c.Resolve(t.Context(), q, dst) }); got > 5 {
		t.Errorf("%v allocations, want 1, and with the race detector 4", got)
	}
}

// TestAppends has octets before and behind what is given.
func TestAppends(t *testing.T) {
	var now clock
	c := open(t, preset("weir"), says(0, "an www.example. 300 IN A 192.0.2.1"), now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	buf := []byte(strings.Repeat("?", 600))
	for _, how := range []string{"from the upstream", "from the cache"} {
		r, err := c.Resolve(t.Context(), q, buf[:300])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(string(buf[:300]), "?") != "" || strings.Trim(string(buf[300+len(r.Message):]), "?") != "" {
			t.Errorf("%s: octets around the response changed", how)
		}
		if &r.Message[0] != &buf[300] {
			t.Errorf("%s: the response is not in the buffer given", how)
		}
	}
}

// TestHammer is for the race detector: all operations from all sides.
func TestHammer(t *testing.T) {
	upstream := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		switch q.Name[1] % 4 {
		case 0:
			return nil, errSilence
		case 1:
			return respond(q, 3, soa), nil
		}
		return respond(q, 0, "an www.example. 1 IN A 192.0.2.1", "ede 3"), nil
	}}
	m := NewMetrics(nil)
	var now clock
	config := preset("weir", func(c *Config) {
		c.Success.Capacity, c.Denial.Capacity, c.Prefetch = 20, 20, Prefetch{Hits: 1, Percent: 90}
	})
	c := New("test", config, upstream, Env{Now: now.now, Metrics: m})
	ctx, cancel := context.WithCancel(t.Context())
	var run, wg sync.WaitGroup
	run.Go(func() { c.Run(ctx) })
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			dst := make([]byte, 0, 512)
			for i := range 2000 {
				q := ask(string(rune('a'+random.IntN(26)))+string(rune('a'+random.IntN(4)))+".example.", dns.TypeA, now.now())
				r, ok := c.Cached(q, dst)
				if !ok {
					var err error
					if r, err = c.Resolve(t.Context(), q, dst); err != nil {
						continue
					}
				}
				if !message.EqualName(r.Message[12:12+len(q.Name)], q.Key) {
					t.Errorf("got the answer to another question")
				}
				if i%100 == 0 {
					now.pass(100 * time.Millisecond)
					c.Stats()
				}
			}
		})
	}
	wg.Wait()
	cancel()
	run.Wait()
	(&filler{store: c.store}).check(t)
	if c.flights.number() != 0 {
		t.Errorf("%d flights are left", c.flights.number())
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	var now clock
	use := func() *Cache {
		c := New("net", preset("weir"), says(0, "an www.example. 300 IN A 192.0.2.1"), Env{Now: now.now, Metrics: m})
		q := ask("www.example.", dns.TypeA, now.now())
		c.Resolve(t.Context(), q, nil)
		c.Cached(q, nil)
		c.Cached(q, nil)
		return c
	}
	first, second := use(), use()
	want := func(entries int) string {
		return `# HELP weir_cache_entries Entries in the cache.
# TYPE weir_cache_entries gauge
weir_cache_entries{kind="denial",upstream="net"} 0
weir_cache_entries{kind="success",upstream="net"} ` + string(rune('0'+entries)) + `
# HELP weir_cache_hits_total Answers given from the cache.
# TYPE weir_cache_hits_total counter
weir_cache_hits_total{kind="denial",upstream="net"} 0
weir_cache_hits_total{kind="failure",upstream="net"} 0
weir_cache_hits_total{kind="success",upstream="net"} 4
# HELP weir_cache_misses_total Queries that had to wait for the upstream.
# TYPE weir_cache_misses_total counter
weir_cache_misses_total{upstream="net"} 2
`
	}
	for entries := 2; ; entries-- {
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want(entries)), "weir_cache_entries", "weir_cache_hits_total", "weir_cache_misses_total"); err != nil {
			t.Errorf("with %d caches: %v", entries, err)
		}
		switch entries {
		case 2:
			first.Close()
			first.Close()
		case 1:
			second.Close()
		case 0:
			if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
				t.Errorf("%v %v", problems, err)
			}
			return
		}
	}
}

// TestExplanationOutlivesEntry keeps Extended DNS Errors that came with an answer, while others take the place of the entry. Those without text need no
// allocation, the others one.
func TestExplanationOutlivesEntry(t *testing.T) {
	for _, test := range []struct {
		name        string
		ede         []byte
		allocations float64
	}{
		{"none", nil, 0},
		{"without text", message.AppendEDE(nil, 22, ""), 0},
		{"of a private code", message.AppendEDE(nil, 50_000, ""), 1},
		{"with text", message.AppendEDE(nil, 22, "no server answered"), 1},
		{"two", message.AppendEDE(message.AppendEDE(nil, 9, ""), 10, ""), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := preset("weir")
			f := &filler{store: newStore(&c)}
			k, hash := f.key(1)
			it := item{key: k, message: make([]byte, 12), ede: test.ede, span: span{life: 300}}
			f.insert(hash, &it, 0)
			var got found
			if n := testing.AllocsPerRun(100, func() { f.lookup(&got, k, hash, 0, f.buf[:0], false) }); n != test.allocations {
				t.Errorf("%v allocations, want %v", n, test.allocations)
			}
			other := it
			other.ede = bytes.Repeat([]byte("?"), len(it.ede))
			f.insert(hash, &other, 0)
			if !bytes.Equal(got.response.EDE, test.ede) {
				t.Errorf("got % x, want % x", got.response.EDE, test.ede)
			}
		})
	}
}

// TestRefreshedStayInUse has an answer that is fetched anew and has grown: it does not have to prove its worth once more.
func TestRefreshedStayInUse(t *testing.T) {
	c := preset("coredns", func(c *Config) { c.Success.Capacity = 100 })
	f := &filler{store: newStore(&c)}
	f.put(1, success, 100)
	for range 3 {
		f.has(1)
	}
	for n := range uint64(200) { // it gets into main
		f.put(1000+n, success, 100)
	}
	k, hash := f.key(1)
	main := f.shards[0].queues[0].main
	f.has(1)
	for _, size := range []int{100, 90, 300, 301, 20} { // in the same place, and in another
		if !f.put(1, success, size) {
			t.Fatal("not kept")
		}
		p, e := f.shards[0].get(k, hash)
		if e == nil || f.shards[0].segments[p>>placeBits].home != main || e.uses() == 0 || e.word(atMessage) != size {
			t.Errorf("after an answer of %d octets: entry %x", size, e)
		}
		f.has(1)
		f.check(t)
	}
}
