package listener

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// TestWildcard: on a wildcard address the response comes from the address that the query went to. A connected socket, as clients have,
// takes it from nowhere else.
func TestWildcard(t *testing.T) {
	if !canShare {
		t.Skip("needs IP_PKTINFO")
	}
	tests := []struct{ listen, to, client string }{
		{"0.0.0.0:0", "127.0.0.2", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.1", "127.0.0.1"},
		{":0", "127.0.0.2", "127.0.0.1"},
		{":0", "::1", "::1"},
		{"[::]:0", "::1", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.listen+" to "+tt.to, func(t *testing.T) {
			if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil && strings.Contains(tt.to, ":") {
				t.Skip("no IPv6")
			} else if err == nil {
				ln.Close()
			}
			r := start(t, nil, Config{Address: tt.listen})
			r.addr = net.JoinHostPort(tt.to, fmt.Sprint(r.Addr().Port()))
			for _, network := range networks {
				c := r.dial(t, network)
				if got := unpack(t, exchange(t, c, query(1, "www.example", false))); got.Rcode != 0 {
					t.Errorf("%s: got %v", network, got)
				}
				if got := r.last().Client.Addr(); got != netip.MustParseAddr(tt.client) {
					t.Errorf("%s: client is %v, want %v", network, got, tt.client)
				}
			}
			// The same for what had to wait.
			c := r.dial(t, "udp")
			send(t, c, query(2, "slow.example", false))
			r.open("slow.example.")
			if got := unpack(t, receive(t, c)); got.Rcode != 0 {
				t.Errorf("waiting: got %v", got)
			}
		})
	}
}

func TestOversizedQuery(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "udp")
	// The octets that fit are a good query; what was cut off nobody knows.
	whole := mt.Join(mt.Header(3, 0, 1, 0, 0, 1), mt.Question("www.example", message.TypeA))
	whole = append(whole, mt.Record([]byte{0}, 65280, make([]byte, maxQuery-len(whole)-11)...)...)
	if got := unpack(t, exchange(t, c, whole)); got.Rcode != dns.RcodeSuccess {
		t.Errorf("%d octets: got %v", len(whole), got)
	}
	if got := unpack(t, exchange(t, c, append(whole, 0))); got.Rcode != dns.RcodeFormatError || got.Id != 3 {
		t.Errorf("one octet more: got %v", got)
	}
}

// TestShed: above the limit a query is answered without waiting, and below it again it is waited for.
func TestShed(t *testing.T) {
	r := start(t, nil, Config{MaxInFlight: 2})
	waiting := r.dial(t, "udp")
	send(t, waiting, query(1, "slow.1", false))
	send(t, waiting, query(2, "slow.2", false))
	r.wantWaiting(t, "slow.1.", "slow.2.")
	r.wantMetric(t, 2, "in_flight", "udp")
	c := r.dial(t, "udp")
	for range 10 {
		got := unpack(t, exchange(t, c, query(3, "slow.3", true)))
		if got.Rcode != dns.RcodeServerFailure || !strings.Contains(got.String(), "too many queries") {
			t.Errorf("above the limit: got %v", got)
		}
		if got := unpack(t, exchange(t, c, query(4, "www.example", false))); got.Rcode != 0 {
			t.Errorf("what needs no waiting: got %v", got)
		}
	}
	r.wantMetric(t, 10, "shed_total", "udp")
	// TCP has a limit of its own.
	tcp := r.dial(t, "tcp")
	send(t, tcp, query(5, "slow.5", false))
	r.wantWaiting(t, "slow.5.")
	for id, name := range []string{1: "slow.1.", 2: "slow.2."} {
		if name == "" {
			continue
		}
		r.open(name)
		if got := receive(t, waiting); idOf(got) != uint16(id) {
			t.Errorf("got %x", got)
		}
	}
	// The place is free once the response is out and its job is put back, which is a moment later.
	for {
		send(t, waiting, query(6, "slow.6", false))
		select {
		case <-r.waiting:
			for _, name := range []string{"slow.5.", "slow.6."} {
				r.open(name)
			}
			return
		case got := <-receiveSoon(waiting):
			if unpack(t, got).Rcode != dns.RcodeServerFailure {
				t.Fatalf("got %x", got)
			}
		}
	}
}

// TestShedGreedy: a client that fills the room gets three quarters of it, and others are waited for still.
func TestShedGreedy(t *testing.T) {
	const room = 16
	r := start(t, nil, Config{MaxInFlight: room})
	greedy := r.dial(t, "udp")
	var names []string
	for i := range room * 3 / 4 {
		name := fmt.Sprintf("slow.%d", i)
		send(t, greedy, query(uint16(i), name, false))
		names = append(names, name+".")
	}
	r.wantWaiting(t, names...)
	if got := unpack(t, exchange(t, greedy, query(100, "slow.100", true))); got.Rcode != dns.RcodeServerFailure || !strings.Contains(got.String(), "too many queries") {
		t.Errorf("the greedy one got %v", got)
	}
	r.wantMetric(t, 1, "shed_total", "udp")
	other, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetDeadline(time.Now().Add(limit))
	send(t, other, query(200, "slow.200", false))
	r.wantWaiting(t, "slow.200.")
	for _, name := range append(names, "slow.200.") {
		r.open(name)
	}
	if got := receive(t, other); idOf(got) != 200 {
		t.Errorf("the other got %x", got)
	}
	r.stop()
	if n := r.udpIn.waiting.shares.Len(); n != 0 {
		t.Errorf("%d queries are still counted", n)
	}
}

// stale has an answer for whoever can't wait.
type stale struct{}

func (s stale) Begin(*chain.Exchange) bool { return false }

func (s stale) Complete(ctx context.Context, x *chain.Exchange) {
	if ctx.Err() == nil {
		panic("has to be told not to wait")
	}
	respond(x, 1)
}

// TestShedWithAnswer: a query is not refused when the handler has something for it without waiting.
func TestShedWithAnswer(t *testing.T) {
	e, j, msg, client := fastPath(t)
	e.handler = stale{}
	if _, done := e.begin(j, msg, true, client, e.now()); done {
		t.Fatal("the query does not wait")
	}
	if got := unpack(t, e.shed(j)); got.Rcode != 0 || len(got.Answer) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestWarningsAreFew(t *testing.T) {
	var log strings.Builder
	now := time.Unix(1000, 0)
	e := &entrance{log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	for i := range 1000 {
		e.warn("again", io.EOF)
		if i == 500 {
			now = now.Add(time.Second)
		}
	}
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("got %d lines in two seconds, want 2", got)
	}
}

func receiveSoon(c net.Conn) <-chan []byte {
	ch := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 512)
		if n, err := c.Read(buf); err == nil {
			ch <- buf[:n]
		}
	}()
	return ch
}

// echo answers at once from a buffer of its own.
type echo struct {
	script
	response []byte
}

func newEcho() *echo {
	msg := mt.Join(mt.Header(0, message.FlagQR, 1, 1, 0, 0), mt.Question("www.example", message.TypeA), mt.Record(mt.Pointer(12), message.TypeA, 192, 0, 2, 1))
	return &echo{response: append(make([]byte, 0, 512), msg...)}
}

func (e *echo) Begin(x *chain.Exchange) bool {
	x.Response = message.Response{Message: e.response, Upstream: message.None}
	return true
}

func fastPath(tb testing.TB) (*entrance, *job, []byte, netip.AddrPort) {
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main"}, 0, newEcho(), Env{})
	if err != nil {
		tb.Fatal(err)
	}
	return l.udpIn, l.jobs.get(), query(1, "www.example", true), netip.MustParseAddrPort("127.0.0.1:53")
}

// TestFastPathAllocations: from the octets of a query to those of its response nothing is allocated, nor is by refusing one.
func TestFastPathAllocations(t *testing.T) {
	e, j, msg, client := fastPath(t)
	for name, msg := range map[string][]byte{"answer": msg, "FORMERR": msg[:len(msg)-1], "NOTIMP": mt.Header(1, 4<<11, 1, 0, 0, 0), "ignored": msg[:5]} {
		t.Run(name, func(t *testing.T) {
			got := testing.AllocsPerRun(100, func() {
				if out, done := e.begin(j, msg, true, client, e.now()); !done || (out == nil) != (name == "ignored") {
					t.Fatal("not answered")
				}
			})
			if got != 0 {
				t.Errorf("got %v allocations, want none", got)
			}
		})
	}
}

// TestSocketAllocations: reading and writing datagrams allocates nothing either, on a wildcard address with its control messages too.
func TestSocketAllocations(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		t.Run(address, func(t *testing.T) {
			s, err := bindUDP(t.Context(), "udp4", address, false)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()                           //nolint:errcheck // nothing is lost
			client := bound(t, "udp4", "127.0.0.1:0") // a socket that asks itself is heard by its outlet only
			to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port())
			buf := make([]byte, maxQuery)
			var p peer
			msg := mt.Canary()
			got := testing.AllocsPerRun(100, func() {
				if _, err := client.conn.WriteToUDPAddrPort(msg, to); err != nil {
					t.Fatal(err)
				}
				if _, _, err := s.receive(buf, &p); err != nil {
					t.Fatal(err)
				}
				s.send(msg, &p)
				if _, _, err := client.receive(buf, &p); err != nil {
					t.Fatal(err)
				}
			})
			if got != 0 {
				t.Errorf("got %v allocations, want none", got)
			}
		})
	}
}

func TestJobsAreBounded(t *testing.T) {
	var p jobs
	var all []*job
	for range 2 * jobsKept {
		all = append(all, p.get())
	}
	all[0].query = make([]byte, 0, 60000)
	all[1].broken = true
	for _, j := range all {
		p.put(j)
	}
	if len(p.free) != jobsKept {
		t.Errorf("got %d jobs, want %d", len(p.free), jobsKept)
	}
	for _, j := range p.free {
		if cap(j.query) > jobQuery || j.broken {
			t.Errorf("a job with %d octets is kept, broken: %v", cap(j.query), j.broken)
		}
	}
}

// BenchmarkUDP is a query over loopback and its response, clients included: each has one query in flight.
func BenchmarkUDP(b *testing.B) {
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main"}, 0, newScript(), Env{})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Listen(b.Context()); err != nil {
		b.Fatal(err)
	}
	l.udpIn.handler = answering{}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- l.Serve(ctx) }()
	msg := query(1, "www.example", true)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp", l.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 512)
		for pb.Next() {
			c.SetDeadline(time.Now().Add(limit))
			if _, err := c.Write(msg); err != nil {
				b.Error(err)
			}
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
			}
		}
	})
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// answering answers in the octets that the exchange has from the query before.
type answering struct{ *script }

func (answering) Begin(x *chain.Exchange) bool {
	msg := append(x.Response.Message[:0], 0, 0, message.FlagQR>>8, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	x.Response = message.Response{Message: x.Query.AppendWire(msg), Upstream: message.None}
	return true
}

// BenchmarkBegin is a query without the system: parse, an answer at hand, finish, metrics.
func BenchmarkBegin(b *testing.B) {
	e, j, msg, client := fastPath(b)
	b.ReportAllocs()
	for b.Loop() {
		e.begin(j, msg, true, client, e.now())
	}
}

// TestClock: a query by itself is timed to the moment; of a batch, one in lookEvery and the last.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		const step = time.Microsecond
		for _, tt := range []struct {
			name string
			late []time.Duration // how long ago each response of a batch is taken to have been answered
		}{
			{"one", []time.Duration{0}},
			{"two", []time.Duration{step, 0}},
			{"many", []time.Duration{step, 2 * step, 3 * step, 0, step, 2 * step, 3 * step, 0, step, 0}},
			{"one again", []time.Duration{0}},
		} {
			arrived := time.Now()
			for i, want := range tt.late {
				c.sparing(arrived, len(tt.late)-1-i)
				<-time.After(step)
				if got := time.Since(c.now()); got != want {
					t.Errorf("%s: response %d is timed %v too early, want %v", tt.name, i, got, want)
				}
			}
		}
	})
}

// TestStash takes jobs ahead: none is given twice, none is lost, and those that nobody needed are there for others.
func TestStash(t *testing.T) {
	var p jobs
	s := stash{jobs: &p}
	seen := make(map[*job]bool)
	take := func(get func() *job) *job {
		j := get()
		if seen[j] {
			t.Fatal("a job was given twice")
		}
		seen[j] = true
		return j
	}
	var out []*job
	for range 50 {
		out = append(out, take(s.get))
	}
	if p.made != 50 {
		t.Errorf("%d jobs were made, want 50: there were none to take ahead", p.made)
	}
	p.put(out...)
	clear(seen)
	for range 20 {
		take(s.get)
	}
	s.close()
	for range 30 {
		take(p.get)
	}
	if p.made != 50 || len(p.free) != 0 {
		t.Errorf("%d jobs were made and %d are left, want 50 and 0", p.made, len(p.free))
	}
}
