package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/abi"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/internal/cputime"
	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// hot serves the usual chain, with a zone of records names and as many rules as said, in front of an upstream that answers everything.
func hot(t testing.TB, records, rules int) *Server {
	t.Helper()
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: none.example. * -> NXDOMAIN; * A -> NOERROR 192.0.2.1")
	return hotBefore(t, up.Addr, records, rules)
}

// hotBefore is hot in front of another upstream.
func hotBefore(t testing.TB, up netip.AddrPort, records, rules int) *Server {
	t.Helper()
	dir := t.TempDir()
	var zone, list strings.Builder
	zone.WriteString("$ORIGIN held.test.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n")
	for i := range records {
		fmt.Fprintf(&zone, "host%d.rack%d IN A 10.%d.%d.%d\n", i, i%100, i>>16&255, i>>8&255, i&255)
	}
	for i := range rules {
		fmt.Fprintf(&list, "  { zone = \"dept%d.corp%d.test\", upstream = \"up\" },\n", i, i%100)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("held.zone", zone.String())
	write("weir.toml", fmt.Sprintf(`[admin]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
protocols = ["udp", "tcp"]
chain = "main"
[table.held]
zonefile = "held.zone"
[upstream.up]
servers = [%q]
[chain.main]
filters = ["authority", "rules", "alternate"]
upstream = "up"
[filter.authority.config]
zones = ["held"]
[filter.rules.config]
rule = [
%s]
[filter.alternate.config]
alternate = [ { rcodes = ["SERVFAIL"], upstream = "up" } ]
`, up.String(), list.String()))
	return serve(t, filepath.Join(dir, "weir.toml"))
}

// exchangeFor makes an exchange with a query as a listener does.
func exchangeFor(t testing.TB, name string) *chain.Exchange {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.SetEdns0(1232, false)
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	x := new(chain.Exchange)
	if rcode, ok := x.Query.Parse(wire); !ok {
		t.Fatalf("Parse: %s", message.RCODEString(rcode))
	}
	x.Query.Deadline = time.Now().Add(time.Hour)
	return x
}

// entryOf is the entry that a listener has into s, as it is now.
func entryOf(s *Server) *entry {
	e := new(entry)
	e.way.Store(&way{door: s.current.doors[0], users: new(users)})
	return e
}

// answer takes x to its end, and returns the RCODE.
func answer(t testing.TB, s *Server, x *chain.Exchange) uint16 {
	t.Helper()
	d := s.current.doors[0]
	if !d.Begin(x) {
		d.Complete(t.Context(), x)
	}
	return x.Response.RCODE
}

// What needs no waiting makes no allocation in the host: neither an answer from the cache, positive or negative, through three filters, nor one
// from a zone held here.
func TestHotQueriesDoNotAllocate(t *testing.T) {
	s := hot(t, 100, 100)
	for _, tt := range []struct{ name, qname string }{
		{"cached", "www.example."},
		{"cached, by a rule", "www.dept7.corp7.test."},
		{"cached NXDOMAIN", "none.example."},
		{"held here", "host7.rack7.held.test."},
		{"held here, NXDOMAIN", "none.held.test."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := exchangeFor(t, tt.qname)
			answer(t, s, x) // into the cache
			e := entryOf(s)
			buf := make([]byte, 0, 4096)
			if n := testing.AllocsPerRun(1000, func() {
				if !e.Begin(x) {
					t.Fatal("the query would wait")
				}
				r := x.Response
				r.Message = append(buf[:0], r.Message...)
				r.Finish(&x.Query, message.OwnSize)
			}); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

// A query through the default chain, without sockets.
func BenchmarkHot(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		s := hot(b, 10*size, size)
		for _, bb := range []struct{ name, qname string }{
			{"cached", "www.example."},
			{"rule", fmt.Sprintf("www.dept%d.corp%d.test.", size/2, size/2%100)},
			{"held", fmt.Sprintf("host%d.rack%d.held.test.", size/2, size/2%100)},
		} {
			b.Run(fmt.Sprintf("%s/rules=%d", bb.name, size), func(b *testing.B) {
				x := exchangeFor(b, bb.qname)
				answer(b, s, x)
				e := entryOf(s)
				defer cpuTime(b)()
				for b.Loop() {
					if !e.Begin(x) {
						b.Fatal("the query would wait")
					}
				}
			})
		}
	}
}

// One phase of a filter: authority with 100,000 names, rules with 10,000 rules, names at random.
func BenchmarkFilter(b *testing.B) {
	s := hot(b, 100_000, 10_000)
	for i, bb := range []struct {
		name  string
		qname func(i int) string
	}{
		{"authority", func(i int) string { return fmt.Sprintf("host%d.rack%d.held.test.", i*97%100_000, i*97%100_000%100) }},
		{"rules", func(i int) string { return fmt.Sprintf("www.dept%d.corp%d.test.", i*7%10_000, i*7%10_000%100) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			f := s.current.filters[i]
			if f.Name() != bb.name {
				b.Fatalf("filter %d is %s", i, f.Name())
			}
			var queries []message.Query
			for i := range 1024 {
				queries = append(queries, exchangeFor(b, bb.qname(i)).Query)
			}
			// One query is parsed after the other into the same place, as in a listener.
			query := queries[0]
			call := chain.Call{Query: &query, Octets: make([]byte, 0, 4096)}
			n := 0
			defer cpuTime(b)()
			for b.Loop() {
				q := &queries[n&1023]
				query.Message, query.Question, query.Labels = q.Message, q.Question, q.Labels
				call.Octets, call.EDE, call.Limit = call.Octets[:0], message.None, 1232
				v, err := f.Call(&call)
				if err != nil || v.Action == abi.Next {
					b.Fatalf("%s: %v, %v", message.NameString(q.Name), v, err)
				}
				n++
			}
		})
	}
}

// cpuTime begins a measurement of the CPU time of this thread, and returns what ends it. Unlike the time on the clock, it is hardly
// longer when others use the machine.
func cpuTime(b *testing.B) func() {
	b.ReportAllocs()
	runtime.LockOSThread()
	start := cputime.Thread()
	return func() {
		b.ReportMetric(float64(cputime.Thread()-start)/float64(b.N), "cpu-ns/op")
		runtime.UnlockOSThread()
	}
}
