package listener

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// limit bounds what a test waits for; nothing is decided by how long it takes.
const limit = 10 * time.Second

// script is a handler that does what the first label of the QNAME says; whatever it does not know it answers at once.
type script struct {
	waiting chan string            // gets the QNAME when Complete begins to wait for it
	mu      sync.Mutex             // guards following
	gates   map[string]chan string // Complete waits for the gate of the QNAME, or for the end of its context
	seen    []message.Query
}

func newScript() *script {
	return &script{waiting: make(chan string, 10000), gates: map[string]chan string{}}
}

func (s *script) gate(name string) chan string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[name] == nil {
		s.gates[name] = make(chan string)
	}
	return s.gates[name]
}

// open lets the query for name be answered; it is being waited for.
func (s *script) open(name string) { close(s.gate(name)) }

// last returns the query that came last. Its octets may be gone.
func (s *script) last() message.Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

// count is how many queries came.
func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func (s *script) Begin(x *chain.Exchange) bool {
	x.Dropped = false
	s.mu.Lock()
	s.seen = append(s.seen, x.Query)
	s.mu.Unlock()
	name := message.NameString(x.Query.Key)
	switch label, _, _ := strings.Cut(name, "."); label {
	case "slow", "late-panic":
		return false
	case "drop":
		x.Dropped = true
	case "panic":
		panic("scripted")
	case "broken":
		x.Response = message.Response{}
	case "big":
		respond(x, 60)
	case "ttl", "nodata":
		records(x, label == "nodata")
	default:
		respond(x, 1)
	}
	return true
}

func (s *script) Complete(ctx context.Context, x *chain.Exchange) {
	name := message.NameString(x.Query.Key)
	if strings.HasPrefix(name, "late-panic") {
		panic("scripted")
	}
	select {
	case <-ctx.Done():
		x.Response.SetRCODE(nil, &x.Query, message.SERVFAIL)
		x.Response.Silent = true
		return
	default:
	}
	s.waiting <- name
	select {
	case <-s.gate(name):
		respond(x, 1)
	case <-ctx.Done():
		x.Response.SetRCODE(nil, &x.Query, message.SERVFAIL)
		x.Response.Silent = true
	}
}

func respond(x *chain.Exchange, records uint16) {
	msg := mt.Join(mt.Header(0, message.FlagQR, 1, records, 0, 0), x.Query.AppendWire(nil))
	for range records {
		msg = append(msg, mt.Record(mt.Pointer(12), 16, mt.Join([]byte{99}, mt.Repeat(99, 'x'))...)...)
	}
	x.Response = message.Response{Message: msg, Upstream: message.None}
}

// records answers with an address, or that there is none.
func records(x *chain.Exchange, nodata bool) {
	owner := mt.Pointer(12)
	ttl := func(record []byte, ttl byte) []byte {
		record[len(owner)+6], record[len(owner)+7] = 0, ttl
		return record
	}
	msg := mt.Join(mt.Header(0, message.FlagQR, 1, 1, 0, 0), x.Query.AppendWire(nil), ttl(mt.Record(owner, message.TypeA, 192, 0, 2, 1), 17))
	if nodata {
		soa := mt.Join(mt.Name("ns.example"), mt.Name("hostmaster.example"), make([]byte, 19), []byte{9})
		msg = mt.Join(mt.Header(0, message.FlagQR, 1, 0, 1, 0), x.Query.AppendWire(nil), ttl(mt.Record(owner, message.TypeSOA, soa...), 200))
	}
	x.Response = message.Response{Message: msg, Upstream: message.None}
}

// running is a listener that serves until the end of the test, or until stop.
type running struct {
	*Listener
	*script
	addr string
	stop func() // ends the listener and waits for it
	reg  *prometheus.Registry
	log  *bytes.Buffer // read it after stop
}

func start(t *testing.T, change func(*Listener), config Config) *running {
	t.Helper()
	orDefault(&config.Address, "127.0.0.1:0")
	orDefault(&config.Chain, "main")
	r := &running{script: newScript(), reg: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	l, err := New(config, 7, r.script, Env{Log: slog.New(slog.NewTextHandler(r.log, nil)), Metrics: NewMetrics(r.reg), Budget: limit, Grace: limit})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(l)
	}
	if err := l.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	r.Listener, r.addr = l, l.Addr().String()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// metric returns a counter or gauge.
func (r *running) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != "weir_listener_"+name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			text := fmt.Sprint(m.GetLabel())
			for _, l := range labels {
				if !strings.Contains(text, `"`+l+`"`) {
					continue metrics
				}
			}
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}

func (r *running) wantMetric(t *testing.T, want float64, name string, labels ...string) {
	t.Helper()
	if got := r.metric(t, name, labels...); got != want {
		t.Errorf("%s %v: got %v, want %v", name, labels, got, want)
	}
}

func (r *running) wantWaiting(t *testing.T, names ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, n := range names {
		left[n] = true
	}
	for len(left) > 0 {
		select {
		case n := <-r.waiting:
			delete(left, n)
		case <-time.After(limit):
			t.Fatalf("%v are not being waited for", left)
		}
	}
}

// dial opens a connection or a UDP socket to the listener.
func (r *running) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(limit))
	return c
}

// exchange sends octets and returns the response.
func exchange(t *testing.T, c net.Conn, query []byte) []byte {
	t.Helper()
	send(t, c, query)
	return receive(t, c)
}

func send(t *testing.T, c net.Conn, query []byte) {
	t.Helper()
	if _, datagrams := c.(*net.UDPConn); !datagrams {
		query = mt.Join([]byte{byte(len(query) >> 8), byte(len(query))}, query)
	}
	if _, err := c.Write(query); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) []byte {
	t.Helper()
	dc := dns.Conn{Conn: c, UDPSize: 65535}
	buf, err := dc.ReadMsgHeader(nil)
	if err != nil {
		t.Fatal(err)
	}
	return buf
}

func query(id uint16, name string, edns bool) []byte {
	msg := mt.Join(mt.Header(id, message.FlagRD, 1, 0, 0, 0), mt.Question(name, message.TypeA))
	if edns {
		msg[11] = 1
		msg = append(msg, mt.OPT(1232, 0)...)
	}
	return msg
}

func idOf(msg []byte) uint16 { return uint16(msg[0])<<8 | uint16(msg[1]) }

func unpack(t *testing.T, msg []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("%x: %v", msg, err)
	}
	return m
}

var networks = []string{"udp", "tcp"}

func TestAnswers(t *testing.T) {
	r := start(t, nil, Config{})
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			before := time.Now()
			m := new(dns.Msg).SetQuestion("WwW.example.", dns.TypeA)
			m.SetEdns0(1400, true)
			client := dns.Client{Net: network, Timeout: limit}
			got, _, err := client.Exchange(m, r.addr)
			if err != nil {
				t.Fatal(err)
			}
			if got.Id != m.Id || got.Rcode != 0 || len(got.Answer) != 1 || got.Question[0].Name != "WwW.example." || got.IsEdns0() == nil {
				t.Errorf("got %v", got)
			}
			q := r.last()
			if q.Transport.String() != network || q.Listener != 7 || q.Scope != message.None || q.Trace != nil {
				t.Errorf("the handler saw %+v", q)
			}
			if !q.Client.Addr().Is4() || q.Client.Addr().String() != "127.0.0.1" || q.Client.Port() == 0 {
				t.Errorf("client: got %v", q.Client)
			}
			if d := q.Deadline; d.Before(before.Add(limit)) || d.After(time.Now().Add(limit)) {
				t.Errorf("deadline: got %v, want the budget of %v from now", d, limit)
			}
		})
	}
	r.stop()
	for _, network := range networks {
		r.wantMetric(t, 1, "queries_total", network)
		r.wantMetric(t, 1, "responses_total", network, "NOERROR")
		r.wantMetric(t, 1, "responses_total", network)
		r.wantMetric(t, 1, "duration_seconds", network)
		r.wantMetric(t, 0, "in_flight", network)
	}
	r.wantMetric(t, 0, "connections")
	if problems, err := testutil.GatherAndLint(r.reg); err != nil || len(problems) > 0 {
		t.Errorf("the metrics have problems: %v, %v", problems, err)
	}
}

// TestMalformed: whatever is wrong, the client gets the same answer on each transport, and the next query is answered.
func TestMalformed(t *testing.T) {
	r := start(t, nil, Config{})
	canary := mt.Canary()
	for _, network := range networks {
		c := r.dial(t, network)
		for _, tt := range mt.Queries() {
			t.Run(network+" "+tt.Name, func(t *testing.T) {
				if network == "tcp" && len(tt.Octets) == 0 {
					t.Skip("ends the connection, see TestLengthZero")
				}
				c.SetDeadline(time.Now().Add(limit))
				send(t, c, tt.Octets)
				if tt.RCODE != message.Ignore {
					got := unpack(t, receive(t, c))
					if got.Rcode != int(tt.RCODE) || !got.Response || got.Id != idOf(tt.Octets) || (got.IsEdns0() != nil) != tt.OPT {
						t.Errorf("got %v, want %s", got, message.RCODEString(tt.RCODE))
					}
				}
				got := unpack(t, exchange(t, c, canary))
				if got.Id != idOf(canary) || got.Rcode != 0 || len(got.Answer) != 1 {
					t.Errorf("the canary got %v", got)
				}
			})
		}
	}
}

func TestDropped(t *testing.T) {
	r := start(t, nil, Config{})
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			c := r.dial(t, network)
			send(t, c, query(1, "drop.example", false))
			if got := exchange(t, c, mt.Canary()); idOf(got) != idOf(mt.Canary()) {
				t.Errorf("got a response to a dropped query: %x", got)
			}
			r.wantMetric(t, 1, "dropped_total", network)
		})
	}
}

func TestPanic(t *testing.T) {
	r := start(t, nil, Config{})
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			c := r.dial(t, network)
			for i, name := range []string{"panic.example", "late-panic.example", "broken.example", "panic.example"} {
				got := unpack(t, exchange(t, c, query(uint16(i), name, true)))
				if got.Rcode != dns.RcodeServerFailure || got.Id != uint16(i) || !strings.Contains(got.String(), "internal error") {
					t.Errorf("%s: got %v", name, got)
				}
				if got := unpack(t, exchange(t, c, mt.Canary())); got.Rcode != 0 {
					t.Errorf("the canary got %v", got)
				}
			}
			r.wantMetric(t, 4, "panics_total", network)
		})
	}
	r.stop()
	if got := strings.Count(r.log.String(), "level=ERROR"); got != 2 || !strings.Contains(r.log.String(), "listener_test.go") {
		t.Errorf("want a line with the stack for each transport, got\n%s", r.log)
	}
}

// TestRFC9715Responses: a response over UDP has what the client offers, 1232 octets at most and 512 without EDNS, and what is larger is truncated (section 3.1 R3).
func TestRFC9715Responses(t *testing.T) {
	tests := []struct {
		name, network string
		size          uint16 // of the OPT, 0 for none
		most          int
		truncated     bool
	}{
		{"UDP without EDNS", "udp", 0, 512, true},
		{"UDP", "udp", 1232, 1232, true},
		{"UDP, client offers too much", "udp", 65535, 1232, true},
		{"TCP", "tcp", 512, 65535, false},
	}
	r := start(t, nil, Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := query(9, "big.example", tt.size > 0)
			if tt.size > 0 {
				msg[len(msg)-8], msg[len(msg)-7] = byte(tt.size>>8), byte(tt.size)
			}
			out := exchange(t, r.dial(t, tt.network), msg)
			got := unpack(t, out)
			if got.Truncated != tt.truncated || len(out) > tt.most || (got.IsEdns0() != nil) != (tt.size > 0) {
				t.Errorf("got %d octets: %v", len(out), got)
			}
			if want := 60; !tt.truncated && len(got.Answer) != want {
				t.Errorf("got %d records, want %d", len(got.Answer), want)
			}
		})
	}
	r.wantMetric(t, 3, "truncated_total", "udp")
	r.wantMetric(t, 0, "truncated_total", "tcp")
}

func TestDrain(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			r := start(t, nil, Config{})
			c, idle := r.dial(t, network), r.dial(t, "tcp")
			send(t, c, query(5, "slow.example", false))
			r.wantWaiting(t, "slow.example.")
			stopped := make(chan struct{})
			go func() { r.stop(); close(stopped) }()
			// The idle connection ends, without an RST, so the listener has seen the end of its context.
			if n, err := idle.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "reset") {
				t.Errorf("idle connection: got %d octets, %v", n, err)
			}
			idle.Close()
			r.open("slow.example.")
			if got := unpack(t, receive(t, c)); got.Id != 5 || got.Rcode != 0 {
				t.Errorf("got %v", got)
			}
			c.Close()
			<-stopped
			if c, err := net.Dial("tcp", r.addr); err == nil {
				c.Close()
				t.Error("the port is still open")
			}
		})
	}
}

func TestDrainIsBounded(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			r := start(t, func(l *Listener) { l.env.Grace = 100 * time.Millisecond }, Config{})
			c := r.dial(t, network)
			send(t, c, query(5, "slow.example", false))
			r.wantWaiting(t, "slow.example.")
			r.stop() // the gate never opens
		})
	}
}

func TestNothingIsLeft(t *testing.T) {
	r := start(t, nil, Config{})
	for _, network := range networks {
		c := r.dial(t, network)
		for i := range 20 {
			send(t, c, query(uint16(i), "slow.example", false))
		}
		r.wantWaiting(t, "slow.example.")
	}
	r.open("slow.example.")
	r.stop()
	for range 1000 { // a goroutine that has called Done may not be gone yet
		if runtime.Gosched(); stacks() == "" {
			return
		}
	}
	t.Errorf("goroutines are left:\n%s", stacks())
}

// stacks returns the goroutines of listeners, other than tests.
func stacks() string {
	buf := make([]byte, 1<<20)
	var left []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "listener.(*") && !strings.Contains(g, "testing.tRunner") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

func TestListenErrors(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			config := Config{Address: "127.0.0.1:0", Chain: "main", Protocols: []string{network}}
			first, _ := New(config, 0, newScript(), Env{})
			if err := first.Serve(t.Context()); err == nil {
				t.Error("Serve works without Listen")
			}
			if err := first.Listen(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer first.Close()
			config.Address = first.Addr().String()
			second, _ := New(config, 0, newScript(), Env{})
			err := second.Listen(t.Context())
			if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), config.Address) {
				t.Errorf("the same address again: got %v", err)
			}
			if canShare {
				third, _ := New(config, 0, newScript(), Env{Share: true})
				if err := third.Listen(t.Context()); err != nil {
					t.Errorf("the same address again, shared: %v", err)
				}
				third.Close()
			}
		})
	}
}

func TestOnePortForBoth(t *testing.T) {
	r := start(t, nil, Config{})
	for _, s := range r.sockets {
		if s.port() != r.Addr().Port() {
			t.Errorf("UDP has port %d, TCP %d", s.port(), r.Addr().Port())
		}
	}
	if canShare && len(r.sockets) != udpSockets() {
		t.Errorf("got %d UDP sockets, want %d", len(r.sockets), udpSockets())
	}
}
