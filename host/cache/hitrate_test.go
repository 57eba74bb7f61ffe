package cache

import (
	"container/list"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/weirdns/weir/host/internal/race"
)

// zipf draws numbers below a bound, n with a probability in proportion to 1/(n+1)^skew. That of math/rand/v2 can't do a skew of 1 or below.
type zipf struct {
	*rand.Rand
	upTo []float64 // upTo[n] is the probability of n or less
}

func newZipf(r *rand.Rand, names int, skew float64) *zipf {
	z := &zipf{r, make([]float64, names)}
	sum := 0.0
	for n := range z.upTo {
		sum += math.Pow(float64(n+1), -skew)
		z.upTo[n] = sum
	}
	for n := range z.upTo {
		z.upTo[n] /= sum
	}
	return z
}

func (z *zipf) draw() uint64 { return uint64(sort.SearchFloat64s(z.upTo, z.Float64())) }

// lru is an exact LRU of keys.
type lru struct {
	capacity int
	order    list.List // of uint64, what was used last in front
	elements map[uint64]*list.Element
}

// ask reports whether n is there, and sees to it that it is.
func (l *lru) ask(n uint64) bool {
	if e := l.elements[n]; e != nil {
		l.order.MoveToFront(e)
		return true
	}
	if l.order.Len() == l.capacity {
		delete(l.elements, l.order.Remove(l.order.Back()).(uint64))
	}
	l.elements[n] = l.order.PushFront(n)
	return false
}

func (f *filler) ask(n uint64) bool {
	if f.has(n) {
		return true
	}
	f.put(n, success, 100)
	return false
}

// TestHitRate compares with an exact LRU of as many entries, for names asked for as the web is, by Zipf's law, and has queries for names that nobody asks
// for again between them, which is what scanners and some attacks do.
func TestHitRate(t *testing.T) {
	names := race.Rounds(20_000, 5000)
	queries := 10 * uint64(names)
	for _, skew := range []float64{0.9, 1.0, 1.1} {
		for _, capacity := range []int{names / 100, names / 10} {
			alone := 0.0 // hit rate of this store without unique names
			for _, unique := range []int{0, 50} {
				t.Run(fmt.Sprintf("skew %.1f/%d entries/%d%% unique", skew, capacity, unique), func(t *testing.T) {
					if testing.Short() && (skew != 1 || capacity != names/100) {
						t.Skip("takes a second")
					}
					random := rand.New(rand.NewPCG(11, 12))
					z := newZipf(random, names, skew)
					c := preset("weir", func(c *Config) { c.Success.Capacity = capacity })
					f := &filler{store: newStore(&c)}
					l := &lru{capacity: capacity, elements: make(map[uint64]*list.Element)}
					tries, hits, hitsLRU := 0, 0, 0
					for i := range queries {
						if random.IntN(100) < unique {
							f.ask(uint64(names) + i)
							l.ask(uint64(names) + i)
							continue
						}
						n := z.draw()
						hit, hitLRU := f.ask(n), l.ask(n)
						if i < queries/2 {
							continue // it fills
						}
						tries++
						if hit {
							hits++
						}
						if hitLRU {
							hitsLRU++
						}
					}
					got, least := float64(hits)/float64(tries), float64(hitsLRU)/float64(tries)
					t.Logf("hit rate of names in use %.4f, of LRU %.4f, best possible %.4f", got, least, z.upTo[capacity-1])
					if got < least {
						t.Errorf("hit rate %.4f, want at least that of LRU, %.4f", got, least)
					}
					if unique == 0 {
						alone = got
					} else if got < 0.95*alone && alone > 0 {
						t.Errorf("hit rate %.4f, want 95%% of the %.4f without unique names", got, alone)
					}
				})
			}
		}
	}
}
