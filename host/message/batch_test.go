package message

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// notes is a sender that notes what it has to send, and adds more when it is told to.
type notes struct {
	sent [][]int
	then func()
}

func (n *notes) Send(held []any) {
	var all []int
	for _, h := range held {
		all = append(all, *h.(*int))
	}
	n.sent = append(n.sent, all)
	if n.then != nil {
		n.then()
		n.then = nil
	}
}

func TestBatch(t *testing.T) {
	var b Batch
	number := []int{0, 1, 2, 3, 4, 5}
	first, second := &notes{}, &notes{}
	for round := range 2 { // the second with the memory of the first
		b.Flush() // of nothing
		b.Choice = 7
		first.sent, second.sent = nil, nil
		second.then = func() {
			b.Add(second, &number[4])
			b.Add(first, &number[5])
		}
		b.Add(first, &number[0])
		b.Add(second, &number[1])
		b.Add(first, &number[2])
		b.Add(second, &number[3])
		b.Flush()
		for _, test := range []struct {
			name      string
			got, want [][]int
		}{
			{"the first sender", first.sent, [][]int{{0, 2}, {5}}},
			{"the second sender", second.sent, [][]int{{1, 3}, {4}}},
		} {
			if !slices.EqualFunc(test.got, test.want, slices.Equal) {
				t.Errorf("round %d: %s had to send %v, want %v", round, test.name, test.got, test.want)
			}
		}
		if b.Choice != 0 {
			t.Errorf("round %d: the choice is %d after Flush, want 0", round, b.Choice)
		}
	}
}

type silent struct{}

func (silent) Send([]any) {}

func TestBatchDoesNotAllocate(t *testing.T) {
	var b Batch
	h := new(int)
	if n := testing.AllocsPerRun(100, func() {
		b.Add(silent{}, h)
		b.Add(silent{}, h)
		b.Flush()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// TestBatchNow: between two Flushes it is always the time of the first question, and without a batch it is the time.
func TestBatchNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b, none *Batch = new(Batch), nil
		start := time.Now()
		if got := b.Now(); !got.Equal(start) {
			t.Errorf("at first: got %v, want %v", got, start)
		}
		<-time.After(time.Millisecond)
		if got := b.Now(); !got.Equal(start) {
			t.Errorf("later: got %v, want %v", got, start)
		}
		if got := none.Now(); !got.Equal(start.Add(time.Millisecond)) {
			t.Errorf("without a batch: got %v, want a millisecond later", got)
		}
		b.Flush()
		if got := b.Now(); !got.Equal(start.Add(time.Millisecond)) {
			t.Errorf("after Flush: got %v, want a millisecond later", got)
		}
	})
}

// TestBatchCount counts the same few numbers again and again, as queries do, and now and then others, more than a batch keeps apart: no count is lost, and each is
// there when something is sent.
func TestBatchCount(t *testing.T) {
	var b Batch
	var numbers [2 * maxCounts]atomic.Uint64
	var want [len(numbers)]uint64
	check := func(when string) {
		for i := range numbers {
			if got := numbers[i].Load(); got != want[i] {
				t.Fatalf("%s: number %d is %d, want %d", when, i, got, want[i])
			}
		}
	}
	count := func(i int, n uint64) {
		b.Count(&numbers[i], n)
		want[i] += n
	}
	sender, something := &notes{}, 1
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		for range random.IntN(20) {
			for i := range 9 {
				count(i, 1)
			}
			if random.IntN(4) == 0 {
				count(random.IntN(len(numbers)), random.Uint64N(1000))
			}
		}
		sender.then = func() {
			check("with the first message")
			count(3, 1)
			sender.then = func() { check("with the second message") }
			b.Add(sender, &something)
		}
		b.Add(sender, &something)
		b.Flush()
		check("after Flush")
	}
	(*Batch)(nil).Count(&numbers[0], 5)
	want[0] += 5
	check("without a batch")
}

// BenchmarkBatchCount is what a query that waits counts, with a batch of 16 queries and without one.
func BenchmarkBatchCount(b *testing.B) {
	var numbers [10]struct {
		n atomic.Uint64
		_ [56]byte
	}
	for _, bb := range []struct {
		name  string
		batch *Batch
	}{{"batch", new(Batch)}, {"atomic", nil}} {
		b.Run(bb.name, func(b *testing.B) {
			for n := 1; b.Loop(); n++ {
				for i := range numbers {
					bb.batch.Count(&numbers[i].n, 1)
				}
				if bb.batch != nil && n%16 == 0 {
					bb.batch.Flush()
				}
			}
		})
	}
}
