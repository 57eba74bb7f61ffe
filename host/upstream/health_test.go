package upstream

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFlapping has a server respond, or not, in turn: what it takes to be up again grows, and so few lines are logged.
func TestFlapping(t *testing.T) {
	const length = 10 * time.Minute
	n := newFakeNet(ip1)
	one := n.server(ip1)
	synctest.Test(t, func(t *testing.T) {
		var log logged
		g := group(t, Config{Servers: []string{ip1}, MaxFails: 1}, Env{Dial: n.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
		t.Cleanup(func() { <-time.After(time.Minute) }) // in which the servers see that their connections are closed
		for start := time.Now(); time.Since(start) < length; {
			one.set(func(s *fakeServer) { s.lose = 1 })
			if got, _ := timed(t, g); got != "NOERROR "+ip1 {
				t.Fatalf("got %q, want the answer to the second packet", got)
			}
			<-time.After(50 * time.Millisecond)
		}
		// Once without a hold, then 1, 2, 4, 8 s, and 16 s ever after, each with a line for down and one for up.
		most := 2 * (6 + int(length/maxHold))
		if lines := strings.Count(log.String(), "\n"); lines < 10 || lines > most {
			t.Errorf("%d lines in %v, want some, and at most %d", lines, length, most)
		}
		if !strings.Contains(log.String(), "for_at_least="+maxHold.String()) {
			t.Errorf("the log does not say how long it stays down:\n%s", log.String())
		}
		<-time.After(maxHold + calm)
		if s := g.Stats()[0]; !s.Up {
			t.Errorf("down although it has been well for a minute")
		}
		one.set(func(s *fakeServer) { s.lose = 1 })
		timed(t, g)
		<-time.After(2 * time.Second)
		if s := g.Stats()[0]; !s.Up {
			t.Errorf("down for more than the time of a probe, although it was calm for long")
		}
	})
}

// truncating responds to all queries over UDP with TC.
func truncating(query []byte) [][]byte {
	msg := answer(query, ip1)
	msg[2] |= 2
	return [][]byte{msg}
}

// TestTruncatesWithoutTCP: a server that truncates over UDP and refuses TCP is up, and known to have no TCP: what it truncates goes to another server
// at once, and to it again when there is none. There is a line in the log when that shows, and one when it is over.
func TestTruncatesWithoutTCP(t *testing.T) {
	for _, tt := range []struct {
		name    string
		servers []string
		want    string
	}{
		{"alone", []string{ip1}, ErrTruncated.Error()},
		{"with another", []string{ip1, ip2}, "NOERROR " + ip2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			one := n.server(ip1)
			one.set(func(s *fakeServer) { s.answer, s.noTCP = truncating, true })
			synctest.Test(t, func(t *testing.T) {
				var log logged
				g := group(t, Config{Servers: tt.servers, Policy: "sequential"}, Env{Dial: n.dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
				t.Cleanup(func() { <-time.After(time.Minute) })
				for i := range 500 {
					if got, _ := timed(t, g); got != tt.want {
						t.Fatalf("query %d: got %q, want %q", i, got, tt.want)
					}
					<-time.After(20 * time.Millisecond)
				}
				if s := g.Stats()[0]; !s.Up || !s.NoTCP {
					t.Errorf("up %t, without TCP %t; want both", s.Up, s.NoTCP)
				}
				if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "does not respond over TCP") {
					t.Errorf("want one line about TCP, got\n%s", log.String())
				}
				one.set(func(s *fakeServer) {
					// Two until it is known, and then probes; some may be tried twice, where one is refused before it is used.
					if len(tt.servers) > 1 && s.streams > 20 {
						t.Errorf("%d connections tried for 500 queries, want some", s.streams)
					}
					s.noTCP, s.answer = false, nil
				})
				<-time.After(2 * tcpCheck * time.Second)
				if s := g.Stats()[0]; !s.Up || s.NoTCP {
					t.Errorf("when TCP is back: up %t, without TCP %t; want the first", s.Up, s.NoTCP)
				}
				if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "responds over TCP again") {
					t.Errorf("want one more line, got\n%s", log.String())
				}
			})
		})
	}
}

// TestTCPProbesAreApart: probes over TCP that fail do not make a server go down that is not asked anything else meanwhile.
func TestTCPProbesAreApart(t *testing.T) {
	n := newFakeNet(ip1)
	n.server(ip1).set(func(s *fakeServer) { s.answer, s.noTCP = truncating, true })
	bubble(t, n, Config{Servers: []string{ip1}}, func(t *testing.T, g *Group) {
		for range 2 {
			timed(t, g)
		}
		<-time.After(5 * time.Minute)
		if s := g.Stats()[0]; !s.Up || !s.NoTCP {
			t.Errorf("up %t, without TCP %t; want both", s.Up, s.NoTCP)
		}
		if got := n.server(ip1).seen(); got > 6 {
			t.Errorf("it saw %d queries over UDP, want those of two queries", got)
		}
	})
}
