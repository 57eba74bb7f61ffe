package cache

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// TestRFC2181NotAuthoritative: what comes from the cache has AA clear, whatever the upstream said (RFC 2181 section 5.4.1, RFC 1035 section 4.1.1).
func TestRFC2181NotAuthoritative(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rcode   int
		records []string
		after   time.Duration
	}{
		{"answer", 0, []string{"aa", "an www.example. 300 IN A 192.0.2.1"}, time.Second},
		{"stale answer", 0, []string{"aa", "an www.example. 300 IN A 192.0.2.1"}, 301 * time.Second},
		{"NXDOMAIN", 3, []string{"aa", soa}, time.Second},
		{"NODATA", 0, []string{"aa", soa}, time.Second},
		{"failure", 2, []string{"aa"}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var now clock
			up := says(tt.rcode, tt.records...)
			c := open(t, preset("weir"), up, now.now)
			q := ask("www.example.", dns.TypeA, now.now())
			mustResolve(t, c, q)
			now.pass(tt.after)
			up.answer = silent().answer
			q.Deadline = now.now().Add(time.Hour)
			r := mustResolve(t, c, q)
			if m := unpack(t, q, r); m.Authoritative || !r.Cached || m.Rcode != tt.rcode {
				t.Errorf("AA %t, cached %t, RCODE %d, want false, true, %d", m.Authoritative, r.Cached, m.Rcode, tt.rcode)
			}
		})
	}
}

// TestRFC2308Keys: that a name has no data of a type says nothing about its other types, nor about other names and classes (RFC 2308 section 5).
func TestRFC2308Keys(t *testing.T) {
	var now clock
	c := open(t, preset("weir"), says(0, soa), now.now)
	mustResolve(t, c, ask("www.example.", dns.TypeAAAA, now.now()))
	for _, tt := range []struct {
		name   string
		qname  string
		qtype  uint16
		change func(*dns.Msg)
		want   bool
	}{
		{"the same", "www.example.", dns.TypeAAAA, func(*dns.Msg) {}, true},
		{"the same in another case", "WWW.example.", dns.TypeAAAA, func(*dns.Msg) {}, true},
		{"another type", "www.example.", dns.TypeA, func(*dns.Msg) {}, false},
		{"any type", "www.example.", dns.TypeANY, func(*dns.Msg) {}, false},
		{"another class", "www.example.", dns.TypeAAAA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, false},
		{"a name above", "example.", dns.TypeAAAA, func(*dns.Msg) {}, false},
		{"a name below", "a.www.example.", dns.TypeAAAA, func(*dns.Msg) {}, false},
	} {
		if _, got := c.Cached(ask(tt.qname, tt.qtype, now.now(), tt.change), nil); got != tt.want {
			t.Errorf("%s: in the cache %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestRFC2308NameError: an NXDOMAIN should answer for all types of its name (RFC 2308 section 5); weir does not follow that: it is kept for the type that was
// asked, and the upstream is asked for each other type.
//
// There are servers that say NXDOMAIN to AAAA for names that have A (RFC 4074 section 4.2): they don't take these names away.
func TestRFC2308NameError(t *testing.T) {
	var now clock
	asked := 0
	c := open(t, preset("weir"), &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
		asked++
		if q.Type == dns.TypeAAAA {
			return respond(q, dns.RcodeNameError, soa), nil
		}
		return respond(q, dns.RcodeSuccess, "an www.example. 60 IN A 192.0.2.1"), nil
	}}, now.now)
	for range 2 {
		for _, tt := range []struct {
			qtype uint16
			rcode int
		}{{dns.TypeAAAA, dns.RcodeNameError}, {dns.TypeA, dns.RcodeSuccess}} {
			q := ask("www.example.", tt.qtype, now.now())
			if m := unpack(t, q, mustResolve(t, c, q)); m.Rcode != tt.rcode {
				t.Errorf("%s: got %s, want %s", dns.TypeToString[tt.qtype], dns.RcodeToString[m.Rcode], dns.RcodeToString[tt.rcode])
			}
		}
	}
	if asked != 2 {
		t.Errorf("the upstream was asked %d times, want once for each type", asked)
	}
}

// TestRFC8767TTL: a stale answer has a TTL of 30 s in all of its records, however long they had, and says by an Extended DNS Error that it is stale
// (RFC 8767 section 4, RFC 8914 sections 4.4 and 4.20).
func TestRFC8767TTL(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rcode   int
		records []string
		ttls    []uint32
		ede     uint16
	}{
		{"answer", 0, []string{"an www.example. 300 IN CNAME a.example.", "an a.example. 3600 IN A 192.0.2.1", "ar b.example. 5 IN A 192.0.2.2"}, []uint32{30, 30, 30}, message.EDEStaleAnswer},
		{"short answer", 0, []string{"an www.example. 1 IN A 192.0.2.1"}, []uint32{30}, message.EDEStaleAnswer},
		{"NXDOMAIN", 3, []string{soa}, []uint32{30}, message.EDEStaleNXDOMAIN},
		{"NODATA", 0, []string{soa}, []uint32{30}, message.EDEStaleAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var now clock
			up := says(tt.rcode, tt.records...)
			c := open(t, preset("weir"), up, now.now)
			q := ask("www.example.", dns.TypeA, now.now())
			mustResolve(t, c, q)
			now.pass(2 * time.Hour)
			up.answer = silent().answer
			q.Deadline = now.now().Add(time.Hour)
			r := mustResolve(t, c, q)
			if got := codes(r); !slices.Equal(got, []uint16{tt.ede}) {
				t.Errorf("got EDEs %v, want %d", got, tt.ede)
			}
			if got := ttls(unpack(t, q, r)); !slices.Equal(got, tt.ttls) {
				t.Errorf("got TTLs %v, want %v", got, tt.ttls)
			}
		})
	}
}

// TestRFC8767Forgotten: an answer that has been stale for a day by default, and for seven at most, is not given any more (RFC 8767 sections 4 and 5).
func TestRFC8767Forgotten(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name   string
		change func(*Config)
		most   time.Duration
	}{
		{"default", func(*Config) {}, day},
		{"a week", func(c *Config) { c.ServeStale = 7 * day }, 7 * day},
		{"an hour", func(c *Config) { c.ServeStale = time.Hour }, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, after := range []time.Duration{tt.most - time.Second, tt.most} {
				var now clock
				up := says(0, "an www.example. 300 IN A 192.0.2.1")
				c := open(t, preset("weir", tt.change), up, now.now)
				q := ask("www.example.", dns.TypeA, now.now())
				mustResolve(t, c, q)
				now.pass(300*time.Second + after)
				up.answer = silent().answer
				q.Deadline = now.now().Add(time.Hour)
				if _, err := c.Resolve(t.Context(), q, nil); (err == nil) != (after < tt.most) {
					t.Errorf("stale for %v: error %v", after, err)
				}
			}
		})
	}
	c := preset("weir", func(c *Config) { c.ServeStale = 7*day + time.Second })
	if c.Validate() == nil {
		t.Error("more than seven days are allowed")
	}
}

// TestRFC9520Bounds: a failure is remembered for at least 1 s and at most 5 minutes, and 5 s unless said otherwise (RFC 9520 section 3.2).
func TestRFC9520Bounds(t *testing.T) {
	if got := preset("weir").ServfailTTL; got != 5*time.Second {
		t.Errorf("the default is %v, want 5s", got)
	}
	for ttl, want := range map[time.Duration]bool{
		999 * time.Millisecond: false, time.Second: true, 5 * time.Second: true, 5 * time.Minute: true, 5*time.Minute + time.Second: false,
	} {
		c := preset("weir", func(c *Config) { c.ServfailTTL = ttl })
		if err := c.Validate(); (err == nil) != want {
			t.Errorf("%v: got error %v, want it allowed: %t", ttl, err, want)
		}
	}
}
