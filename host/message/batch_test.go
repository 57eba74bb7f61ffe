package message

import (
	"slices"
	"testing"
)

// heldNumber notes its number, and adds another to the batch when it is told to.
type heldNumber struct {
	n    int
	seen *[]int
	then func()
}

func (h *heldNumber) Release() {
	*h.seen = append(*h.seen, h.n)
	if h.then != nil {
		h.then()
	}
}

func TestBatch(t *testing.T) {
	var b Batch
	var seen []int
	last := &heldNumber{n: 3, seen: &seen}
	b.Flush() // of nothing
	b.Add(&heldNumber{n: 1, seen: &seen, then: func() { b.Add(last) }})
	b.Add(&heldNumber{n: 2, seen: &seen})
	b.Flush()
	b.Flush()
	if want := []int{1, 2, 3}; !slices.Equal(seen, want) {
		t.Errorf("released %v, want %v", seen, want)
	}
	if n := testing.AllocsPerRun(100, func() {
		seen = seen[:0]
		b.Add(last)
		b.Flush()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
