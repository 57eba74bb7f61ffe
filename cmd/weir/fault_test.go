//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// startBefore starts weir with an upstream that answers everything; more is added to the configuration.
func startBefore(t *testing.T, dir, more string, env ...string) *process {
	t.Helper()
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1")
	path := filepath.Join(dir, "weir.toml")
	put(t, path, fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\ntcp_max_per_client = 1000\n[upstream.up]\nservers = [%q]\n[chain.main]\nupstream = \"up\"\n%s", up.Addr, more))
	p := start(t, path, env...)
	p.quiet()
	return p
}

// wants reports an answer that is not the upstream's.
func (p *process) wants(name string) {
	p.t.Helper()
	if m := p.ask(name); m == nil || len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
		p.t.Errorf("%s: got %v, want 192.0.2.1", name, m)
	}
}

// TestFaultX19DiskFull: the disk with the snapshots is full. Queries are answered as before, the log says what is wrong, and when there is room again there is a
// snapshot.
func TestFaultX19DiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk that is full")
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "snapshots")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("can't mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) }) //nolint:errcheck // the test's end
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1")
	path := filepath.Join(dir, "weir.toml")
	put(t, path, fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[cache.default]\nsnapshot = \"snapshots\"\nsnapshot_interval = \"1s\"\n[upstream.up]\nservers = [%q]\n[chain.main]\nupstream = \"up\"\n", up.Addr))
	p := start(t, path)
	for i := range 100 {
		p.wants(fmt.Sprintf("n%d.test.", i))
	}
	if line := p.wait("no space left on device"); !strings.Contains(line, "snapshot") {
		t.Errorf("got %s, want it to be about the snapshot", line)
	}
	p.wants("after.test.")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	p.quiet()
	for { // until there is one; each question takes a moment
		p.wants("again.test.")
		if info, err := os.Stat(filepath.Join(disk, "up.snapshot")); err == nil && info.Size() > 0 {
			return
		}
		if t.Failed() {
			return
		}
	}
}

// TestFaultX20Descriptors: 200 connections to a weir that may have 64 descriptors. Queries over UDP are answered all the while, from the cache and by the upstream,
// and over TCP when the connections are gone.
func TestFaultX20Descriptors(t *testing.T) {
	p := startBefore(t, t.TempDir(), "")
	p.wants("warm.test.")
	limit := unix.Rlimit{Cur: 64, Max: 64}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			break // the queue of the kernel is full
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for i := range 200 {
		p.wants("warm.test.")
		p.wants(fmt.Sprintf("n%d.test.", i))
		if t.Failed() {
			return
		}
	}
	for _, c := range conns {
		c.Close()
	}
	m, _, err := (&dns.Client{Net: "tcp", Timeout: 20 * time.Second}).Exchange(new(dns.Msg).SetQuestion("tcp.test.", dns.TypeA), p.addr)
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("over TCP, when the connections are gone: %v, %v", m, err)
	}
}

// TestFaultX22Stopped: weir is stopped while 20,000 queries come, as on a machine without processor time. When it goes on, it answers what the kernel has kept, and
// whatever is asked then.
func TestFaultX22Stopped(t *testing.T) {
	p := startBefore(t, t.TempDir(), "")
	p.wants("warm.test.")
	before := residentPeak(t, p)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 20_000 {
		wire, err := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.test.", i), dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		c.Write(wire)
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for n := range 100 { // clients ask again: the queue of the kernel may be full at first, and what asks the upstream is limited
		name := fmt.Sprintf("after%d.test.", n)
		for try := 1; ; try++ {
			if m := p.ask(name); m != nil && len(m.Answer) == 1 && p.ask("warm.test.") != nil {
				break
			}
			if try == 10 {
				t.Fatalf("%s was asked for %d times: no answer", name, try)
			}
		}
	}
	if after := residentPeak(t, p); after > before+64<<20 {
		t.Errorf("memory went from %d to %d MiB, want 64 more at most", before>>20, after>>20)
	}
}

// TestFaultX25Terminated: SIGTERM while 60 queries wait for a slow upstream. Each is answered, and then weir ends with the code 0.
func TestFaultX25Terminated(t *testing.T) {
	dir := t.TempDir()
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> after 500 NOERROR 192.0.2.1")
	path := filepath.Join(dir, "weir.toml")
	put(t, path, fmt.Sprintf("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[upstream.up]\nservers = [%q]\n[chain.main]\nupstream = \"up\"\n", up.Addr))
	p := start(t, path)
	const each = 30 // fewer than a connection may have in flight
	var answered [2]int
	var all sync.WaitGroup
	for i, network := range []string{"udp", "tcp"} {
		c, err := dns.Dial(network, p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		for n := range each {
			if err := c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("%s%d.test.", network, n), dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		all.Go(func() {
			for range each {
				m, err := c.ReadMsg()
				if err != nil {
					t.Errorf("%s, after %d of %d: %v", network, answered[i], each, err)
					return
				}
				if len(m.Answer) == 1 {
					answered[i]++
				}
			}
		})
	}
	for up.UDP() < 2*each { // all are on their way; they stay there for longer than this takes
		if t.Context().Err() != nil {
			return
		}
		runtime.Gosched()
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for range p.log { // until it has ended
	}
	p.cmd.Wait() //nolint:errcheck // the code is looked at
	if code := p.cmd.ProcessState.ExitCode(); code != 0 || answered != [2]int{each, each} {
		t.Errorf("answered %v of %d each, exit code %d; want all, and 0", answered, each, code)
	}
}

// TestFaultX26Memory: with GOMEMLIMIT at 128 MiB and a cache of 16 MiB, 100,000 names asked for once leave the peak of resident memory below 256 MiB, and what is
// asked afterwards is answered. The limit is that of the Go runtime: a cgroup of that size would not have been hit.
func TestFaultX26Memory(t *testing.T) {
	p := startBefore(t, t.TempDir(), "[cache.default]\nsuccess = { octets = 16_777_216 }\n", "GOMEMLIMIT=128MiB")
	const workers, each = 16, 100_000 / 16
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			c, err := dns.Dial("udp", p.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for i := range each {
				c.SetDeadline(time.Now().Add(time.Second))
				if c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d-%d.test.", w, i), dns.TypeA)) == nil {
					c.ReadMsg() //nolint:errcheck // shedding is allowed
				}
			}
		})
	}
	all.Wait()
	p.wants("after.test.")
	if peak := residentPeak(t, p); peak > 256<<20 {
		t.Errorf("resident memory was %d MiB at its peak, want 256 at most", peak>>20)
	}
}

// Garbage is collected early, and as the operator says where he does.
func TestCollectEarly(t *testing.T) {
	for env, want := range map[string]int{"GOGC=": garbage, "GOGC=200": 200} {
		if got := startBefore(t, t.TempDir(), "[admin]\naddress = \"127.0.0.1:0\"\n", env).metric("go_gc_gogc_percent"); got != want {
			t.Errorf("with %s it is %d %%, want %d", env, got, want)
		}
	}
}

// residentPeak is the largest resident memory that a process has had, in octets.
func residentPeak(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
