package host

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/wasm/wat"
)

// spinning is a filter that never ends for names whose first label begins with "x", and says Next to the others.
const spinning = `(module
  (memory (export "memory") 2)
  (@custom "weir" "{\"name\":\"spinning\",\"version\":\"1.0.0\",\"abi\":1}")
  (func (export "weir_abi_1") (result i32) (i32.const 1024))
  (func (export "query") (result i64)
    (if (i32.eq (i32.load8_u (i32.const 1153)) (i32.const 120))        ;; frame + 129: the first octet of the first label
      (then (loop (br 0))))
    (i64.const 0)))`

const neighbours = `[[listener]]
address = "127.0.0.1:0"
protocols = ["udp"]
chain = "good"
[[listener.scope]]
clients = ["127.0.9.0/24"]
chain = "bad"
[table.held]
zonefile = "held.zone"
[chain.good]
filters = ["spinning", "authority"]
[chain.bad]
filters = ["failing", "authority"]
[filter.authority.config]
zones = ["held"]
[filter.spinning]
module = "spinning.wasm"
[filter.failing]
module = "spinning.wasm"
`

// BenchmarkNeighbours is what a hostile filter costs the other queries, at 5,000 queries a second: their latency with no hostile query, with one in a hundred that
// spins until its fuel is used up, and with one in a hundred to a filter that always does, so that it is put into quarantine.
func BenchmarkNeighbours(b *testing.B) {
	dir := b.TempDir()
	module, err := wat.Compile(spinning)
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"spinning.wasm": module,
		"weir.toml":     []byte(neighbours),
		"held.zone":     []byte("$ORIGIN held.test.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n*.w IN A 192.0.2.1\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	s := serve(b, filepath.Join(dir, "weir.toml"))
	addr := s.Addrs()[0].String()
	for _, bb := range []struct{ name, bad, client string }{
		{"none", "", ""},
		{"spinning", "x.w.held.test.", "127.0.0.1"},
		{"quarantined", "x.w.held.test.", "127.0.9.1"},
		{"none again", "", ""},
	} {
		b.Run(bb.name, func(b *testing.B) {
			good, bad := newFlow(b, addr, "127.0.0.1", "a.w.held.test."), (*flow)(nil)
			if bb.bad != "" {
				bad = newFlow(b, addr, bb.client, bb.bad)
			}
			for b.Loop() {
				pace(3*time.Second, good, bad)
			}
			good.report(b, "")
			if bad != nil {
				bad.report(b, "bad-")
			}
		})
	}
}

// flow is one client that asks for one name.
type flow struct {
	conn  net.Conn
	query []byte
	sent  [65536]time.Time
	next  uint16

	mu    sync.Mutex // guards following
	took  []time.Duration
	rcode map[uint16]int
}

func newFlow(b *testing.B, addr, client, name string) *flow {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}
	conn, err := d.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	query, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	f := &flow{conn: conn, query: query, rcode: make(map[uint16]int)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.receive()
	}()
	b.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return f
}

func (f *flow) receive() {
	buf := make([]byte, 4096)
	for {
		n, err := f.conn.Read(buf)
		if err != nil {
			return
		}
		now := time.Now()
		if n < 12 {
			continue
		}
		f.mu.Lock()
		f.took = append(f.took, now.Sub(f.sent[binary.BigEndian.Uint16(buf)]))
		f.rcode[uint16(buf[3]&0xF)]++
		f.mu.Unlock()
	}
}

func (f *flow) send() {
	f.next++
	binary.BigEndian.PutUint16(f.query, f.next)
	f.mu.Lock()
	f.sent[f.next] = time.Now()
	f.mu.Unlock()
	_, _ = f.conn.Write(f.query) // a loss shows in the count
}

// pace sends 5 queries a millisecond, one in a hundred of bad if there is one.
func pace(d time.Duration, good, bad *flow) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for n := 0; ; {
		<-tick.C
		elapsed := time.Since(start)
		if elapsed > d {
			return
		}
		for ; n < int(elapsed/(200*time.Microsecond)); n++ {
			if bad != nil && n%100 == 0 {
				bad.send()
			} else {
				good.send()
			}
		}
	}
}

func (f *flow) report(b *testing.B, prefix string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.took)
	if len(f.took) == 0 {
		b.Fatal("no responses")
	}
	at := func(q float64) float64 { return float64(f.took[int(q*float64(len(f.took)-1))]) / 1e6 }
	b.ReportMetric(at(.5), prefix+"p50-ms")
	b.ReportMetric(at(.99), prefix+"p99-ms")
	b.ReportMetric(at(1), prefix+"max-ms")
	b.ReportMetric(float64(int(f.next)-len(f.took)), prefix+"unanswered")
	for rcode, n := range f.rcode {
		b.Logf("%s%s: %d", prefix, message.RCODEString(rcode), n)
	}
}
