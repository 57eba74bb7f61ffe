package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
	"github.com/weirdns/weir/host/wasm/wat"
)

var reloads = flag.Int("reloads", 30, "how many reloads TestReloadUnderLoad makes; 1000 with as many clients in .ci/run")

// reloading is a server whose file is written anew for each generation, so that answers tell it: that for www.held.test comes from the zone; that for
// x.blocked.test has the EDE of a rule; and that for both.held.test has a CNAME from the zone to a name for which there is a rule, with an
// RCODE of its own, in the same generation only.
type reloading struct {
	*Server
	t    testing.TB
	path string
	up   string
	addr string
	log  *lockedBuffer
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex // guards following
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

// take returns what was written since the last take.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.all.String()
	b.all.Reset()
	return s
}

// generationText is the configuration of generation n. It says n in a zone file of its own, in a rule and in an RCODE, in filters that lean on one
// another: an answer that mixed two generations would show.
func (r *reloading) generationText(n int) string {
	zone := fmt.Sprintf("held%d.zone", n%4)
	text := fmt.Sprintf("$ORIGIN held.test.\n$TTL 300\n@ IN SOA ns hostmaster %d 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\nwww IN A 10.0.%d.%d\nboth IN CNAME g%d.test.\n", n+1, n>>8&255, n&255, n)
	r.write(zone, text)
	filters := `"authority", "rules"`
	module := ""
	if n%10 == 5 { // and now and then, another module
		r.write(fmt.Sprintf("m%d.wasm", n), string(wat.MustCompile(fmt.Sprintf(`(module (memory (export "memory") 2)
			(@custom "weir" "{\"name\":\"m\",\"version\":\"1.0.%d\",\"abi\":1}")
			(func (export "weir_abi_1") (result i32) (i32.const 1024)) (func (export "query") (result i64) (i64.const 0)))`, n))))
		filters = `"m", ` + filters
		module = fmt.Sprintf("[filter.m]\nmodule = \"m%d.wasm\"\n", n)
	}
	return fmt.Sprintf(`[[listener]]
address = %q
protocols = ["udp", "tcp"]
tcp_max_per_client = 500
chain = "main"
[table.held%d]
zonefile = %q
[upstream.up]
servers = [%q]
[chain.main]
filters = [%s]
upstream = "up"
[filter.authority.config]
zones = ["held%d"]
[filter.rules.config]
rule = [ { zone = "g%d.test", rcode = "NXDOMAIN" }, { zone = "test", rcode = "NOTIMP" }, { zone = "blocked.test", rcode = "REFUSED", ede = %d } ]
%s`, r.addr, n, zone, r.up, filters, n, n, n, module)
}

func (r *reloading) write(name, text string) {
	if err := os.WriteFile(filepath.Join(filepath.Dir(r.path), name), []byte(text), 0o644); err != nil {
		r.t.Error(err)
	}
}

func startReloading(t testing.TB) *reloading {
	t.Helper()
	r := &reloading{t: t, path: filepath.Join(t.TempDir(), "weir.toml"), addr: loopback.Address(t), log: new(lockedBuffer)}
	r.up = upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1").Addr.String()
	r.write("weir.toml", r.generationText(0))
	f, err := config.Load(r.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if r.Server, err = New(ctx, f, "test", slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, r.Close()); err != nil {
			t.Error(err)
		}
	})
	<-r.serving
	return r
}

// reload writes generation n, and reloads.
func (r *reloading) reload(n int) error {
	r.write("weir.toml", r.generationText(n))
	f, err := config.Load(r.path, nil)
	if err != nil {
		return err
	}
	return r.Reload(r.t.Context(), f)
}

// told is the generation that an answer for www.held.test tells.
func told(m *dns.Msg) (int, error) {
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		return 0, fmt.Errorf("%s with %d records", dns.RcodeToString[m.Rcode], len(m.Answer))
	}
	a, ok := m.Answer[0].(*dns.A)
	if !ok {
		return 0, fmt.Errorf("a record %v", m.Answer[0])
	}
	ip := a.A.To4()
	return int(ip[2])<<8 | int(ip[3]), nil
}

// toldRefused is the generation that an answer for blocked.test tells, in its EDE.
func toldRefused(m *dns.Msg) (int, error) {
	if m.Rcode != dns.RcodeRefused || m.IsEdns0() == nil {
		return 0, fmt.Errorf("%s, EDNS: %v", dns.RcodeToString[m.Rcode], m.IsEdns0() != nil)
	}
	for _, o := range m.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			return int(e.InfoCode), nil
		}
	}
	return 0, errors.New("no EDE")
}

// toldBoth is the generation that two filters tell in an answer for both.held.test.
func toldBoth(m *dns.Msg) (int, error) {
	if m.Rcode != dns.RcodeNameError || len(m.Answer) != 1 {
		return 0, fmt.Errorf("%s with %v: of two generations", dns.RcodeToString[m.Rcode], m.Answer)
	}
	alias, ok := m.Answer[0].(*dns.CNAME)
	if !ok {
		return 0, fmt.Errorf("a record %v", m.Answer[0])
	}
	var n int
	_, err := fmt.Sscanf(alias.Target, "g%d.test.", &n)
	return n, err
}

// questions are what clients ask, one after the other.
var questions = [...]struct {
	name string
	told func(*dns.Msg) (int, error)
}{{"www.held.test.", told}, {"x.blocked.test.", toldRefused}, {"both.held.test.", toldBoth}}

// load asks without pause for breath, over UDP and over TCP connections that stay open, until stop is closed.
type load struct {
	r                  *reloading
	oldest, newest     atomic.Int64 // generations that may answer
	asked, lost, wrong atomic.Int64
	reset              atomic.Int64
	first              atomic.Pointer[string] // what was wrong first
	stop               chan struct{}
	all                sync.WaitGroup
}

func (l *load) bad(counter *atomic.Int64, format string, args ...any) {
	counter.Add(1)
	text := fmt.Sprintf(format, args...)
	l.first.CompareAndSwap(nil, &text)
}

// check looks at one response, to the query with that name.
func (l *load) check(wire []byte, id uint16, before int64) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil || m.Id != id {
		l.bad(&l.wrong, "response %d to %d: %v", m.Id, id, err)
		return
	}
	n, err := questions[int(id)%len(questions)].told(m)
	if err != nil {
		l.bad(&l.wrong, "%v", err)
		return
	}
	if int64(n) < before || int64(n) > l.newest.Load() {
		l.bad(&l.wrong, "an answer of generation %d, between %d and %d", n, before, l.newest.Load())
	}
}

func (l *load) query(id uint16) []byte {
	m := new(dns.Msg).SetQuestion(questions[int(id)%len(questions)].name, dns.TypeA)
	m.Id = id
	m.SetEdns0(1232, false)
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return wire
}

// patience is how long a client waits for a response: far longer than any takes. Only what never comes is lost.
const patience = 20 * time.Second

// udp asks at a steady rate on one socket, and counts what never comes.
func (l *load) udp(t testing.TB, rate int) {
	c, err := net.Dial("udp", l.r.addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	buf := make([]byte, 4096)
	for id := uint16(1); ; id++ {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		before := l.oldest.Load()
		l.asked.Add(1)
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(l.query(id)); err != nil {
			l.bad(&l.lost, "UDP: %v", err)
			continue
		}
		n, err := c.Read(buf)
		if err != nil {
			l.bad(&l.lost, "UDP: %v", err)
			continue
		}
		l.check(buf[:n], id, before)
	}
}

// tcp keeps one connection open and asks on it now and then.
func (l *load) tcp(t testing.TB) {
	c, err := net.Dial("tcp", l.r.addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for id := uint16(1); ; id++ {
		before := l.oldest.Load()
		q := l.query(id)
		l.asked.Add(1)
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			l.bad(&l.reset, "TCP: %v", err)
			return
		}
		var size [2]byte
		_, err := io.ReadFull(c, size[:])
		wire := make([]byte, binary.BigEndian.Uint16(size[:]))
		if err == nil {
			_, err = io.ReadFull(c, wire)
		}
		if err != nil {
			l.bad(&l.reset, "TCP: %v", err)
			return
		}
		l.check(wire, id, before)
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
	}
}

// memory is the memory of this process that is not a file's, in octets, after a collection.
func memory(t testing.TB) int {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc")
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Skip("needs RssAnon")
	return 0
}

// Reloads under load: no query is lost, no connection is closed, each answer is of one generation, and not of one that was over when it was
// asked; memory stays what it was. In between, files with all kinds of mistakes change nothing.
func TestReloadUnderLoad(t *testing.T) {
	count, rate, clients, connections := *reloads, 1000, 4, 40
	if count >= 500 {
		rate, clients, connections = 5000, 100, 200
	}
	r := startReloading(t)
	l := &load{r: r, stop: make(chan struct{})}
	for range clients {
		l.all.Go(func() { l.udp(t, rate/clients) })
	}
	for range connections {
		l.all.Go(func() { l.tcp(t) })
	}
	step := func(n int) {
		l.newest.Store(int64(n))
		if err := r.reload(n); err != nil {
			t.Fatalf("reload %d: %v", n, err)
		}
		l.oldest.Store(int64(n)) // Reload has returned: from now on nothing older may answer
	}
	mistakes := badFiles(r)
	var begin int
	start := time.Now()
	for n := 1; n <= count; n++ {
		step(n)
		if n == min(20, count/2) {
			begin = memory(t)
		}
		if every := max(count/len(mistakes), 1); n%every == 0 && n/every <= len(mistakes) {
			r.bad(t, mistakes[n/every-1])
		}
	}
	end := memory(t)
	close(l.stop)
	l.all.Wait()
	t.Logf("%d reloads in %v, %d queries (%.0f/s), %d lost, %d wrong, %d connections closed; memory %.1f MB at first, %.1f MB in the end",
		count, time.Since(start).Round(time.Second), l.asked.Load(), float64(l.asked.Load())/time.Since(start).Seconds(), l.lost.Load(), l.wrong.Load(), l.reset.Load(), float64(begin)/1e6, float64(end)/1e6)
	if l.lost.Load()+l.wrong.Load()+l.reset.Load() > 0 {
		t.Errorf("the first was: %s", *l.first.Load())
	}
	if limit := begin + begin/10; count >= 500 && end > limit {
		t.Errorf("memory went from %d to %d octets, want at most %d", begin, end, limit)
	}
}

// A listener whose settings change is another one at the same address; one that stays keeps its connections.
func TestReloadListener(t *testing.T) {
	r := startReloading(t)
	ask := func(client *dns.Client, c *dns.Conn) {
		t.Helper()
		m := new(dns.Msg).SetQuestion("www.held.test.", dns.TypeA)
		var got *dns.Msg
		var err error
		if c != nil {
			got, _, err = client.ExchangeWithConn(m, c)
		} else {
			got, _, err = client.Exchange(m, r.addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := told(got); err != nil {
			t.Error(err)
		}
	}
	udp, tcp := &dns.Client{Timeout: patience}, &dns.Client{Net: "tcp", Timeout: patience}
	c, err := tcp.Dial(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(tcp, c)
	if err := r.reload(1); err != nil {
		t.Fatal(err)
	}
	ask(tcp, c)
	for n, setting := range []string{"tcp_max_clients = 77", "max_in_flight = 99", "tcp_max_clients = 78"} {
		text := strings.Replace(r.generationText(n+2), "tcp_max_per_client = 500", setting, 1)
		r.write("weir.toml", text)
		f, err := config.Load(r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Reload(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		ask(udp, nil)
		ask(tcp, nil)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection to the first listener: %v, want EOF", err)
	}
}

// When weir is told to stop, it goes on for a while and says so, and takes no new configuration after that.
func TestLameDuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.toml")
	text := "lameduck = \"5s\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[chain.main]\nfilters = [\"rules\"]\nupstream = \"up\"\n" +
		"[upstream.up]\nservers = [\"192.0.2.1\"]\n[filter.rules.config]\nrule = [ { zone = \"test\", rcode = \"NXDOMAIN\" } ]\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), f, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan time.Duration, 1), make(chan time.Time)
	s.after = func(d time.Duration) <-chan time.Time { asked <- d; return over }
	if err := s.Reload(t.Context(), f); !errors.Is(err, ErrNotServing) {
		t.Errorf("Reload before Run: %v", err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	<-s.serving
	cancel()
	if d := <-asked; d != 5*time.Second || s.State() != LameDuck {
		t.Errorf("waits for %v, and is %v", d, s.State())
	}
	client := dns.Client{Timeout: patience}
	got, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.test.", dns.TypeA), s.Addrs()[0].String())
	if err != nil || got.Rcode != dns.RcodeNameError {
		t.Errorf("a lame duck says %v, %v", got, err)
	}
	close(over)
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := s.Reload(t.Context(), f); s.State() != Draining || !errors.Is(err, ErrNotServing) {
		t.Errorf("after Run it is %v, Reload: %v", s.State(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
