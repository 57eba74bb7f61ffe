package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
)

// scripted is a filter made of two functions.
type scripted struct {
	name, role      string
	interest        Interest
	skip            bool
	query, response func(c *Call) (Verdict, error)
	calls           int
}

func (s *scripted) Name() string       { return s.name }
func (s *scripted) Role() string       { return s.role }
func (s *scripted) Interest() Interest { return s.interest }
func (s *scripted) Skip() bool         { return s.skip }
func (s *scripted) Call(c *Call) (Verdict, error) {
	s.calls++
	if c.Response == nil {
		return s.query(c)
	}
	return s.response(c)
}

func onQuery(name string, f func(c *Call) (Verdict, error)) *scripted {
	return &scripted{name: name, interest: Interest{Query: true}, query: f}
}

const all = 1<<26 - 1

func onResponse(name string, f func(c *Call) (Verdict, error)) *scripted {
	return &scripted{name: name, interest: Interest{Classes: all}, response: f}
}

// fixed is an upstream that gives one answer to everything: an A record, an RCODE, or an error.
type fixed struct {
	name   string
	addr   string
	rcode  uint16
	err    error
	cached bool
	scope  uint8 // of its answers, which are tailored then
	asked  []string
	left   []time.Duration
	now    func() time.Time
}

func (u *fixed) Name() string { return u.name }

func (u *fixed) Cached(q *message.Query, dst []byte) (message.Response, bool) {
	if !u.cached {
		return message.Response{}, false
	}
	return u.respond(q, dst), true
}

func (u *fixed) Resolve(_ context.Context, q *message.Query, dst []byte) (message.Response, error) {
	u.asked = append(u.asked, message.NameString(q.Name))
	u.left = append(u.left, q.Deadline.Sub(u.now()))
	if u.err != nil {
		return message.Response{}, u.err
	}
	return u.respond(q, dst), nil
}

func (u *fixed) Start(t *message.Transaction) bool {
	go func() {
		t.Response, t.Err = u.Resolve(context.Background(), t.Query, t.Dst)
		t.Done()
	}()
	return false
}

func (u *fixed) respond(q *message.Query, dst []byte) message.Response {
	var r message.Response
	r.SetRCODE(dst, q, u.rcode)
	r.Tailored, r.Scope = u.scope > 0, u.scope
	if u.addr != "" && q.Type == message.TypeA {
		r.Message = append(r.Message, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		r.Message = append(r.Message, netip.MustParseAddr(u.addr).AsSlice()...)
		r.Message[7], r.Class = 1, message.NOERROR
	}
	return r
}

var epoch = time.Unix(1_000_000_000, 0)

func clock() time.Time { return epoch }

// answer makes a response with one A record, as a filter does.
func answer(c *Call, addr string) (Verdict, error) {
	var r message.Response
	r.SetRCODE(nil, c.Query, message.NOERROR)
	c.Octets = append(c.Octets, r.Message...)
	c.Octets[7] = 1
	c.Octets = append(c.Octets, 0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
	c.Octets = append(c.Octets, netip.MustParseAddr(addr).AsSlice()...)
	return Verdict{Action: Respond}, nil
}

func question(name string, qtype uint16) []byte {
	wire, err := message.ParseName(name)
	if err != nil {
		panic(err)
	}
	wire = binary.BigEndian.AppendUint16(wire, qtype)
	return binary.BigEndian.AppendUint16(wire, message.ClassIN)
}

// result is what a client sees, on a line: RCODE, then the addresses with their owners.
func result(t *testing.T, x *Exchange) string {
	t.Helper()
	if x.Dropped {
		return "dropped"
	}
	m := new(dns.Msg)
	wire := x.Response.Finish(&x.Query, message.MaxSize)
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("the response does not parse: %v\n%x", err, wire)
	}
	if got, want := m.Question[0].Name, "www.Example.test."; got != want {
		t.Errorf("the response has the question %s, want %s", got, want)
	}
	s := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		s = append(s, rr.Header().Name, rr.(*dns.A).A.String())
	}
	if len(x.Response.EDE) > 0 {
		s = append(s, "EDE", dns.ExtendedErrorCodeToString[message.EDECode(x.Response.EDE)])
	}
	return strings.Join(s, " ")
}

func exchange(t testing.TB) *Exchange {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.Example.test.", dns.TypeA)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	x := new(Exchange)
	if rcode, ok := x.Query.Parse(wire); !ok {
		t.Fatalf("Parse: %s", message.RCODEString(rcode))
	}
	x.Query.Deadline = epoch.Add(1800 * time.Millisecond)
	x.Query.Scope = message.None
	return x
}

func TestWalk(t *testing.T) {
	boom := errors.New("boom")
	next := func(*Call) (Verdict, error) { return Verdict{}, nil }
	forward := func(n int) func(*Call) (Verdict, error) {
		return func(*Call) (Verdict, error) { return Verdict{Action: Forward, Upstream: n}, nil }
	}
	// retry asks upstream 1, then takes the better of the two by the rule of best answers.
	retry := func(c *Call) (Verdict, error) {
		switch {
		case c.Attempt == 0 && c.Response.RCODE == message.NXDOMAIN:
			return Verdict{Action: Forward, Upstream: 1}, nil
		case c.Attempt > 0 && c.Response.RCODE != message.NOERROR:
			return Verdict{Action: Kept}, nil
		}
		return Verdict{}, nil
	}
	// settle does so too, but for answers.
	settle := func(c *Call) (Verdict, error) {
		if c.Attempt == 0 {
			return Verdict{Action: Forward, Upstream: 1, Options: Settle}, nil
		}
		return Verdict{Action: Kept}, nil
	}
	ask := func(name string) func(*Call) (Verdict, error) {
		return func(c *Call) (Verdict, error) {
			c.Octets = append(c.Octets, question(name, message.TypeA)...)
			return Verdict{Action: Ask}, nil
		}
	}
	rewriteTo := func(name string) *scripted {
		return onQuery("rewrite", func(c *Call) (Verdict, error) {
			c.Octets = append(c.Octets, question(name, message.TypeA)...)
			return Verdict{Action: Rewrite}, nil
		})
	}
	for _, tt := range []struct {
		name      string
		filters   []Filter
		upstreams [3]fixed
		noDefault bool
		routes    bool
		want      string
		asked     [3]string // names that each upstream was asked for
	}{
		{
			name: "no filters", upstreams: [3]fixed{{addr: "192.0.2.1"}},
			want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"www.Example.test."},
		},
		{name: "no upstream", noDefault: true, want: "REFUSED EDE Not Authoritative"},
		{
			name: "the last forward counts", filters: []Filter{onQuery("a", forward(2)), onQuery("b", forward(1)), onQuery("c", next)},
			upstreams: [3]fixed{{addr: "192.0.2.1"}, {addr: "192.0.2.2"}, {addr: "192.0.2.3"}},
			want:      "NOERROR www.Example.test. 192.0.2.2", asked: [3]string{1: "www.Example.test."},
		},
		{
			name: "a filter answers",
			filters: []Filter{onQuery("a", forward(1)), onQuery("b", func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") }),
				onQuery("never", func(*Call) (Verdict, error) { panic("called") })},
			want: "NOERROR www.Example.test. 192.0.2.9",
		},
		{
			name: "an RCODE with an EDE", filters: []Filter{onQuery("a", func(c *Call) (Verdict, error) {
				c.EDE = message.EDEProhibited
				return Verdict{Action: Respond, RCODE: message.REFUSED}, nil
			})}, want: "REFUSED EDE Prohibited",
		},
		{name: "drop", filters: []Filter{onQuery("a", func(*Call) (Verdict, error) { return Verdict{Action: Drop}, nil })}, want: "dropped"},
		{
			name:      "the response phase replaces",
			filters:   []Filter{onResponse("a", func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") })},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.9", asked: [3]string{"www.Example.test."},
		},
		{
			name: "an alternate answers", filters: []Filter{onResponse("a", retry)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {addr: "192.0.2.2"}},
			want:      "NOERROR www.Example.test. 192.0.2.2", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "the first answer is kept", filters: []Filter{onResponse("a", retry)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {rcode: message.REFUSED}},
			want:      "NXDOMAIN", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "the first answer is kept when the alternate is dead", filters: []Filter{onResponse("a", retry)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {err: boom}},
			want:      "NXDOMAIN", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "who settles for an answer is not called for one", filters: []Filter{onResponse("a", settle)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {addr: "192.0.2.2"}},
			want:      "NOERROR www.Example.test. 192.0.2.2", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "an empty answer is none", filters: []Filter{onResponse("a", settle)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {}},
			want:      "NXDOMAIN", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "nor is a name error", filters: []Filter{onResponse("a", settle)},
			upstreams: [3]fixed{{rcode: message.SERVFAIL}, {rcode: message.NXDOMAIN}},
			want:      "SERVFAIL", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "another filter above is called for the answer", filters: []Filter{
				onResponse("b", func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") }), onResponse("a", settle)},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {addr: "192.0.2.2"}},
			want:      "NOERROR www.Example.test. 192.0.2.9", asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "a dead upstream is a SERVFAIL", upstreams: [3]fixed{{err: boom}},
			want: "SERVFAIL EDE No Reachable Authority", asked: [3]string{"www.Example.test."},
		},
		{
			name: "rewrite restores the question and its owners", filters: []Filter{rewriteTo("longer.name.example.test")},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"longer.name.example.test."},
		},
		{
			name: "rewrite twice", filters: []Filter{rewriteTo("one.test"), rewriteTo("two.test")},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"two.test."},
		},
		{
			name: "a response filter between sees the rewritten question", filters: []Filter{rewriteTo("one.test"),
				onResponse("b", func(c *Call) (Verdict, error) {
					if got := message.NameString(c.Query.Name); got != "one.test." {
						return Verdict{}, errors.New(got)
					}
					return Verdict{}, nil
				})},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"one.test."},
		},
		{
			name: "an alternate is asked the original question", filters: []Filter{rewriteTo("one.test"),
				onResponse("b", func(c *Call) (Verdict, error) {
					if c.Attempt == 0 {
						return Verdict{Action: Forward, Upstream: 1, Options: Original}, nil
					}
					return Verdict{}, nil
				})},
			upstreams: [3]fixed{{rcode: message.NXDOMAIN}, {addr: "192.0.2.2"}},
			want:      "NOERROR www.Example.test. 192.0.2.2", asked: [3]string{"one.test.", "www.Example.test."},
		},
		{
			name: "ask on the way down goes through what is below", filters: []Filter{
				&scripted{name: "a", interest: Interest{Query: true}, query: ask("target.test"), response: func(c *Call) (Verdict, error) {
					if !c.Asked || c.Response.RCODE != message.NOERROR || message.NameString(c.Query.Name) != "www.Example.test." {
						return Verdict{}, errors.New("not what was asked")
					}
					return answer(c, "192.0.2.9")
				}},
				onQuery("b", forward(1)),
			},
			upstreams: [3]fixed{{}, {addr: "192.0.2.2"}}, want: "NOERROR www.Example.test. 192.0.2.9", asked: [3]string{1: "target.test."},
		},
		{
			name: "ask on the way up, then kept", filters: []Filter{onResponse("a", func(c *Call) (Verdict, error) {
				if c.Attempt == 0 {
					return ask("other.test")(c)
				}
				return Verdict{Action: Kept}, nil
			})},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"www.Example.test. other.test."},
		},
		{
			name: "an asked answer can't be passed on", filters: []Filter{onResponse("a", func(c *Call) (Verdict, error) {
				if c.Attempt == 0 {
					return ask("other.test")(c)
				}
				return Verdict{}, nil
			})},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "SERVFAIL EDE Other", asked: [3]string{"www.Example.test. other.test."},
		},
		{
			name: "filters that ask each other for ever", filters: []Filter{
				&scripted{name: "a", interest: Interest{Classes: all}, response: ask("loop.test")},
			},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "SERVFAIL EDE Other",
			asked: [3]string{"www.Example.test. loop.test. loop.test. loop.test. loop.test. loop.test. loop.test. loop.test. loop.test."},
		},
		{name: "a fault", filters: []Filter{onQuery("a", func(*Call) (Verdict, error) { return Verdict{}, boom })}, want: "SERVFAIL EDE Other"},
		{
			name: "a fault that is skipped", filters: []Filter{&scripted{name: "a", skip: true, interest: Interest{Query: true, Classes: all},
				query:    func(*Call) (Verdict, error) { return Verdict{}, boom },
				response: func(*Call) (Verdict, error) { return Verdict{}, boom }}},
			upstreams: [3]fixed{{addr: "192.0.2.1"}}, want: "NOERROR www.Example.test. 192.0.2.1", asked: [3]string{"www.Example.test."},
		},
		{
			name: "a fault after an alternate, skipped", filters: []Filter{&scripted{name: "a", skip: true, interest: Interest{Classes: all},
				response: func(c *Call) (Verdict, error) {
					if c.Attempt > 0 {
						return Verdict{}, boom
					}
					return Verdict{Action: Forward, Upstream: 1}, nil
				}}},
			upstreams: [3]fixed{{addr: "192.0.2.1"}, {rcode: message.NXDOMAIN}}, want: "NOERROR www.Example.test. 192.0.2.1",
			asked: [3]string{"www.Example.test.", "www.Example.test."},
		},
		{
			name: "octets that are no message", filters: []Filter{onQuery("a", func(c *Call) (Verdict, error) {
				c.Octets = append(c.Octets, "not a message, but long enough to be one"...)
				return Verdict{Action: Respond}, nil
			})}, want: "SERVFAIL EDE Other",
		},
		{
			name: "an upstream that does not exist", filters: []Filter{onQuery("a", forward(7))}, want: "SERVFAIL EDE Other",
		},
		{
			name: "precedence of rules", routes: true,
			filters: []Filter{
				&scripted{name: "authority", role: RoleAuthority, interest: Interest{Query: true}, query: func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") }},
				&scripted{name: "rules", role: RoleRoute, interest: Interest{Query: true}, query: forward(1)},
			},
			upstreams: [3]fixed{{}, {addr: "192.0.2.2"}}, want: "NOERROR www.Example.test. 192.0.2.2", asked: [3]string{1: "www.Example.test."},
		},
	} {
		for way, goOn := range map[string]func(x *Exchange){"Complete": func(x *Exchange) { x.Complete(t.Context()) }, "Start": start} {
			t.Run(tt.name+", "+way, func(t *testing.T) {
				var ups []Upstream
				fakes := tt.upstreams
				for i := range fakes {
					u := &fakes[i]
					u.name, u.now = string(rune('a'+i)), clock
					ups = append(ups, u)
				}
				fallback := 0
				if tt.noDefault {
					fallback = -1
				}
				c := New("main", tt.filters, ups, fallback, tt.routes, clock)
				x := exchange(t)
				x.Query.Trace = new(message.Trace)
				deadline := x.Query.Deadline
				if !c.Begin(x) {
					goOn(x)
				}
				if got := result(t, x); got != tt.want {
					t.Errorf("got %q, want %q\n%v", got, tt.want, x.Query.Trace.Steps)
				}
				if x.Query.Deadline != deadline {
					t.Errorf("the query's deadline is %v, was %v", x.Query.Deadline, deadline)
				}
				for i := range fakes {
					if got := strings.Join(fakes[i].asked, " "); got != tt.asked[i] {
						t.Errorf("upstream %d was asked %q, want %q", i, got, tt.asked[i])
					}
				}
			})
		}
	}
}

// start takes x to its end by Start, as a listener does.
func start(x *Exchange) {
	wake := make(chan struct{}, 1)
	x.Wake = func() { wake <- struct{}{} }
	for !x.Start() {
		<-wake
	}
}

// No filter is called a second time because the query had to wait.
func TestBeginStops(t *testing.T) {
	f := onQuery("a", func(*Call) (Verdict, error) { return Verdict{}, nil })
	up := &fixed{name: "up", addr: "192.0.2.1", now: clock}
	c := New("main", []Filter{f}, []Upstream{up}, 0, false, clock)
	x := exchange(t)
	if c.Begin(x) {
		t.Fatal("Begin was done without an answer in the cache")
	}
	c.Complete(t.Context(), x)
	if f.calls != 1 {
		t.Errorf("the filter was called %d times, want once", f.calls)
	}
	up.cached = true
	if x = exchange(t); !c.Begin(x) {
		t.Error("Begin stopped although the answer was in the cache")
	}
}

// What a filter makes of an answer for a network is for no larger one; what it makes of nothing is for all.
func TestFilterKeepsScope(t *testing.T) {
	up := &fixed{name: "up", addr: "192.0.2.1", now: clock, cached: true, scope: 20}
	for _, tt := range []struct {
		name   string
		filter *scripted
		want   uint8
	}{
		{"no filter's", onQuery("a", func(*Call) (Verdict, error) { return Verdict{}, nil }), 20},
		{"made of an answer", onResponse("a", func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") }), 20},
		{"made of nothing", onQuery("a", func(c *Call) (Verdict, error) { return answer(c, "192.0.2.9") }), 0},
		{"made of two answers", onResponse("a", func(c *Call) (Verdict, error) {
			if c.Asked {
				return answer(c, "192.0.2.9")
			}
			c.Octets = append(c.Octets, question("other.test.", message.TypeA)...)
			return Verdict{Action: Ask}, nil
		}), 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := exchange(t)
			if c := New("main", []Filter{tt.filter}, []Upstream{up}, 0, false, clock); !c.Begin(x) {
				t.Fatal("Begin was not done")
			}
			if r := x.Response; r.Tailored != (tt.want > 0) || r.Scope != tt.want {
				t.Errorf("tailored %t, scope %d, want %d", r.Tailored, r.Scope, tt.want)
			}
		})
	}
}

// An upstream may not spend the time that an alternate would need.
func TestTimeIsShared(t *testing.T) {
	retry := onResponse("alternate", func(c *Call) (Verdict, error) {
		if c.Attempt == 0 {
			return Verdict{Action: Forward, Upstream: 1}, nil
		}
		return Verdict{}, nil
	})
	ups := []Upstream{&fixed{name: "a", err: errors.New("silent"), now: clock}, &fixed{name: "b", addr: "192.0.2.1", now: clock}}
	c := New("main", []Filter{retry}, ups, 0, false, clock)
	x := exchange(t)
	c.Begin(x)
	c.Complete(t.Context(), x)
	for i, want := range []time.Duration{900 * time.Millisecond, 1350 * time.Millisecond} { // the clock of the test stands still
		if got := ups[i].(*fixed).left; len(got) != 1 || got[0] != want {
			t.Errorf("upstream %d had %v, want %v", i, got, want)
		}
	}
}

func TestBeginDoesNotAllocate(t *testing.T) {
	up := &fixed{name: "up", cached: true, now: clock}
	next := func(*Call) (Verdict, error) { return Verdict{}, nil }
	c := New("main", []Filter{onQuery("a", next), onQuery("b", next), onResponse("c", next)}, []Upstream{up}, 0, false, clock)
	x := exchange(t)
	c.Begin(x)
	if n := testing.AllocsPerRun(100, func() {
		if !c.Begin(x) {
			t.Fatal("not done")
		}
	}); n != 0 {
		t.Errorf("Begin allocates %v times, want 0", n)
	}
}

func BenchmarkBegin(b *testing.B) {
	up := &fixed{name: "up", cached: true, now: clock}
	next := func(*Call) (Verdict, error) { return Verdict{}, nil }
	c := New("main", []Filter{onQuery("a", next), onQuery("b", next), onResponse("c", next)}, []Upstream{up}, 0, false, clock)
	x := exchange(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Begin(x)
	}
}
