//go:build linux

package soak

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// rightAnswer is what the oracle wants for a query of a class that upstreams answer.
func rightAnswer(q *asked) []byte {
	end := q.questionEnd()
	address := upstreamtest.Address(q.wire[headerSize : end-4])
	m := bytes.Clone(q.wire[:end])
	m[2], m[3], m[7], m[11] = 0x81, 0x80, 1, 0
	m = append(m, 0xc0, headerSize, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4)
	m = append(m, address[:]...)
	if q.edns {
		m[11] = 1
		m = append(m, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0)
	}
	return m
}

// The oracle takes the right answer, and none that differs from it in a single bit but for those of the TTL, the AA bit, and what is within OPT.
func TestOracle(t *testing.T) {
	o := newOracle(&setting{})
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 50 {
		q := o.question(udp, hot, random)
		right := rightAnswer(q)
		if _, err := o.check(q, right); err != nil {
			t.Fatalf("query %d: the right answer %x: %v", n, right, err)
		}
		free := map[int]bool{2*8 + 2: true} // AA
		end := q.questionEnd()
		for bit := (end + 6) * 8; bit < (end+10)*8; bit++ {
			free[bit] = true // TTL
		}
		for bit := range len(right) * 8 {
			octet := bit / 8
			if free[bit] || octet >= end+16+3 && q.edns { // size, extended RCODE, version and flags
				continue
			}
			m := bytes.Clone(right)
			m[octet] ^= 1 << (bit % 8)
			if _, err := o.check(q, m); err == nil {
				t.Fatalf("query %d: with bit %d of octet %d changed it is right, too: %x", n, bit%8, octet, m)
			}
		}
		for size := range right {
			if _, err := o.check(q, right[:size]); err == nil {
				t.Fatalf("query %d: the first %d octets of %d are right, too", n, size, len(right))
			}
		}
		if _, err := o.check(q, append(bytes.Clone(right), 0)); err == nil {
			t.Fatal("with an octet more it is right, too")
		}
	}
}

// The fault of the server of sick.test ends once: when everybody gets well later on, that excuses nothing that was asked in between.
func TestSickEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOracle(&setting{})
		o.setSick(true)
		<-time.After(sickFor * time.Second)
		want := time.Now()
		o.setSick(false)
		<-time.After(time.Minute)
		o.setSick(false)
		if got := o.sick[0].end; len(o.sick) != 1 || !got.Equal(want) {
			t.Errorf("got %d faults, of which the first ended at %v; want 1, %v", len(o.sick), got, want)
		}
	})
}

// What is excused, and what is not.
func TestExcuse(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	o := &oracle{stalls: []span{{at(100), at(110)}}, sick: []span{{at(10), at(13)}, {begin: at(200)}}}
	for _, tt := range []struct {
		name      string
		kind      string
		class     class
		from, end float64
		want      bool
	}{
		{"nothing explains it", servfail, hot, 1, 2, false},
		{"wrong while the machine stood still", wrong, hot, 99, 111, false},
		{"lost while the machine stood still", lost, hot, 99, 104, true},
		{"asked soon after", lost, hot, 110 + afterStall.Seconds() - 1, 130, true},
		{"asked long after", lost, hot, 110 + afterStall.Seconds() + 1, 130, false},
		{"trap", servfail, strict, 1, 2, true},
		{"trap with a wrong answer", wrong, strict, 1, 2, false},
		{"trap that loses the query", lost, strict, 1, 2, false},
		{"before the fault", servfail, sick, 8, 9.9, false},
		{"in the fault", servfail, sick, 9, 10.5, true},
		{"soon after it", servfail, sick, 13 + afterSick.Seconds() - 0.1, 18, true},
		{"long after it", servfail, sick, 13 + afterSick.Seconds() + 0.1, 18, false},
		{"a fault that goes on", servfail, sick, 250, 251, true},
		{"another's fault", servfail, miss, 11, 12, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := failure{asked: asked{class: tt.class, at: at(tt.from)}, kind: tt.kind, end: at(tt.end)}
			if got := o.excuse(&f); (got != "") != tt.want {
				t.Errorf("got %q, want an excuse: %v", got, tt.want)
			}
		})
	}
}

// There are as many seconds with faults as were asked for, and after each stretch of them it is calm for long enough to compare.
func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name      string
		time      time.Duration
		stretch   int // longest
		faulty    int
		stretches int
	}{
		{"a second", time.Second, 1, 1, 1},
		{"half a minute", 30 * time.Second, 20, 30, 2},
		{"a minute", time.Minute, 20, 60, 3},
		{"a bit more than two", 121 * time.Second, 40, 121, 4},
		{"a part of a second is a whole one", 599*time.Second + 1, 60, 600, 10},
		{"ten minutes", 10 * time.Minute, 60, 600, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(tt.time)
			var got [over]int
			stretches, longest, row := 0, 0, 0
			last := warming
			end := 0
			for ; p.phase(end) != over; end++ {
				now := p.phase(end)
				got[now]++
				if now != last {
					row = 0
				}
				if row++; now == faulty {
					longest = max(longest, row)
				}
				if now == calm && row == calmFor {
					stretches++
				}
				last = now
			}
			if want := [over]int{warmFor, tt.faulty, tt.stretches * calmFor}; got != want {
				t.Errorf("got %v seconds to warm up, with faults, calm; want %v", got, want)
			}
			if stretches != tt.stretches || longest != tt.stretch {
				t.Errorf("got %d stretches of up to %d seconds, want %d of %d", stretches, longest, tt.stretches, tt.stretch)
			}
			for n := range 1000 {
				if p.phase(end+n) != over {
					t.Fatalf("second %d is after the end and is not over", end+n)
				}
			}
		})
	}
}

func TestTrend(t *testing.T) {
	for _, tt := range []struct {
		name        string
		y           []float64
		first, last float64
	}{
		{"flat", []float64{5, 5, 5}, 5, 5},
		{"rising", []float64{1, 3, 5}, 0, 6}, // each stands for a third, and the ends are half of one away
		{"peaks in the end", []float64{1, 1, 1, 1, 1, 1, 9, 1, 1}, 1, 1},
		{"a jump that stays", []float64{1, 1, 1, 1, 5, 5, 5, 5, 5}, 0, 6},
		{"one", []float64{3}, 3, 3},
		{"none", nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if first, last := trend(tt.y); math.Abs(first-tt.first) > 1e-9 || math.Abs(last-tt.last) > 1e-9 {
				t.Errorf("got %v to %v, want %v to %v", first, last, tt.first, tt.last)
			}
		})
	}
}

// Descriptors as a soak of 10 minutes has them, some noise and peaks of up to six times that in a quarter of the samples: without a leak none is seen, and one of 10%
// over the run is.
func TestTrendPeaks(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		for _, leak := range []float64{0, 0.1} {
			var y []float64
			for i := range 480 {
				v := 104 + 4*random.NormFloat64()
				if random.IntN(4) == 0 {
					v *= 1 + 5*random.Float64()
				}
				y = append(y, v*(1+leak*float64(i)/480))
			}
			first, last := trend(y)
			if change := last/first - 1; (math.Abs(change) > drift) != (leak > 0) {
				t.Errorf("seed %d, a leak of %.0f%%: %+.1f%%", seed, 100*leak, 100*change)
			}
		}
	}
}

// However long seconds are, since reloads take their time, one server of a pair has had no fault for long enough when the other one gets some.
func TestPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := [2]*upstreamtest.Faulty{{}, {}}
		p := pair{servers: &servers}
		random := rand.New(rand.NewPCG(1, 2))
		var bad [2]time.Time // when each had a fault last
		var faults [2]int
		fault := [2]upstreamtest.Fault{}
		for second := range 1000 {
			if err := p.next(second, upstreamtest.Slow, func(s *upstreamtest.Faulty, f upstreamtest.Fault) error {
				whose := slices.Index(servers[:], s)
				if fault[whose] != upstreamtest.Healthy {
					bad[whose] = time.Now()
				}
				fault[whose] = f
				if f == upstreamtest.Healthy {
					return nil
				}
				faults[whose]++
				if other := 1 - whose; fault[other] != upstreamtest.Healthy || time.Since(bad[other]) < leastRest {
					t.Errorf("second %d: a fault %v after the other one had one", second, time.Since(bad[other]))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
		for i, n := range faults {
			if n < 250 {
				t.Errorf("server %d had %d seconds of faults of 1000, want some more", i, n)
			}
		}
	})
}

// All shares are used up, and none is left out.
func TestShares(t *testing.T) {
	var byClass [classes]int
	var byTransport [transports]int
	for n := range 100 {
		byClass[pickClass(n)]++
		byTransport[pickTransport(n)]++
	}
	if byClass != shares {
		t.Errorf("got %v, want %v", byClass, shares)
	}
	if byTransport != parts {
		t.Errorf("got %v, want %v", byTransport, parts)
	}
}
