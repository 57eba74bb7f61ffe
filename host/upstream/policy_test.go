package upstream

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// policyGroup makes a group of n servers that nobody asks.
func policyGroup(t *testing.T, policy string, n int) (*Group, []*server) {
	t.Helper()
	c := Config{Policy: policy}
	for i := range n {
		c.Servers = append(c.Servers, fmt.Sprintf("192.0.2.%d", i+1))
	}
	g, err := New("test", c, Env{})
	if err != nil {
		t.Fatal(err)
	}
	return g, *g.servers.Load()
}

// shares returns how often each server was first and second in 30000 orders.
func shares(g *Group, servers []*server, now time.Time) (first, second map[*server]float64) {
	first, second = map[*server]float64{}, map[*server]float64{}
	var r random
	const rounds = 30000
	for range rounds {
		order := g.order(nil, servers, &r, now)
		first[order[0]] += 1.0 / rounds
		if len(order) > 1 {
			second[order[1]] += 1.0 / rounds
		}
	}
	return first, second
}

func TestPolicyShares(t *testing.T) {
	now := time.Now()
	rtt := func(s *server, d time.Duration, age time.Duration) {
		s.rtt.Store(int64(d))
		s.rttAt.Store(int64(due.At(now.Add(-age))))
	}
	explored := 1.0 / exploreOneIn / 2
	tests := []struct {
		name, policy string
		prepare      func(s []*server)
		first        [3]float64
	}{
		{"random", "random", nil, [3]float64{1. / 3, 1. / 3, 1. / 3}},
		{"round_robin", "round_robin", nil, [3]float64{1. / 3, 1. / 3, 1. / 3}},
		{"sequential", "sequential", nil, [3]float64{1, 0, 0}},
		{"random, one down", "random", func(s []*server) { s[1].down.Store(true) }, [3]float64{.5, 0, .5}},
		{"round_robin, one down", "round_robin", func(s []*server) { s[1].down.Store(true) }, [3]float64{.5, 0, .5}},
		{"sequential, first down", "sequential", func(s []*server) { s[0].down.Store(true) }, [3]float64{0, 1, 0}},
		{"all down", "sequential", func(s []*server) {
			for _, s := range s {
				s.down.Store(true)
			}
		}, [3]float64{1. / 3, 1. / 3, 1. / 3}},
		{"fastest", "fastest", func(s []*server) {
			rtt(s[0], 30*time.Millisecond, 0)
			rtt(s[1], 10*time.Millisecond, 0)
			rtt(s[2], 20*time.Millisecond, 0)
		}, [3]float64{explored, 1 - 2*explored, explored}},
		{"fastest, one unknown", "fastest", func(s []*server) {
			rtt(s[0], 30*time.Millisecond, 0)
			rtt(s[1], 10*time.Millisecond, 0)
		}, [3]float64{explored, explored, 1 - 2*explored}},
		{"fastest, what is old counts less", "fastest", func(s []*server) {
			rtt(s[0], 30*time.Millisecond, 2*rttHalfLife+1)
			rtt(s[1], 10*time.Millisecond, 0)
			rtt(s[2], 20*time.Millisecond, 0)
		}, [3]float64{1 - 2*explored, explored, explored}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, servers := policyGroup(t, tt.policy, 3)
			if tt.prepare != nil {
				tt.prepare(servers)
			}
			first, _ := shares(g, servers, now)
			for i, want := range tt.first {
				// The deviation of a share of 1/3 in 30000 rounds is 0.0027.
				if got := first[servers[i]]; math.Abs(got-want) > 0.02 {
					t.Errorf("server %d was first in %.3f, want %.3f", i, got, want)
				}
			}
		})
	}
}

// TestPolicySecond: after one that fails, the others take equal parts.
func TestPolicySecond(t *testing.T) {
	g, servers := policyGroup(t, "random", 3)
	_, second := shares(g, servers, time.Now())
	for i, s := range servers {
		if got := second[s]; math.Abs(got-1./3) > 0.02 {
			t.Errorf("server %d was second in %.3f, want 0.333", i, got)
		}
	}
}

func TestRoundRobinOrder(t *testing.T) {
	g, servers := policyGroup(t, "round_robin", 3)
	var r random
	got := ""
	for range 4 {
		for _, s := range g.order(nil, servers, &r, time.Now()) {
			got += s.name[len("192.0.2.") : len("192.0.2.")+1]
		}
		got += " "
	}
	if want := "231 312 123 231 "; got != want {
		t.Errorf("orders %q, want %q", got, want)
	}
}

// TestHammer has everything happen at once, for the race detector.
func TestHammer(t *testing.T) {
	rules := "* A -> NOERROR 192.0.2.1; tc.test. TXT -> truncated; forged.test. TXT -> wrong-id; late.test. TXT -> after 5 NOERROR \"x\"; quiet.test. TXT -> silence"
	one := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: "+rules)
	two := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: "+rules)
	dead := upstreamtest.Start(t, "127.0.0.1:0 udp: * * -> silence")
	for _, transport := range []string{"auto", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			c := Config{Servers: []string{one.Addr.String(), two.Addr.String(), dead.Addr.String()}, Transport: transport, Policy: "fastest", Case: "random", HealthCheck: 10 * time.Millisecond}
			g := group(t, c, Env{})
			all := g.configured
			var asking sync.WaitGroup
			var answered atomic.Int64
			for i := range 8 {
				asking.Go(func() {
					for k := range 40 {
						name, qtype, want := "www.test.", dns.TypeA, "NOERROR 192.0.2.1"
						if k%4 == 1 {
							name, qtype, want = []string{"tc.test.", "forged.test.", "late.test.", "quiet.test."}[i%4], dns.TypeTXT, ""
						}
						q := query(t, name, qtype)
						q.Deadline = time.Now().Add(time.Second)
						if want == "" {
							q.Deadline = time.Now().Add(20 * time.Millisecond)
						}
						// On a busy machine a query may find no server in time. What must never be is another answer.
						switch got := ask(t, g, q); {
						case want == "":
						case strings.HasPrefix(got, want):
							answered.Add(1)
						case !strings.HasPrefix(got, "upstream: "):
							t.Errorf("%s: got %q, want %q", name, got, want)
						}
						g.Stats()
					}
				})
			}
			for i := range 20 { // servers come and go meanwhile
				g.setServers(all[:1+i%3])
			}
			g.setServers(all)
			asking.Wait()
			if answered.Load() == 0 {
				t.Error("no query was answered")
			}
		})
	}
}

// The only server that is up is asked twice, and then one that is down: which of them is good may have changed since.
func TestOneIsUp(t *testing.T) {
	for _, fail := range []bool{false, true} {
		servers := []*server{{name: "a"}, {name: "b"}, {name: "c"}}
		servers[0].down.Store(true)
		servers[2].down.Store(true)
		g := &Group{policy: "random", failDown: fail}
		var r random
		last := map[string]bool{}
		for range 100 {
			order := g.order(nil, servers, &r, time.Now())
			if fail {
				if len(order) != 1 || order[0].name != "b" {
					t.Fatalf("with all_down = \"fail\" got %v, want b alone", order)
				}
				continue
			}
			if len(order) < maxTries || order[0].name != "b" || order[1].name != "b" || order[2].name == "b" {
				t.Fatalf("got %v, want b, b, and one that is down", order)
			}
			last[order[2].name] = true
		}
		if !fail && len(last) != 2 {
			t.Errorf("in the end %v were asked, want a and c", last)
		}
	}
}
