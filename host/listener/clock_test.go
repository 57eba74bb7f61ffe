package listener

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/internal/wallclock"
)

// The clock is set while clients are connected: all are answered as before, over the connections that they have, and the rate limit goes on. A cookie is good by
// the wall clock, as those of other servers with the same secret are: an hour on it is too old, an hour back not of today, and a new one comes with the answer.
func TestFaultX21Clients(t *testing.T) {
	const year = 365 * 24 * time.Hour
	var by atomic.Int64
	r := start(t, func(l *Listener) {
		now := func() time.Time { return wallclock.Set(time.Now(), time.Duration(by.Load())) }
		for _, e := range []*entrance{l.udpIn, l.tcpIn} {
			e.now = now
		}
	}, Config{})
	udp, tcp := r.dial(t, "udp"), r.dial(t, "tcp")
	given := clientCookie
	for _, tt := range []struct {
		name string
		to   time.Duration
		good bool // the cookie of before
	}{
		{"as it is", 0, false},
		{"as it is, again", 0, true},
		{"a minute forward", time.Minute, true},
		{"an hour back from there", time.Minute - time.Hour - 10*time.Second, false},
		{"back to where it was", 0, false},
		{"two hours forward", 2 * time.Hour, false},
		{"ten years forward", 10 * year, false},
		{"back again", 0, false},
	} {
		by.Store(int64(tt.to))
		m := unpack(t, exchange(t, udp, withOptions(t, "www.example", cookieOption(given))))
		got, _ := options(m)
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || len(got) != 2*cookie.Size {
			t.Fatalf("%s: got %v", tt.name, m)
		}
		if (got == given) != tt.good {
			t.Errorf("%s: the cookie %s gets %s; good: %v, want %v", tt.name, given, got, got == given, tt.good)
		}
		given = got
		if m := unpack(t, exchange(t, tcp, withOptions(t, "www.example"))); len(m.Answer) != 1 {
			t.Errorf("%s, on the TCP connection: got %v", tt.name, m)
		}
	}
}
