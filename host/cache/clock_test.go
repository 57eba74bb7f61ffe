package cache

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/wallclock"
)

// What is in the cache ages by the monotonic clock: one that is set, by an hour or by years, neither ends an answer nor prolongs it.
func TestFaultX21TTLs(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name string
		by   time.Duration
	}{
		{"not at all", 0}, {"an hour forward", time.Hour}, {"an hour back", -time.Hour}, {"ten years forward", 10 * year}, {"ten years back", -10 * year},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			var passed, by atomic.Int64
			now := func() time.Time {
				return wallclock.Set(start.Add(time.Duration(passed.Load())), time.Duration(by.Load()))
			}
			upstream := says(0, "an www.example. 300 IN A 192.0.2.1")
			c := open(t, preset("weir", func(c *Config) { c.ServeStale = 0 }), upstream, now)
			if _, err := c.Resolve(t.Context(), ask("www.example.", dns.TypeA, now()), nil); err != nil {
				t.Fatal(err)
			}
			by.Store(int64(tt.by))
			for _, l := range []struct {
				after time.Duration
				ttl   uint32 // 0: it is not in the cache any more
			}{{0, 300}, {100 * time.Second, 200}, {299 * time.Second, 1}, {300 * time.Second, 0}} {
				passed.Store(int64(l.after))
				q := ask("www.example.", dns.TypeA, now())
				r, ok := c.Cached(q, nil)
				if ok != (l.ttl > 0) {
					t.Errorf("after %v: in the cache: %v", l.after, ok)
				} else if got := uint32(0); ok {
					if got = ttls(unpack(t, q, r))[0]; got != l.ttl {
						t.Errorf("after %v: got a TTL of %d, want %d", l.after, got, l.ttl)
					}
				}
			}
			// What comes in then lives as long as it says, too.
			q := ask("www.example.", dns.TypeA, now())
			if r, err := c.Resolve(t.Context(), q, nil); err != nil || ttls(unpack(t, q, r))[0] != 300 {
				t.Errorf("anew: got %v, %v", r, err)
			}
			passed.Add(int64(10 * time.Second))
			if r, ok := c.Cached(q, nil); !ok || ttls(unpack(t, q, r))[0] != 290 {
				t.Errorf("10 s later: in the cache: %v", ok)
			}
		})
	}
}
