package upstream

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// overdueTwice has a group ask its first server two queries at a time, which are overdue after minWait, so that it goes down.
func overdueTwice(t *testing.T, g *Group) {
	t.Helper()
	(*g.servers.Load())[0].rtt.Store(0)
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() {
			if got := askName(t, g, fmt.Sprintf("www%d.test.", i)); got != "NOERROR "+ip2 {
				t.Errorf("got %q, want the answer of the other", got)
			}
		})
	}
	both.Wait()
	if g.Stats()[0].Up {
		t.Fatal("the server is up")
	}
}

// TestLateAnswers: a server whose answers are late now and then, as on a machine that is busy, is up as soon as one comes, or a second later where it has just been down, and is
// not held down for longer each time.
func TestLateAnswers(t *testing.T) {
	n := newFakeNet(ip1, ip2)
	synctest.Test(t, func(t *testing.T) {
		var log logged
		g := group(t, Config{Servers: []string{ip1, ip2}, Policy: "sequential"}, Env{Dial: n.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
		t.Cleanup(func() { <-time.After(time.Minute) })
		one := n.server(ip1)
		for i := range 8 {
			one.set(func(s *fakeServer) { s.delay = 200 * time.Millisecond })
			overdueTwice(t, g)
			wait := 51 * time.Millisecond
			if i > 0 {
				wait += minHold + time.Second // and until the next probe
			}
			<-time.After(wait)
			if s := g.Stats()[0]; !s.Up || s.Fails != 0 || s.RTT == 0 {
				t.Errorf("time %d: it is down %v after its answers, fails %d, RTT %v", i, wait, s.Fails, s.RTT)
			}
			one.set(func(s *fakeServer) { s.delay = 0 })
			<-time.After(calm / 10)
		}
		if strings.Count(log.String(), "its answer was late") == 0 {
			t.Errorf("the log does not say that answers were late:\n%s", log.String())
		}
	})
}

// TestLateAnswerMatches: what comes late shows that a server is up if it is an answer to what was asked, and comes within the time of a probe.
func TestLateAnswerMatches(t *testing.T) {
	for _, tt := range []struct {
		name   string
		delay  time.Duration
		mangle func(msg []byte)
		up     bool
	}{
		{"the answer", 200 * time.Millisecond, func([]byte) {}, true},
		{"too late", 1100 * time.Millisecond, func([]byte) {}, false},
		{"another name", 200 * time.Millisecond, func(msg []byte) { msg[13]++ }, false},
		{"another case", 200 * time.Millisecond, func(msg []byte) { msg[13] ^= 0x20 }, false},
		{"another type", 200 * time.Millisecond, func(msg []byte) { msg[12+len("\x04www0\x04test\x00")+1]++ }, false},
		{"another ID", 200 * time.Millisecond, func(msg []byte) { msg[0]++ }, false},
		{"a query", 200 * time.Millisecond, func(msg []byte) { msg[2] &^= 0x80 }, false},
		{"not healthy", 200 * time.Millisecond, func(msg []byte) { msg[3] |= 2 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			n.server(ip1).set(func(s *fakeServer) {
				s.delay = tt.delay
				s.answer = func(query []byte) [][]byte {
					if !strings.Contains(string(query), "www") { // probes
						return nil
					}
					msg := answer(query, ip1)
					tt.mangle(msg)
					return [][]byte{msg}
				}
			})
			bubble(t, n, Config{Servers: []string{ip1, ip2}, Policy: "sequential", HealthyRCODEs: []string{"NOERROR"}}, func(t *testing.T, g *Group) {
				overdueTwice(t, g)
				<-time.After(2 * time.Second)
				if got := g.Stats()[0].Up; got != tt.up {
					t.Errorf("up: %t, want %t", got, tt.up)
				}
			})
		})
	}
}

// TestLateAnswersAreFew: what is waited for of a server that says nothing is bounded, and nothing is left of it after the time of a probe.
func TestLateAnswersAreFew(t *testing.T) {
	n := newFakeNet(ip1, ip2)
	n.server(ip1).set(func(s *fakeServer) { s.silent = true })
	bubble(t, n, Config{Servers: []string{ip1, ip2}, Policy: "sequential", MaxFails: -1}, func(t *testing.T, g *Group) {
		one := (*g.servers.Load())[0]
		var all sync.WaitGroup
		for i := range 10 * maxLate {
			all.Go(func() { askName(t, g, fmt.Sprintf("www%d.test.", i)) })
			<-time.After(time.Millisecond)
			one.rtt.Store(0)
		}
		all.Wait()
		if got := one.expected.Load(); got != maxLate {
			t.Errorf("%d dropped tries are waited for, want %d", got, maxLate)
		}
		<-time.After(probeTimeout)
		synctest.Wait()
		if got, open := one.expected.Load(), len(one.sockets.all(false)); got != 0 || open > 2*socketSlots {
			t.Errorf("%d dropped tries are waited for, on %d sockets, want none", got, open)
		}
		<-time.After(2 * socketAge)
		synctest.Wait()
		if open := len(one.sockets.all(false)); open != 0 {
			t.Errorf("%d sockets are open", open)
		}
	})
}
