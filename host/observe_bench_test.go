package host

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// unmeasuredVariable has the test binary, when it serves, count nothing.
const unmeasuredVariable = "WEIR_TEST_UNMEASURED"

// BenchmarkObserved is what it costs a cached query, over UDP and through three filters, to be counted, and to be logged. Three processes serve
// the same, one without metrics, one with, and one that logs queries to a file too; they are asked in turns, and cpu-ns is the processor time of each
// process for a query, the least of all turns, since whatever else the machine does only adds to it.
func BenchmarkObserved(b *testing.B) {
	const batch, batches = 32, 100
	up := upstreamtest.Start(b, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1 ttl 3600")
	servers := []*observed{
		serveObserved(b, up.Addr.String(), "", unmeasuredVariable+"=1"),
		serveObserved(b, up.Addr.String(), ""),
		serveObserved(b, up.Addr.String(), "[log]\nqueries = true\nquery_file = \"queries.log\"\n"),
	}
	turns := make([][]float64, len(servers))
	for b.Loop() {
		for range 10 {
			for i, s := range servers {
				before := s.cpu(b)
				s.ask(b, batch, batches)
				turns[i] = append(turns[i], (s.cpu(b)-before)/(batch*batches))
			}
		}
	}
	off, on, logged := slices.Min(turns[0]), slices.Min(turns[1]), slices.Min(turns[2])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(off, "off-cpu-ns/query")
	b.ReportMetric(on, "metrics-cpu-ns/query")
	b.ReportMetric(logged, "log-cpu-ns/query")
	b.ReportMetric(100*(on/off-1), "%metrics")
	b.ReportMetric(100*(logged/on-1), "%log")
}

// observed is a process that serves.
type observed struct {
	pid     int
	conn    net.Conn
	message []byte
}

func serveObserved(b *testing.B, upstream, more string, environ ...string) *observed {
	b.Helper()
	dir := b.TempDir()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	address := c.LocalAddr().String() // free again in a moment; the process can't choose one, since it has no way to say which
	c.Close()
	for name, text := range map[string]string{
		"held.zone": "$ORIGIN held.test.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n",
		"weir.toml": more + fmt.Sprintf(`[[listener]]
address = %q
protocols = ["udp"]
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
rule = [ { zone = "corp.test", upstream = "up" } ]
[filter.alternate.config]
alternate = [ { rcodes = ["SERVFAIL"], upstream = "up" } ]
`, address, upstream),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), serveVariable+"="+filepath.Join(dir, "weir.toml")), environ...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // Wait says so
		_ = cmd.Wait()
	})
	o := &observed{pid: cmd.Process.Pid}
	if o.message, err = new(dns.Msg).SetQuestion("www.corp.test.", dns.TypeA).Pack(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 512)
	for end := time.Now().Add(time.Minute); ; {
		if o.conn, err = net.Dial("udp", address); err != nil {
			b.Fatal(err)
		}
		_ = o.conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err = o.conn.Write(o.message); err == nil {
			if _, err = o.conn.Read(buf); err == nil {
				break
			}
		}
		_ = o.conn.Close()
		if time.Now().After(end) {
			b.Fatal("no answer within a minute")
		}
		<-time.After(10 * time.Millisecond)
	}
	b.Cleanup(func() { o.conn.Close() })
	return o
}

// ask sends n times as many queries as size, and waits for the answers after each lot.
func (o *observed) ask(b *testing.B, size, n int) {
	b.Helper()
	buf := make([]byte, 512)
	for range n {
		_ = o.conn.SetDeadline(time.Now().Add(5 * time.Second))
		for range size {
			if _, err := o.conn.Write(o.message); err != nil {
				b.Fatal(err)
			}
		}
		for range size {
			if _, err := o.conn.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// cpu is the processor time that the process has used, in nanoseconds.
func (o *observed) cpu(b *testing.B) (sum float64) {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", o.pid))
	if err != nil || len(files) == 0 {
		b.Skip("the system does not tell how long each thread ran")
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		var ns float64
		if _, err := fmt.Sscan(strings.Fields(string(text))[0], &ns); err != nil {
			b.Fatal(err)
		}
		sum += ns
	}
	return sum
}
