package rate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var epoch = time.Unix(1_800_000_000, 0)

// taken is how many of n responses, each a while after the other, an address gets.
func taken(l *Limiter, client string, start time.Time, n int, each time.Duration) (got int) {
	for i := range n {
		if l.Take(netip.MustParseAddr(client), start.Add(time.Duration(i)*each)) {
			got++
		}
	}
	return got
}

func TestTake(t *testing.T) {
	limit := Limit{PerSecond: 100, Burst: 20, IPv4: 24, IPv6: 56}
	for _, tt := range []struct {
		name string
		n    int
		each time.Duration
		want int
	}{
		{"one", 1, 0, 1},
		{"a burst", 20, 0, 20},
		{"more than a burst", 1000, 0, 20},
		{"at the limit", 1000, 10 * time.Millisecond, 1000},
		{"ten times the limit, for a second", 1000, time.Millisecond, 20 + 99},
	} {
		for _, after := range []time.Duration{0, time.Hour, 6 * 24 * time.Hour, 13 * 24 * time.Hour, 400 * 24 * time.Hour} {
			t.Run(fmt.Sprintf("%s after %v", tt.name, after), func(t *testing.T) {
				if got := taken(New(limit, epoch), "192.0.2.1", epoch.Add(after), tt.n, tt.each); got < tt.want-1 || got > tt.want+1 {
					t.Errorf("got %d of %d, want %d", got, tt.n, tt.want)
				}
			})
		}
	}
}

// TestIdle: who has had its burst has another one when the time for that has gone by, however long that is.
func TestIdle(t *testing.T) {
	for _, idle := range []time.Duration{200 * time.Millisecond, time.Hour, 5 * 24 * time.Hour, 7 * 24 * time.Hour, 13*24*time.Hour - time.Hour, 30 * 24 * time.Hour} {
		l := New(Limit{PerSecond: 100, Burst: 20, IPv4: 24, IPv6: 56}, epoch)
		first := taken(l, "192.0.2.1", epoch, 100, 0)
		if got := taken(l, "192.0.2.1", epoch.Add(idle), 100, 0); first != 20 || got != 20 {
			t.Errorf("%v: got %d, then %d; want 20 each", idle, first, got)
		}
	}
}

// TestNetworks: addresses of a network share its limit, and others have their own.
func TestNetworks(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		shared              bool
	}{
		{"IPv4, the same network", "192.0.2.1", "192.0.2.255", true},
		{"IPv4, the next one", "192.0.2.1", "192.0.3.1", false},
		{"IPv4 in IPv6 form", "192.0.2.1", "::ffff:192.0.2.2", true},
		{"IPv6, the same network", "2001:db8::1", "2001:db8:0:ff::1", true},
		{"IPv6, the next one", "2001:db8::1", "2001:db8:0:100::1", false},
		{"IPv4 and IPv6", "0.0.0.1", "::1", false},
		{"a zone", "fe80::1%a", "fe80::1%b", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New(Limit{PerSecond: 1, Burst: 5, IPv4: 24, IPv6: 56}, epoch)
			taken(l, tt.first, epoch, 10, 0)
			if got := taken(l, tt.second, epoch, 10, 0); (got == 0) != tt.shared || got != 0 && got != 5 {
				t.Errorf("got %d after the other had its burst", got)
			}
		})
	}
}

// TestMany: with as many networks as the table is made for, nearly all have their limit, and nobody is refused for another's sake but by an equal hash.
func TestMany(t *testing.T) {
	l := New(Limit{PerSecond: 10, Burst: 10, IPv4: 32, IPv6: 64}, epoch)
	const networks = sets * ways / 2
	first, all := 0, 0
	for i := range 3 * networks {
		client := netip.AddrFrom4([4]byte{10, byte(i % networks >> 16), byte(i % networks >> 8), byte(i % networks)})
		for range 10 {
			if l.Take(client, epoch) {
				all++
				if i < networks {
					first++
				}
			}
		}
	}
	if first < networks*10*999/1000 {
		t.Errorf("networks got %d of %d responses within their bursts", first, networks*10)
	}
	if all > networks*10*110/100 {
		t.Errorf("networks got %d responses, want %d: the table has room for them", all, networks*10)
	}
}

// TestTogether: many take at once, and together they get what one would.
func TestTogether(t *testing.T) {
	l := New(Limit{PerSecond: 1, Burst: 1000, IPv4: 24, IPv6: 56}, epoch)
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10_000 {
				if l.Take(netip.MustParseAddr("192.0.2.1"), epoch) {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := got.Load(); n < 1000 || n > 1100 { // who loses the word 8 times in a row passes
		t.Errorf("got %d, want 1000", n)
	}
}

func TestAllocations(t *testing.T) {
	l, client := New(Limit{PerSecond: 100, Burst: 100, IPv4: 24, IPv6: 56}, epoch), netip.MustParseAddr("2001:db8::1")
	if got := testing.AllocsPerRun(100, func() { l.Take(client, epoch) }); got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// BenchmarkTake is a flood from a million networks.
func BenchmarkTake(b *testing.B) {
	l, now := New(Limit{PerSecond: 100, Burst: 100, IPv4: 24, IPv6: 56}, time.Now()), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		n := rand.Uint32()
		l.Take(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 1}), now)
	}
}
