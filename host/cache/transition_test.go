package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// TestTransitions has each state in which the cache can be for a question, and each thing that an upstream can say then: what the client gets,
// and what the next one gets without the upstream.
func TestTransitions(t *testing.T) {
	const (
		old, fresh = "192.0.2.1", "192.0.2.2"
		day        = 24 * time.Hour
	)
	success := func(ttl int, address string) []string {
		return []string{fmt.Sprintf("an www.example. %d IN A %s", ttl, address)}
	}
	upstreams := []struct {
		name    string
		rcode   int
		records []string
		err     error
		gives   string // the client, if nothing older does
		leaves  string // in the cache, if nothing older stays
	}{
		{"success", 0, success(300, fresh), nil, fresh, fresh},
		{"NXDOMAIN", 3, []string{soa}, nil, "NXDOMAIN", "NXDOMAIN"},
		{"NODATA", 0, []string{soa}, nil, "NODATA", "NODATA"},
		{"success for no time", 0, success(0, fresh), nil, fresh, "nothing"},
		{"NXDOMAIN without SOA", 3, nil, nil, "NXDOMAIN", "nothing"},
		{"SERVFAIL", 2, nil, nil, "SERVFAIL", "SERVFAIL"},
		{"REFUSED", 5, nil, nil, "REFUSED", "REFUSED"},
		{"silence", 0, nil, errSilence, "an error", "SERVFAIL"},
		{"truncated", 0, append(success(300, fresh), "tc"), nil, fresh, "nothing"},
		{"referral", 0, []string{"ns example. 900 IN NS ns.example."}, nil, "NODATA", "nothing"},
		{"BADVERS", 16, nil, nil, "BADVERS", "nothing"},
	}
	fails := func(name string) bool { return name == "SERVFAIL" || name == "REFUSED" || name == "silence" }
	says := func(name string) bool {
		return name != "truncated" && name != "referral" && name != "BADVERS" && !fails(name)
	}
	for _, before := range []struct {
		name    string
		rcode   int
		records []string
		err     error
		after   time.Duration
		gives   string // "" when the upstream is asked
		stale   string // what may be given when the upstream fails
	}{
		{"nothing", 0, success(0, old), nil, 0, "", ""},
		{"success, live", 0, success(300, old), nil, 299 * time.Second, old, ""},
		{"success, stale", 0, success(300, old), nil, 301 * time.Second, "", old},
		{"success, over", 0, success(300, old), nil, 300*time.Second + day, "", ""},
		{"NXDOMAIN, live", 3, []string{soa}, nil, 299 * time.Second, "NXDOMAIN", ""},
		{"NXDOMAIN, stale", 3, []string{soa}, nil, 300 * time.Second, "", "NXDOMAIN"},
		{"NXDOMAIN, over", 3, []string{soa}, nil, 300*time.Second + day, "", ""},
		{"NODATA, stale", 0, []string{soa}, nil, 300 * time.Second, "", "NODATA"},
		{"SERVFAIL, live", 2, nil, nil, 4 * time.Second, "SERVFAIL", ""},
		{"SERVFAIL, over", 2, nil, nil, 5 * time.Second, "", ""},
		{"silence, live", 0, nil, errSilence, 4 * time.Second, "SERVFAIL", ""},
		{"silence, over", 0, nil, errSilence, 5 * time.Second, "", ""},
	} {
		for _, upstream := range upstreams {
			t.Run(before.name+"/"+upstream.name, func(t *testing.T) {
				var now clock
				rcode, records, err := before.rcode, before.records, before.err
				s := &server{answer: func(_ context.Context, q *message.Query) (*dns.Msg, error) {
					if err != nil {
						return nil, err
					}
					return respond(q, rcode, records...), nil
				}}
				c := open(t, preset("weir"), s, now.now)
				q := ask("www.example.", dns.TypeA, now.now())
				resolve := func() string {
					q.Deadline = now.now().Add(2 * time.Second)
					r, err := c.Resolve(t.Context(), q, nil)
					return what(t, q, r, err)
				}
				resolve()
				now.pass(before.after)
				rcode, records, err = upstream.rcode, upstream.records, upstream.err

				// The cache asks, and if it does not have to, is told all the same, as by prefetching.
				want := upstream.gives
				switch {
				case before.gives != "":
					want = before.gives
				case before.stale != "" && fails(upstream.name):
					want = before.stale + ", stale"
				}
				if got := resolve(); got != want {
					t.Errorf("the client got %s, want %s", got, want)
				}
				if before.gives != "" {
					k := appendKey(nil, q)
					c.refresh(k, c.store.hash(k))
				}

				want = upstream.leaves
				switch {
				case says(upstream.name):
				case before.stale != "" && fails(upstream.name):
					want = before.stale + ", stale"
				case before.stale != "": // neither a word nor a failure: the old one waits for better news
					want = "nothing"
				case before.gives == "SERVFAIL" && fails(upstream.name): // a later failure takes the place of an earlier one
				case before.gives != "":
					want = before.gives
				}
				r, ok := c.Cached(q, nil)
				got := "nothing"
				if ok {
					got = what(t, q, r, nil)
				}
				if got != want {
					t.Errorf("then the cache gave %s, want %s", got, want)
				}
			})
		}
	}
}

// what says what a response is.
func what(t *testing.T, q *message.Query, r message.Response, err error) string {
	if err != nil {
		return "an error"
	}
	class, edes := r.Class, codes(r)
	m := unpack(t, q, r)
	text := message.RCODEString(r.RCODE)
	switch {
	case len(m.Answer) == 1:
		text = m.Answer[0].(*dns.A).A.String()
	case class == message.ClassNODATA || r.RCODE == 0:
		text = "NODATA"
	}
	for _, c := range edes {
		if c == message.EDEStaleAnswer || c == message.EDEStaleNXDOMAIN {
			text += ", stale"
			if (c == message.EDEStaleNXDOMAIN) != (r.RCODE == message.NXDOMAIN) {
				t.Errorf("stale %s has EDE %d", text, c)
			}
			for _, ttl := range ttls(m) {
				if ttl != 30 {
					t.Errorf("stale answer with TTL %d, want 30", ttl)
				}
			}
		}
	}
	return text
}
