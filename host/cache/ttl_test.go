package cache

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

const soa = "ns example. 600 IN SOA ns.example. admin.example. 1 7200 900 1209600 300"

// ttlTest has the TTLs that clients see: at first, and later.
type ttlTest struct {
	name    string
	preset  string
	qtype   uint16
	rcode   int
	records []string
	first   []uint32
	later   []later
}

type later struct {
	after float64 // seconds since the first answer
	want  []uint32
}

var gone, none = []uint32(nil), []uint32{} // not in the cache; there, but without records

func TestTTLs(t *testing.T) {
	testTTLs(t, []ttlTest{
		{"plain", "weir", dns.TypeA, 0, []string{"an www.example. 300 IN A 192.0.2.1"}, []uint32{300},
			[]later{{0.9, []uint32{300}}, {1, []uint32{299}}, {299.9, []uint32{1}}, {300, gone}}},
		{"week at most a day", "weir", dns.TypeA, 0, []string{"an www.example. 604800 IN A 192.0.2.1"}, []uint32{86400},
			[]later{{86399, []uint32{1}}, {86400, gone}}},
		{"zero", "weir", dns.TypeA, 0, []string{"an www.example. 0 IN A 192.0.2.1"}, []uint32{0}, []later{{0, gone}}},
		{"coredns day at most an hour", "coredns", dns.TypeA, 0, []string{"an www.example. 86400 IN A 192.0.2.1"}, []uint32{3600}, []later{{3599, []uint32{1}}, {3600, gone}}},
		{"coredns floor", "coredns", dns.TypeA, 0, []string{"an www.example. 1 IN A 192.0.2.1"}, []uint32{5}, []later{{1, []uint32{4}}, {4.9, []uint32{1}}, {5, gone}}},
		{"coredns floor for zero", "coredns", dns.TypeA, 0, []string{"an www.example. 0 IN A 192.0.2.1"}, []uint32{5}, []later{{3, []uint32{2}}, {5, gone}}},
		{"coredns floor with others", "coredns", dns.TypeA, 0, []string{"an www.example. 300 IN CNAME a.example.", "an a.example. 2 IN A 192.0.2.1"}, []uint32{5, 5}, []later{{4, []uint32{1, 1}}}},
		{"coredns NXDOMAIN", "coredns", dns.TypeA, 3, []string{"ns example. 7200 IN SOA ns.example. admin.example. 1 7200 900 1209600 7200"}, []uint32{1800}, []later{{1799, []uint32{1}}, {1800, gone}}},
		{"coredns NODATA", "coredns", dns.TypeA, 0, []string{soa}, []uint32{300}, []later{{299, []uint32{1}}, {300, gone}}},
		{"coredns denial floor", "coredns", dns.TypeA, 3, []string{"ns example. 7200 IN SOA ns.example. admin.example. 1 7200 900 1209600 0"}, []uint32{5}, []later{{4, []uint32{1}}, {5, gone}}},
		{"coredns SERVFAIL", "coredns", dns.TypeA, 2, nil, nil, []later{{4.9, none}, {5, gone}}},
		{"acs at most 30", "acs", dns.TypeA, 0, []string{"an www.example. 600 IN A 192.0.2.1"}, []uint32{30}, []later{{29, []uint32{1}}, {30, gone}}},
		{"acs denial at most 30", "acs", dns.TypeA, 3, []string{soa}, []uint32{30}, []later{{29, []uint32{1}}, {30, gone}}},
		{"acs floor", "acs", dns.TypeA, 0, []string{"an www.example. 1 IN A 192.0.2.1"}, []uint32{5}, []later{{4, []uint32{1}}, {5, gone}}},
		{"acs SERVFAIL", "acs", dns.TypeA, 2, nil, nil, []later{{0, gone}}},
		{"nodelocal at most 30", "nodelocal", dns.TypeA, 0, []string{"an long.example. 86400 IN A 192.0.2.1"}, []uint32{30}, []later{{29, []uint32{1}}, {30, gone}}},
		{"nodelocal floor", "nodelocal", dns.TypeA, 0, []string{"an brief.example. 1 IN A 192.0.2.2"}, []uint32{5}, []later{{4, []uint32{1}}, {5, gone}}},
		{"nodelocal denial", "nodelocal", dns.TypeA, 3, []string{soa}, []uint32{5}, []later{{4, []uint32{1}}, {5, gone}}},
		{"alias to nowhere", "weir", dns.TypeA, 0, []string{"an www.example. 900 IN CNAME a.example."}, []uint32{900}, []later{{0, gone}}},
		{"alias asked for", "weir", dns.TypeCNAME, 0, []string{"an www.example. 900 IN CNAME a.example."}, []uint32{900}, []later{{899, []uint32{1}}, {900, gone}}},
		{"SOA asked for", "weir", dns.TypeSOA, 0, []string{"an" + soa[2:]}, []uint32{600}, []later{{599, []uint32{1}}, {600, gone}}},
		{"referral", "weir", dns.TypeA, 0, []string{"ns example. 900 IN NS ns.example."}, []uint32{900}, []later{{0, gone}}},
		{"SERVFAIL", "weir", dns.TypeA, 2, nil, nil, []later{{4.9, none}, {5, gone}}},
		{"REFUSED", "weir", dns.TypeA, 5, nil, nil, []later{{4.9, none}, {5, gone}}},
		{"BADVERS", "weir", dns.TypeA, 16, nil, nil, []later{{0, gone}}},
	})
}

// TestRFC2181TTLs: all records of an answer have the lowest of their TTLs, and a TTL with its top bit set is 0 (RFC 2181 sections 5.2 and 8).
func TestRFC2181TTLs(t *testing.T) {
	testTTLs(t, []ttlTest{
		{"top bit is zero", "weir", dns.TypeA, 0, []string{"an www.example. 2147483648 IN A 192.0.2.1"}, []uint32{0}, []later{{0, gone}}},
		{"top bit, all ones", "coredns", dns.TypeA, 0, []string{"an www.example. 4294967295 IN A 192.0.2.1"}, []uint32{5}, []later{{4, []uint32{1}}, {5, gone}}},
		{"lowest of an alias", "weir", dns.TypeA, 0, []string{"an www.example. 60 IN CNAME a.example.", "an a.example. 20 IN A 192.0.2.1"}, []uint32{20, 20},
			[]later{{19, []uint32{1, 1}}, {20, gone}}},
		{"authority counts, additional counts down to zero", "weir", dns.TypeA, 0,
			[]string{"an www.example. 60 IN A 192.0.2.1", "ns example. 50 IN NS ns.example.", "ar ns.example. 3 IN A 192.0.2.53"}, []uint32{50, 50, 3},
			[]later{{2, []uint32{48, 48, 1}}, {10, []uint32{40, 40, 0}}, {50, gone}}},
		{"additional above the rest", "weir", dns.TypeA, 0, []string{"an www.example. 60 IN A 192.0.2.1", "ar ns.example. 3600 IN A 192.0.2.53"}, []uint32{60, 60},
			[]later{{59, []uint32{1, 1}}}},
	})
}

// TestRFC2181Truncated: a response with TC is never in the cache (RFC 2181 section 9).
func TestRFC2181Truncated(t *testing.T) {
	testTTLs(t, []ttlTest{
		{"truncated", "weir", dns.TypeA, 0, []string{"tc", "an www.example. 300 IN A 192.0.2.1"}, []uint32{300}, []later{{0, gone}}},
		{"truncated NXDOMAIN", "weir", dns.TypeA, 3, []string{"tc", soa}, []uint32{600}, []later{{0, gone}}},
	})
}

// TestRFC2308Denials: a denial is kept for the TTL of its SOA or for its MINIMUM, whichever is less, which counts down; without SOA it is not kept
// (RFC 2308 section 5).
func TestRFC2308Denials(t *testing.T) {
	testTTLs(t, []ttlTest{
		{"NXDOMAIN is as long as MINIMUM", "weir", dns.TypeA, 3, []string{soa}, []uint32{300}, []later{{100, []uint32{200}}, {300, gone}}},
		{"NXDOMAIN is as long as the SOA", "weir", dns.TypeA, 3, []string{"ns example. 60 IN SOA ns.example. admin.example. 1 7200 900 1209600 300"}, []uint32{60}, []later{{59, []uint32{1}}, {60, gone}}},
		{"NXDOMAIN at most an hour", "weir", dns.TypeA, 3, []string{"ns example. 86400 IN SOA ns.example. admin.example. 1 7200 900 1209600 86400"}, []uint32{3600}, []later{{3599, []uint32{1}}, {3600, gone}}},
		{"NXDOMAIN without SOA", "weir", dns.TypeA, 3, nil, nil, []later{{0, gone}}},
		{"NXDOMAIN with SOA in the wrong section", "weir", dns.TypeA, 3, []string{"ar" + soa[2:]}, []uint32{600}, []later{{0, gone}}},
		{"NXDOMAIN with MINIMUM 0", "weir", dns.TypeA, 3, []string{"ns example. 60 IN SOA ns.example. admin.example. 1 7200 900 1209600 0"}, []uint32{60}, []later{{0, gone}}},
		{"NXDOMAIN behind an alias", "weir", dns.TypeA, 3, []string{"an www.example. 40 IN CNAME a.example.", soa}, []uint32{40, 40}, []later{{39, []uint32{1, 1}}, {40, gone}}},
		{"NODATA behind an alias", "weir", dns.TypeA, 0, []string{"an www.example. 900 IN CNAME a.example.", soa}, []uint32{300, 300}, []later{{299, []uint32{1, 1}}, {300, gone}}},
	})
}

func testTTLs(t *testing.T, tests []ttlTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var now clock
			upstream := says(test.rcode, test.records...)
			c := open(t, preset(test.preset, func(c *Config) { c.ServeStale = 0 }), upstream, now.now)
			q := ask("www.example.", test.qtype, now.now())
			r, err := c.Resolve(t.Context(), q, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := ttls(unpack(t, q, r)); !slices.Equal(got, test.first) || r.Cached {
				t.Errorf("first: got %v, cached %t, want %v from the upstream", got, r.Cached, test.first)
			}
			for _, l := range test.later {
				now.ns.Store(int64(seconds64(l.after)))
				r, ok := c.Cached(q, nil)
				if want := l.want != nil; ok != want {
					t.Errorf("after %v s: in the cache %t, want %t", l.after, ok, want)
					continue
				}
				if !ok {
					continue
				}
				m := unpack(t, q, r)
				if got := ttls(m); !slices.Equal(got, l.want) {
					t.Errorf("after %v s: got TTLs %v, want %v", l.after, got, l.want)
				}
				if m.Rcode != test.rcode || !r.Cached || r.Upstream != 7 {
					t.Errorf("after %v s: got RCODE %d, cached %t, upstream %d, want %d, true, 7", l.after, m.Rcode, r.Cached, r.Upstream, test.rcode)
				}
			}
		})
	}
}

// TestRFC9520Failures: a failure, be it a response or silence, is remembered for a while, in which the upstream is not asked again, and not for longer (RFC 9520
// sections 2 and 3.2).
func TestRFC9520Failures(t *testing.T) {
	for _, test := range []struct {
		name     string
		upstream *server
		rcode    uint16
		codes    []uint16
		silent   bool
	}{
		{"SERVFAIL", says(dns.RcodeServerFailure), message.SERVFAIL, []uint16{13}, false},
		{"SERVFAIL with EDE", says(dns.RcodeServerFailure, "ede 6"), message.SERVFAIL, []uint16{13, 6}, false},
		{"SERVFAIL with records", says(dns.RcodeServerFailure, "an www.example. 1 IN A 192.0.2.1"), message.SERVFAIL, []uint16{13}, false},
		{"REFUSED", says(dns.RcodeRefused, "ede 18"), message.REFUSED, []uint16{18}, false},
		{"NOTIMP", says(dns.RcodeNotImplemented), message.NOTIMP, []uint16{}, false},
		{"silence", silent(), message.SERVFAIL, []uint16{13, 22}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var now clock
			c := open(t, preset("weir"), test.upstream, now.now)
			q := ask("www.example.", dns.TypeA, now.now(), func(m *dns.Msg) { m.SetEdns0(1232, false) })
			if _, err := c.Resolve(t.Context(), q, nil); (err != nil) != test.silent {
				t.Fatalf("first: got error %v, want one: %t", err, test.silent)
			}
			now.pass(4900 * time.Millisecond)
			r, err := c.Resolve(t.Context(), q, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.RCODE != test.rcode || r.Class != test.rcode || !r.Cached || r.Silent != test.silent {
				t.Errorf("got %+v, want RCODE %d, silent %t", r, test.rcode, test.silent)
			}
			if got := codes(r); !slices.Equal(got, test.codes) {
				t.Errorf("got EDEs %v, want %v", got, test.codes)
			}
			if m := unpack(t, q, r); len(m.Answer) != 0 || len(m.Extra) != 1 || m.Rcode != int(test.rcode) {
				t.Errorf("got\n%v", m)
			}
			if got := test.upstream.calls.Load(); got != 1 {
				t.Errorf("the upstream was asked %d times, want once", got)
			}
			now.pass(100 * time.Millisecond)
			if _, ok := c.Cached(q, nil); ok {
				t.Error("a failure is in the cache for longer than servfail_ttl")
			}
		})
	}
}
