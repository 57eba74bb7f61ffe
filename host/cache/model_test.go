package cache

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/race"
	"github.com/weirdns/weir/host/message"
)

// model is what a store would be with a map and no bounds: the rules alone.
type model struct {
	config Config
	facts  map[string]*fact
}

type fact struct {
	item
	recheck  int64
	hits     int
	fetching bool
}

func (m *model) usable(f *fact, now int64) bool {
	return f != nil && f.kind != failure && now < f.end()+int64(m.config.ServeStale)
}

func (m *model) fail(k []byte, now int64) bool {
	f := m.facts[string(k)]
	if !m.usable(f, now) {
		return false
	}
	f.recheck, f.fetching = now+int64(m.config.StaleRecheck), false
	return true
}

func (m *model) insert(it item, now int64) bool {
	if it.kind == failure && m.fail(it.key, now) {
		return false
	}
	m.facts[string(it.key)] = &fact{item: it}
	return true
}

func (m *model) lookup(k []byte, now int64) (state, bool) {
	f := m.facts[string(k)]
	switch {
	case f == nil:
		return missing, false
	case f.end() > now:
		f.hits++
		left, whole := time.Duration(f.end()-now), time.Duration(f.life)*time.Second
		fetch := f.hits >= m.config.Prefetch.Hits && !f.fetching && f.kind != failure && now >= f.recheck &&
			left <= whole*time.Duration(m.config.Prefetch.Percent)/100
		f.fetching = f.fetching || fetch
		return live, fetch
	case !m.usable(f, now):
		return missing, false
	case now < f.recheck:
		return staleNow, false
	}
	return stale, false
}

// given is what a client gets of f: all TTLs less age, or set to ttl.
func (f *fact) given(age uint32, ttl uint32, stale bool) []byte {
	msg := slices.Clone(f.message)
	msg[0], msg[1] = 0, 0
	msg[2] &^= 4
	if stale {
		msg[3] &^= message.FlagAD
	}
	if f.kind == failure {
		clear(msg[6:12])
	}
	for at := range slices.Chunk(f.ttls, 2) {
		p := msg[binary.LittleEndian.Uint16(at):]
		if left := binary.BigEndian.Uint32(p); !stale {
			ttl = left - min(left, age)
		}
		binary.BigEndian.PutUint32(p, ttl)
	}
	return msg
}

// explained is what f has to say, and weir about it.
func (f *fact) explained(stale bool) []uint16 {
	got := []uint16{}
	switch {
	case f.kind == failure && f.rcode == message.SERVFAIL:
		got = append(got, message.EDECachedError)
	case stale && f.rcode == message.NXDOMAIN:
		got = append(got, message.EDEStaleNXDOMAIN)
	case stale:
		got = append(got, message.EDEStaleAnswer)
	}
	return append(got, codes(message.Response{EDE: f.ede})...)
}

// randomItem makes an item for key k that may be anything.
func randomItem(r *rand.Rand, k []byte, largest int, now int64) item {
	size := r.IntN(300)
	if r.IntN(20) == 0 {
		size = r.IntN(largest)
	}
	it := item{
		span: span{stored: now, life: 1 + r.Uint32N(300)}, key: slices.Clone(k), message: make([]byte, 12+size),
		class: uint16(r.Uint32()), upstream: uint16(r.Uint32()), kind: kind(r.IntN(int(kinds))), silent: r.IntN(2) == 0,
	}
	for i := range it.message {
		it.message[i] = byte(r.Uint32())
	}
	switch it.kind {
	case denial:
		it.rcode = message.NXDOMAIN
	case failure:
		it.rcode = []uint16{message.SERVFAIL, message.REFUSED}[r.IntN(2)]
		return it
	}
	for at := 12 + r.IntN(20); at+4 <= len(it.message); at += 4 + r.IntN(200) {
		it.ttls = binary.LittleEndian.AppendUint16(it.ttls, uint16(at))
	}
	for range r.IntN(3) {
		it.ede = message.AppendEDE(it.ede, uint16(r.IntN(100)), []string{"", "as the upstream says"}[r.IntN(2)])
	}
	return it
}

// TestModel does everything in any order, to a store and to the model. What is in the store is in all as in the model; what is not there but in the
// model has been evicted.
func TestModel(t *testing.T) {
	steps := race.Rounds(50_000, 5000)
	if testing.Short() {
		steps = min(steps, 20_000)
	}
	for _, test := range []struct {
		name      string
		capacity  int
		octets    int
		questions uint64
		largest   int
	}{
		{"room for all", 100_000, 256 << 20, 2000, 30_000},
		{"bounded by number", 50, 16 << 20, 150, 30_000},
		{"bounded by octets", 100_000, 1 << 20, 3000, 65_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := preset("weir", func(c *Config) {
				c.Success.Capacity, c.Denial.Capacity = test.capacity, test.capacity
				c.Success.Octets, c.Denial.Octets = test.octets, test.octets
				c.ServeStale = 5 * time.Minute
			})
			m := &model{c, make(map[string]*fact)}
			f := &filler{store: newStore(&c)}
			random := rand.New(rand.NewPCG(13, 14))
			evicted, changed := 0, 0
			for i := range steps {
				f.now += int64(random.IntN(int(200 * time.Millisecond)))
				k, hash := f.key(random.Uint64N(test.questions))
				_, e := f.shard(hash).get(k, hash)
				if e == nil && m.facts[string(k)] != nil {
					delete(m.facts, string(k))
					evicted++
				} else if e != nil && m.facts[string(k)] == nil {
					t.Fatalf("step %d: there is an entry for a key that has none", i)
				}
				switch random.IntN(10) {
				case 0, 1, 2:
					it := randomItem(random, k, test.largest, f.now)
					if got, want := f.insert(hash, &it, f.now), m.insert(it, f.now); got != want {
						t.Fatalf("step %d: kept %t, want %t", i, got, want)
					}
					changed++
				case 3:
					f.remove(k, hash)
					delete(m.facts, string(k))
				case 4:
					if got, want := f.fail(k, hash, f.now), m.fail(k, f.now); got != want {
						t.Fatalf("step %d: fail gave %t, want %t", i, got, want)
					}
				case 5:
					f.release(k, hash)
					if fact := m.facts[string(k)]; fact != nil {
						fact.fetching = false
					}
				default:
					f.compare(t, m, k, hash)
				}
				if i%(steps/50) == 0 {
					f.check(t)
				}
			}
			counted := 0
			for i := range f.shards {
				counted += int(f.shards[i].queues[0].evictions + f.shards[i].queues[1].evictions)
			}
			if entries := f.check(t); evicted > counted || (counted > 0) != (test.name != "room for all") || entries[0] == 0 || entries[1] == 0 {
				t.Errorf("%d entries are missing, %d were evicted of %d that came; %v are left", evicted, counted, changed, entries)
			}
		})
	}
}

// compare looks key k up in both.
func (f *filler) compare(t *testing.T, m *model, k []byte, hash uint64) {
	t.Helper()
	got := found{held: entry("something from before")}
	f.lookup(&got, k, hash, f.now, []byte("dst"), true)
	if want, fetch := m.lookup(k, f.now); got.state != want || got.fetch != fetch {
		t.Fatalf("got state %d, fetch %t, want %d, %t", got.state, got.fetch, want, fetch)
	}
	if got.state == missing {
		return
	}
	fact, ttl := m.facts[string(k)], seconds(m.config.StaleTTL)
	if got.kind != fact.kind || got.span != fact.span {
		t.Fatalf("got kind %d, %+v, want %d, %+v", got.kind, got.span, fact.kind, fact.span)
	}
	r := got.response
	if got.state == stale {
		r = got.held.appendStaleTo(nil, ttl)
	}
	if want := fact.given(fact.age(f.now), ttl, got.state != live); !bytes.Equal(r.Message, want) {
		t.Fatalf("got\n% x, want\n% x", r.Message, want)
	}
	if got, want := codes(r), fact.explained(got.state != live); !slices.Equal(got, want) {
		t.Fatalf("got EDEs %v, want %v", got, want)
	}
	if r.RCODE != fact.rcode || r.Class != fact.class || r.Upstream != fact.upstream || r.Silent != fact.silent || !r.Cached {
		t.Fatalf("got %+v, want %+v", r, fact)
	}
}

// TestStoreHammer has all operations from all sides, with entries that move and are replaced all the time: nobody gets half of one.
func TestStoreHammer(t *testing.T) {
	c := preset("weir", func(c *Config) {
		c.Success.Capacity, c.Denial.Capacity = 2000, 2000
		c.Success.Octets, c.Denial.Octets = 4<<20, 4<<20
	})
	f := &filler{store: newStore(&c)}
	if len(f.shards) < 2 {
		t.Fatalf("%d shards: the test is to have more", len(f.shards))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 2))
			dst, msg := make([]byte, 0, 16<<10), make([]byte, 10<<10)
			var got found
			for i := range 10_000 {
				now := int64(i) * 1e6
				n := random.Uint64N(4000)
				k, hash := f.key(n)
				switch random.IntN(8) {
				case 0, 1:
					size := 64 + random.IntN(400)
					if i%64 == 0 {
						size = 64 + random.IntN(len(msg)-64)
					}
					binary.BigEndian.PutUint64(msg[12:], n)
					binary.BigEndian.PutUint32(msg[20:], 600) // a TTL
					for at := 24; at < size; at++ {
						msg[at] = byte(size)
					}
					it := item{key: k, message: msg[:size], ttls: []byte{20, 0}, ede: message.AppendEDE(nil, uint16(size), "hammer"), kind: kind(random.IntN(2)), span: span{now, 5}}
					f.insert(hash, &it, now)
				case 2:
					f.remove(k, hash)
				case 3:
					f.fail(k, hash, now)
				default:
					f.lookup(&got, k, hash, now, dst, true)
					r := got.response
					if got.state == missing {
						continue
					} else if got.state == stale {
						r = got.held.appendStaleTo(dst, 1)
					}
					size := len(r.Message)
					if binary.BigEndian.Uint64(r.Message[12:]) != n || bytes.Count(r.Message[24:], []byte{byte(size)}) != size-24 ||
						codes(r)[len(codes(r))-1] != uint16(size) {
						t.Errorf("got the answer to another question, or half of one")
						return
					}
				}
			}
		})
	}
	wg.Wait()
	f.check(t)
}
