//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// network is two hosts with a cable between them: weir is on one, at 10.99.0.1, with the test as its client; upstreams are on the other, at 10.99.0.2 and
// 10.99.0.3. Each is a network namespace, so whatever is done to it is done to nobody else.
type network struct {
	t           *testing.T
	near, far   string // names of the namespaces
	nearF, farF *os.File
}

// newNetwork makes a network and has the test be on weir's host until it ends. The test must not change to another goroutine to open sockets.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
	}
	n := &network{t: t, near: fmt.Sprintf("weir-%d-near", os.Getpid()), far: fmt.Sprintf("weir-%d-far", os.Getpid())}
	for _, name := range []string{n.near, n.far} {
		exec.Command("ip", "netns", "del", name).Run() //nolint:errcheck // it is from a test that was killed, and hardly ever there
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Skipf("network namespaces can't be made here: %s", bytes.TrimSpace(out))
		}
		t.Cleanup(func() { n.run("ip", "netns", "del", name) })
	}
	n.nearF, n.farF = n.open("/run/netns/"+n.near), n.open("/run/netns/"+n.far)
	n.ip("link add v0 type veth peer name v1 netns " + n.far)
	n.ip("addr add 10.99.0.1/24 dev v0")
	n.ip("link set v0 up")
	n.ip("link set lo up")
	n.run("ip", strings.Fields("-n "+n.far+" addr add 10.99.0.2/24 dev v1")...)
	n.run("ip", strings.Fields("-n "+n.far+" addr add 10.99.0.3/24 dev v1")...)
	n.run("ip", strings.Fields("-n "+n.far+" link set v1 up")...)
	if out, err := exec.Command("ip", "netns", "exec", n.near, "nft", "add table inet fault").CombinedOutput(); err != nil {
		t.Skipf("nf_tables can't be used here: %s", bytes.TrimSpace(out))
	}
	n.nft("add chain inet fault in { type filter hook input priority 0; }")
	n.nft("add chain inet fault out { type filter hook output priority 0; }")

	runtime.LockOSThread()
	home := n.open("/proc/thread-self/ns/net")
	n.enter(n.nearF)
	t.Cleanup(func() {
		n.enter(home)
		runtime.UnlockOSThread()
	})
	return n
}

func (n *network) open(path string) *os.File {
	n.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { f.Close() })
	return f
}

func (n *network) enter(f *os.File) {
	n.t.Helper()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		n.t.Fatal(err)
	}
}

// there calls f on the host of the upstreams.
func (n *network) there(f func()) {
	n.t.Helper()
	n.enter(n.farF)
	f()
	n.enter(n.nearF)
}

func (n *network) run(command string, args ...string) []byte {
	n.t.Helper()
	out, err := exec.Command(command, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %q: %v\n%s", command, args, err, out)
	}
	return out
}

// ip and nft change weir's host.
func (n *network) ip(args string) {
	n.t.Helper()
	n.run("ip", append([]string{"-n", n.near}, strings.Fields(args)...)...)
}

func (n *network) nft(rule string) []byte {
	n.t.Helper()
	return n.run("ip", "netns", "exec", n.near, "nft", rule)
}

// upstream starts a server at an address of the other host.
func (n *network) upstream(line string) (s *upstreamtest.Server) {
	n.t.Helper()
	n.there(func() { s = upstreamtest.Start(n.t, line) })
	return s
}

// weir starts weir with a configuration.
func (n *network) weir(format string, args ...any) *process {
	n.t.Helper()
	path := filepath.Join(n.t.TempDir(), "weir.toml")
	put(n.t, path, fmt.Sprintf(format, args...))
	p := start(n.t, path)
	p.quiet()
	return p
}

// plain is a weir with two upstreams.
const plain = `[[listener]]
address = "10.99.0.1:0"
chain = "main"
[upstream.up]
servers = [%q, %q]
health_check = "200ms"
%s
[chain.main]
upstream = "up"
`

// again asks for names, again and again, until one has the answer wanted, and returns how long that took.
func (p *process) again(label, want string) time.Duration {
	p.t.Helper()
	begun := time.Now()
	for i := 0; time.Since(begun) < 30*time.Second; i++ {
		m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion(fmt.Sprintf("%s%d.test.", label, i), dns.TypeA), p.addr)
		if err == nil && len(m.Answer) == 1 && m.Answer[0].(*dns.A).A.String() == want {
			return time.Since(begun)
		}
	}
	p.t.Fatalf("no answer with %s in 30 s", want)
	return 0
}

// TestFaultX3BlackHole: what is sent to one of two upstreams goes nowhere. Each query is answered by the other; when the first is reachable again, it is asked again.
func TestFaultX3BlackHole(t *testing.T) {
	n := newNetwork(t)
	one := n.upstream("10.99.0.2:0 udp tcp: * A -> NOERROR 192.0.2.1")
	two := n.upstream("10.99.0.3:0 udp tcp: * A -> NOERROR 192.0.2.2")
	p := n.weir(plain, one.Addr, two.Addr, "policy = \"sequential\"")
	if m := p.ask("before.test."); m == nil || len(m.Answer) != 1 {
		t.Fatalf("before: got %v", m)
	}
	n.nft("add rule inet fault out ip daddr 10.99.0.2 drop")
	var longest time.Duration
	for i := range 100 {
		begun := time.Now()
		if m := p.ask(fmt.Sprintf("n%d.test.", i)); m == nil || len(m.Answer) != 1 {
			t.Errorf("query %d: got %v", i, m)
		}
		longest = max(longest, time.Since(begun))
	}
	n.nft("flush chain inet fault out")
	t.Logf("the longest of 100 queries took %v; the first server answers again after %v", longest, p.again("back", "192.0.2.1"))
}

// TestFaultX5Loss: of all packets between weir and its only upstream, 30 % are lost in each direction. A query has three tries, as RFC 9520 section 3.1 recommends, of which
// each is lost with a probability of 1 - 0.7^2: 86.7 % of the queries are answered over UDP. Who gets no answer is told so, and in time.
func TestFaultX5Loss(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			n := newNetwork(t)
			up := n.upstream("10.99.0.2:0 udp tcp: * A -> NOERROR 192.0.2.1")
			p := n.weir(plain, up.Addr, "10.99.0.2:1", "transport = \""+transport+"\"\npolicy = \"sequential\"\nmax_fails = -1")
			n.nft("add rule inet fault in iifname v0 numgen random mod 100 < 30 drop")
			n.nft("add rule inet fault out oifname v0 numgen random mod 100 < 30 drop")
			const queries = 400
			conn, err := net.Dial("udp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			sent := make([]time.Time, queries)
			answered, failed, longest := 0, 0, time.Duration(0)
			buf := make([]byte, 1500)
			hear := func() {
				conn.SetReadDeadline(time.Now().Add(20 * time.Second))
				size, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("after %d answers and %d failures of %d: %v", answered, failed, queries, err)
				}
				var m dns.Msg
				if err := m.Unpack(buf[:size]); err != nil {
					t.Fatal(err)
				}
				longest = max(longest, time.Since(sent[m.Id]))
				switch {
				case m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1:
					answered++
				case m.Rcode == dns.RcodeServerFailure:
					failed++
				default:
					t.Errorf("got %v", &m)
				}
			}
			for id := range queries {
				m := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.test.", id), dns.TypeA)
				m.Id = uint16(id)
				wire, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				sent[id] = time.Now()
				if _, err := conn.Write(wire); err != nil {
					t.Fatal(err)
				}
				if id >= 50 { // as many are under way
					hear()
				}
			}
			for answered+failed < queries {
				hear()
			}
			t.Logf("over %s: %d of %d answered (%.1f %%), the others got SERVFAIL; the longest took %v", transport, answered, queries, 100*float64(answered)/queries, longest)
			t.Logf("%d queries came through to the upstream", up.UDP()+up.TCP())
			if got := up.UDP(); got > 3*queries {
				t.Errorf("the upstream got %d queries over UDP, want 3 for each at most", got)
			}
			if transport == "udp" && answered < queries/2 { // 17 standard deviations below what is to be expected
				t.Errorf("%d of %d answered", answered, queries)
			}
			n.nft("flush chain inet fault in")
			n.nft("flush chain inet fault out")
			p.again("after", "192.0.2.1")
		})
	}
}

// TestFaultX11NoClearText: the certificate of the only upstream is somebody else's, or has expired. Nothing leaves weir's host but to the port of that server, and
// there nothing but handshakes: the kernel counts every other packet, and the server looks for the name in what it gets.
func TestFaultX11NoClearText(t *testing.T) {
	a, err := upstreamtest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		until  time.Time
		host   string
		answer bool
	}{
		{"as it should be", time.Now().Add(time.Hour), "dns.test", true},
		{"somebody else's", time.Now().Add(time.Hour), "other.test", false},
		{"expired", time.Now().Add(-time.Hour), "dns.test", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			certificate, err := a.IssueUntil(tt.until, tt.host)
			if err != nil {
				t.Fatal(err)
			}
			n := newNetwork(t)
			var s *secret
			n.there(func() { s = startSecret(t, certificate) })
			n.nft("add counter inet fault others")
			n.nft(fmt.Sprintf("add rule inet fault out oifname v0 tcp dport != %d counter name others", s.port))
			n.nft("add rule inet fault out oifname v0 meta l4proto udp counter name others")
			p := n.weir("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[upstream.up]\nservers = [\"tls://10.99.0.2:%d#dns.test\"]\nca = %q\n[chain.main]\nupstream = \"up\"\n", s.port, a.File)
			client, err := dns.Dial("udp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			const queries = 20
			for i := range queries {
				if err := client.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("inquiry%d.test.", i), dns.TypeA)); err != nil {
					t.Fatal(err)
				}
			}
			client.SetReadDeadline(time.Now().Add(20 * time.Second))
			for range queries {
				if m, err := client.ReadMsg(); err != nil || (m.Rcode == dns.RcodeSuccess) != tt.answer {
					t.Errorf("got %v, %v", m, err)
				}
			}
			var counters struct {
				Nftables []struct {
					Counter *struct{ Packets int }
				}
			}
			if err := json.Unmarshal(n.run("ip", "netns", "exec", n.near, "nft", "-j", "list", "counters"), &counters); err != nil {
				t.Fatal(err)
			}
			found := false
			for _, c := range counters.Nftables {
				if c.Counter != nil {
					if found = true; c.Counter.Packets != 0 {
						t.Errorf("%d packets to others than the server", c.Counter.Packets)
					}
				}
			}
			octets, messages := s.seen()
			if !found || len(octets) == 0 || bytes.Contains(octets, []byte("inquiry")) {
				t.Errorf("counter found: %v; the server got %d octets, the name in them: %v", found, len(octets), bytes.Contains(octets, []byte("inquiry")))
			}
			if (messages > 0) != tt.answer {
				t.Errorf("the server decrypted %d queries", messages)
			}
		})
	}
}

// secret is a server over TLS that keeps what comes in, as it comes.
type secret struct {
	port int

	mu       sync.Mutex // guards following
	octets   []byte
	messages int
}

type overheard struct {
	net.Conn
	by *secret
}

func (o overheard) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	o.by.mu.Lock()
	defer o.by.mu.Unlock()
	o.by.octets = append(o.by.octets, b[:n]...)
	return n, err
}

func (s *secret) seen() ([]byte, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.octets), s.messages
}

func startSecret(t *testing.T, certificate tls.Certificate) *secret {
	t.Helper()
	ln, err := net.Listen("tcp", "10.99.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &secret{port: ln.Addr().(*net.TCPAddr).Port}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				c := dns.Conn{Conn: tls.Server(overheard{conn, s}, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"dot"}})}
				for {
					q, err := c.ReadMsg()
					if err != nil {
						return
					}
					s.mu.Lock()
					s.messages++
					s.mu.Unlock()
					m := new(dns.Msg).SetReply(q)
					m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
					if c.WriteMsg(m) != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close() })
	return s
}

// TestFaultX23Address: the address that weir listens at is removed, and added again. Clients elsewhere are answered again at once, without a restart, over UDP and TCP; so
// are they after the interface was down. While upstreams can't be reached, what is in the cache is answered.
func TestFaultX23Address(t *testing.T) {
	n := newNetwork(t)
	up := n.upstream("10.99.0.2:0 udp tcp: * A -> NOERROR 192.0.2.1")
	p := n.weir(plain, up.Addr, "10.99.0.2:1", "policy = \"sequential\"")
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	local := n.weir("[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[upstream.up]\nservers = [%q]\n[chain.main]\nupstream = \"up\"\n", up.Addr)
	if local.ask("held.test.") == nil {
		t.Fatal("no answer before")
	}
	n.there(func() { p.again("before", "192.0.2.1") })
	for _, fault := range []struct{ name, begin, end string }{
		{"the address is removed", "addr del 10.99.0.1/24 dev v0", "addr add 10.99.0.1/24 dev v0"},
		{"the interface is down", "link set v0 down", "link set v0 up"},
	} {
		n.ip(fault.begin)
		if m := local.ask("held.test."); m == nil || len(m.Answer) != 1 {
			t.Errorf("%s: what is in the cache: got %v", fault.name, m)
		}
		if m := local.ask("new" + strings.ReplaceAll(fault.name, " ", "") + ".test."); m == nil || m.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: what is not in the cache: got %v, want SERVFAIL", fault.name, m)
		}
		n.ip(fault.end)
		n.there(func() {
			took := p.again(strings.ReplaceAll(fault.name, " ", ""), "192.0.2.1")
			m, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion("held.test.", dns.TypeA), "10.99.0.1:"+port)
			if err != nil || len(m.Answer) != 1 {
				t.Errorf("%s, over TCP afterwards: got %v, %v", fault.name, m, err)
			}
			t.Logf("%s: a client is answered %v after its end", fault.name, took)
		})
		local.again("local", "192.0.2.1")
	}
}

// TestFaultResolvConf: a resolv.conf is replaced, emptied, removed, and comes back. No query is lost meanwhile: while the file is of no use its servers stay, as
// they do in a network that went away for a moment.
func TestFaultResolvConf(t *testing.T) {
	one := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.1")
	two := upstreamtest.Start(t, "127.0.0.1:0 udp tcp: * A -> NOERROR 192.0.2.2")
	line := func(s *upstreamtest.Server) string {
		return fmt.Sprintf("nameserver [%s]:%d\n", s.Addr.Addr(), s.Addr.Port())
	}
	dir := t.TempDir()
	file, path := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "weir.toml")
	put(t, file, line(one))
	put(t, path, "[[listener]]\naddress = \"127.0.0.1:0\"\nchain = \"main\"\n[upstream.up]\nresolv_conf = \"resolv.conf\"\n[chain.main]\nupstream = \"up\"\n")
	p := start(t, path)
	count := 0
	ask := func() string {
		count++
		m := p.ask(fmt.Sprintf("n%d.test.", count))
		if m == nil || len(m.Answer) != 1 {
			t.Fatalf("query %d: got %v", count, m)
		}
		return m.Answer[0].(*dns.A).A.String()
	}
	until := func(want string) {
		t.Helper()
		for ask() != want {
			if t.Context().Err() != nil {
				return
			}
		}
	}
	until("192.0.2.1")
	put(t, file+".new", line(two))
	if err := os.Rename(file+".new", file); err != nil { // as resolvconf does
		t.Fatal(err)
	}
	until("192.0.2.2")
	put(t, file, line(one)) // in place, as editors do
	until("192.0.2.1")
	put(t, file, "")
	p.wait("has no nameserver line")
	until("192.0.2.1")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	p.wait("no such file")
	until("192.0.2.1")
	put(t, file, line(two))
	until("192.0.2.2")
}
