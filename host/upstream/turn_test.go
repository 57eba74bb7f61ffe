package upstream

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/weirdns/weir/host/message"
)

// tc makes of an answer one that says TC and no more.
func tc(query []byte) []byte {
	m := answer(query, ip1)
	m[2] |= message.FlagTC >> 8
	return m[:12+10+4] // the question for www.test
}

// counts makes the header of a message without records count none.
func counts(m []byte) []byte {
	clear(m[6:12])
	return m
}

// The second of two servers is well, and answers whatever the first does in its time: what that one says has it asked over TCP, where it says nothing, or nothing
// that matches; and when many responses of the first do not match, that is no reason to give up the query that waits for the second.
func TestTurn(t *testing.T) {
	const ms = time.Millisecond
	type server = *fakeServer
	silentTCP := func(end net.Conn, _ int) { _, _ = io.Copy(io.Discard, end) }
	truncates := func(s server) {
		s.answer = func(query []byte) [][]byte { return [][]byte{counts(tc(query))} }
		s.stream = silentTCP
	}
	lies := func(s server) {
		s.answer = func(query []byte) (wrong [][]byte) {
			for range maxMismatches {
				m := answer(query, ip1)
				m[1] ^= 1
				wrong = append(wrong, m)
			}
			return wrong
		}
		s.stream = silentTCP
	}
	// guessed sends what does not match, and then what would if it had been guessed; the truth is over TCP.
	guessed := func(s server) {
		s.answer = func(query []byte) [][]byte {
			wrong := answer(query, "192.0.2.66")
			wrong[1] ^= 1
			return [][]byte{wrong, answer(query, "192.0.2.66")}
		}
		s.stream = func(end net.Conn, _ int) {
			frames(end, func(query []byte) { _, _ = end.Write(frame(answer(query, ip2))) })
		}
		s.delay = 30 * ms
	}
	breaks := func(s server) {
		s.stream = func(end net.Conn, nth int) {
			if nth == 1 {
				_, _ = readMessage(end, nil)
				return
			}
			silentTCP(end, nth)
		}
	}
	for _, tt := range []struct {
		name      string
		transport string
		rtt       time.Duration // of the first, as far as it is known
		one       func(s server)
		two       func(s server)
		took      time.Duration
	}{
		{name: "truncated, and silent over TCP", one: truncates, took: 150 * ms},
		{name: "slow before, then truncated, and silent over TCP", rtt: 700 * ms, one: truncates, took: budget / 3},
		{name: "slow before, then lies", rtt: 700 * ms, one: lies, took: budget / 3},
		{name: "lies late, while the second is waited for", one: func(s server) { lies(s); s.delay = 160 * ms }, two: func(s server) { s.delay = 30 * ms }, took: 180 * ms},
		{name: "lies late, and somebody guesses at the second", one: func(s server) { lies(s); s.delay = 160 * ms }, two: guessed, took: 180 * ms},
		{name: "slow before, then breaks the connection, and silent on the next", transport: "tcp", rtt: 700 * ms, one: breaks, took: budget / 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1, ip2)
			n.server(ip1).set(tt.one)
			if tt.two != nil {
				n.server(ip2).set(tt.two)
			}
			c := Config{Servers: []string{ip1, ip2}, Transport: tt.transport, Policy: "sequential", MaxFails: -1}
			bubble(t, n, c, func(t *testing.T, g *Group) {
				(*g.servers.Load())[0].rtt.Store(int64(tt.rtt))
				got, took := timed(t, g)
				if want := "NOERROR " + ip2; got != want || took != tt.took {
					t.Errorf("got %q in %v, want %q in %v", got, took, want, tt.took)
				}
			})
		})
	}
}

// A server that was fast to open connections and is slow now, since it is busy or further away, is given more time: at once for the queries that wait, and for those
// after them.
func TestDialGetsSlower(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		opening time.Duration
		want    []string        // of queries, 20 s apart
		took    []time.Duration // by them
	}{
		{"within what it is given", 290 * ms, []string{"NOERROR " + ip1, "NOERROR " + ip1}, []time.Duration{290 * ms, 290 * ms}},
		{"a little slower", 350 * ms, []string{"NOERROR " + ip1, "NOERROR " + ip1}, []time.Duration{650 * ms, 350 * ms}},
		{"much slower", 950 * ms, []string{ErrTimeout.Error(), "NOERROR " + ip1}, []time.Duration{budget, 950 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFakeNet(ip1)
			bubble(t, n, Config{Servers: []string{ip1}, Transport: "tcp", MaxFails: -1}, func(t *testing.T, g *Group) {
				if got, took := timed(t, g); got != "NOERROR "+ip1 || took != 0 {
					t.Fatalf("at first: got %q in %v, want an answer at once", got, took)
				}
				n.server(ip1).set(func(s *fakeServer) { s.opening = tt.opening })
				for i, want := range tt.want {
					<-time.After(20 * time.Second) // in which the connection is closed
					if got, took := timed(t, g); got != want || took != tt.took[i] {
						t.Errorf("query %d: got %q in %v, want %q in %v", i, got, took, want, tt.took[i])
					}
				}
			})
		})
	}
}
