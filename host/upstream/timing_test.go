package upstream

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdns/weir/host/message"
)

const (
	ip1 = "192.0.2.1"
	ip2 = "192.0.2.2"
)

// TestRFC9520Tries: a query is sent three times at most, over all servers, when there is no response (section 3.1).
// In a bubble times are exact.
func TestRFC9520Tries(t *testing.T) {
	const ms = time.Millisecond
	type server = *fakeServer
	tests := []struct {
		name   string
		config Config
		one    func(s server) // the server asked first
		two    func(s server)
		want   string
		took   time.Duration
		seen   [2]int // queries
	}{
		{name: "at once", want: "NOERROR " + ip1, seen: [2]int{1, 0}},
		{name: "slow", one: func(s server) { s.delay = 100 * ms }, want: "NOERROR " + ip1, took: 100 * ms, seen: [2]int{1, 0}},
		{name: "first silent", one: func(s server) { s.silent = true }, want: "NOERROR " + ip2, took: 150 * ms, seen: [2]int{1, 1}},
		{name: "first late, second silent", one: func(s server) { s.delay = 290 * ms }, two: func(s server) { s.silent = true },
			want: "NOERROR " + ip1, took: 290 * ms, seen: [2]int{1, 1}},
		{name: "first very late, second silent", one: func(s server) { s.delay = 1700 * ms }, two: func(s server) { s.silent = true },
			want: "NOERROR " + ip1, took: 1700 * ms, seen: [2]int{2, 1}},
		{name: "late answer wins the race", one: func(s server) { s.delay = 200 * ms }, two: func(s server) { s.delay = 100 * ms },
			want: "NOERROR " + ip1, took: 200 * ms, seen: [2]int{1, 1}},
		{name: "one packet lost", config: Config{Servers: []string{ip1}}, one: func(s server) { s.lose = 1 }, want: "NOERROR " + ip1, took: 150 * ms, seen: [2]int{2, 0}},
		{name: "two packets lost", config: Config{Servers: []string{ip1}}, one: func(s server) { s.lose = 2 }, want: "NOERROR " + ip1, took: 600 * ms, seen: [2]int{3, 0}},
		{name: "both silent", one: func(s server) { s.silent = true }, two: func(s server) { s.silent = true },
			want: ErrTimeout.Error(), took: budget, seen: [2]int{2, 1}},
		{name: "too late", config: Config{Servers: []string{ip1}}, one: func(s server) { s.delay = 1900 * ms }, want: ErrTimeout.Error(), took: budget, seen: [2]int{3, 0}},
		{name: "first refused", one: func(s server) { s.refused = true }, want: "NOERROR " + ip2, seen: [2]int{1, 1}},
		{name: "both refused", one: func(s server) { s.refused = true }, two: func(s server) { s.refused = true },
			want: ErrUnreachable.Error(), took: 2 * minGrace, seen: [2]int{2, 1}},
		{name: "all refused", config: Config{Servers: []string{ip1}}, one: func(s server) { s.refused = true },
			want: ErrUnreachable.Error(), took: 3 * minGrace, seen: [2]int{3, 0}},
		{name: "forged ICMP error", config: Config{Servers: []string{ip1}}, one: func(s server) { s.refused, s.delay = true, 40*ms },
			want: "NOERROR " + ip1, took: 40 * ms, seen: [2]int{1, 0}},
		{name: "forged ICMP error for each try", config: Config{Servers: []string{ip1}}, one: func(s server) { s.refused, s.delay = true, 140*ms },
			want: "NOERROR " + ip1, took: 140 * ms, seen: [2]int{3, 0}},
		{name: "refused, then silent", one: func(s server) { s.refused = true }, two: func(s server) { s.silent = true },
			want: ErrTimeout.Error(), took: budget, seen: [2]int{2, 1}},
		{name: "tcp, first silent", config: Config{Transport: "tcp"}, one: func(s server) { s.silent = true }, want: "NOERROR " + ip2, took: 150 * ms, seen: [2]int{1, 1}},
		{name: "tcp, first refused", config: Config{Transport: "tcp"}, one: func(s server) { s.refused = true }, want: "NOERROR " + ip2, seen: [2]int{0, 1}},
		{name: "tcp, both refused", config: Config{Transport: "tcp"}, one: func(s server) { s.refused = true }, two: func(s server) { s.refused = true },
			want: ErrUnreachable.Error(), took: 2 * minGrace},
		{name: "read_timeout", config: Config{ReadTimeout: 500 * ms}, one: func(s server) { s.silent = true }, two: func(s server) { s.silent = true },
			want: ErrTimeout.Error(), took: 500 * ms, seen: [2]int{2, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			for i, f := range []func(s server){tt.one, tt.two} {
				if f != nil {
					n.server([]string{ip1, ip2}[i]).set(f)
				}
			}
			c := tt.config
			c.Policy, c.MaxFails = "sequential", -1
			if c.Servers == nil {
				c.Servers = []string{ip1, ip2}
			}
			bubble(t, n, c, func(t *testing.T, g *Group) {
				got, took := timed(t, g)
				if got != tt.want || took != tt.took {
					t.Errorf("got %q in %v, want %q in %v", got, took, tt.want, tt.took)
				}
				if seen := [2]int{n.server(ip1).seen(), n.server(ip2).seen()}; seen != tt.seen {
					t.Errorf("the servers saw %v queries, want %v", seen, tt.seen)
				}
			})
		})
	}
}

func TestContext(t *testing.T) {
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) { s.silent = true })
	bubble(t, n, Config{Servers: []string{ip1}}, func(t *testing.T, g *Group) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := g.Resolve(ctx, query(t, "www.test.", message.TypeA), nil); !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("past the deadline of the context: %v", err)
		}
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("a context of 300ms ended it after %v", took)
		}
		start = time.Now()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(400*time.Millisecond, cancel)
		if _, err := g.Resolve(ctx, query(t, "www.test.", message.TypeA), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		if took := time.Since(start); took > 400*time.Millisecond+minWait {
			t.Errorf("canceled after 400ms it took %v", took)
		}
	})
}

// TestHealth has a server die and come back.
func TestHealth(t *testing.T) {
	n := newFakeNet(ip1, ip2)
	one, two := n.server(ip1), n.server(ip2)
	c := Config{Servers: []string{ip1, ip2}, Policy: "sequential"}
	bubble(t, n, c, func(t *testing.T, g *Group) {
		one.set(func(s *fakeServer) { s.silent = true })
		for i := range 2 {
			if got, took := timed(t, g); got != "NOERROR "+ip2 || took < minWait {
				t.Errorf("query %d: got %q in %v, want the second server, after waiting for the first", i, got, took)
			}
		}
		if s := g.Stats(); s[0].Up || !s[1].Up {
			t.Errorf("after two fails: up %t, %t, want false, true", s[0].Up, s[1].Up)
		}
		seen := one.seen()
		for i := range 5 {
			if got, took := timed(t, g); got != "NOERROR "+ip2 || took != 0 {
				t.Errorf("query %d while it is down: got %q in %v, want the second server at once", i, got, took)
			}
		}
		<-time.After(10 * time.Second)
		if probes := one.seen() - seen; probes < 9 || probes > 11 {
			t.Errorf("%d probes in 10s, want one a second", probes)
		}
		if two.seen() != 7 {
			t.Errorf("the server that is up saw %d queries, want 7: no probes", two.seen())
		}
		one.set(func(s *fakeServer) { s.silent = false })
		<-time.After(1100 * time.Millisecond)
		if !g.Stats()[0].Up {
			t.Errorf("down 1.1s after it came back")
		}
		if got, _ := timed(t, g); got != "NOERROR "+ip1 {
			t.Errorf("after it came back: got %q, want the first server", got)
		}
		seen = one.seen()
		<-time.After(time.Minute)
		if one.seen() != seen {
			t.Errorf("probed while up")
		}
	})
}

func TestAllDown(t *testing.T) {
	for _, tt := range []struct {
		allDown string
		down    string // what a query gets while all are down
		up      string // and once one came back, before a probe has seen it
	}{{"spray", ErrTimeout.Error(), "NOERROR " + ip1}, {"fail", ErrDown.Error(), ErrDown.Error()}} {
		t.Run(tt.allDown, func(t *testing.T) {
			n := newFakeNet(ip1)
			one := n.server(ip1)
			one.set(func(s *fakeServer) { s.silent = true })
			bubble(t, n, Config{Servers: []string{ip1}, AllDown: tt.allDown, HealthCheck: time.Minute}, func(t *testing.T, g *Group) {
				timed(t, g)
				<-time.After(2 * time.Second) // the first probe has failed, the next is in a minute
				if got, _ := timed(t, g); got != tt.down {
					t.Errorf("down: got %q, want %q", got, tt.down)
				}
				one.set(func(s *fakeServer) { s.silent = false })
				if got, _ := timed(t, g); got != tt.up {
					t.Errorf("back: got %q, want %q", got, tt.up)
				}
				<-time.After(time.Minute)
				if got, _ := timed(t, g); got != "NOERROR "+ip1 {
					t.Errorf("probed: got %q, want an answer", got)
				}
			})
		})
	}
}

func TestHealthyRCODEs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		healthy []string
		up      bool
	}{{"any", nil, true}, {"not SERVFAIL", []string{"NOERROR", "NXDOMAIN"}, false}} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			one := n.server(ip1)
			one.set(func(s *fakeServer) {
				s.answer = func(query []byte) [][]byte {
					msg := answer(query, ip1)
					msg[3] |= message.SERVFAIL
					return [][]byte{msg}
				}
			})
			bubble(t, n, Config{Servers: []string{ip1, ip2}, Policy: "sequential", HealthyRCODEs: tt.healthy}, func(t *testing.T, g *Group) {
				for range 2 {
					if got, _ := timed(t, g); got != "SERVFAIL "+ip1 {
						t.Errorf("got %q, want SERVFAIL as it is", got)
					}
				}
				<-time.After(5 * time.Second)
				if up := g.Stats()[0].Up; up != tt.up {
					t.Errorf("up %t, want %t", up, tt.up)
				}
				one.set(func(s *fakeServer) { s.answer = nil })
				<-time.After(2 * time.Second)
				if !g.Stats()[0].Up {
					t.Errorf("down after it recovered")
				}
			})
		})
	}
}

func TestMaxConcurrent(t *testing.T) {
	for _, tt := range []struct{ over, want string }{{"refused", "REFUSED"}, {"stale", ErrBusy.Error()}} {
		t.Run(tt.over, func(t *testing.T) {
			n := newFakeNet(ip1)
			n.server(ip1).set(func(s *fakeServer) { s.delay = 100 * time.Millisecond })
			bubble(t, n, Config{Servers: []string{ip1}, MaxConcurrent: 2, OverLimit: tt.over}, func(t *testing.T, g *Group) {
				answers := make(chan string)
				for range 2 {
					go func() { answers <- askName(t, g, "www.test.") }()
				}
				<-time.After(50 * time.Millisecond)
				q := query(t, "www.test.", message.TypeA)
				if got := ask(t, g, q); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if r, err := g.Resolve(t.Context(), q, nil); err == nil && (message.EDECode(r.EDE) != message.EDEOther || !r.Silent) {
					t.Errorf("EDE %d, silent %t, want 0 and true", message.EDECode(r.EDE), r.Silent)
				}
				for range 2 {
					if got := <-answers; got != "NOERROR "+ip1 {
						t.Errorf("within the limit: got %q", got)
					}
				}
				if got := askName(t, g, "www.test."); got != "NOERROR "+ip1 {
					t.Errorf("when there is room again: got %q", got)
				}
			})
		})
	}
}

// TestMaxConcurrentAcrossReload: queries that wait for the group of the same name before a reload take room in max_concurrent, until they have ended.
func TestMaxConcurrentAcrossReload(t *testing.T) {
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) { s.delay = 100 * time.Millisecond })
	metrics := NewMetrics(nil)
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { <-time.After(time.Minute) })
		config := Config{Servers: []string{ip1}, MaxConcurrent: 2}
		after := group(t, config, Env{Dial: n.dial, Metrics: metrics})
		before, err := New("test", config, Env{Dial: n.dial, Metrics: metrics})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- before.Run(ctx) }()
		answers := make(chan string)
		for range 2 {
			go func() { answers <- askName(t, before, "www.test.") }()
		}
		<-time.After(50 * time.Millisecond)
		if got := askName(t, after, "www.test."); got != "REFUSED" {
			t.Errorf("while the queries of before wait: got %q, want REFUSED", got)
		}
		for range 2 {
			if got := <-answers; got != "NOERROR "+ip1 {
				t.Errorf("before: got %q", got)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := askName(t, after, "www.test."); got != "NOERROR "+ip1 {
			t.Errorf("when they have ended: got %q", got)
		}
	})
}

// TestSources takes an address from the host, and gives it back.
func TestSources(t *testing.T) {
	n := newFakeNet(ip1)
	one := n.server(ip1)
	c := Config{Servers: []string{ip1}, Sources: []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"}}
	bubble(t, n, c, func(t *testing.T, g *Group) {
		asked := func() (first, second int) {
			one.set(func(s *fakeServer) { s.sources = nil })
			for range 40 * socketUses {
				if got := askName(t, g, "www.test."); got != "NOERROR "+ip1 {
					t.Fatalf("got %q, want an answer", got)
				}
			}
			one.set(func(s *fakeServer) {
				for _, source := range s.sources {
					switch source.String() {
					case c.Sources[0]:
						first++
					case c.Sources[1]:
						second++
					default:
						t.Errorf("asked from %s", source)
					}
				}
			})
			return first, second
		}
		if first, second := asked(); first == 0 || second == 0 {
			t.Errorf("asked %d and %d times from the two, want some from each", first, second)
		}
		n.mu.Lock()
		n.removed[g.dialer.sources[0].addr] = true
		n.mu.Unlock()
		<-time.After(2 * socketAge)
		if first, second := asked(); first != 0 || second == 0 {
			t.Errorf("first removed: asked %d and %d times from the two, want none and all", first, second)
		}
		n.mu.Lock()
		clear(n.removed)
		n.mu.Unlock()
		<-time.After(2 * sourceRest)
		if first, second := asked(); first == 0 || second == 0 {
			t.Errorf("first is back: asked %d and %d times from the two, want some from each", first, second)
		}
	})
}

// noEDNS is a server of old: queries with an OPT get FORMERR, without one.
func noEDNS(query []byte) [][]byte {
	if query[11] == 0 {
		return [][]byte{answer(query, ip1)}
	}
	msg := slices.Clone(query[:26]) // header and question
	msg[2], msg[3], msg[11] = 0x80, message.FORMERR, 0
	return [][]byte{msg}
}

// TestRFC6891Fallback: a server that can't do EDNS is asked without, and the others go on with it (section 6.2.2).
func TestRFC6891Fallback(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			n := newFakeNet(ip1)
			one := n.server(ip1)
			one.set(func(s *fakeServer) { s.answer = noEDNS })
			bubble(t, n, Config{Servers: []string{ip1}, Transport: transport}, func(t *testing.T, g *Group) {
				for i, want := range []int{2, 3, 4} {
					if got, _ := timed(t, g); got != "NOERROR "+ip1 || one.seen() != want {
						t.Errorf("query %d: got %q after %d queries, want an answer after %d", i, got, one.seen(), want)
					}
				}
				<-time.After(quirkMemory)
				if timed(t, g); one.seen() != 6 {
					t.Errorf("after 10 minutes: %d queries, want 6, with EDNS again", one.seen())
				}
			})
		})
	}
	t.Run("FORMERR either way", func(t *testing.T) {
		n := newFakeNet(ip1)
		n.server(ip1).set(func(s *fakeServer) {
			s.answer = func(query []byte) [][]byte {
				msg := slices.Clone(query[:26])
				msg[2], msg[3], msg[11] = 0x80, message.FORMERR, 0
				return [][]byte{msg}
			}
		})
		bubble(t, n, Config{Servers: []string{ip1}}, func(t *testing.T, g *Group) {
			if got, _ := timed(t, g); got != "FORMERR" || n.server(ip1).seen() != 2 || g.Stats()[0].NoEDNS {
				t.Errorf("got %q after %d queries, NoEDNS %t, want FORMERR, 2, false", got, n.server(ip1).seen(), g.Stats()[0].NoEDNS)
			}
		})
	})
	t.Run("FORMERR, then silence", func(t *testing.T) {
		n := newFakeNet(ip1)
		n.server(ip1).set(func(s *fakeServer) {
			s.answer = func(query []byte) [][]byte {
				if query[11] == 0 {
					return nil
				}
				return noEDNS(query)
			}
		})
		bubble(t, n, Config{Servers: []string{ip1}}, func(t *testing.T, g *Group) {
			if got, took := timed(t, g); got != "FORMERR" || took > budget {
				t.Errorf("got %q in %v, want the FORMERR within the budget", got, took)
			}
		})
	})
}

// TestExpire looks at the number of connections: a query may wait, an idle one goes.
func TestExpire(t *testing.T) {
	n := newFakeNet(ip1)
	bubble(t, n, Config{Servers: []string{ip1}, Transport: "tcp", Expire: 10 * time.Second}, func(t *testing.T, g *Group) {
		for range 3 {
			timed(t, g)
			<-time.After(9 * time.Second)
			if got := g.Stats()[0].Connections; got != 1 {
				t.Errorf("%d connections after 9s, want 1", got)
			}
		}
		<-time.After(2 * time.Second)
		if got := g.Stats()[0].Connections; got != 0 {
			t.Errorf("%d connections after 11s, want none", got)
		}
		if got, _ := timed(t, g); got != "NOERROR "+ip1 {
			t.Errorf("then: got %q, want an answer", got)
		}
	})
}

// TestSocketsExpire looks at the sockets that are kept.
func TestSocketsExpire(t *testing.T) {
	n := newFakeNet(ip1)
	bubble(t, n, Config{Servers: []string{ip1}}, func(t *testing.T, g *Group) {
		timed(t, g)
		idle := func() bool { return len((*g.servers.Load())[0].sockets.all(false)) > 0 }
		if !idle() {
			t.Errorf("the socket of an answered query is not kept")
		}
		<-time.After(2*socketAge + time.Second)
		if idle() {
			t.Errorf("an idle socket is kept for more than %v", 2*socketAge)
		}
	})
}

func TestTrace(t *testing.T) {
	n := newFakeNet(ip1, ip2)
	n.server(ip1).set(func(s *fakeServer) { s.silent = true })
	bubble(t, n, Config{Servers: []string{ip1, ip2}, Policy: "sequential"}, func(t *testing.T, g *Group) {
		q := query(t, "www.test.", message.TypeA)
		q.Trace, q.Deadline = new(message.Trace), time.Now().Add(budget)
		ask(t, g, q)
		want := []message.Step{
			{Event: "query", Server: "192.0.2.1:53", Text: "192.0.2.1:53 over udp, try 1, 1.8s left"},
			{Event: "failure", Server: "192.0.2.1:53", Text: "192.0.2.1:53 over udp: no response in 150ms", Took: 150 * time.Millisecond},
			{Event: "query", Server: "192.0.2.2:53", Text: "192.0.2.2:53 over udp, try 2, 1.65s left"},
			{Event: "response", Server: "192.0.2.2:53", Text: "192.0.2.2:53 over udp: NOERROR, 61 octets, in 0s", RCODE: "NOERROR", Octets: 61},
		}
		for i := range want {
			want[i].Part, want[i].Over, want[i].Time = "upstream test", "udp", time.Now()
		}
		want[0].Time = time.Now().Add(-150 * time.Millisecond)
		if !slices.Equal(q.Trace.Steps, want) {
			t.Errorf("trace\n%+v, want\n%+v", q.Trace.Steps, want)
		}
	})
}
