package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// TestRFC8767Stale: an answer that has ended is given when no server has a new one in time, and for a limited time (section 5).
// It goes by a clock: the answer is from the beginning, and was for a minute.
func TestRFC8767Stale(t *testing.T) {
	type step struct {
		at     time.Duration // from the beginning
		left   time.Duration // until the deadline
		want   string
		within time.Duration // how long the client waits
		calls  int64         // of the upstream, in all, after the step
	}
	const ms, s = time.Millisecond, time.Second
	const old, fresh = "192.0.2.1", "192.0.2.2"
	for _, test := range []struct {
		name     string
		upstream *server // after the first answer
		change   func(*Config)
		steps    []step
	}{
		{"the upstream is well", after(10*ms, 0, "an www.example. 60 IN A "+fresh), nil, []step{
			{61 * s, 2 * s, fresh, 10 * ms, 1},
			{62 * s, 2 * s, fresh, 0, 1},
		}},
		{"a black hole", after(time.Hour, 0), nil, []step{
			{59 * s, 2 * s, old, 0, 0},
			{61 * s, 2 * s, old + ", stale", 1800 * ms, 1},
			{63 * s, 2 * s, old + ", stale", 0, 1}, // the flight is older than 1.8 s
			{68 * s, 2 * s, old + ", stale", 0, 1}, // it has failed a second ago
			{96 * s, 2 * s, old + ", stale", 0, 1}, // and 29 seconds ago
			{98 * s, 2 * s, old + ", stale", 1800 * ms, 2},
			{105 * s, 2 * s, old + ", stale", 0, 2},
		}},
		{"a black hole and little time", after(time.Hour, 0), nil, []step{
			{61 * s, 1 * s, old + ", stale", 950 * ms, 1},
			{62500 * ms, 2 * s, old + ", stale", 300 * ms, 1},
		}},
		{"a black hole and no time", after(time.Hour, 0), nil, []step{{61 * s, 20 * ms, old + ", stale", 0, 1}}},
		{"it fails at once", after(10*ms, dns.RcodeServerFailure), nil, []step{
			{61 * s, 2 * s, old + ", stale", 10 * ms, 1},
			{90 * s, 2 * s, old + ", stale", 0, 1},
			{92 * s, 2 * s, old + ", stale", 10 * ms, 2},
		}},
		{"it refuses", after(10*ms, dns.RcodeRefused), nil, []step{{61 * s, 2 * s, old + ", stale", 10 * ms, 1}}},
		{"it is slow, and its answer counts", after(3*s, 0, "an www.example. 60 IN A "+fresh), nil, []step{
			{61 * s, 2 * s, old + ", stale", 1800 * ms, 1},
			{65 * s, 2 * s, fresh, 0, 1},
		}},
		{"it denies", after(10*ms, 3, soa), nil, []step{
			{61 * s, 2 * s, "NXDOMAIN", 10 * ms, 1},
			{62 * s, 2 * s, "NXDOMAIN", 0, 1},
		}},
		{"a day later", after(10*ms, dns.RcodeServerFailure), nil, []step{
			{60*s + 24*time.Hour - 1, 2 * s, old + ", stale", 10 * ms, 1},
			{60*s + 24*time.Hour + 31*s, 2 * s, "SERVFAIL", 10 * ms, 2},
			{60*s + 24*time.Hour + 32*s, 2 * s, "SERVFAIL", 0, 2},
		}},
		{"switched off", after(10*ms, dns.RcodeServerFailure), func(c *Config) { c.ServeStale = 0 }, []step{
			{61 * s, 2 * s, "SERVFAIL", 10 * ms, 1},
			{62 * s, 2 * s, "SERVFAIL", 0, 1},
			{67 * s, 2 * s, "SERVFAIL", 10 * ms, 2},
		}},
		{"failures are not kept", after(10*ms, dns.RcodeServerFailure), func(c *Config) { c.ServfailTTL = 0 }, []step{
			{61 * s, 2 * s, old + ", stale", 10 * ms, 1},
			{62 * s, 2 * s, old + ", stale", 0, 1},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				next := &server{}
				next.answer = func(_ context.Context, q *message.Query) (*dns.Msg, error) {
					return respond(q, 0, "an www.example. 60 IN A "+old), nil
				}
				change := test.change
				if change == nil {
					change = func(*Config) {}
				}
				c := open(t, preset("weir", change), next, time.Now)
				if _, err := c.Resolve(t.Context(), ask("www.example.", dns.TypeA, start), nil); err != nil {
					t.Fatal(err)
				}
				next.answer = test.upstream.answer
				next.calls.Store(0)
				for i, st := range test.steps {
					pause(t.Context(), st.at-time.Since(start))
					begin := time.Now()
					q := ask("www.example.", dns.TypeA, begin)
					q.Deadline = begin.Add(st.left)
					r, err := c.Resolve(t.Context(), q, nil)
					got := what(t, q, r, err)
					if waited := time.Since(begin); got != st.want || waited != st.within {
						t.Errorf("step %d: got %s after %s, want %s after %s", i, got, waited, st.want, st.within)
					}
					synctest.Wait()
					if got := next.calls.Load(); got != st.calls {
						t.Errorf("step %d: the upstream was asked %d times, want %d", i, got, st.calls)
					}
				}
			})
		})
	}
}

func TestStaleEDE(t *testing.T) {
	var now clock
	ede := []string{"an www.example. 60 IN A 192.0.2.1", "ede 5"}
	s := says(0, ede...)
	c := open(t, preset("weir"), s, now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	c.Resolve(t.Context(), q, nil)
	r, _ := c.Cached(q, nil)
	if got := codes(r); len(got) != 1 || got[0] != 5 {
		t.Errorf("live: got EDEs %v, want that of the upstream, 5", got)
	}
	now.pass(time.Minute)
	s.answer = silent().answer
	q.Deadline = now.now().Add(time.Second)
	r, err := c.Resolve(t.Context(), q, nil)
	if got := codes(r); err != nil || len(got) != 2 || got[0] != message.EDEStaleAnswer || got[1] != 5 {
		t.Errorf("stale: got EDEs %v, error %v, want 3 and 5", got, err)
	}
}

// TestStaleIsNotValidated: an answer keeps the AD bit of its upstream while it is fresh.
func TestStaleIsNotValidated(t *testing.T) {
	var now clock
	s := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		m := respond(q, 0, "an www.example. 60 IN A 192.0.2.1")
		m.AuthenticatedData = true
		return m, nil
	}}
	c := open(t, preset("weir"), s, now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	c.Resolve(t.Context(), q, nil)
	if r, ok := c.Cached(q, nil); !ok || r.Message[3]&message.FlagAD == 0 {
		t.Errorf("live: AD is lost")
	}
	now.pass(time.Minute)
	s.answer = silent().answer
	q.Deadline = now.now().Add(time.Second)
	if r, err := c.Resolve(t.Context(), q, nil); err != nil || r.Message[3]&message.FlagAD != 0 {
		t.Errorf("stale: AD is set, or error %v", err)
	}
}

func TestAloneGivesStale(t *testing.T) {
	var now clock
	s := says(0, "an www.example. 60 IN A 192.0.2.1")
	c := open(t, preset("weir"), s, now.now)
	q := ask("www.example.", dns.TypeA, now.now())
	c.Resolve(t.Context(), q, nil)
	c.flights.close()
	now.pass(61 * time.Second)
	for _, answer := range []*server{silent(), says(dns.RcodeServerFailure)} {
		s.answer = answer.answer
		r, err := c.Resolve(t.Context(), q, nil)
		if got := what(t, q, r, err); got != "192.0.2.1, stale" {
			t.Errorf("got %s", got)
		}
		now.pass(31 * time.Second)
	}
}
