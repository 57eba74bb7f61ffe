package listener

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/weirdns/weir/host/internal/testcert"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

// secured is a listener with a certificate.
type secured struct {
	*running
	authority *testcert.Authority
	dir       string
	tick      chan time.Time // looks at the certificate
}

func startSecured(t *testing.T, change func(*Listener), config Config) *secured {
	t.Helper()
	s := &secured{authority: testcert.New(t), dir: t.TempDir(), tick: make(chan time.Time)}
	config.Certificate, config.Key = s.authority.Write(s.dir, "dns.example")
	if config.ClientCA != "" {
		s.write(t, config.ClientCA, s.authority.PEM())
		config.ClientCA = filepath.Join(s.dir, config.ClientCA)
	}
	s.running = start(t, func(l *Listener) {
		l.certificateTick = s.tick
		if change != nil {
			change(l)
		}
	}, config)
	return s
}

func (s *secured) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *secured) client(alpn ...string) *tls.Config {
	return &tls.Config{RootCAs: s.authority.Pool(), ServerName: "dns.example", NextProtos: alpn}
}

// dialTLS opens a connection over TLS.
func (s *secured) dialTLS(t *testing.T, config *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(s.dial(t, "tcp"), config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func overTLS() Config { return Config{Protocols: []string{"tls"}} }

func TestTLS(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	c := r.dialTLS(t, r.client("dot"))
	if got := c.ConnectionState().NegotiatedProtocol; got != "dot" {
		t.Errorf("got the protocol %q", got)
	}
	var all [][]byte
	for i := range uint16(50) {
		name := "www.example"
		if i == 3 || i == 7 {
			name = "slow." + string('0'+rune(i))
		}
		all = append(all, query(i, name, i%2 == 0))
	}
	if _, err := c.Write(framed(all...)); err != nil {
		t.Fatal(err)
	}
	r.wantWaiting(t, "slow.3.", "slow.7.")
	got := map[uint16]int{}
	for range 48 {
		got[idOf(receive(t, c))]++
	}
	for _, id := range []uint16{7, 3} { // RFC 7766 section 6.2.1.1: out of order
		r.open("slow." + string('0'+rune(id)) + ".")
		if answered := idOf(receive(t, c)); answered != id {
			t.Errorf("got the response to %d, want that to %d", answered, id)
		}
		got[id]++
	}
	for i := range uint16(50) {
		if got[i] != 1 {
			t.Errorf("query %d got %d responses", i, got[i])
		}
	}
	if q := r.last(); q.Transport != message.TLS || q.Limit(512) != message.MaxSize {
		t.Errorf("the handler saw %v with a limit of %d", q.Transport, q.Limit(512))
	}
	r.wantMetric(t, 50, "queries_total", "tls")
	r.wantMetric(t, 1, "connections", "tls")
	r.wantMetric(t, 1, "handshakes_total", "tls", "whole")
}

// TestTLSEnds: each end of a connection is orderly, so that a client can tell it from octets that were cut off.
func TestTLSEnds(t *testing.T) {
	t.Run("the client's", func(t *testing.T) {
		r := startSecured(t, nil, overTLS())
		c := r.dialTLS(t, r.client("dot"))
		send(t, c, query(1, "slow.1", false))
		r.wantWaiting(t, "slow.1.")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.open("slow.1.")
		if got := receive(t, c); idOf(got) != 1 {
			t.Errorf("got %x", got)
		}
		wantEnd(t, c)
	})
	t.Run("idle", func(t *testing.T) {
		config := overTLS()
		config.TCPIdleTimeout = 100 * time.Millisecond
		r := startSecured(t, nil, config)
		c := r.dialTLS(t, r.client("dot"))
		exchange(t, c, mt.Canary())
		wantEnd(t, c)
	})
	t.Run("the listener's", func(t *testing.T) {
		r := startSecured(t, nil, overTLS())
		c := r.dialTLS(t, r.client("dot"))
		send(t, c, query(1, "slow.1", false))
		r.wantWaiting(t, "slow.1.")
		go r.stop()
		r.open("slow.1.")
		if got := receive(t, c); idOf(got) != 1 {
			t.Errorf("got %x", got)
		}
		wantEnd(t, c)
	})
}

// TestTLSBatch: queries at hand together, each in a record of its own, are answered with one record.
func TestTLSBatch(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	nc := r.dial(t, "tcp")
	reads := &countedReads{Conn: nc}
	c := tls.Client(reads, r.client("dot"))
	exchange(t, c, mt.Canary())
	together := &bytes.Buffer{}
	reads.out = together
	for id := range uint16(5) {
		send(t, c, query(id, "www.example", false))
	}
	reads.out = nil
	if _, err := nc.Write(together.Bytes()); err != nil {
		t.Fatal(err)
	}
	reads.records = 0
	for id := range uint16(5) {
		if got := receive(t, c); idOf(got) != id {
			t.Errorf("got %x, want the response to %d", got, id)
		}
	}
	if reads.records != 1 {
		t.Errorf("got %d records for queries that came together, want one", reads.records)
	}
}

// countedReads is a connection below TLS: it counts the records that are read, and keeps back what is written.
type countedReads struct {
	net.Conn
	out     *bytes.Buffer // nil: the connection
	records int
	left    int // of a record, to be read
}

func (c *countedReads) Write(b []byte) (int, error) {
	if c.out != nil {
		return c.out.Write(b)
	}
	return c.Conn.Write(b)
}

func (c *countedReads) Read(b []byte) (int, error) {
	if c.left > 0 {
		n, err := c.Conn.Read(b[:min(len(b), c.left)])
		c.left -= n
		return n, err
	}
	var head [5]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return 0, err
	}
	c.records++
	c.left = int(head[3])<<8 | int(head[4])
	return copy(b, head[:]), nil
}

// TestRFC7858Handshake: TLS has version 1.2 or later, the application protocol dot, and resumption of sessions (section 3).
func TestRFC7858Handshake(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	tests := []struct {
		name   string
		change func(*tls.Config)
		fails  bool
	}{
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, false},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, true},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, false},
		{"another ALPN", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, true},
		{"dot among others", func(c *tls.Config) { c.NextProtos = []string{"h2", "dot"} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := r.client("dot")
			tt.change(config)
			c := tls.Client(r.dial(t, "tcp"), config)
			if err := c.Handshake(); (err != nil) != tt.fails {
				t.Fatalf("got %v, want an error: %v", err, tt.fails)
			}
			if !tt.fails {
				exchange(t, c, mt.Canary())
			}
		})
	}
	t.Run("resumption", func(t *testing.T) {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := r.client("dot")
			config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
			for i := range 2 {
				c := r.dialTLS(t, config)
				exchange(t, c, mt.Canary())
				if got := c.ConnectionState().DidResume; got != (i == 1) {
					t.Errorf("%s, connection %d: resumed %v", tls.VersionName(version), i, got)
				}
				c.Close()
			}
		}
		r.wantMetric(t, 2, "handshakes_total", "resumed")
	})
}

// TestHostileHandshakes: who does not speak TLS, or not in time, loses the connection, and nobody else notices.
func TestHostileHandshakes(t *testing.T) {
	r := startSecured(t, func(l *Listener) { l.handshakeTimeout = 100 * time.Millisecond }, overTLS())
	good := r.dialTLS(t, r.client("dot"))
	hello := func() []byte {
		var out bytes.Buffer
		tls.Client(&countedReads{Conn: closed{}, out: &out}, r.client("dot")).Handshake() //nolint:errcheck // only the first flight is wanted
		return out.Bytes()
	}()
	for name, octets := range map[string][]byte{
		"nothing": nil, "an octet": {22}, "half a hello": hello[:len(hello)/2], "a hello and no more": hello, "a query in clear": framed(mt.Canary()),
		"HTTP": []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "a record too large": {22, 3, 1, 0xFF, 0xFF, 1}, "noise": bytes.Repeat([]byte{0xA5, 0x5A, 22}, 5000),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial(t, "tcp")
			c.Write(octets)
			if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			exchange(t, good, mt.Canary())
		})
	}
	r.wantMetric(t, 8, "handshakes_total", "failed")
	if q := r.last(); q.ID != idOf(mt.Canary()) || q.Transport != message.TLS {
		t.Errorf("the handler saw %v", q)
	}
}

// closed is a connection at its end.
type closed struct{ net.Conn }

func (closed) Read([]byte) (int, error)         { return 0, io.EOF }
func (closed) SetWriteDeadline(time.Time) error { return nil }

// TestTurns: however many handshakes are begun, a client that goes through with its own gets its turn.
func TestTurns(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	for range 4 * runtime.GOMAXPROCS(0) {
		c := r.dial(t, "tcp")
		out := &countedReads{Conn: c}
		go tls.Client(stuck{out}, r.client("dot")).Handshake() //nolint:errcheck // it never ends by itself
	}
	exchange(t, r.dialTLS(t, r.client("dot")), mt.Canary())
}

// stuck is a connection that nothing is read from.
type stuck struct{ net.Conn }

func (s stuck) Read(b []byte) (int, error) {
	if _, err := s.Conn.Read(b); err != nil {
		return 0, err
	}
	return s.Read(b)
}

// TestTLSLimits: connections count, whatever is in them.
func TestTLSLimits(t *testing.T) {
	config := overTLS()
	config.TCPMaxClients, config.TCPMaxPerClient = 10, 3
	r := startSecured(t, nil, config)
	first := r.dialTLS(t, r.client("dot"))
	exchange(t, first, mt.Canary())
	for range 3 {
		exchange(t, r.dialTLS(t, r.client("dot")), mt.Canary())
	}
	first.SetDeadline(time.Now().Add(limit))
	if n, err := first.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection that was idle longest is still open")
	}
	r.wantMetric(t, 1, "connections_refused_total", "tls", "idle")
}

// TestTLSSlowloris: records that come now and then do not prolong the time for a message.
func TestTLSSlowloris(t *testing.T) {
	r := startSecured(t, func(l *Listener) { l.messageTimeout = 100 * time.Millisecond }, overTLS())
	c := r.dialTLS(t, r.client("dot"))
	c.Write([]byte{0xFF, 0xFF})
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if _, err := c.Write([]byte{0}); err != nil {
			return // the listener has ended it
		}
		runtime.Gosched()
	}
	t.Error("the connection is still open")
}

// TestRFC7828Keepalive: who sends edns-tcp-keepalive over a connection learns how long it is kept, and nobody does over UDP (section 3).
func TestRFC7828Keepalive(t *testing.T) {
	r := startSecured(t, nil, Config{Protocols: []string{"tls", "udp"}, TCPIdleTimeout: 12300 * time.Millisecond})
	plain := start(t, nil, Config{TCPIdleTimeout: 12300 * time.Millisecond})
	asking := mt.Join(mt.Header(5, message.FlagRD, 1, 0, 0, 1), mt.Question("www.example", message.TypeA), mt.OPT(1232, 0, 0, 11, 0, 0))
	tests := []struct {
		name  string
		conn  net.Conn
		query []byte
		want  bool
	}{
		{"over TLS", r.dialTLS(t, r.client("dot")), asking, true},
		{"over TCP", plain.dial(t, "tcp"), asking, true},
		{"over UDP", plain.dial(t, "udp"), asking, false},
		{"unasked", plain.dial(t, "tcp"), query(5, "www.example", true), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got *dns.EDNS0_TCP_KEEPALIVE
			for _, o := range unpack(t, exchange(t, tt.conn, tt.query)).IsEdns0().Option {
				got, _ = o.(*dns.EDNS0_TCP_KEEPALIVE)
			}
			if (got != nil) != tt.want || got != nil && got.Timeout != 123 {
				t.Errorf("got %v, want it: %v, with 123", got, tt.want)
			}
		})
	}
	t.Run("at the end", func(t *testing.T) {
		c := plain.dial(t, "tcp")
		send(t, c, mt.Join(mt.Header(5, message.FlagRD, 1, 0, 0, 1), mt.Question("slow.1", message.TypeA), mt.OPT(1232, 0, 0, 11, 0, 0)))
		plain.wantWaiting(t, "slow.1.")
		go plain.stop()
		for plain.tcpIn.idle.Load() != 0 {
			runtime.Gosched()
		}
		plain.open("slow.1.")
		o := unpack(t, receive(t, c)).IsEdns0().Option
		if len(o) != 1 || o[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != 0 {
			t.Errorf("got %v, want a timeout of 0", o)
		}
	})
}

// TestRFC7830Padding: a padded query gets a padded response, and no other does, nor over a transport that anybody can read (section 4).
func TestRFC7830Padding(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	plain := start(t, nil, Config{})
	padded := func(name string) []byte {
		return mt.Join(mt.Header(5, message.FlagRD, 1, 0, 0, 1), mt.Question(name, message.TypeA), mt.OPT(1232, 0, 0, 12, 0, 3, 0, 0, 0))
	}
	c := r.dialTLS(t, r.client("dot"))
	for name, want := range map[string]int{"www.example": 468, "big.example": (60*112 + 28 + 11 + 467) / 468 * 468} {
		got := exchange(t, c, padded(name))
		if unpack(t, got); len(got) != want {
			t.Errorf("%s: got %d octets, want %d", name, len(got), want)
		}
	}
	if got := exchange(t, c, query(5, "www.example", true)); len(got)%468 == 0 {
		t.Errorf("a response to a query without padding has %d octets", len(got))
	}
	for _, network := range networks {
		if got := exchange(t, plain.dial(t, network), padded("www.example")); len(got)%468 == 0 {
			t.Errorf("a response over %s has %d octets", network, len(got))
		}
	}
}

func TestClientCertificates(t *testing.T) {
	config := overTLS()
	config.ClientCA = "ca.pem"
	r := startSecured(t, nil, config)
	others := testcert.New(t)
	for _, tt := range []struct {
		name  string
		certs []tls.Certificate
		want  bool
	}{
		{"none", nil, false},
		{"of the authority", []tls.Certificate{r.authority.Pair("laptop.example")}, true},
		{"of another authority", []tls.Certificate{others.Pair("laptop.example")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.client("dot")
			c.Certificates = tt.certs
			conn := tls.Client(r.dial(t, "tcp"), c)
			conn.Write(framed(mt.Canary())) // in TLS 1.3 the client hears of it with the first thing that it reads
			_, err := (&dns.Conn{Conn: conn}).ReadMsgHeader(nil)
			if (err == nil) != tt.want {
				t.Errorf("got %v, want an answer: %v", err, tt.want)
			}
		})
	}
}

func TestNewCertificate(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	serial := func() string {
		return r.dialTLS(t, r.client("dot")).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	look := func() { // twice, and until that is done
		for range 3 {
			r.tick <- time.Time{}
		}
	}
	old := r.dialTLS(t, r.client("dot"))
	first := serial()
	certificate, key := r.authority.Issue("dns.example", time.Now().Add(2*time.Hour))

	r.write(t, "cert.pem", certificate) // the key is another one still
	look()
	if got := serial(); got != first {
		t.Error("a certificate without its key is used")
	}
	r.write(t, "key.pem", key)
	look()
	second := serial()
	if second == first {
		t.Error("the new certificate is not used")
	}
	os.Remove(filepath.Join(r.dir, "cert.pem"))
	look()
	look()
	r.write(t, "cert.pem", []byte("nonsense"))
	look()
	if got := serial(); got != second {
		t.Error("the certificate is not the one before")
	}
	if got := unpack(t, exchange(t, old, mt.Canary())); got.Rcode != 0 {
		t.Errorf("an old connection got %v", got)
	}
	r.stop()
	for text, want := range map[string]int{"the one before stays: certificate: ": 3, "a new certificate is used": 1, "level=ERROR": 3} {
		if got := strings.Count(r.log.String(), text); got != want {
			t.Errorf("%q is %d times in the log, want %d:\n%s", text, got, want, r.log)
		}
	}
}

// TestHammerCertificates: certificates change under handshakes.
func TestHammerCertificates(t *testing.T) {
	r := startSecured(t, nil, overTLS())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				c, err := tls.Dial("tcp", r.addr, r.client("dot"))
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(limit))
				c.Write(framed(mt.Canary()))
				if _, err := (&dns.Conn{Conn: c}).ReadMsgHeader(nil); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	for range 20 {
		r.authority.Write(r.dir, "dns.example")
		for range 2 {
			r.tick <- time.Time{}
		}
	}
	wg.Wait()
}

func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	certificate, key := testcert.New(t).Write(dir, "dns.example")
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, otherKey := testcert.New(t).Write(t.TempDir(), "dns.example")
	for _, tt := range []struct{ name, certificate, key, clientCA, want string }{
		{"good", certificate, key, certificate, ""},
		{"no certificate", filepath.Join(dir, "none.pem"), key, "", "certificate: open "},
		{"no key", certificate, filepath.Join(dir, "none.pem"), "", "key: open "},
		{"nonsense", bad, key, "", "certificate: "},
		{"of another", certificate, otherKey, "", "private key does not match"},
		{"no authority", certificate, key, bad, "client_ca: " + bad + " has no certificate"},
		{"key as authority", certificate, key, key, "client_ca: " + key + " has no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Address: "127.0.0.1:0", Chain: "main", Protocols: []string{"tls"}, Certificate: tt.certificate, Key: tt.key, ClientCA: tt.clientCA}
			for who, err := range map[string]error{"CheckFiles": c.CheckFiles(), "Listen": listen(t, c)} {
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: got %v, want %q", who, err, tt.want)
				}
			}
		})
	}
	if err := (Config{}).CheckFiles(); err != nil {
		t.Errorf("without TLS: got %v", err)
	}
}

func listen(t *testing.T, c Config) error {
	l, err := New(c, 0, newScript(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Listen(t.Context())
}

// TestNewClientAmongSlowHandshakes: however many clients begin handshakes and say no more, the next one gets its answer.
func TestNewClientAmongSlowHandshakes(t *testing.T) {
	config := overTLS()
	config.TCPMaxClients, config.TCPMaxPerClient = 50, 50
	r := startSecured(t, nil, config)
	for range 200 {
		r.dial(t, "tcp").Write([]byte{22, 3, 1})
	}
	exchange(t, r.dialTLS(t, r.client("dot")), mt.Canary())
	if got := r.metric(t, "connections_refused_total", "tls", "idle"); got < 150 {
		t.Errorf("%v connections made room, want 151", got)
	}
}
