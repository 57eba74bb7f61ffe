package upstream

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

// comesBack has s ask g what it is asked, as a server that forwards to weir does, and pass the response on. The question that waits already is not
// asked again: the cache in front of a group sees to that, whose flight it would wait for.
func comesBack(t *testing.T, s *fakeServer, g *Group, mangle func(name []byte)) {
	s.set(func(s *fakeServer) {
		s.answer = func(msg []byte) [][]byte {
			q := new(message.Query)
			if rcode, ok := q.Parse(msg); !ok {
				t.Errorf("a query that is not one: RCODE %d", rcode)
				return nil
			}
			if strings.HasPrefix(string(q.Key), "\x03www\x04test") {
				return nil
			}
			if mangle != nil {
				mangle(msg[12 : 12+len(q.Name)])
				q.Parse(msg)
			}
			if response := through(t, g, msg); response != nil {
				return [][]byte{response}
			}
			return nil
		}
	})
}

// through is what a server answers that has asked g what it was asked; nil if nothing came of it.
func through(t *testing.T, g *Group, msg []byte) []byte {
	q := new(message.Query)
	if _, ok := q.Parse(msg); !ok {
		t.Errorf("a query that is not one: %x", msg)
		return nil
	}
	r, err := g.Resolve(t.Context(), q, nil)
	if err != nil {
		return nil
	}
	binary.BigEndian.PutUint16(r.Message, q.ID)
	return r.Finish(q, 1232)
}

// TestForwardingLoop: a server forwards to weir. The query ends with an error that says so, after the time of one try and a moment of grace, and goes to
// another server at once if there is one.
func TestForwardingLoop(t *testing.T) {
	for _, tt := range []struct {
		name    string
		servers []string
		mangle  func(name []byte)
		want    string
		most    time.Duration
		packets int
	}{
		{"alone", []string{ip1}, nil, ErrLoop.Error(), minWait + maxGrace, 3}, // two tries and the probe
		{"in another case", []string{ip1}, func(name []byte) {
			for i, c := range name {
				if c >= 'a' && c <= 'z' {
					name[i] = c - 0x20
				}
			}
		}, ErrLoop.Error(), minWait + maxGrace, 4}, // and the probe once more over TCP
		{"the zone rewritten", []string{ip1}, func(name []byte) { name[len(name)-2] = 'x' }, ErrLoop.Error(), minWait + maxGrace, 3},
		{"with another", []string{ip1, ip2}, nil, "NOERROR " + ip2, minWait, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			synctest.Test(t, func(t *testing.T) {
				var log logged
				g := group(t, Config{Servers: tt.servers, Policy: "sequential", MaxFails: -1}, Env{Dial: n.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
				t.Cleanup(func() { <-time.After(time.Minute) })
				comesBack(t, n.server(ip1), g, tt.mangle)
				for i := range 3 {
					q := query(t, "www.test.", message.TypeA)
					q.Trace, q.Deadline = new(message.Trace), time.Now().Add(budget)
					start, before := time.Now(), packets(n.server(ip1))
					if got := ask(t, g, q); got != tt.want {
						t.Errorf("query %d: got %q, want %q", i, got, tt.want)
					}
					if took := time.Since(start); took > tt.most {
						t.Errorf("query %d took %v, want %v at most", i, took, tt.most)
					}
					synctest.Wait()
					if seen := packets(n.server(ip1)) - before; seen > tt.packets {
						t.Errorf("query %d: %d packets to the server, want %d at most", i, seen, tt.packets)
					}
					if tt.want == ErrLoop.Error() && !strings.Contains(trail(q.Trace), errCameBack.Error()) {
						t.Errorf("query %d: the trace does not say that it is a loop:\n%s", i, trail(q.Trace))
					}
				}
				if lines := strings.Count(log.String(), "forwarding loop"); lines != 1 || !strings.Contains(log.String(), ip1) {
					t.Errorf("want one line that names the server, got\n%s", log.String())
				}
				<-time.After(2 * probeTimeout)
				if g.loopProbes.Load() != 0 {
					t.Errorf("%d probes are left", g.loopProbes.Load())
				}
			})
		})
	}
}

// packets returns how many s got.
func packets(s *fakeServer) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queries) + s.probes
}

// trail is the text of a trace.
func trail(trace *message.Trace) string {
	var b strings.Builder
	for _, s := range trace.Steps {
		b.WriteString(s.Text + "\n")
	}
	return b.String()
}

// TestLoopProbesAreFew: a server that says nothing, or whose answers are slow, gets one probe in 5 s, whatever it says to that, and is no worse off for it.
func TestLoopProbesAreFew(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(s *fakeServer)
		want string
	}{
		{"silent", func(s *fakeServer) { s.silent = true }, ErrTimeout.Error()},
		{"slow", func(s *fakeServer) { s.delay = 400 * time.Millisecond }, "NOERROR " + ip1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			n.server(ip1).set(tt.set)
			bubble(t, n, Config{Servers: []string{ip1}, MaxFails: -1}, func(t *testing.T, g *Group) {
				start := time.Now()
				for time.Since(start) < time.Minute {
					(*g.servers.Load())[0].rtt.Store(0) // so that each query is overdue again
					if got, _ := timed(t, g); got != tt.want {
						t.Fatalf("got %q, want %q", got, tt.want)
					}
				}
				synctest.Wait()
				n.server(ip1).set(func(s *fakeServer) {
					if most := int(time.Since(start)/loopInterval) + 1; s.probes < 2 || s.probes > most {
						t.Errorf("%d probes in %v, want 2 to %d", s.probes, time.Since(start), most)
					}
				})
			})
		})
	}
}

// TestLoopProbesOfOthers: what another weir has a server probed with is passed on to it, and not probed, also where loops are known.
func TestLoopProbesOfOthers(t *testing.T) {
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) { s.silent = true })
	bubble(t, n, Config{Servers: []string{ip1}, MaxFails: -1}, func(t *testing.T, g *Group) {
		www := query(t, "www.test.", message.TypeA)
		for _, tt := range []struct {
			name string
			q    *message.Query
			want int // packets
		}{
			{"a probe", &newLoopProbe(www).query, maxTries},
			{"another query", www, maxTries + 1},
		} {
			for _, wary := range []bool{false, true} {
				g.looping.Store(0)
				if wary {
					g.looping.Store(int64(due.At(time.Now().Add(loopWary))))
				}
				before := packets(n.server(ip1))
				if got := ask(t, g, tt.q); got != ErrTimeout.Error() {
					t.Errorf("%s: got %q, want %q", tt.name, got, ErrTimeout)
				}
				<-time.After(loopInterval)
				synctest.Wait()
				if seen := packets(n.server(ip1)) - before; seen != tt.want {
					t.Errorf("%s, wary %t: %d packets to the server, want %d", tt.name, wary, seen, tt.want)
				}
			}
		}
	})
}

// TestLoopProbeIsNoSample: how long a probe takes is no round trip time, so that it does not matter for the next try whether a probe is answered before it.
func TestLoopProbeIsNoSample(t *testing.T) {
	n := newFakeNet(ip1)
	one := n.server(ip1)
	one.set(func(s *fakeServer) { s.lose = 2 })
	bubble(t, n, Config{Servers: []string{ip1}, MaxFails: -1}, func(t *testing.T, g *Group) {
		go timed(t, g)
		<-time.After(minWait + minGrace)
		synctest.Wait()
		one.set(func(s *fakeServer) {
			if s.probes != 1 {
				t.Fatalf("%d probes, want one, of the try that is overdue", s.probes)
			}
		})
		if rtt := time.Duration((*g.servers.Load())[0].rtt.Load()); rtt != minWait {
			t.Errorf("a round trip time of %v, want the %v that were waited", rtt, minWait)
		}
		<-time.After(budget)
	})
}

// TestLoopProbeIsSecret: who does not know the name of the probe that is on its way can't have weir believe in a loop, and no such name is used twice.
func TestLoopProbeIsSecret(t *testing.T) {
	seen := make(map[[loopSecret]byte]bool)
	q := query(t, "www.test.", message.TypeA)
	var d loopDetector
	for range 100 {
		p := newLoopProbe(q)
		p.exchange = new(exchange)
		if !d.begin(p) || d.begin(newLoopProbe(q)) {
			t.Fatalf("want exactly one probe")
		}
		var secret [loopSecret]byte
		copy(secret[:], p.label[len(p.label)-loopSecret:])
		if seen[secret] {
			t.Fatalf("%q: twice", p.label)
		}
		seen[secret] = true
		for i := range 3 {
			if ours, x := d.heard(&p.query, time.Now()); !ours || (x == p.exchange) != (i == 0) {
				t.Errorf("time %d: ours %t, exchange %p; want it known, and its exchange once", i, ours, x)
			}
		}
		for name, other := range map[string]*message.Query{"another": &newLoopProbe(q).query, "the question itself": q, "the root": query(t, ".", message.TypeNS)} {
			if ours, _ := d.heard(other, time.Now()); ours {
				t.Errorf("known by the name of %s", name)
			}
		}
		d.probe = nil
	}
	long := query(t, strings.Repeat(strings.Repeat("a", 62)+".", 3)+strings.Repeat("b", 40)+".", message.TypeA)
	if newLoopProbe(long) != nil {
		t.Errorf("a name of more than 255 octets")
	}
}

// TestForwardingLoopWithoutCache: where no cache is in front of the group, nothing holds back the question that waits already when it comes back, so that it goes round.
// A probe ends that: when the first is overdue, or, if rounds are fast, when half of the room is taken. From then on the server is probed at once, so that a query makes four packets at
// most and ends with an error that says why, and one that is known to go round makes none. Nothing is left behind, and a moment after the loop is gone the server answers.
func TestForwardingLoopWithoutCache(t *testing.T) {
	const room = 40 // queries that may wait for the group
	for _, tt := range []struct {
		name  string
		delay time.Duration // of the server
		first int           // packets that the first query may make
	}{
		{"fast", time.Millisecond, room},
		{"slow", 20 * time.Millisecond, 16}, // one in 20 ms until the first is overdue, and what that leads to
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			synctest.Test(t, func(t *testing.T) {
				g := group(t, Config{Servers: []string{ip1}, MaxFails: -1, MaxConcurrent: room}, Env{Dial: n.dial, Log: slog.New(slog.DiscardHandler)})
				t.Cleanup(func() { <-time.After(time.Minute) })
				s := n.server(ip1)
				s.set(func(s *fakeServer) {
					s.forward = func(msg []byte) []byte {
						<-time.After(tt.delay)
						return through(t, g, msg)
					}
				})
				asked := func(name string, most int) {
					t.Helper()
					q := query(t, name, message.TypeA)
					q.Trace, q.Deadline = new(message.Trace), time.Now().Add(budget)
					start, before := time.Now(), packets(s)
					got := ask(t, g, q)
					if took := time.Since(start); got != ErrLoop.Error() || took > time.Second {
						t.Errorf("%s: got %q in %v, want %q within a second", name, got, took, ErrLoop)
					}
					if !strings.Contains(trail(q.Trace), errCameBack.Error()) {
						t.Errorf("%s: the trace does not say that it is a loop:\n%s", name, trail(q.Trace))
					}
					<-time.After(budget) // what is still on its way
					synctest.Wait()
					if seen := packets(s) - before; seen > most {
						t.Errorf("%s: %d packets to the server, want %d at most", name, seen, most)
					}
					if left := g.waiting.Load(); left != 0 {
						t.Errorf("%s: %d queries still wait", name, left)
					}
				}
				asked("www.test.", tt.first)
				asked("www.test.", 0)
				for _, name := range []string{"other.test.", "third.test.", "www.test."} {
					asked(name, 4)
				}
				s.set(func(s *fakeServer) { s.forward = nil })
				<-time.After(loopMemory)
				if got, _ := timed(t, g); got != "NOERROR "+ip1 {
					t.Errorf("without the loop: got %q, want an answer", got)
				}
			})
		})
	}
}

// TestLoopOfOneName: a server that forwards one name to weir is not asked that for a moment, which is counted, and everything else as before, so that neither a zone of
// its own making nor somebody who sends back a probe that he has seen can take it away from others.
func TestLoopOfOneName(t *testing.T) {
	n := newFakeNet(ip1)
	synctest.Test(t, func(t *testing.T) {
		g := group(t, Config{Servers: []string{ip1}}, Env{Dial: n.dial, Log: slog.New(slog.DiscardHandler)})
		t.Cleanup(func() { <-time.After(time.Minute) })
		s := n.server(ip1)
		s.set(func(s *fakeServer) {
			s.forward = func(msg []byte) []byte {
				if !strings.Contains(string(msg), "\x06around\x04test") {
					return answer(msg, ip1)
				}
				<-time.After(20 * time.Millisecond)
				return through(t, g, msg)
			}
		})
		if got := ask(t, g, query(t, "around.test.", message.TypeA)); got != ErrLoop.Error() {
			t.Errorf("got %q, want %q", got, ErrLoop)
		}
		<-time.After(budget)
		failures, before := testutil.ToFloat64((*g.servers.Load())[0].metrics.failures[causeLoop]), packets(s)
		for _, tt := range []struct {
			name, want string
			qtype      uint16
		}{
			{"around.test.", ErrLoop.Error(), message.TypeA},
			{"www.test.", "NOERROR " + ip1, message.TypeA},
			{"test.", "NOERROR " + ip1, message.TypeA},
		} {
			start := time.Now()
			if got := ask(t, g, query(t, tt.name, tt.qtype)); got != tt.want || !time.Now().Equal(start) {
				t.Errorf("%s: got %q after %v, want %q at once", tt.name, got, time.Since(start), tt.want)
			}
		}
		synctest.Wait()
		if got := testutil.ToFloat64((*g.servers.Load())[0].metrics.failures[causeLoop]) - failures; got != 1 {
			t.Errorf("%v failures are counted, want 1", got)
		}
		if seen := packets(s) - before; seen != 3 {
			t.Errorf("%d packets to the server, want those of two queries and a probe", seen)
		}
		if !g.Stats()[0].Up {
			t.Errorf("the server is down")
		}
	})
}

// TestLoopNamesAreFew: what is remembered of loops is bounded, and the last ones are.
func TestLoopNamesAreFew(t *testing.T) {
	var d loopDetector
	now := time.Now()
	for i := range 3 * loopNames {
		q := query(t, fmt.Sprintf("www%d.test.", i), message.TypeA)
		d.remember(newLoopProbe(q), now)
		if !d.knows(q, now) || d.knows(q, now.Add(loopMemory)) {
			t.Errorf("%d: want it known, and only for %v", i, loopMemory)
		}
		if q.Type = message.TypeAAAA; d.knows(q, now) {
			t.Errorf("%d: another type is known", i)
		}
	}
	if len(d.known) != loopNames {
		t.Errorf("%d names are known, want %d", len(d.known), loopNames)
	}
}
