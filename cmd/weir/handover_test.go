//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// succession is a weir that is upgraded again and again, with a configuration that tells its processes apart.
type succession struct {
	t                       *testing.T
	dir, path               string
	addr, tls, https, admin string
	file, handover          string
	up                      *upstreamtest.Server // nil for an upstream of the test's own
	upstream                string
	certificate, key        string
	present                 *process
	generation              int
	env                     []string
}

// ports are given out below those that the system chooses by itself.
var ports atomic.Int32

// freeAddress returns an address at a loopback address of this process's own, since an upgrade needs one that is known beforehand.
func freeAddress(t *testing.T) string {
	t.Helper()
	pid := os.Getpid() // at most 22 bits
	for range 1000 {
		addr := fmt.Sprintf("127.%d.%d.%d:%d", 64+pid>>16, byte(pid>>8), byte(pid), 20000+ports.Add(1))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		ln.Close()
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		c.Close()
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

// codes are what successive processes answer to who asks for which one it is.
var codes = []int{dns.RcodeNameError, dns.RcodeRefused, dns.RcodeNotImplemented}

func newSuccession(t *testing.T, env ...string) *succession {
	t.Helper()
	up := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> after 20 NOERROR 192.0.2.1")
	s := successionWith(t, up.Addr.String(), env...)
	s.up = up
	return s
}

// successionWith is newSuccession with another upstream.
func successionWith(t *testing.T, upstream string, env ...string) *succession {
	t.Helper()
	dir := t.TempDir()
	s := &succession{
		t: t, dir: dir, path: filepath.Join(dir, "weir.toml"), addr: freeAddress(t), tls: freeAddress(t), https: freeAddress(t), admin: freeAddress(t),
		file: filepath.Join(dir, "dns.sock"), handover: filepath.Join(dir, "handover.sock"),
		upstream: upstream,
	}
	authority, err := upstreamtest.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := authority.Issue("weir.test")
	if err != nil {
		t.Fatal(err)
	}
	if s.certificate, s.key, err = authority.Write("weir", c); err != nil {
		t.Fatal(err)
	}
	s.env = env
	s.write()
	s.present = start(t, s.path, env...)
	return s
}

// write writes the configuration of the next process.
func (s *succession) write() {
	put(s.t, s.path, fmt.Sprintf(`budget = "20s"
drain = "25s"
[process]
handover = %q
[admin]
address = %q
[[listener]]
address = %q
chain = "main"
tcp_max_per_client = 1000
[[listener]]
address = %q
protocols = ["tls"]
certificate = %q
key = %q
chain = "main"
tcp_max_per_client = 1000
[[listener]]
address = %q
protocols = ["https"]
certificate = %q
key = %q
chain = "main"
tcp_max_per_client = 1000
[[listener]]
address = "unix:%s"
chain = "main"
[chain.main]
filters = ["rules"]
upstream = "up"
[upstream.up]
servers = [%q]
[cache.default]
snapshot = "snapshots"
[filter.rules.config]
rule = [ { zone = "which.test", rcode = %q }, { zone = "local.test", rcode = "NXDOMAIN" } ]
[wasm]
cache_dir = "modules"
`, s.handover, s.admin, s.addr, s.tls, s.certificate, s.key, s.https, s.certificate, s.key, s.file, s.upstream, dns.RcodeToString[codes[s.generation%len(codes)]]))
}

// upgrade has another process take over, and waits until the one before has ended.
func (s *succession) upgrade() {
	s.t.Helper()
	s.generation++
	s.write()
	before := s.present
	s.present = begin(s.t, exec.Command(os.Args[0], "run", "--upgrade", s.path), s.env...)
	s.present.wait("took over")
	before.wait("handed over")
	before.ended()
}

// ended waits until the process ends by itself, as it should.
func (p *process) ended() {
	p.t.Helper()
	for range p.log { // or Wait would take the end of the log away
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the process before: %v", err)
	}
}

// wants reports an answer that is not that of the present process.
func (s *succession) wants(when string) {
	s.t.Helper()
	for _, network := range []string{"udp", "tcp", "unix"} {
		addr := s.addr
		if network == "unix" {
			addr = s.file
		}
		if m, err := exchange(network, addr, "which.test."); err != nil || m.Rcode != codes[s.generation%len(codes)] {
			s.t.Errorf("%s, over %s: got %v, %v, want %s", when, network, m, err, dns.RcodeToString[codes[s.generation%len(codes)]])
		}
	}
}

// fails runs a process that shall take over and can't, and returns what it says.
func (s *succession) fails() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "run", "--upgrade", s.path)
	cmd.Env = append(os.Environ(), processVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		s.t.Errorf("the new process: got %v, want exit code 1; it said\n%s", err, out)
	}
	return string(out)
}

// patience is more than anything takes here, however loaded the machine.
const patience = 30 * time.Second

// dial connects to a weir.
func dial(network, addr string) (*dns.Conn, error) {
	if network == "tls" {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return nil, err
		}
		return &dns.Conn{Conn: c}, nil
	}
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return nil, err
	}
	return &dns.Conn{Conn: c}, nil
}

// ask asks once.
func ask(c *dns.Conn, name string) (*dns.Msg, error) {
	c.SetDeadline(time.Now().Add(patience))
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	m, err := c.ReadMsg()
	if err == nil && (m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != q.Question[0]) {
		return m, errors.New("the response is to another query")
	}
	return m, err
}

// exchange asks once, on a new socket.
func exchange(network, addr, name string) (*dns.Msg, error) {
	c, err := dial(network, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return ask(c, name)
}

// traffic asks steadily over all transports until it is stopped, and each query once. The answers are weir's own: those of an upstream come late, or not, on a machine
// that stands still now and then.
type traffic struct {
	stopped, failed atomic.Bool
	all             sync.WaitGroup
	asked           atomic.Int64
}

// stoodStill reports whether what began at start took so long that weir may have ended the connection for its slowness, upgrade or not.
func stoodStill(network string, start time.Time) bool {
	return network != "udp" && time.Since(start) > 2*time.Second
}

// worker asks with each socket as often as it is good for.
func (l *traffic) worker(t *testing.T, number int, network, addr string, each int) {
	var c *dns.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for i := 0; !l.stopped.Load(); i++ {
		name := fmt.Sprintf("n%d.w%d.local.test.", i, number)
		old := i%each != 0
		var err error
		start := time.Now()
		if !old {
			if c != nil {
				c.Close()
			}
			c, err = dial(network, addr)
			if err != nil && stoodStill(network, start) {
				c = nil
				i += each - 1 // with another connection
				continue
			}
			if err != nil {
				t.Errorf("%s: connect for %s: %v", network, name, err)
				l.failed.Store(true)
				return
			}
		}
		m, err := ask(c, name)
		if err != nil && stoodStill(network, start) {
			i += each - 1 - i%each
			continue
		}
		if err != nil || m.Rcode != dns.RcodeNameError {
			t.Errorf("%s over %s, query %d on its socket: got %v, %v, want NXDOMAIN", name, network, i%each, m, err)
			l.failed.Store(true)
			return
		}
		l.asked.Add(1)
	}
}

// pass has weir's place taken so many times under the traffic, and ends both.
func (l *traffic) pass(t *testing.T, s *succession, upgrades int) {
	t.Helper()
	for n := range upgrades {
		before, start := l.asked.Load(), time.Now()
		s.upgrade()
		t.Logf("upgrade %d took %v", n+1, time.Since(start))
		s.wants(fmt.Sprintf("after upgrade %d", n+1))
		for !l.failed.Load() && l.asked.Load() < before+100 { // some while only this one is there
			runtime.Gosched()
		}
	}
	l.stopped.Store(true)
	l.all.Wait()
	t.Logf("%d queries, %d upgrades", l.asked.Load(), upgrades)
	s.present.end(syscall.SIGTERM)
}

// TestUpgradeUnderLoad has weir's place taken several times, by processes that are confined like it, while queries come over UDP, TCP, TLS and a Unix-domain socket. None is
// lost, none is answered wrongly, and each process answers in its turn, with its own configuration.
func TestUpgradeUnderLoad(t *testing.T) {
	s := newSuccession(t)
	s.wants("at the start")
	var l traffic
	defer func() {
		l.stopped.Store(true)
		l.all.Wait()
	}()
	for i, w := range []struct {
		network, addr string
		each          int // queries on a socket
	}{
		{"udp", s.addr, 1 << 30}, {"udp", s.addr, 1 << 30}, {"udp", s.addr, 1 << 30}, {"udp", s.addr, 1}, {"udp", s.addr, 1},
		{"tcp", s.addr, 1}, {"tcp", s.addr, 1}, {"tcp", s.addr, 20}, {"tls", s.tls, 1}, {"tls", s.tls, 20}, {"unix", s.file, 1},
	} {
		l.all.Go(func() { l.worker(t, i, w.network, w.addr, w.each) })
	}
	l.pass(t, s, 4)
	for _, file := range []string{s.file, s.handover} {
		if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left behind: %v", file, err)
		}
	}
}

// mute is an upstream over UDP that says nothing until it is released.
type mute struct {
	conn  net.PacketConn
	asked chan struct{}

	mu      sync.Mutex // guards following
	held    []func()
	release bool // from now on it answers at once
}

func newMute(t *testing.T) *mute {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{conn: conn, asked: make(chan struct{}, 1000)}
	ended := make(chan struct{})
	go func() { defer close(ended); m.serve() }()
	t.Cleanup(func() { conn.Close(); <-ended })
	return m
}

func (m *mute) serve() {
	b := make([]byte, 4096)
	for {
		n, from, err := m.conn.ReadFrom(b)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(b[:n]) != nil {
			continue
		}
		r := new(dns.Msg).SetReply(q)
		r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
		octets, err := r.Pack()
		if err != nil {
			continue
		}
		m.hold(func() { m.conn.WriteTo(octets, from) })
		m.asked <- struct{}{}
	}
}

// hold keeps a response until there is a release.
func (m *mute) hold(respond func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.release {
		respond()
		return
	}
	m.held = append(m.held, respond)
}

// speak answers all that was asked, and from now on at once, or forgets it.
func (m *mute) speak(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.release = on
	if on {
		for _, respond := range m.held {
			respond()
		}
	}
	m.held = nil
}

// TestUpgradeInFlight: a query that the old process had asked an upstream about is answered, though the upstream says nothing until the new process serves. On a
// machine where an upgrade takes longer than a query has, the query is given up before there is a new process; then it is asked again, before another one.
func TestUpgradeInFlight(t *testing.T) {
	up := newMute(t)
	s := successionWith(t, up.conn.LocalAddr().String())
	const attempts = 5
	for n := range attempts {
		c, err := dial("udp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got := make(chan *dns.Msg, 1)
		go func() {
			m, err := ask(c, fmt.Sprintf("slow%d.test.", n))
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
		<-up.asked
		before := s.present
		s.generation++
		s.write()
		s.present = begin(t, exec.Command(os.Args[0], "run", "--upgrade", s.path))
		before.wait("handed over")
		for { // for a moment both read
			m, err := exchange("udp", s.addr, "which.test.")
			if err != nil {
				t.Fatal(err)
			}
			if m.Rcode == codes[s.generation%len(codes)] {
				break
			}
		}
		select {
		case m := <-got:
			if m == nil || m.Rcode != dns.RcodeServerFailure {
				t.Fatalf("got %v while the upstream was silent", m)
			}
		default:
			up.speak(true)
			if m := <-got; m == nil || len(m.Answer) != 1 {
				t.Errorf("got %v, want an answer", m)
			}
			before.ended()
			return
		}
		before.ended()
		up.speak(false)
		for len(up.asked) > 0 {
			<-up.asked
		}
	}
	t.Fatalf("%d upgrades took longer than a query has", attempts)
}

// TestUpgradeCarriesOver: what the old process had in its caches is answered by the new one, though the upstream is gone; the service manager hears first from the old process
// which is the main one now, and then from that.
func TestUpgradeCarriesOver(t *testing.T) {
	manager := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: manager, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	told := func(want string) {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 1000)
		if n, err := socket.Read(b); string(b[:n]) != want {
			t.Errorf("the service manager was told %q, %v, want %q", b[:n], err, want)
		}
	}
	s := newSuccession(t, "NOTIFY_SOCKET="+manager)
	told("READY=1")
	wants := func() {
		t.Helper()
		if m, err := exchange("udp", s.addr, "kept.test."); err != nil || len(m.Answer) != 1 {
			t.Errorf("got %v, %v, want an answer", m, err)
		}
	}
	wants()
	s.up.Close()
	s.upgrade()
	wants()
	pid := fmt.Sprintf("MAINPID=%d", s.present.cmd.Process.Pid)
	told(pid)
	told(pid + "\nREADY=1")
}

// TestUpgradeFails: whatever is wrong with the new process, it says so, and the old one serves as before, at all addresses and with the files of its sockets.
func TestUpgradeFails(t *testing.T) {
	s := newSuccession(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	good := s.path
	for _, tt := range []struct {
		name     string
		old, new string // what is replaced in the configuration
		want     string
	}{
		{"a mistake", `upstream = "up"`, `upstream = "down"`, "down"},
		{"a filter that can't be had", "[wasm]", "[filter.gone]\nmodule = \"gone.wasm\"\n[wasm]", "gone.wasm"},
		{"a new address that is taken", s.admin, other.Addr().String(), "address already in use"},
		{"a new listener whose address is taken", "[chain.main]", "[[listener]]\naddress = \"" + other.Addr().String() + "\"\nchain = \"main\"\n[chain.main]", "address already in use"},
		{"no path", "handover = ", "#handover = ", "process.handover: is missing, and --upgrade needs it"},
		{"nobody there", s.handover, s.handover + "2", "start without --upgrade"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t, s.generation = t, 0
			s.write()
			text, err := os.ReadFile(good)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), tt.old) {
				t.Fatalf("the configuration has no %q", tt.old)
			}
			put(t, good, strings.ReplaceAll(string(text), tt.old, tt.new))
			if out := s.fails(); !strings.Contains(out, tt.want) {
				t.Errorf("it said %s, want %q in it", out, tt.want)
			}
			s.wants("afterwards")
		})
	}
	s.t = t
	s.upgrade() // it can still be done
	s.wants("after an upgrade")
}
