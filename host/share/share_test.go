package share

import (
	"net/netip"
	"sync"
	"testing"
)

func TestTake(t *testing.T) {
	const room = 100
	one, same, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name    string
		held    int // by a client
		waiting int64
		client  netip.Addr
		want    bool
		counted bool
	}{
		{"an empty room", 0, 1, one, true, false},
		{"half of the room", 50, 50, one, true, false},
		{"more than that", 10, 51, one, true, true},
		{"as many as there are free", 25, 75, one, true, true},
		{"more than there are free", 26, 75, one, false, false},
		{"the same /64", 26, 75, same, false, false},
		{"another client", 26, 75, other, true, true},
		{"the last place", 0, 100, one, true, true},
		{"the last place, and has one", 1, 100, one, false, false},
		{"a query of weir's own", 100, 100, netip.Addr{}, true, false},
		{"no place", 0, 101, other, false, false},
		{"no place for weir's own", 0, 101, netip.Addr{}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := New()
			var held []Share
			for range tt.held { // when there was more room
				s, _ := table.Take(one, room, 2*room-1)
				held = append(held, s)
			}
			s, ok := table.Take(tt.client, tt.waiting, room)
			if ok != tt.want || s.counted != tt.counted {
				t.Errorf("got %v, counted %v, want %v, %v", ok, s.counted, tt.want, tt.counted)
			}
			table.Give(s)
			for _, s := range held {
				table.Give(s)
			}
			if n := table.Len(); n != 0 {
				t.Errorf("%d are left", n)
			}
		})
	}
}

// Who shares a number with a greedy client, but not all of them, is not taken for it: no more than a few of 200,000 are.
func TestTakenForAnother(t *testing.T) {
	const room, clients = 100, 200_000
	table := New()
	greedy := netip.MustParseAddr("192.0.2.1")
	for range 26 { // when there was more room
		table.Take(greedy, room, 2*room-1)
	}
	refused := 0
	for i := range clients {
		s, ok := table.Take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 75, room)
		if !ok {
			refused++
		}
		table.Give(s)
	}
	if refused > 5 { // 0.1 on average, so more than 5 are so by chance in one of 10⁹ runs; with two rows it would be 12
		t.Errorf("%d of %d others are refused with a greedy client", refused, clients)
	}
}

// Counting allocates nothing, and is right when many do it.
func TestTogether(t *testing.T) {
	table := New()
	client := netip.MustParseAddr("192.0.2.1")
	if got := testing.AllocsPerRun(100, func() {
		s, _ := table.Take(client, 6, 10)
		table.Give(s)
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				s, ok := table.Take(client, 11, 18) // 7 are free
				if !ok {
					t.Error("8 are too many for 7 and its own")
				}
				table.Give(s)
			}
		})
	}
	all.Wait()
	if n := table.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// BenchmarkTake is what a query pays that comes when more than half of the room is taken.
func BenchmarkTake(b *testing.B) {
	table := New()
	client := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		s, _ := table.Take(client, 6, 10)
		table.Give(s)
	}
}
