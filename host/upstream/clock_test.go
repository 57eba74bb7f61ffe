package upstream

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/wallclock"
)

// jumps are what a clock may be set by.
var jumps = []struct {
	name string
	by   time.Duration
}{
	{"an hour forward", time.Hour},
	{"an hour back", -time.Hour},
	{"ten years forward", 10 * 365 * 24 * time.Hour},
	{"thirty years back", -30 * 365 * 24 * time.Hour},
}

// What is remembered about a server lasts as long as it does by the monotonic clock, whatever the wall clock is set to meanwhile.
func TestFaultX21Memory(t *testing.T) {
	for _, jump := range jumps {
		t.Run(jump.name, func(t *testing.T) {
			_, servers := policyGroup(t, "fastest", 1)
			s, now := servers[0], time.Now()
			s.observe(time.Second, now)
			x := s.group.exchange(1)
			x.query = query(t, "www.test.", dns.TypeA)
			good := &x.tries[0]
			*good = try{exchange: x, server: s, manner: manner{over: UDP}, ended: true, sent: now.Add(-time.Second)}
			good.response.Message = make([]byte, 12)
			x.held = good
			x.respond(good, now) // without EDNS, behind one that refuses it
			if !quirk(&s.noEDNS, now) {
				t.Fatal("it is not remembered that the server has no EDNS")
			}
			for _, tt := range []struct {
				after  time.Duration
				noEDNS bool
				rtt    time.Duration
			}{
				{0, true, time.Second},
				{rttHalfLife, true, time.Second / 2},
				{quirkMemory - time.Second, true, time.Second >> 19},
				{quirkMemory, false, time.Second >> 20},
			} {
				at := wallclock.Set(now.Add(tt.after), jump.by)
				if got := quirk(&s.noEDNS, at); got != tt.noEDNS {
					t.Errorf("after %v: without EDNS: %v, want %v", tt.after, got, tt.noEDNS)
				}
				if got := s.expectedRTT(at); got != tt.rtt {
					t.Errorf("after %v: round trip time %v, want %v", tt.after, got, tt.rtt)
				}
			}
		})
	}
}

// A server's certificate is good by the wall clock: set so that it is not valid any more, or not yet, no query leaves; set right again, the server is asked.
func TestFaultX21Certificate(t *testing.T) {
	a, _ := authority(t)
	certificate, err := a.IssueUntil(time.Now().AddDate(5, 0, 0), testName)
	if err != nil {
		t.Fatal(err)
	}
	valid := map[string]bool{"an hour forward": true, "an hour back": true}
	var asked atomic.Int32
	config := serverTLS(certificate)
	addr := scriptTLS(t, config, func(conn *tls.Conn) {
		frames(conn, func(query []byte) {
			asked.Add(1)
			conn.Write(frame(answer(query, "192.0.2.1")))
		})
	})
	for _, jump := range jumps {
		t.Run(jump.name, func(t *testing.T) {
			asked.Store(0)
			g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File}, Env{})
			var by atomic.Int64
			by.Store(int64(jump.by))
			(*g.servers.Load())[0].tls.Time = func() time.Time { return wallclock.Set(time.Now(), time.Duration(by.Load())) }
			good := valid[jump.name]
			got := ask(t, g, query(t, "www.test.", dns.TypeA))
			if answered := got == "NOERROR 192.0.2.1"; answered != good || (asked.Load() > 0) != good {
				t.Errorf("got %q and %d queries at the server; the certificate is valid: %v", got, asked.Load(), good)
			}
			by.Store(0)
			if got := ask(t, g, query(t, "www.test.", dns.TypeA)); got != "NOERROR 192.0.2.1" {
				t.Errorf("when the clock is right: got %q", got)
			}
		})
	}
}
