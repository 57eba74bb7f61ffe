package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/filters"
	"github.com/weirdns/weir/host/config"
)

// serveVariable names a configuration that the test binary serves instead of testing, so that a benchmark can start a whole process.
const serveVariable = "WEIR_TEST_SERVE"

// serveChild serves the configuration at path until the process is killed.
func serveChild(path string) error {
	ctx := context.Background()
	f, err := config.Load(path, nil)
	if err != nil {
		return err
	}
	s, err := New(ctx, f, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := s.Listen(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	return errors.Join(s.Run(ctx), s.Close())
}

// BenchmarkSecondStart is a start with the three filters that come with weir, compiled before: from starting the process to the first answer that
// has been through them. It shall take less than 150 ms. cpu-ms is the processor time of the process until then, which other work on the
// machine hardly changes.
func BenchmarkSecondStart(b *testing.B) {
	if err := filters.Built(); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	address := c.LocalAddr().String() // free again in a moment; the process can't choose one, since it has no way to say which
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "weir.toml")
	for name, text := range map[string]string{
		"held.zone": "$ORIGIN held.test.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.53\n",
		"weir.toml": fmt.Sprintf(`[[listener]]
address = %q
protocols = ["udp"]
chain = "main"
[wasm]
cache_dir = "cache"
[table.held]
zonefile = "held.zone"
[upstream.up]
servers = ["127.0.0.1:1"]
[chain.main]
filters = ["rules", "authority", "alternate"]
upstream = "up"
[filter.authority.config]
zones = ["held"]
[filter.rules.config]
rule = [ { zone = "corp.test", upstream = "up" } ]
[filter.alternate.config]
alternate = [ { rcodes = ["SERVFAIL"], upstream = "up" } ]
`, address),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	startOnce(b, path, address) // compiles
	var starts, cpu []time.Duration
	for b.Loop() {
		start, used := startOnce(b, path, address)
		starts, cpu = append(starts, start), append(cpu, used)
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	b.ReportMetric(median(starts), "ms/start")
	b.ReportMetric(median(cpu), "cpu-ms/start")
}

// startOnce starts a process, asks it every millisecond until it answers, and ends it.
func startOnce(b *testing.B, path, address string) (start, cpu time.Duration) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"="+path)
	var said strings.Builder
	cmd.Stderr = &said
	m, err := new(dns.Msg).SetQuestion("ns.held.test.", dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for buf := make([]byte, 512); ; {
		if time.Since(began) > time.Minute {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			b.Fatalf("no answer within a minute: %s", said.String())
		}
		// A socket each, since one to a port that nobody listens on yet remembers the ICMP error.
		c, err := net.Dial("udp", address)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Millisecond))
		sent := time.Now()
		_, err = c.Write(m)
		if err == nil {
			_, err = c.Read(buf)
		}
		_ = c.Close()
		if err == nil {
			break
		}
		<-time.After(time.Until(sent.Add(time.Millisecond)))
	}
	start = time.Since(began)
	_ = cmd.Process.Kill() // Wait says so
	_ = cmd.Wait()
	return start, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
