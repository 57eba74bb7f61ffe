package cache

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// geo is an upstream that tells clients apart: what it is told is the answer, as text, for as many bits as scope says.
type geo struct {
	calls  atomic.Int64
	limits message.SubnetLimits
	scope  func(s message.Subnet) uint8
	rcode  func(s message.Subnet) int // nil is NOERROR
	ttl    int                        // 0 is 300

	mu   sync.Mutex // guards following
	told []string
}

// telling makes a geo that is told up to these bits, and whose answers are for scope bits.
func telling(limits message.SubnetLimits, scope uint8) *geo {
	return &geo{limits: limits, scope: func(message.Subnet) uint8 { return scope }}
}

func (g *geo) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	var s message.Subnet
	if g.limits.On() {
		s = g.limits.Of(q)
	}
	g.mu.Lock()
	g.told = append(g.told, s.String())
	g.mu.Unlock()
	g.calls.Add(1)
	up := server{answer: func(context.Context, *message.Query) (*dns.Msg, error) { return g.respond(q, s), nil }}
	r, err := up.Resolve(ctx, q, dst)
	r.Tailored = s.Family != 0
	if s.Bits > 0 {
		r.Scope = min(g.scope(s), s.Bits)
	}
	return r, err
}

func (g *geo) respond(q *message.Query, s message.Subnet) *dns.Msg {
	rcode, ttl := dns.RcodeSuccess, 300
	if g.rcode != nil {
		rcode = g.rcode(s)
	}
	if g.ttl != 0 {
		ttl = g.ttl
	}
	if rcode != dns.RcodeSuccess {
		return respond(q, rcode, "ns test. 300 IN SOA ns.test. admin.test. 1 2 3 4 300")
	}
	return respond(q, rcode, fmt.Sprintf("an www.test. %d IN TXT %q", ttl, s))
}

func (g *geo) heard() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.told, " ")
}

func openTold(t testing.TB, c Config, next *geo, now func() time.Time) *Cache {
	t.Helper()
	cache := New("test", c, next, Env{Now: now, Subnets: next.limits})
	t.Cleanup(cache.Close)
	return cache
}

// askFrom makes a query whose client says it is in this prefix, or, if it is an address, comes from it.
func askFrom(where string, now time.Time) *message.Query {
	return askNameFrom("www.test.", where, now)
}

func askNameFrom(name, where string, now time.Time) *message.Query {
	prefix, err := netip.ParsePrefix(where)
	if err != nil {
		q := ask(name, dns.TypeTXT, now)
		q.Deadline = now.Add(time.Hour)
		q.Client = netip.AddrPortFrom(netip.MustParseAddr(where), 53)
		return q
	}
	q := ask(name, dns.TypeTXT, now, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		o := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(prefix.Bits()), Address: prefix.Masked().Addr().AsSlice()}
		if prefix.Addr().Is6() {
			o.Family = 2
		}
		m.IsEdns0().Option = []dns.EDNS0{o}
	})
	q.Client = netip.MustParseAddrPort("198.51.100.99:53")
	q.Deadline = now.Add(time.Hour) // tests have the time that they need
	return q
}

// given is the text of an answer, and for whom it is.
func given(t testing.TB, c *Cache, q *message.Query) string {
	t.Helper()
	r := mustResolve(t, c, q)
	m := unpack(t, q, r)
	text := dns.RcodeToString[m.Rcode]
	if len(m.Answer) > 0 {
		text = m.Answer[0].(*dns.TXT).Txt[0]
	}
	return fmt.Sprintf("%s for %d", text, r.Scope)
}

var all32 = message.SubnetLimits{IPv4: 32, IPv6: 128}

// TestRFC7871Matrix: an answer is given to those clients whose networks are in the one that it is for, which is as long as its scope, but not longer than what
// the upstream was told (RFC 7871 sections 7.3.1 and 7.3.2).
func TestRFC7871Matrix(t *testing.T) {
	// One client has fetched an answer with a scope; then another one asks. A letter for each of the other's prefixes, /0 to /32: does it get a hit?
	others := [4]struct{ name, address string }{
		{"same address", "192.0.2.1"}, {"same /24", "192.0.2.200"}, {"same /16", "192.0.77.1"}, {"elsewhere", "203.0.113.1"},
	}
	prefixes := [4]int{0, 16, 24, 32}
	want := map[int][4]string{
		0:  {"hhhh", "hhhh", "hhhh", "hhhh"}, // for everybody, those too who don't want to be known
		16: {"mhhh", "mhhh", "mhhh", "mmmm"},
		24: {"mmhh", "mmhh", "mmmm", "mmmm"},
		32: {"mmmh", "mmmm", "mmmm", "mmmm"},
	}
	n := 0
	for _, scope := range prefixes {
		for i, other := range others {
			got := ""
			for _, bits := range prefixes {
				n++
				var clk clock
				g := telling(all32, uint8(scope))
				c := openTold(t, preset("weir"), g, clk.now)
				mustResolve(t, c, askFrom("192.0.2.1/32", clk.now()))
				_, hit := c.Cached(askFrom(fmt.Sprintf("%s/%d", other.address, bits), clk.now()), nil)
				got += map[bool]string{true: "h", false: "m"}[hit]
			}
			if got != want[scope][i] {
				t.Errorf("scope %d, %s: got %s, want %s", scope, other.name, got, want[scope][i])
			}
		}
	}
	if n != 64 {
		t.Errorf("%d cases, want 64", n)
	}
}

// TestRFC7871OptOut: what was said to those who don't want their network told is for such clients only, and they get what is for everybody
// (RFC 7871 section 7.3.1).
func TestRFC7871OptOut(t *testing.T) {
	var clk clock
	g := telling(all32, 24)
	c := openTold(t, preset("weir"), g, clk.now)
	for _, tt := range []struct{ from, want string }{
		{"0.0.0.0/0", "client subnet 0 for 0"},
		{"0.0.0.0/0", "client subnet 0 for 0"},
		{"::/0", "client subnet 0 for 0"},
		{"127.0.0.1", "no client subnet for 0"},
		{"192.0.2.1", "192.0.2.1/32 for 24"},
		{"0.0.0.0/0", "client subnet 0 for 0"},
		{"192.0.2.0/23", "192.0.2.0/23 for 23"},
		{"192.0.2.7", "192.0.2.1/32 for 24"},
		{"192.0.3.7", "192.0.2.0/23 for 23"},
	} {
		if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
		}
	}
	if got, want := g.heard(), "client subnet 0 no client subnet 192.0.2.1/32 192.0.2.0/23"; got != want {
		t.Errorf("the upstream was told %q, want %q", got, want)
	}
}

// TestRFC7871LongestPrefix: of several answers that cover a client, it gets the one for the smallest network (RFC 7871 section 7.3.2).
func TestRFC7871LongestPrefix(t *testing.T) {
	var clk clock
	g := telling(all32, 32)
	c := openTold(t, preset("weir"), g, clk.now)
	for _, from := range []string{"192.0.2.128/25", "192.0.2.0/24", "192.0.0.0/16", "2001:db8::/32"} {
		mustResolve(t, c, askFrom(from, clk.now()))
	}
	g.scope = func(message.Subnet) uint8 { return 0 }
	mustResolve(t, c, askFrom("203.0.113.1", clk.now()))
	for _, tt := range []struct{ from, want string }{
		{"192.0.2.200", "192.0.2.128/25 for 25"},
		{"192.0.2.1", "192.0.2.0/24 for 24"},
		{"192.0.3.1", "192.0.0.0/16 for 16"},
		{"192.0.2.0/20", "192.0.0.0/16 for 16"},
		{"192.1.2.1", "203.0.113.1/32 for 0"},
		{"2001:db8:1::1", "2001:db8::/32 for 32"},
		{"2001:db9::1", "203.0.113.1/32 for 0"},
	} {
		if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
		}
	}
	if n := g.calls.Load(); n != 5 {
		t.Errorf("%d queries to the upstream, want 5", n)
	}
}

// below203 is an RCODE for networks below 203, and NOERROR for all others.
func below203(rcode int) func(message.Subnet) int {
	return func(s message.Subnet) int {
		if s.Address[0] == 203 {
			return rcode
		}
		return dns.RcodeSuccess
	}
}

// TestRFC7871Negative: a denial is for the network that its scope says, as an answer is, so that a name may be there for some and not for others
// (RFC 7871 section 7.4).
func TestRFC7871Negative(t *testing.T) {
	var clk clock
	g := telling(all32, 24)
	g.rcode = below203(dns.RcodeNameError)
	c := openTold(t, preset("weir"), g, clk.now)
	for range 2 {
		for _, tt := range []struct{ from, want string }{
			{"203.0.113.0/24", "NXDOMAIN for 24"},
			{"192.0.2.0/24", "192.0.2.0/24 for 24"},
			{"203.0.113.77", "NXDOMAIN for 24"},
		} {
			if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
			}
		}
	}
	if n := g.calls.Load(); n != 2 {
		t.Errorf("%d queries to the upstream, want 2", n)
	}
}

// TestFailureOfOne: a failure is remembered for the network that it happened to, since a client may make up one that upstreams choke on, and takes the place of
// no answer that covers it.
func TestFailureOfOne(t *testing.T) {
	var clk clock
	g := telling(all32, 24)
	g.rcode = below203(dns.RcodeServerFailure)
	c := openTold(t, preset("weir"), g, clk.now)
	for range 2 {
		for _, tt := range []struct{ from, want string }{
			{"203.0.113.0/24", "SERVFAIL for 24"},
			{"192.0.2.0/24", "192.0.2.0/24 for 24"},
		} {
			if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
			}
		}
	}
	if n := g.calls.Load(); n != 2 {
		t.Errorf("%d queries to the upstream, want 2", n)
	}
	// An answer for everybody is better than the failure, and when it is stale, better than a new one.
	g.scope = func(message.Subnet) uint8 { return 0 }
	mustResolve(t, c, askFrom("198.51.100.1", clk.now()))
	for _, d := range []time.Duration{0, 301 * time.Second} {
		clk.pass(d)
		if got, want := given(t, c, askFrom("203.0.113.0/24", clk.now())), "198.51.100.1/32 for 0"; got != want {
			t.Errorf("after %v: got %q, want %q", d, got, want)
		}
	}
}

// TestFailureIsNotWidened: the scope of a failure is not believed, so that it is for the network that was told only.
func TestFailureIsNotWidened(t *testing.T) {
	var clk clock
	g := telling(all32, 16)
	g.rcode = func(message.Subnet) int { return dns.RcodeServerFailure }
	c := openTold(t, preset("weir"), g, clk.now)
	mustResolve(t, c, askFrom("203.0.113.0/24", clk.now()))
	if _, ok := c.Cached(askFrom("203.0.113.7", clk.now()), nil); !ok {
		t.Error("the failure is not remembered")
	}
	if _, ok := c.Cached(askFrom("203.0.5.0/24", clk.now()), nil); ok {
		t.Error("another network has the failure")
	}
}

// TestSupersede: what an upstream says of a larger network is the end of what it said of a smaller one around the client, and of that only.
func TestSupersede(t *testing.T) {
	var clk clock
	g := telling(all32, 24)
	c := openTold(t, preset("weir"), g, clk.now)
	mustResolve(t, c, askFrom("192.0.2.1", clk.now()))
	mustResolve(t, c, askFrom("203.0.113.1", clk.now()))
	clk.pass(301 * time.Second) // both are stale
	g.scope = func(message.Subnet) uint8 { return 16 }
	g.ttl = 1
	mustResolve(t, c, askFrom("192.0.2.77", clk.now()))
	clk.pass(2 * time.Second)
	g.rcode = func(message.Subnet) int { return dns.RcodeServerFailure }
	for _, tt := range []struct{ from, want string }{
		{"192.0.2.1", "192.0.2.77/32 for 16"},
		{"203.0.113.1", "203.0.113.1/32 for 24"},
	} {
		if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
		}
	}
}

// TestManyNetworks has a client make up ten thousand networks: the answers for those that others ask for, and other names, stay.
func TestManyNetworks(t *testing.T) {
	var clk clock
	g := telling(all32, 32)
	c := openTold(t, preset("weir"), g, clk.now)
	names := []*message.Query{}
	for i := range 100 {
		names = append(names, askNameFrom(fmt.Sprintf("n%d.test.", i), "192.0.2.1", clk.now()))
	}
	hot := askFrom("192.0.2.1", clk.now())
	for _, q := range append(names, hot) {
		mustResolve(t, c, q)
		if _, ok := c.Cached(q, nil); !ok {
			t.Fatal("miss")
		}
	}
	for i := range 10_000 {
		mustResolve(t, c, askFrom(fmt.Sprintf("203.%d.%d.0/24", i/256, i%256), clk.now()))
	}
	for _, q := range append(names, hot) {
		if _, ok := c.Cached(q, nil); !ok {
			t.Errorf("%s was evicted", message.NameString(q.Name))
		}
	}
	s := c.Stats()
	if got, want := s.Entries[0], 100+maxSubnets; got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
	if got, want := s.Displaced, uint64(10_001-maxSubnets); got != want {
		t.Errorf("%d displaced, want %d", got, want)
	}
}

// TestManyTold has a thousand networks ask at a time: the upstream is told of some, and gets one query for all others.
func TestManyTold(t *testing.T) {
	const clients = 1000
	g := telling(all32, 24)
	release := make(chan struct{})
	held := &holding{next: g, release: release}
	c := New("test", preset("weir"), held, Env{Subnets: g.limits})
	t.Cleanup(c.Close)
	var done sync.WaitGroup
	scopes := make([]uint8, clients)
	for i := range clients {
		tr := &message.Transaction{Query: askFrom(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), time.Now())}
		tr.Query.Deadline = time.Now().Add(time.Minute)
		done.Add(1)
		tr.Done = func() {
			scopes[i] = tr.Response.Scope
			done.Done()
		}
		if c.Start(tr) {
			t.Fatalf("client %d got an answer from nowhere: %v", i, tr.Err)
		}
	}
	if got, want := c.flights.number(), maxTold+1; got != want {
		t.Errorf("%d queries are with the upstream, want %d", got, want)
	}
	close(release)
	done.Wait()
	if n := g.calls.Load(); n != maxTold+1 {
		t.Errorf("%d queries to the upstream, want %d", n, maxTold+1)
	}
	for i, scope := range scopes {
		if scope != 24 {
			t.Fatalf("client %d got an answer for %d bits, want 24: it is for nobody else", i, scope)
		}
	}
	if n := c.Stats().Untold; n != clients-maxTold {
		t.Errorf("%d were not told, want %d", n, clients-maxTold)
	}
	if len(c.flights.told) != 0 {
		t.Errorf("%d questions are thought to be with the upstream", len(c.flights.told))
	}
}

// holding lets queries through when it is released.
type holding struct {
	next    message.Resolver
	release chan struct{}
}

func (h *holding) Resolve(ctx context.Context, q *message.Query, dst []byte) (message.Response, error) {
	select {
	case <-h.release:
		return h.next.Resolve(ctx, q, dst)
	case <-ctx.Done():
		return message.Response{}, ctx.Err()
	}
}

// TestBirthday: a thousand clients that ask the same question at a time, each with a network, cookie, case, payload size and ID of its own, are one query to an
// upstream that is not told of networks.
func TestBirthday(t *testing.T) {
	const clients = 1000
	up := says(dns.RcodeSuccess, "an www.test. 300 IN TXT all")
	release := make(chan struct{})
	c := New("test", preset("weir"), &holding{next: up, release: release}, Env{})
	t.Cleanup(c.Close)
	var done sync.WaitGroup
	for i := range clients {
		name := []byte("wwwwwwwwww.test.")
		for bit := range 10 {
			if i>>bit&1 != 0 {
				name[bit] = 'W'
			}
		}
		q := ask(string(name), dns.TypeTXT, time.Now(), func(m *dns.Msg) {
			m.Id = uint16(i)
			m.AuthenticatedData = i%2 == 0
			m.SetEdns0(uint16(512+i), false)
			m.IsEdns0().Option = []dns.EDNS0{
				&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{10, byte(i / 256), byte(i), 0}},
				&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: fmt.Sprintf("%016x", i)},
				&dns.EDNS0_LOCAL{Code: uint16(65001 + i%100), Data: []byte("x")},
			}
		})
		q.Deadline = time.Now().Add(time.Minute)
		tr := &message.Transaction{Query: q, Done: done.Done}
		done.Add(1)
		if c.Start(tr) {
			t.Fatalf("client %d got an answer from nowhere: %v", i, tr.Err)
		}
	}
	if n := c.flights.number(); n != 1 {
		t.Errorf("%d queries are with the upstream, want 1", n)
	}
	close(release)
	done.Wait()
	if n := up.calls.Load(); n != 1 {
		t.Errorf("%d queries to the upstream, want 1", n)
	}
}

// TestPrefetchTold: an answer for everybody is fetched anew for the network of the client that asked for it, so that it can become one for some.
func TestPrefetchTold(t *testing.T) {
	var clk clock
	g := telling(all32, 0)
	c := openTold(t, preset("weir"), g, clk.now)
	mustResolve(t, c, askFrom("192.0.2.1", clk.now()))
	clk.pass(299 * time.Second)
	for range 3 {
		mustResolve(t, c, askFrom("203.0.113.0/24", clk.now()))
	}
	f := <-c.fetches
	g.scope = func(message.Subnet) uint8 { return 24 }
	c.refresh(f.key[:f.size], f.hash)
	for _, tt := range []struct{ from, want string }{
		{"203.0.113.9", "203.0.113.0/24 for 24"},
		{"192.0.2.1", "192.0.2.1/32 for 0"},
	} {
		if got := given(t, c, askFrom(tt.from, clk.now())); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
		}
	}
	if got, want := g.heard(), "192.0.2.1/32 203.0.113.0/24"; got != want {
		t.Errorf("the upstream was told %q, want %q", got, want)
	}
}

// TestRestartTold: answers for networks are for the same networks after a restart, and a cache whose upstream is not told of any takes none.
func TestRestartTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits message.SubnetLimits
		want   map[string]string // by client, "" is a miss
	}{
		{"the same", all32, map[string]string{
			"192.0.2.9": "192.0.2.1/32 for 24", "203.0.113.9": "203.0.113.1/32 for 0", "0.0.0.0/0": "client subnet 0 for 0", "127.0.0.1": "203.0.113.1/32 for 0",
			"2001:db8::9": "2001:db8::1/128 for 24",
		}},
		{"not told", message.SubnetLimits{}, map[string]string{"192.0.2.9": "", "203.0.113.9": "", "0.0.0.0/0": "", "2001:db8::9": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var clk clock
			config := preset("weir", func(c *Config) { c.Snapshot = filepath.Join(t.TempDir(), "snapshots") })
			g := telling(all32, 24)
			first := New("test", config, g, Env{Now: clk.now, Subnets: all32, Log: slog.New(slog.DiscardHandler)})
			first.Restore(t.Context())
			for _, from := range []string{"0.0.0.0/0", "192.0.2.1", "2001:db8::1"} {
				mustResolve(t, first, askFrom(from, clk.now()))
			}
			g.scope = func(message.Subnet) uint8 { return 0 }
			mustResolve(t, first, askFrom("203.0.113.1", clk.now()))
			if err := first.Save(t.Context()); err != nil {
				t.Fatal(err)
			}
			first.Close()

			c := New("test", config, g, Env{Now: clk.now, Subnets: tt.limits, Log: slog.New(slog.DiscardHandler)})
			t.Cleanup(c.Close)
			c.Restore(t.Context())
			for from, want := range tt.want {
				q := askFrom(from, clk.now())
				r, ok := c.Cached(q, nil)
				got := ""
				if ok {
					got = fmt.Sprintf("%s for %d", unpack(t, q, r).Answer[0].(*dns.TXT).Txt[0], r.Scope)
				}
				if got != want {
					t.Errorf("%s: got %q, want %q", from, got, want)
				}
			}
		})
	}
}

// TestExplainTold: a trace says for whom an answer is.
func TestExplainTold(t *testing.T) {
	var clk clock
	c := openTold(t, preset("weir"), telling(all32, 24), clk.now)
	got := ""
	for range 2 {
		q := askFrom("192.0.2.1", clk.now())
		q.Trace = &message.Trace{}
		mustResolve(t, c, q)
		got += explained(q)
	}
	want := "cache test: miss: asking the upstream\ncache test: stored for 300 s (success), for 192.0.2.0/24\n" +
		"cache test: hit: success, 0 s old, 300 s left, for 192.0.2.0/24\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestTailored: a response tells the listener whether to give the option back.
func TestTailored(t *testing.T) {
	for _, tt := range []struct {
		name string
		told message.SubnetLimits
		want bool
	}{{"told", all32, true}, {"not told", message.SubnetLimits{}, false}} {
		t.Run(tt.name, func(t *testing.T) {
			var clk clock
			c := openTold(t, preset("weir"), telling(tt.told, 24), clk.now)
			for _, state := range []string{"new", "cached"} {
				if r := mustResolve(t, c, askFrom("192.0.2.1", clk.now())); r.Tailored != tt.want {
					t.Errorf("%s: tailored %t, want %t", state, r.Tailored, tt.want)
				}
			}
		})
	}
}

// TestToldAllocates: a hit allocates nothing, even among as many networks as there may be.
func TestToldAllocates(t *testing.T) {
	g := telling(all32, 24)
	c := openTold(t, preset("weir"), g, nil)
	for i := range maxSubnets {
		mustResolve(t, c, askFrom(fmt.Sprintf("192.0.%d.0/24", i), time.Now()))
	}
	q, dst := askFrom("192.0.7.1", time.Now()), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := c.Cached(q, dst); !ok {
			t.Fatal("miss")
		}
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkHitTold(b *testing.B) {
	for _, n := range []int{0, 1, maxSubnets} { // answers for networks; 0 is one for all
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := telling(all32, 24)
			if n == 0 {
				g.scope = func(message.Subnet) uint8 { return 0 }
			}
			c := openTold(b, preset("weir"), g, nil)
			for i := range max(n, 1) {
				mustResolve(b, c, askFrom(fmt.Sprintf("192.0.%d.0/24", i), time.Now()))
			}
			q, dst := askFrom("192.0.0.1", time.Now()), make([]byte, 0, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := c.Cached(q, dst); !ok {
					b.Fatal("miss")
				}
			}
		})
	}
}
