package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// metric returns the value of a metric. name is what stands before it, labels and all.
func (p *process) metric(name string) int {
	t := p.t
	t.Helper()
	r, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestFaultX4Slow has an upstream that takes its time: a second, five, or now this and now that. Each query gets exactly one response, in the time that clients
// wait; an answer that comes after that, within read_timeout, is in the cache for who asks next; and what waits has no goroutine.
func TestFaultX4Slow(t *testing.T) {
	const each = 50
	for _, tt := range []struct {
		name  string
		rules []string // one for each zone, z0, z1 …
		late  int      // zones from this one on are answered too late for the client
	}{
		{"1 s", []string{"after 1000"}, 1},
		{"5 s", []string{"after 5000"}, 0},
		{"jitter", []string{"after 10", "after 400", "after 900", "after 2500", "after 3000"}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			line := "127.0.0.1:0 udp tcp: cached.test. A -> NOERROR 192.0.2.1"
			for i, rule := range tt.rules {
				line += fmt.Sprintf("; *.z%d. A -> %s NOERROR 192.0.2.1", i, rule)
			}
			up := upstreamtest.Start(t, line)
			path := filepath.Join(t.TempDir(), "weir.toml")
			put(t, path, fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[admin]\naddress = \"127.0.0.1:0\"\n[cache.default]\nresolve_timeout = \"20s\"\n[upstream.up]\nservers = [%q]\nread_timeout = \"20s\"\nmax_fails = -1\n[chain.main]\nupstream = \"up\"\n", up.Addr))
			p := start(t, path)
			p.quiet()
			p.wants("cached.test.")
			before := p.metric("go_goroutines")

			conn, err := net.Dial("udp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			names := len(tt.rules) * each
			name := func(id int) string { return fmt.Sprintf("n%d.z%d.", id, id%len(tt.rules)) }
			ask := func(id int, name string) {
				m := new(dns.Msg).SetQuestion(name, dns.TypeA)
				m.Id = uint16(id)
				wire, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(wire); err != nil {
					t.Fatal(err)
				}
			}
			responses := make(map[int]int, names) // by ID
			hear := func() *dns.Msg {
				conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				buf := make([]byte, 1500)
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("after %d responses to %d queries: %v", len(responses), names, err)
				}
				var m dns.Msg
				if err := m.Unpack(buf[:n]); err != nil {
					t.Fatal(err)
				}
				if responses[int(m.Id)]++; responses[int(m.Id)] > 1 {
					t.Errorf("ID %d has %d responses", m.Id, responses[int(m.Id)])
				}
				return &m
			}
			start := time.Now()
			for id := range names {
				ask(id, name(id))
			}
			for up.UDP() < 1+int64(names) { // all are on their way
				if t.Context().Err() != nil {
					return
				}
				runtime.Gosched()
			}
			during := p.metric("go_goroutines")
			if during > before+names/2 {
				t.Errorf("%d goroutines while %d queries wait, %d before: want no more for each", during, names, before)
			}
			inTime := 0
			for range names {
				m := hear()
				switch late := int(m.Id)%len(tt.rules) >= tt.late; {
				case m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 && !late:
					inTime++
				case m.Rcode != dns.RcodeServerFailure: // which the others get too when the machine is busy
					t.Errorf("%s: got %v", m.Question[0].Name, m)
				}
			}

			// Who asks again gets what came late, as soon as it is there; the upstream is not asked again.
			for id := range names {
				for {
					m := p.ask(name(id))
					if m == nil {
						t.Fatalf("%s: no response", name(id))
					}
					if len(m.Answer) == 1 {
						break
					}
				}
			}
			probes := 1 + int(time.Since(start)/(5*time.Second)) // for a forwarding loop, which servers that are slow may be in
			if got, most := up.UDP()+up.TCP(), int64(1+3*names+probes); got > most {
				t.Errorf("the upstream got %d queries, want %d at most, 3 for each name and %d probes", got, most, probes)
			}
			t.Logf("%d of %d queries answered in time, %d in zones that are in time; %d goroutines before, %d while they wait; the upstream got %d queries",
				inTime, names, tt.late*each, before, during, up.UDP()+up.TCP()-1)
			ask(names, "cached.test.")
			for m := hear(); int(m.Id) != names; m = hear() { // late ones would have come before
			}
		})
	}
}
