package cache

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := after(time.Hour, 0)
		c := open(t, preset("weir"), upstream, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			c.Run(ctx)
			close(ended)
		}()
		q := ask("www.example.", dns.TypeA, time.Now())
		if _, err := c.Resolve(t.Context(), q, nil); !errors.Is(err, errLate) {
			t.Errorf("got error %v, want %v", err, errLate)
		}
		cancel()
		<-ended
		if n := c.flights.number(); n != 0 {
			t.Errorf("%d flights after Run", n)
		}
		c.Close()
		if _, ok := c.Cached(q, nil); ok {
			t.Error("that weir ended was kept as a failure of the upstream")
		}
		upstream.answer = says(0, "an www.example. 60 IN A 192.0.2.1").answer
		if _, err := c.Resolve(t.Context(), q, nil); err != nil {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestOff(t *testing.T) {
	upstream := says(0, "an www.example. 86400 IN A 192.0.2.1")
	c := open(t, preset("acs", func(c *Config) { c.Success.Capacity, c.Denial.Capacity = 0, 0 }), upstream, time.Now)
	q := ask("www.example.", dns.TypeA, time.Now())
	for i := range int64(2) {
		if _, ok := c.Cached(q, nil); ok {
			t.Error("in a cache that is off")
		}
		r, err := c.Resolve(t.Context(), q, nil)
		if err != nil || r.Cached || upstream.calls.Load() != i+1 {
			t.Errorf("got error %v, cached %t, after %d calls", err, r.Cached, upstream.calls.Load())
		}
		if got := ttls(unpack(t, q, r)); got[0] != 86400 {
			t.Errorf("got TTL %d, want that of the upstream", got[0])
		}
	}
}

// TestHalfOff has a cache for answers with data only: the others pass as they are, and end what was known.
func TestHalfOff(t *testing.T) {
	var now clock
	s := says(3, "ns example. 86400 IN SOA ns.example. admin.example. 1 7200 900 1209600 300")
	c := open(t, preset("acs", func(c *Config) { c.Denial.Capacity, c.ServfailTTL = 0, time.Second }), s, now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	r, err := c.Resolve(t.Context(), q, nil)
	if err != nil || ttls(unpack(t, q, r))[0] != 86400 {
		t.Errorf("got error %v, TTLs %v", err, ttls(unpack(t, q, r)))
	}
	s.answer = silent().answer
	c.Resolve(t.Context(), q, nil)
	s.answer = says(0, "an www.example. 60 IN A 192.0.2.1").answer
	if r, err := c.Resolve(t.Context(), q, nil); what(t, q, r, err) != "192.0.2.1" {
		t.Error("a failure was kept")
	}
	if _, ok := c.Cached(q, nil); !ok {
		t.Error("an answer with data was not kept")
	}
}

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var current atomic.Pointer[server] // the slow query of one step is still under way in the next
		set := current.Store
		upstream := &server{answer: func(ctx context.Context, q *message.Query) (*dns.Msg, error) {
			if q.Trace != nil {
				q.Trace.Add(message.Step{Part: "upstream test"}, "100%% asked")
			}
			return current.Load().answer(ctx, q)
		}}
		c := open(t, preset("weir"), upstream, time.Now)
		explain := func() string {
			q := ask("www.example.", dns.TypeA, time.Now())
			q.Trace = &message.Trace{}
			c.Resolve(t.Context(), q, nil)
			return explained(q)
		}
		const asked = "upstream test: 100% asked\n"
		for _, step := range []struct {
			name   string
			server *server
			wait   time.Duration
			want   string
		}{
			{"miss", says(0, "an www.example. 60 IN A 192.0.2.1"), 0, "cache test: miss: asking the upstream\n" + asked + "cache test: stored for 60 s (success)\n"},
			{"hit", silent(), 10 * time.Second, "cache test: hit: success, 10 s old, 50 s left\n"},
			{"stale", silent(), 60 * time.Second, "cache test: stale for 10 s: asking the upstream\n" + asked + "cache test: not stored: it is a failure, and there is an answer\ncache test: stale for 10 s, given because the upstream failed\n"},
			{"recheck", silent(), time.Second, "cache test: stale for 11 s, given at once: the upstream failed a moment ago\n"},
			{"slow", after(time.Hour, 0), 40 * time.Second, "cache test: stale for 51 s: asking the upstream\ncache test: stale for 52 s, given because the upstream takes its time\n"},
			{"not stored", says(3), 40 * time.Second, "cache test: stale for 92 s: asking the upstream\n" + asked + "cache test: not stored: it denies without a SOA record\n"},
			{"failure", says(2), 0, "cache test: miss: asking the upstream\n" + asked + "cache test: stored for 5 s (failure)\n"},
		} {
			set(step.server)
			pause(t.Context(), step.wait)
			if got := explain(); got != step.want {
				t.Errorf("%s: got\n%swant\n%s", step.name, got, step.want)
			}
		}
		pause(t.Context(), 10*time.Second)
		set(after(time.Second, 0, "an www.example. 60 IN A 192.0.2.1"))
		go c.Resolve(t.Context(), ask("www.example.", dns.TypeA, time.Now()), nil)
		synctest.Wait()
		if got, want := explain(), "cache test: miss: waiting for a query that is under way\n"; !strings.HasPrefix(got, want) {
			t.Errorf("second: got\n%swant\n%s", got, want)
		}
	})
}
