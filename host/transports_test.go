package host

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/internal/testcert"
	"github.com/weirdns/weir/host/message"
)

// encrypted is a weir with a listener for each transport, in the order udp and tcp, tls and quic, https, and an upstream that keeps what it is
// asked.
type encrypted struct {
	*reloading
	authority *testcert.Authority
	pair      tls.Certificate // of clients; the zero value for none
	mu        sync.Mutex      // guards following
	asked     [][]byte
}

// everyTransport are listeners with all of them; what follows is about the one of HTTPS.
const everyTransport = `[[listener]]
address = "127.0.0.1:0"
chain = "main"
[[listener]]
address = "127.0.0.1:0"
protocols = ["tls", "quic"]
certificate = "cert.pem"
key = "key.pem"
chain = "main"
[[listener]]
address = "127.0.0.1:0"
protocols = ["https"]
certificate = "cert.pem"
key = "key.pem"
chain = "main"
`

// text is the configuration; rcode is that of a rule, which tells generations apart.
func (e *encrypted) text(rcode string) string {
	return fmt.Sprintf(`[log]
queries = true
query_format = "coredns"
query_file = "queries.log"
`+everyTransport+`[[listener.scope]]
path = "/kids"
chain = "kids"
[[listener.scope]]
path = "/elsewhere"
clients = ["192.0.2.0/24"]
chain = "kids"
[upstream.up]
servers = [%q]
[chain.main]
filters = ["rules"]
upstream = "up"
[chain.kids]
filters = ["kids"]
upstream = "up"
[filter.rules.config]
rule = [ { zone = "generation.test", rcode = %q } ]
[filter.kids]
module = "rules"
[filter.kids.config]
rule = [ { zone = ".", rcode = "REFUSED" } ]
`, e.up, rcode)
}

func startEncrypted(t *testing.T) *encrypted {
	t.Helper()
	dir := t.TempDir()
	e := &encrypted{authority: testcert.New(t)}
	e.authority.Write(dir, "dns.example")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			e.mu.Lock()
			e.asked = append(e.asked, bytes.Clone(buf[:n]))
			e.mu.Unlock()
			q := new(dns.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				continue
			}
			r := new(dns.Msg).SetReply(q)
			if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
				r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)})
			}
			wire, err := r.Pack()
			if err == nil {
				pc.WriteTo(wire, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close() })
	e.reloading = &reloading{t: t, path: filepath.Join(dir, "weir.toml"), up: pc.LocalAddr().String(), log: new(lockedBuffer)}
	e.write("weir.toml", e.text("NXDOMAIN"))
	e.Server = serve(t, e.path)
	<-e.serving
	return e
}

// take returns what the upstream was asked since the last time.
func (e *encrypted) take() [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}

// client asks over one transport, on one connection as long as that lives.
type client struct {
	name string
	ask  func(msg []byte) ([]byte, error)
}

func (e *encrypted) clients(t *testing.T) []client {
	t.Helper()
	addrs := e.Addrs()
	config := func(alpn string) *tls.Config {
		c := &tls.Config{RootCAs: e.authority.Pool(), ServerName: "dns.example", NextProtos: []string{alpn}}
		if e.pair.Leaf != nil {
			c.Certificates = []tls.Certificate{e.pair}
		}
		return c
	}
	stream := func(c net.Conn, err error) func([]byte) ([]byte, error) {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return func(msg []byte) ([]byte, error) {
			c.SetDeadline(time.Now().Add(patience))
			if _, ok := c.(*net.UDPConn); !ok {
				msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
			}
			if _, err := c.Write(msg); err != nil {
				return nil, err
			}
			return (&dns.Conn{Conn: c}).ReadMsgHeader(nil)
		}
	}
	qc, err := quic.DialAddr(t.Context(), addrs[1].String(), config("doq"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { qc.CloseWithError(0, "") })
	overQUIC := func(msg []byte) ([]byte, error) {
		s, err := qc.OpenStreamSync(t.Context())
		if err != nil {
			return nil, err
		}
		s.SetDeadline(time.Now().Add(patience))
		s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
		s.Close()
		all, err := io.ReadAll(s)
		if err != nil || len(all) < 2 {
			return nil, fmt.Errorf("%x: %w", all, err)
		}
		return all[2:], nil
	}
	h2 := &http.Transport{TLSClientConfig: config("h2"), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: config("h3")}
	t.Cleanup(h2.CloseIdleConnections)
	t.Cleanup(func() { h3.Close() })
	dc, err := net.Dial("udp", addrs[0].String())
	udp := stream(dc, err)
	tc, err := net.Dial("tcp", addrs[0].String())
	tcp := stream(tc, err)
	sc, err := tls.Dial("tcp", addrs[1].String(), config("dot"))
	return []client{
		{"udp", udp}, {"tcp", tcp}, {"tls", stream(sc, err)}, {"quic", overQUIC},
		{"https", overHTTP(h2, addrs[2].String(), "/dns-query")}, {"http3", overHTTP(h3, addrs[2].String(), "/dns-query")},
	}
}

func overHTTP(transport http.RoundTripper, addr, path string) func([]byte) ([]byte, error) {
	c := &http.Client{Transport: transport, Timeout: patience}
	return func(msg []byte) ([]byte, error) {
		resp, err := c.Get("https://" + addr + path + "?dns=" + base64.RawURLEncoding.EncodeToString(msg))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %s", resp.Status)
		}
		return io.ReadAll(resp.Body)
	}
}

// askFor sends a query with the ID 0.
func (c client) askFor(t *testing.T, name string) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	q.Id = 0
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.ask(wire)
	if err != nil {
		t.Fatalf("%s: %s: %v", c.name, name, err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(got); err != nil || m.Id != 0 {
		t.Fatalf("%s: %s: got %x, %v", c.name, name, got, err)
	}
	return m
}

// TestTransports: all transports lead the same way, through chain, cache and upstream, and to the log of queries; and what upstreams are asked
// tells nothing of how the client asked.
func TestTransports(t *testing.T) {
	e := startEncrypted(t)
	clients := e.clients(t)
	for i, c := range clients {
		for range 2 { // the second one is from the cache
			if m := c.askFor(t, fmt.Sprintf("www%d.example.", i)); m.Rcode != 0 || len(m.Answer) != 1 {
				t.Errorf("%s: got %v", c.name, m)
			}
		}
		if m := c.askFor(t, "x.generation.test."); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: got %v", c.name, m)
		}
	}
	asked := e.take()
	if len(asked) != len(clients) {
		t.Errorf("the upstream was asked %d times, want %d", len(asked), len(clients))
	}
	ids := map[uint16]bool{}
	for _, q := range asked {
		ids[binary.BigEndian.Uint16(q)] = true
	}
	if ids[0] && len(ids) == 1 || len(ids) < len(clients)-1 { // two may be the same
		t.Errorf("the upstream saw the IDs %v: clients chose 0", ids)
	}
	counted := e.counted(t)
	for transport, want := range map[string]float64{"udp": 3, "tcp": 3, "tls": 3, "quic": 3, "https": 6} {
		if counted[transport] != want {
			t.Errorf("%s: %v queries were counted, want %v", transport, counted[transport], want)
		}
	}
}

// counted is how many queries there were over each transport.
func (e *encrypted) counted(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := e.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "weir_listener_queries_total" && l.GetName() == "transport" {
					counted[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return counted
}

// TestQueryLogTransports: a line says how a query came.
func TestQueryLogTransports(t *testing.T) {
	e := startEncrypted(t)
	clients := e.clients(t)
	for _, c := range clients {
		c.askFor(t, "x.generation.test.")
	}
	path := filepath.Join(filepath.Dir(e.path), "queries.log")
	log, err := os.ReadFile(path)
	for end := time.Now().Add(patience); strings.Count(string(log), "\n") < len(clients) && time.Now().Before(end); {
		log, err = os.ReadFile(path)
	}
	for transport, want := range map[string]int{"udp": 1, "tcp": 1, "tls": 1, "https": 2, "quic": 1} {
		if got := strings.Count(string(log), `"A IN x.generation.test. `+transport+" "); got != want || err != nil {
			t.Errorf("%s is there %d times, want %d: %v\n%s", transport, got, want, err, log)
		}
	}
}

// TestOnlyQueriesReachUpstreams: whatever the opcode and the transport, an upstream sees queries only, and answers come from the listener.
func TestOnlyQueriesReachUpstreams(t *testing.T) {
	e := startEncrypted(t)
	for _, c := range e.clients(t) {
		for opcode := range 16 {
			q := new(dns.Msg).SetQuestion("www.example.", dns.TypeSOA)
			q.Id, q.Opcode = 0, opcode
			wire, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.ask(wire)
			if err != nil || len(got) < 12 {
				t.Errorf("%s, opcode %d: got %x, %v", c.name, opcode, got, err)
			}
		}
	}
	for _, q := range e.take() {
		if q[2]>>3&15 != 0 {
			t.Errorf("the upstream saw %x", q)
		}
	}
}

// TestPathScopes: the path of a URL selects the chain.
func TestPathScopes(t *testing.T) {
	e := startEncrypted(t)
	addr := e.Addrs()[2].String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.authority.Pool(), ServerName: "dns.example"}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	for path, want := range map[string]int{"/dns-query": 0, "/kids": dns.RcodeRefused, "/elsewhere": 0} {
		c := client{path, overHTTP(transport, addr, path)}
		if m := c.askFor(t, "www.example."); m.Rcode != want {
			t.Errorf("%s: got %v", path, m)
		}
		trail, err := e.Explain(t.Context(), explain.Question{Name: "www.example", Listener: e.file().Listeners[2].Address, Over: message.HTTPS, Path: path})
		if err != nil || trail.Over != "https" {
			t.Fatalf("%s: %v, %v", path, trail, err)
		}
	}
}

// TestNameScopes: the name in the certificate of a client selects the chain, over each transport that has certificates.
func TestNameScopes(t *testing.T) {
	e := startEncrypted(t)
	e.write("ca.pem", string(e.authority.PEM()))
	text := strings.ReplaceAll(e.text("NXDOMAIN"), "key = \"key.pem\"\nchain = \"main\"\n", `key = "key.pem"
client_ca = "ca.pem"
chain = "main"
[[listener.scope]]
names = ["Laptop.example", "phone.example"]
chain = "kids"
`)
	e.write("names.toml", text)
	e.Server = serve(t, filepath.Join(filepath.Dir(e.path), "names.toml"))
	for name, want := range map[string]int{"laptop.example": dns.RcodeRefused, "phone.example": dns.RcodeRefused, "desk.example": 0} {
		e.pair = e.authority.Pair(name)
		for _, c := range e.clients(t) {
			got, want := c.askFor(t, "www.example.").Rcode, want
			if c.name == "udp" || c.name == "tcp" {
				want = 0
			}
			if got != want {
				t.Errorf("%s over %s: got %s, want %s", name, c.name, dns.RcodeToString[got], dns.RcodeToString[want])
			}
		}
	}
}

// TestReloadTransports: connections over every transport outlive a reload, and queries on them get the new configuration.
func TestReloadTransports(t *testing.T) {
	e := startEncrypted(t)
	clients := e.clients(t)
	for _, c := range clients {
		if m := c.askFor(t, "x.generation.test."); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: got %v", c.name, m)
		}
	}
	before := e.Addrs()
	e.write("weir.toml", e.text("NOTIMP"))
	f, err := config.Load(e.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Reload(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if after := e.Addrs(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the addresses are %v now, and were %v", after, before)
	}
	for _, c := range clients {
		if m := c.askFor(t, "x.generation.test."); m.Rcode != dns.RcodeNotImplemented {
			t.Errorf("%s: got %v", c.name, m)
		}
	}
	families, err := e.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "weir_listener_handshakes_total" {
			continue
		}
		total := 0.0
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue()
		}
		if total != 4 { // tls, quic, https and http3
			t.Errorf("%v handshakes, want 4: connections were not kept", total)
		}
	}
}

// TestReloadCertificate: a certificate that can't be used is a mistake like any other, in its line.
func TestReloadCertificate(t *testing.T) {
	e := startEncrypted(t)
	for name, want := range map[string]string{"cert.pem": "weir.toml:11: listener[1].certificate: ", "key.pem": "weir.toml:11: listener[1].certificate: "} {
		good, err := os.ReadFile(filepath.Join(filepath.Dir(e.path), name))
		if err != nil {
			t.Fatal(err)
		}
		e.write(name, "nonsense")
		f, err := config.Load(e.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Reload(t.Context(), f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		e.write(name, string(good))
	}
	for _, c := range e.clients(t) {
		c.askFor(t, "x.generation.test.")
	}
}

// TestStopTransports: what is in flight over any transport is answered when weir stops.
func TestStopTransports(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.New(t)
	authority.Write(dir, "dns.example")
	gate := make(chan struct{})
	asked := make(chan string, 10)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		<-gate
		w.WriteMsg(new(dns.Msg).SetReply(q)) //nolint:errcheck // the test sees what is missing
	})}
	go up.ActivateAndServe() //nolint:errcheck // it ends with the test
	defer up.Shutdown()      //nolint:errcheck // as above
	e := &encrypted{authority: authority, reloading: &reloading{t: t, path: filepath.Join(dir, "weir.toml"), up: pc.LocalAddr().String()}}
	e.write("weir.toml", "drain = \"10s\"\nbudget = \"10s\"\n"+e.text("NXDOMAIN"))
	f, err := config.Load(e.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if e.Server, err = New(ctx, f, "test", testLog(t)); err != nil {
		t.Fatal(err)
	}
	if err := e.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var all sync.WaitGroup
	clients := e.clients(t)
	for i, c := range clients {
		all.Go(func() {
			q := new(dns.Msg).SetQuestion(fmt.Sprintf("slow%d.example.", i), dns.TypeA)
			q.Id = 0
			wire, err := q.Pack()
			if err == nil {
				wire, err = c.ask(wire)
			}
			if err != nil || len(wire) < 12 || wire[3]&15 != 0 {
				t.Errorf("%s: got %x, %v", c.name, wire, err)
			}
		})
	}
	for range clients {
		<-asked
	}
	cancel()
	for e.State() != Draining {
		runtime.Gosched()
	}
	close(gate)
	all.Wait()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
