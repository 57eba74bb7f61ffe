package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
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

// TestLooked has what changes between a look that finds nothing and the query to the upstream: what was noted is not believed then.
func TestLooked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, c, other *Cache, q *message.Query, now time.Time)
		calls  int64 // of the upstream, in all
	}{
		{"nothing", func(*testing.T, *Cache, *Cache, *message.Query, time.Time) {}, 1},
		{"the answer has come", func(t *testing.T, c, _ *Cache, _ *message.Query, now time.Time) {
			if _, err := c.Resolve(t.Context(), ask("www.example.", dns.TypeA, now), nil); err != nil {
				t.Error(err)
			}
		}, 1},
		{"another question", func(t *testing.T, c, _ *Cache, q *message.Query, now time.Time) {
			known := ask("known.example.", dns.TypeA, now)
			if _, err := c.Resolve(t.Context(), known, nil); err != nil {
				t.Error(err)
			}
			if _, ok := c.Cached(q, nil); ok {
				t.Error("there is an answer")
			}
			q.Parse(known.Message)
			q.Deadline = known.Deadline
		}, 1},
		{"another cache", func(t *testing.T, c, other *Cache, q *message.Query, now time.Time) {
			if _, err := c.Resolve(t.Context(), ask("www.example.", dns.TypeA, now), nil); err != nil {
				t.Error(err)
			}
			if _, ok := other.Cached(q, nil); ok {
				t.Error("there is an answer")
			}
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var now clock
			s := says(0, "an www.example. 60 IN A 192.0.2.1")
			c, other := open(t, preset("weir"), s, now.now), open(t, preset("weir"), s, now.now)
			q := ask("www.example.", dns.TypeA, now.now())
			if _, ok := c.Cached(q, nil); ok || q.Looked.By != c.number {
				t.Fatalf("answered: %t, and noted is %+v", ok, q.Looked)
			}
			tt.change(t, c, other, q, now.now())
			for range 2 {
				if _, err := c.Resolve(t.Context(), q, nil); err != nil {
					t.Error(err)
				}
			}
			if got := s.calls.Load(); got != tt.calls {
				t.Errorf("the upstream was asked %d times, want %d", got, tt.calls)
			}
		})
	}
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
				c.flights.wait()
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
	fs := &open(t, preset("weir"), says(0), time.Now).flights
	never := func() bool { return false }
	one, role := fs.board([]byte("one"), 1, 1, 0, 0, never, 0)
	if role != leader {
		t.Fatalf("the first has the role %d", role)
	}
	if f, role := fs.board([]byte("other"), 1, 1, 0, 0, never, 0); f != nil || role != alone {
		t.Errorf("another key has the role %d in the flight of the first", role)
	}
	if f, role := fs.board([]byte("one"), 1, 1, 0, 0, never, 0); f != one || role != follower {
		t.Errorf("the same key has the role %d", role)
	}
	if f, role := fs.board([]byte("third"), 3, 3, 0, 7, func() bool { return true }, 0); f != nil || role != answered || fs.number() != 1 {
		t.Errorf("a key whose answer has come has the role %d, and there are %d flights", role, fs.number())
	}
	fs.land(one)
	fs.wait()
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
