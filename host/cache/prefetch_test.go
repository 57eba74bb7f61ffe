package cache

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := after(50*time.Millisecond, 0, "an www.example. 100 IN A 192.0.2.1")
		c := open(t, preset("weir"), upstream, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			c.Run(ctx)
			close(ended)
		}()
		start := time.Now()
		hit := func(at time.Duration, wantTTL uint32, wantCalls int64) {
			t.Helper()
			pause(t.Context(), at-time.Since(start))
			q := ask("www.example.", dns.TypeA, time.Now(), func(m *dns.Msg) { m.SetEdns0(1232, true) })
			r, ok := c.Cached(q, nil)
			if !ok {
				t.Fatalf("at %s: not in the cache", at)
			}
			if got := ttls(unpack(t, q, r)); got[0] != wantTTL {
				t.Errorf("at %s: got TTL %d, want %d", at, got[0], wantTTL)
			}
			synctest.Wait()
			if got := upstream.calls.Load(); got != wantCalls {
				t.Errorf("at %s: the upstream was asked %d times, want %d", at, got, wantCalls)
			}
		}
		c.Resolve(t.Context(), ask("www.example.", dns.TypeA, start, func(m *dns.Msg) { m.SetEdns0(1232, true) }), nil)
		start = time.Now()
		const s = time.Second
		hit(10*s, 90, 1)
		hit(91*s, 9, 1) // nearly over, but asked for only twice
		hit(92*s, 8, 2) // three times: is being fetched
		hit(92*s+10*time.Millisecond, 8, 2)
		hit(93*s, 100, 2) // anew
		// A failure leaves the entry and waits before the next try.
		upstream.answer = after(50*time.Millisecond, dns.RcodeServerFailure).answer
		hit(184*s, 9, 2) // hits on the one before don't count
		hit(185*s, 8, 3)
		hit(190*s, 3, 3)
		// An hour is long enough for another try.
		upstream.answer = after(50*time.Millisecond, 0, "an www.example. 3600 IN A 192.0.2.1").answer
		pause(t.Context(), 60*s)
		c.Resolve(t.Context(), ask("www.example.", dns.TypeA, time.Now(), func(m *dns.Msg) { m.SetEdns0(1232, true) }), nil)
		upstream.calls.Store(0)
		upstream.answer = after(50*time.Millisecond, dns.RcodeServerFailure).answer
		start = time.Now()
		hit(3300*s, 300, 0)
		hit(3301*s, 299, 0)
		hit(3302*s, 298, 1)
		hit(3331*s, 269, 1)
		hit(3333*s, 267, 2)
		if got := c.Stats().Prefetch; got != 4 {
			t.Errorf("got %d prefetches, want 4", got)
		}
		cancel()
		<-ended
	})
}

// TestPrefetchQueueIsBounded has more popular answers than Run, which is not running, can take: hits stay hits.
func TestPrefetchQueueIsBounded(t *testing.T) {
	var now clock
	upstream := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		return respond(q, 0, "an www.example. 100 IN A 192.0.2.1"), nil
	}}
	c := open(t, preset("weir", func(c *Config) { c.Prefetch.Hits = 1 }), upstream, now.now)
	for i := range maxFetches + 10 {
		q := ask(strconv.Itoa(i)+".example.", dns.TypeA, now.now())
		c.Resolve(t.Context(), q, nil)
	}
	now.pass(95 * time.Second)
	for i := range maxFetches + 10 {
		if _, ok := c.Cached(ask(strconv.Itoa(i)+".example.", dns.TypeA, now.now()), nil); !ok {
			t.Fatalf("%d.example is not in the cache", i)
		}
	}
	if got := len(c.fetches); got != maxFetches {
		t.Errorf("%d wait to be fetched, want %d", got, maxFetches)
	}
	<-c.fetches
	if c.Cached(ask("1.example.", dns.TypeA, now.now()), nil); len(c.fetches) != maxFetches-1 {
		t.Error("an entry that waits to be fetched is put there once more")
	}
	if c.Cached(ask(strconv.Itoa(maxFetches)+".example.", dns.TypeA, now.now()), nil); len(c.fetches) != maxFetches {
		t.Error("an entry for which there was no room is not tried again")
	}
}
