package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/message"
)

// askFrom asks for a name of its own as a client, and returns the RCODE.
func askFrom(t *testing.T, g *Group, client string, n int) uint16 {
	q := query(t, fmt.Sprintf("www%d.test.", n), message.TypeA)
	q.Client, q.Deadline = netip.AddrPortFrom(netip.MustParseAddr(client), 5353), time.Now().Add(budget)
	r, err := g.Resolve(t.Context(), q, nil)
	if err != nil {
		t.Errorf("%s: %v", client, err)
	}
	return r.RCODE
}

// TestShareOfClient: one client asks for far more than an upstream is good for, and 99 others for half of that, 1 % of it each. All queries of the others
// are answered, wherever in its network the greedy one sends from; it gets what is left, and is told.
func TestShareOfClient(t *testing.T) {
	for _, tt := range []struct {
		name   string
		greedy func(n int) string
	}{
		{"an address", func(int) string { return "192.0.2.66" }},
		{"a /64", func(n int) string { return fmt.Sprintf("2001:db8:0:66::%x", n+1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const room, others, took, ticks = 200, 99, 100, 2000 // places, clients, ms for an answer, ms
			n := newFakeNet(ip1)
			n.server(ip1).set(func(s *fakeServer) { s.delay = took * time.Millisecond })
			metrics := NewMetrics(nil)
			synctest.Test(t, func(t *testing.T) {
				g := group(t, Config{Servers: []string{ip1}, MaxConcurrent: room, MaxFails: -1, Policy: "sequential"}, Env{Dial: n.dial, Metrics: metrics})
				t.Cleanup(func() { <-time.After(time.Minute) })
				var mu sync.Mutex
				var asked, answered [2]int // by the others, and by the greedy one
				var all sync.WaitGroup
				ask := func(who int, client string, n int) {
					asked[who]++
					all.Go(func() {
						if rcode := askFrom(t, g, client, n); rcode == message.NOERROR {
							mu.Lock()
							answered[who]++
							mu.Unlock()
						} else if rcode != message.REFUSED {
							t.Errorf("%s: got %s", client, message.RCODEString(rcode))
						}
					})
				}
				for ms := range ticks {
					if i := ms % took; i < others {
						ask(0, fmt.Sprintf("198.51.100.%d", i+1), ms)
					}
					if ms > 2*took {
						for k := range 10 {
							ask(1, tt.greedy(ms+k), ms*10+k)
						}
					}
					<-time.After(time.Millisecond)
				}
				all.Wait()
				if answered[0] != asked[0] {
					t.Errorf("%d of %d queries of the others are answered, want all", answered[0], asked[0])
				}
				if most := room * ticks / took; answered[1] < most/5 || answered[1] == asked[1] {
					t.Errorf("%d of %d queries of the greedy one are answered, want a good part of %d", answered[1], asked[1], most)
				}
				if got := testutil.ToFloat64(metrics.overShare.WithLabelValues("test")); int(got) != asked[1]-answered[1] {
					t.Errorf("%v are counted as too many of a client, want %d", got, asked[1]-answered[1])
				}
				if left := g.shares.Len(); left != 0 {
					t.Errorf("%d queries are still counted", left)
				}
			})
		})
	}
}

// A client alone gets three quarters of the room, and who comes then gets in; the trace and the Extended DNS Error say why one does not.
func TestShareExplained(t *testing.T) {
	const room = 100
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) { s.delay = 100 * time.Millisecond })
	bubble(t, n, Config{Servers: []string{ip1}, MaxConcurrent: room}, func(t *testing.T, g *Group) {
		var all sync.WaitGroup
		for i := range room {
			all.Go(func() { askFrom(t, g, "192.0.2.66", i) })
		}
		synctest.Wait()
		if got := g.waiting.Load(); got != room*3/4 {
			t.Errorf("%d queries of one client wait, want %d", got, room*3/4)
		}
		q := query(t, "www.test.", message.TypeA)
		q.Client, q.Trace = netip.MustParseAddrPort("192.0.2.66:53"), new(message.Trace)
		r, err := g.Resolve(t.Context(), q, nil)
		if err != nil || r.RCODE != message.REFUSED || !r.Silent || string(r.EDE) != string(overShareEDE) || !strings.Contains(trail(q.Trace), "{upstream.test.max_concurrent}") {
			t.Errorf("got %s, %v, silent %t, EDE %q, trace\n%s", message.RCODEString(r.RCODE), err, r.Silent, r.EDE, trail(q.Trace))
		}
		for _, other := range []string{"192.0.2.67", "2001:db8::1"} {
			if got := askFrom(t, g, other, 0); got != message.NOERROR {
				t.Errorf("%s got %s", other, message.RCODEString(got))
			}
		}
		all.Wait()
		if got := askFrom(t, g, "192.0.2.66", 0); got != message.NOERROR {
			t.Errorf("when there is room again, it got %s", message.RCODEString(got))
		}
	})
}
