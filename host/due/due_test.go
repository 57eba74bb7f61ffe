package due

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOrder has entries in any order, some set again and some cleared: each fires when it is due, to the nanosecond of the bubble's clock.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		var mu sync.Mutex
		start := time.Now()
		fired := make(map[int]time.Duration)
		want := make(map[int]time.Duration)
		entries := make([]Entry, 1000)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range entries {
			entries[i].Fire = func(now time.Time) {
				mu.Lock()
				defer mu.Unlock()
				if _, twice := fired[i]; twice {
					t.Errorf("entry %d fired twice", i)
				}
				fired[i] = now.Sub(start)
			}
			want[i] = time.Duration(1 + random.IntN(1e9))
			if !q.Set(&entries[i], start.Add(want[i])) {
				t.Fatalf("entry %d was in the queue before it was set", i)
			}
		}
		for i := range entries {
			switch i % 5 {
			case 0:
				delete(want, i)
				if !q.Clear(&entries[i]) || q.Clear(&entries[i]) {
					t.Errorf("entry %d: want Clear to find it, once", i)
				}
			case 1:
				want[i] = time.Duration(1 + random.IntN(2e9))
				if q.Set(&entries[i], start.Add(want[i])) {
					t.Errorf("entry %d: set again, it counts as added", i)
				}
			}
		}
		<-time.After(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(fired) != len(want) || q.Len() != 0 {
			t.Errorf("%d entries fired and %d are left, want %d and none", len(fired), q.Len(), len(want))
		}
		for i, at := range want {
			if fired[i] != at {
				t.Errorf("entry %d fired at %v, want %v", i, fired[i], at)
			}
		}
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		start := time.Now()
		var fired atomic.Int32
		entries := make([]Entry, 10)
		for i := range entries {
			entries[i].Fire = func(time.Time) { fired.Add(1) }
			q.Set(&entries[i], start.Add(time.Hour))
		}
		q.Flush()
		if n := int(fired.Load()); n != len(entries) || time.Since(start) != 0 {
			t.Errorf("%d entries fired after %v, want %d at once", n, time.Since(start), len(entries))
		}
		q.Set(&entries[0], start.Add(time.Minute))
		<-time.After(2 * time.Minute)
		if n := int(fired.Load()); n != len(entries)+1 {
			t.Errorf("after Flush, %d calls, want %d: the queue is still good", n, len(entries)+1)
		}
	})
}

// TestHammer sets and clears from many goroutines: each entry that was added is either cleared or fires, once.
func TestHammer(t *testing.T) {
	var q Queue
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			fired := make(chan struct{}, 1)
			e := Entry{Fire: func(time.Time) { fired <- struct{}{} }}
			for i := range 2000 {
				if !q.Set(&e, time.Now().Add(time.Duration(i%3)*10*time.Microsecond)) {
					t.Error("the entry was in the queue")
				}
				if !q.Clear(&e) {
					<-fired
				}
			}
		})
	}
	wg.Wait()
	if q.Len() != 0 {
		t.Errorf("%d entries are left", q.Len())
	}
}

func TestAllocations(t *testing.T) {
	var q Queue
	e, at := Entry{Fire: func(time.Time) {}}, time.Now().Add(time.Hour)
	q.Set(&e, at)
	q.Clear(&e)
	if n := testing.AllocsPerRun(1000, func() {
		q.Set(&e, at)
		q.Clear(&e)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// BenchmarkSet is a deadline that is met, with others in the queue that are due before: in the list.
func BenchmarkSet(b *testing.B) {
	var q Queue
	entries := make([]Entry, 1000)
	at := time.Now().Add(time.Hour)
	for i := range entries {
		entries[i].Fire = func(time.Time) {}
		q.Set(&entries[i], at)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := &entries[i%len(entries)]
		q.Clear(e)
		at = at.Add(time.Microsecond)
		q.Set(e, at)
		i += 7
	}
}

// BenchmarkHeap is the same among others that are due in any order: in the heap.
func BenchmarkHeap(b *testing.B) {
	var q Queue
	entries := make([]Entry, 1000)
	start := time.Now().Add(time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	times := make([]time.Time, 1<<12)
	for i := range times {
		times[i] = start.Add(time.Duration(random.IntN(1e9)))
	}
	for i := range entries {
		entries[i].Fire = func(time.Time) {}
		q.Set(&entries[i], times[i])
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := &entries[i%len(entries)]
		q.Clear(e)
		q.Set(e, times[i%len(times)])
		i += 7
	}
}
