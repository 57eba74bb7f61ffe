package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// after makes a server that takes its time. It gives up when the query's deadline is over, as it has to.
func after(d time.Duration, rcode int, records ...string) *server {
	return &server{answer: func(ctx context.Context, q *message.Query) (*dns.Msg, error) {
		if left := time.Until(q.Deadline); left < d {
			pause(ctx, left)
			return nil, errSilence
		}
		pause(ctx, d)
		return respond(q, rcode, records...), ctx.Err()
	}}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestStampede has a thousand clients who ask the same in different ways at a time.
func TestStampede(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := after(100*time.Millisecond, 0, "an www.example. 300 IN A 192.0.2.1", "ede 5")
		c := open(t, preset("weir"), upstream, time.Now)
		random := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		for i := range 1000 {
			name := []byte("www.example.")
			for j := range name {
				if name[j] != '.' && random.IntN(2) == 0 {
					name[j] ^= 0x20
				}
			}
			q := ask(string(name), dns.TypeA, time.Now(), func(m *dns.Msg) {
				switch i % 4 {
				case 1:
					m.SetEdns0(uint16(512+i), false)
				case 2:
					m.SetEdns0(1232, false)
					m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
				case 3:
					m.AuthenticatedData = true
				}
			})
			wg.Go(func() {
				r, err := c.Resolve(t.Context(), q, []byte("before"))
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if len(r.EDE) != edeSize || r.Upstream != 7 {
					t.Errorf("client %d: EDE % x, upstream %d", i, r.EDE, r.Upstream)
				}
				m := unpack(t, q, r)
				if len(m.Answer) != 1 || m.Question[0].Name != string(name) {
					t.Errorf("client %d asked %s and got\n%v", i, name, m)
				}
			})
		}
		wg.Wait()
		if got := upstream.calls.Load(); got != 1 {
			t.Errorf("the upstream was asked %d times, want once", got)
		}
		if s := c.Stats(); s.Misses != 1000 || s.Joined != 999 || s.Flights != 0 {
			t.Errorf("got %+v, want 1000 misses, 999 joined, no flights", s)
		}
	})
}

// TestNoSecondQuery has clients who come while a flight lands: they find it or its answer, and never ask again.
func TestNoSecondQuery(t *testing.T) {
	var now clock
	s := says(0, "an www.example. 60 IN A 192.0.2.1")
	c := open(t, preset("weir"), s, now.now)
	const names, clients = 2000, 8
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range names {
				if _, err := c.Resolve(t.Context(), ask(strconv.Itoa(i)+".example.", dns.TypeA, now.now()), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.calls.Load(); got != names {
		t.Errorf("the upstream was asked %d times for %d names", got, names)
	}
}

// TestDifferentQuestionsAreNotShared has the bits that make another answer.
func TestDifferentQuestionsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := after(100*time.Millisecond, 0, "an www.example. 300 IN A 192.0.2.1")
		c := open(t, preset("weir"), upstream, time.Now)
		var wg sync.WaitGroup
		for i := range 8 {
			q := ask("www.example.", dns.TypeA, time.Now(), func(m *dns.Msg) {
				m.RecursionDesired, m.CheckingDisabled = i&1 != 0, i&2 != 0
				m.SetEdns0(1232, i&4 != 0)
			})
			wg.Go(func() { c.Resolve(t.Context(), q, nil) })
		}
		wg.Wait()
		if got := upstream.calls.Load(); got != 8 {
			t.Errorf("the upstream was asked %d times, want 8", got)
		}
	})
}

// TestWaiting has clients with their own deadlines and one upstream query. Times are from the beginning of the first.
func TestWaiting(t *testing.T) {
	const ms = time.Millisecond
	type client struct {
		comes, deadline, leaves time.Duration // leaves 0: never
		want                    string
		at                      time.Duration
	}
	for _, test := range []struct {
		name     string
		upstream time.Duration
		clients  []client
		cached   bool // in the end
	}{
		{"all get it", 500 * ms, []client{{0, 2000 * ms, 0, "answer", 500 * ms}, {400 * ms, 2000 * ms, 0, "answer", 500 * ms}}, true},
		{"the first goes away", 500 * ms, []client{{0, 2000 * ms, 100 * ms, "gone", 100 * ms}, {50 * ms, 2000 * ms, 0, "answer", 500 * ms}}, true},
		{"the first has less time", 500 * ms, []client{{0, 100 * ms, 0, "late", 100 * ms}, {50 * ms, 2000 * ms, 0, "answer", 500 * ms}}, true},
		{"the second has less time", 500 * ms, []client{{0, 2000 * ms, 0, "answer", 500 * ms}, {50 * ms, 100 * ms, 0, "late", 100 * ms}}, true},
		{"nobody waits that long", 5000 * ms, []client{{0, 2000 * ms, 0, "late", 2000 * ms}, {1000 * ms, 3000 * ms, 0, "late", 3000 * ms}}, true},
		{"the next one profits", 2500 * ms, []client{{0, 2000 * ms, 0, "late", 2000 * ms}, {2200 * ms, 4000 * ms, 0, "answer", 2500 * ms}}, true},
		{"no deadline", 5000 * ms, []client{{0, -1, 0, "answer", 5000 * ms}}, true},
		{"too long", 7000 * ms, []client{{0, -1, 0, "silence", 6000 * ms}}, false},
		{"more time than a flight usually has", 7000 * ms, []client{{0, 8000 * ms, 0, "answer", 7000 * ms}}, true},
		{"no time", 500 * ms, []client{{0, 0, 0, "late", 0}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				upstream := after(test.upstream, 0, "an www.example. 300 IN A 192.0.2.1")
				c := open(t, preset("weir"), upstream, time.Now)
				start := time.Now()
				var wg sync.WaitGroup
				for i, cl := range test.clients {
					wg.Go(func() {
						pause(t.Context(), cl.comes)
						q := ask("www.example.", dns.TypeA, time.Now())
						q.Deadline = start.Add(cl.deadline)
						if cl.deadline < 0 {
							q.Deadline = time.Time{}
						}
						ctx := t.Context()
						if cl.leaves > 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithDeadline(ctx, start.Add(cl.leaves))
							defer cancel()
						}
						_, err := c.Resolve(ctx, q, nil)
						got := "answer"
						switch {
						case errors.Is(err, errGone):
							got = "gone"
						case errors.Is(err, errLate):
							got = "late"
						case errors.Is(err, errSilence):
							got = "silence"
						}
						if at := time.Since(start); got != cl.want || at != cl.at {
							t.Errorf("client %d: got %s after %s, want %s after %s", i, got, at, cl.want, cl.at)
						}
					})
				}
				wg.Wait()
				c.flights.wg.Wait()
				if got := upstream.calls.Load(); got != 1 {
					t.Errorf("the upstream was asked %d times, want once", got)
				}
				r, ok := c.Cached(ask("www.example.", dns.TypeA, time.Now()), nil)
				if got := ok && r.RCODE == message.NOERROR; got != test.cached {
					t.Errorf("in the cache: %t, want %t", got, test.cached)
				}
			})
		})
	}
}

// TestStale is RFC 8767 section 5 on a clock. The answer is from the beginning, and was for a minute.
func TestStale(t *testing.T) {
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

// TestTooManyFlights fills the sky; others still get their answers, and none is left when the cache is closed.
func TestTooManyFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := after(time.Second, 0, "an www.example. 300 IN A 192.0.2.1")
		c := open(t, preset("weir"), upstream, time.Now)
		var wg sync.WaitGroup
		resolve := func(name string) {
			wg.Go(func() {
				if _, err := c.Resolve(t.Context(), ask(name, dns.TypeA, time.Now()), nil); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		for i := range maxFlights {
			resolve(strconv.Itoa(i) + ".example.")
		}
		synctest.Wait()
		resolve("one-more.example.")
		resolve("one-more.example.")
		wg.Wait()
		if s := c.Stats(); s.Alone != 2 || s.Flights != 0 {
			t.Errorf("got %d unshared queries and %d flights, want 2 and 0", s.Alone, s.Flights)
		}
		if _, ok := c.Cached(ask("one-more.example.", dns.TypeA, time.Now()), nil); !ok {
			t.Error("the answer to an unshared query is not in the cache")
		}
		for range maxWaiting + 1 {
			resolve("www.example.")
		}
		wg.Wait()
		if s := c.Stats(); s.Alone != 3 {
			t.Errorf("got %d unshared queries, want 3: one more than may wait for a flight", s.Alone)
		}
	})
}

// TestFlightCollision has two keys with one hash: they don't share a flight.
func TestFlightCollision(t *testing.T) {
	fs := flights{byHash: make(map[uint64]*flight)}
	never := func() bool { return false }
	one, role := fs.board([]byte("one"), 1, 0, never)
	if role != leader {
		t.Fatalf("the first has the role %d", role)
	}
	if f, role := fs.board([]byte("other"), 1, 0, never); f != nil || role != alone {
		t.Errorf("another key has the role %d in the flight of the first", role)
	}
	if f, role := fs.board([]byte("one"), 1, 0, never); f != one || role != follower {
		t.Errorf("the same key has the role %d", role)
	}
	if f, role := fs.board([]byte("third"), 3, 0, func() bool { return true }); f != nil || role != answered || fs.number() != 1 {
		t.Errorf("a key whose answer has come has the role %d, and there are %d flights", role, fs.number())
	}
}

// TestFlightsAreUsedAgain has one flight after another, each with what is its own.
func TestFlightsAreUsedAgain(t *testing.T) {
	var now clock
	s := &server{}
	c := open(t, preset("weir", func(c *Config) { c.ServfailTTL = 0 }), s, now.now)
	for i := range 100 {
		q := ask(strconv.Itoa(i)+".example.", dns.TypeA, now.now())
		address := "192.0.2." + strconv.Itoa(i)
		s.answer = says(0, "an "+strconv.Itoa(i)+".example. 60 IN A "+address).answer
		want := address
		if i%3 == 2 {
			s.answer, want = silent().answer, "an error"
		}
		r, err := c.Resolve(t.Context(), q, nil)
		if got := what(t, q, r, err); got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
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

func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := &server{}
		set := func(s *server) {
			upstream.answer = func(ctx context.Context, q *message.Query) (*dns.Msg, error) {
				if q.Trace != nil {
					q.Trace.Add("upstream test", "100%% asked")
				}
				return s.answer(ctx, q)
			}
		}
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
