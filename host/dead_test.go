package host

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/loopback"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/upstream"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// What asks a dead upstream takes only a part of what a listener waits for: others' queries are answered as if nothing were. Without the bound of
// an upstream they are not. The defaults have the same proportion, with larger numbers.
func TestDeadUpstream(t *testing.T) {
	if one, all := (upstream.Config{}).WithDefaults().MaxConcurrent, listener.DefaultMaxInFlight; 4*one != all {
		t.Errorf("an upstream has %d of the %d queries that a listener waits for, want a quarter", one, all)
	}
	for _, tt := range []struct {
		name, limit string
		refused     bool
	}{
		{"with a limit", "max_concurrent = 64", false},
		{"without a limit", "max_concurrent = -1", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const waiting, others = 300, 100
			dead := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * * -> silence")
			up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1")
			dir, addr := t.TempDir(), loopback.Address(t)
			for name, text := range map[string]string{
				"held.zone": "$ORIGIN held.test.\n@ 60 SOA ns hostmaster 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 192.0.2.53\n",
				"weir.toml": fmt.Sprintf(`
[[listener]]
address = %q
protocols = ["udp"]
max_in_flight = 256
chain = "main"
[table.held]
zonefile = "held.zone"
[upstream.up]
servers = [%q]
[upstream.dead]
servers = [%q]
%s
[chain.main]
filters = ["authority", "rules"]
upstream = "up"
[filter.authority.config]
zones = ["held"]
[filter.rules.config]
rule = [ { zone = "dead.test", upstream = "dead" } ]
`, addr, up.Addr.String(), dead.Addr.String(), tt.limit),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			serve(t, filepath.Join(dir, "weir.toml"))

			conn, err := net.Dial("udp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ask := func(id uint16, name string) {
				q := new(dns.Msg).SetQuestion(name, dns.TypeA)
				q.Id = id
				wire, err := q.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(wire); err != nil {
					t.Fatal(err)
				}
			}
			// hear waits for n responses with an ID from first on, and counts those that are good.
			hear := func(first uint16, n int) (good int) {
				if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 4096)
				for n > 0 {
					size, err := conn.Read(buf)
					if err != nil {
						t.Fatalf("%d responses are missing: %v", n, err)
					}
					var r dns.Msg
					if err := r.Unpack(buf[:size]); err != nil {
						t.Fatal(err)
					}
					if r.Id < first {
						continue
					}
					n--
					if r.Rcode == dns.RcodeSuccess {
						good++
					}
				}
				return good
			}
			const marks = 50_000
			for i := range waiting {
				ask(uint16(i), fmt.Sprintf("n%d.dead.test.", i))
				if i%50 == 49 { // when this is answered, what was sent before it has been read
					ask(marks, "ns.held.test.")
					hear(marks, 1)
				}
			}
			for i := range others {
				ask(marks+1+uint16(i), fmt.Sprintf("n%d.test.", i))
			}
			good := hear(marks+1, others)
			if tt.refused && good == others {
				t.Error("all others were answered: the test shows nothing")
			}
			if !tt.refused && good != others {
				t.Errorf("%d of %d queries to another upstream were answered", good, others)
			}
		})
	}
}
