package message

import (
	"slices"
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
