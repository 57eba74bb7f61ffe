package cache

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/race"
)

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // sweeps what the first has found
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestMemory has answers of all sizes in a full cache, and looks at the heap: the bound holds, and what the cache says that it takes is so.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills caches")
	}
	usual := func(r *rand.Rand) int { return 50 + r.IntN(200) }
	for _, test := range []struct {
		name             string
		capacity, octets int
		sizes            []func(*rand.Rand) int // one after the other
		least            float64                // of the octets that are to be used
	}{
		{"usual answers", 250_000, 16 << 20, []func(*rand.Rand) int{usual}, 0.85},
		{"usual answers, the least cache", 250_000, 1 << 20, []func(*rand.Rand) int{usual}, 0.75},
		{"as small as can be", 1 << 26, 16 << 20, []func(*rand.Rand) int{func(*rand.Rand) int { return 17 }}, 0.75},
		{"any size", 250_000, 16 << 20, []func(*rand.Rand) int{func(r *rand.Rand) int { return 12 + r.IntN(65_000) }}, 0.75},
		{"about a quarter of a segment", 250_000, 16 << 20, []func(*rand.Rand) int{func(r *rand.Rand) int { return largeEntry - 500 + r.IntN(1000) }}, 0.75},
		{"most are small", 250_000, 16 << 20, []func(*rand.Rand) int{func(r *rand.Rand) int {
			if r.IntN(100) == 0 {
				return 12 + r.IntN(65_000)
			}
			return usual(r)
		}}, 0.75},
		{"small ones, then large ones, and small ones again", 250_000, 16 << 20, []func(*rand.Rand) int{
			func(*rand.Rand) int { return 17 }, func(*rand.Rand) int { return 40_000 }, func(*rand.Rand) int { return 17 },
		}, 0.75},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.octets = min(test.octets, race.Rounds(16<<20, 4<<20))
			random := rand.New(rand.NewPCG(15, 16))
			c := preset("weir", func(c *Config) {
				c.Success.Capacity, c.Success.Octets, c.Denial.Capacity = test.capacity, test.octets, 0
			})
			before := heap()
			f := &filler{store: newStore(&c)}
			for i, size := range test.sizes {
				for sum := 0; sum < 2*test.octets; {
					n := size(random)
					sum += entryHead + n
					key := uint64(i)<<32 | random.Uint64N(1_000_000)
					f.put(key, success, n)
					f.has(uint64(i)<<32 | random.Uint64N(1000)) // some are in use
				}
			}
			got := heap() - before
			entries := f.check(t)
			said := 0
			for i := range f.shards {
				said += f.shards[i].memory(&f.shards[i].queues[0])
			}
			t.Logf("%d entries in %d shards: %.3f of the bound by the heap, %.3f as the cache says", entries[0], len(f.shards),
				float64(got)/float64(test.octets), float64(said)/float64(test.octets))
			if got > test.octets || said > test.octets {
				t.Errorf("a cache of %d octets takes %d, and says %d", test.octets, got, said)
			}
			if least := int(test.least * float64(test.octets)); got < least || said < least {
				t.Errorf("a cache of %d octets that is full takes %d, and says %d", test.octets, got, said)
			}
			runtime.KeepAlive(f)
		})
	}
}

// BenchmarkCollection is a run of the garbage collector beside a cache of a million answers.
func BenchmarkCollection(b *testing.B) {
	c := preset("weir", func(c *Config) { c.Success.Capacity, c.Success.Octets = 1<<20, 1<<30 })
	f := &filler{store: newStore(&c)}
	for n := range uint64(1_000_000) {
		f.put(n, success, 80)
	}
	runtime.GC()
	var times []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		runtime.GC()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-median")
	runtime.KeepAlive(f)
}
