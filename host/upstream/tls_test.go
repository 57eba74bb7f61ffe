package upstream

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/upstream/upstreamtest"
)

// testName is what the servers of tests are called in their certificates.
const testName = "dns.test"

// authority makes an authority, and a certificate for testName and the addresses of tests.
func authority(t testing.TB) (*upstreamtest.Authority, tls.Certificate) {
	t.Helper()
	a, err := upstreamtest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a, issue(t, a, testName, "127.0.0.1", ip1)
}

func issue(t testing.TB, a *upstreamtest.Authority, hosts ...string) tls.Certificate {
	t.Helper()
	certificate, err := a.Issue(hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// serverTLS is the configuration of a server.
func serverTLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"dot"}}
}

// scriptTLS plays a server over TLS, as script does over TCP. It serves after the handshake.
func scriptTLS(t testing.TB, config *tls.Config, serve func(conn *tls.Conn)) netip.AddrPort {
	t.Helper()
	return script(t, nil, func(conn net.Conn) {
		c := tls.Server(conn, config)
		if c.Handshake() == nil {
			serve(c)
		}
		c.Close()
	})
}

// answering serves one address for each query.
func answering(ip string) func(conn *tls.Conn) {
	return func(conn *tls.Conn) {
		frames(conn, func(query []byte) { conn.Write(frame(answer(query, ip))) })
	}
}

// tlsServer is how a configuration names a server over TLS.
func tlsServer(addr netip.AddrPort) string { return "tls://" + addr.String() + "#" + testName }

// TestTLS looks at what a server gets: the name that it is asked by, DNS over TLS, no version below 1.2, and a query that is padded.
func TestTLS(t *testing.T) {
	a, certificate := authority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := serverTLS(certificate)
			config.MaxVersion = version
			config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if hello.ServerName != testName || !slices.Equal(hello.SupportedProtos, []string{"dot"}) || slices.Min(hello.SupportedVersions) != tls.VersionTLS12 {
					t.Errorf("hello: name %q, protocols %q, versions %x", hello.ServerName, hello.SupportedProtos, hello.SupportedVersions)
				}
				return nil, nil
			}
			addr := scriptTLS(t, config, func(conn *tls.Conn) {
				frames(conn, func(query []byte) {
					m := new(dns.Msg)
					if err := m.Unpack(query); err != nil {
						t.Error(err)
					}
					if len(query)%128 != 0 || m.IsEdns0() == nil || len(m.IsEdns0().Option) != 1 || m.IsEdns0().Option[0].Option() != dns.EDNS0PADDING {
						t.Errorf("query of %d octets: %v", len(query), m)
					}
					conn.Write(frame(answer(query, "192.0.2.1")))
				})
			})
			metrics := NewMetrics(nil)
			g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File}, Env{Metrics: metrics})
			for _, name := range []string{"www.test.", "a.test.", strings.Repeat("a.", 40) + "test."} {
				q := query(t, name, dns.TypeA)
				q.Trace = new(message.Trace)
				if got, want := ask(t, g, q), "NOERROR 192.0.2.1"; got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
				for _, step := range q.Trace.Steps {
					if step.Over != "tls" || !strings.Contains(step.Text, "over tls") {
						t.Errorf("trace says %+v", step)
					}
				}
			}
			if n := firstTries(metrics, addr, TLS); n != 3 {
				t.Errorf("counted %v queries over tls, want 3", n)
			}
			if s := g.Stats()[0]; s.Transport != TLS || s.Connections != 1 {
				t.Errorf("got %+v, want one connection over tls", s)
			}
		})
	}
}

// TestRFC8467Queries: encrypted queries have a multiple of 128 octets, whatever the name (section 4.1).
func TestRFC8467Queries(t *testing.T) {
	for n := range 300 {
		query := append(make([]byte, 2+17+n), make([]byte, 11)...)
		query[2+17+n+2] = message.TypeOPT
		padded := appendOptions(query, nil, true)
		end := 2 + 17 + n + 11
		rdlength := int(binary.BigEndian.Uint16(padded[end-2:]))
		if (len(padded)-2)%128 != 0 || len(padded)-end != rdlength || rdlength < 4 || rdlength >= 4+128 || int(binary.BigEndian.Uint16(padded[end+2:])) != rdlength-4 {
			t.Fatalf("%d octets: padded to %d, RDLENGTH %d", len(query)-2, len(padded)-2, rdlength)
		}
	}
}

// TestRFC8310Strict: a server that is not the one meant gets no query, in secret or in clear text, and says nothing that is heard (section 5).
func TestRFC8310Strict(t *testing.T) {
	a, good := authority(t)
	other, stranger := authority(t)
	expired, err := a.IssueUntil(time.Now().Add(-time.Hour), testName)
	if err != nil {
		t.Fatal(err)
	}
	ownFile, ownKey, err := a.Write("own", issue(t, a, "weir.test"))
	if err != nil {
		t.Fatal(err)
	}
	askOwn := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool() }
	tests := []struct {
		name   string
		server tls.Certificate
		change func(c *tls.Config)
		c      Config
		as     string // instead of testName
		want   string // part of what is wrong; empty if nothing is
	}{
		{name: "good", server: good},
		{name: "by address", server: good, as: "127.0.0.1"},
		{name: "address not in it", server: issue(t, a, testName), as: "127.0.0.1", want: "doesn't contain any IP SANs"},
		{name: "expired", server: expired, want: "expired"},
		{name: "wrong name", server: issue(t, a, "evil.test"), want: "not dns.test"},
		{name: "another authority", server: stranger, want: "unknown authority"},
		{name: "an authority of the system", server: good, c: Config{CA: "none"}, want: "unknown authority"},
		{name: "pinned", server: good, c: Config{Pins: []string{upstreamtest.Pin(stranger.Leaf), upstreamtest.Pin(good.Leaf)}}},
		{name: "authority pinned", server: good, c: Config{Pins: []string{a.Pin()}}},
		{name: "another pinned", server: good, c: Config{Pins: []string{upstreamtest.Pin(stranger.Leaf), other.Pin()}}, want: errPin.Error()},
		{name: "pinned and expired", server: expired, c: Config{Pins: []string{upstreamtest.Pin(expired.Leaf)}}, want: "expired"},
		{name: "TLS 1.1", server: good, change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, want: "protocol version"},
		{name: "another protocol", server: good, change: func(c *tls.Config) { c.NextProtos = []string{"h2"} }, want: "no application protocol"},
		{name: "no protocol", server: good, change: func(c *tls.Config) { c.NextProtos = nil }},
		{name: "own certificate", server: good, change: askOwn, c: Config{Certificate: ownFile, Key: ownKey}},
		{name: "own certificate missing", server: good, change: askOwn, want: "certificate required"},
		{name: "own certificate missing, TLS 1.2", server: good, change: func(c *tls.Config) { askOwn(c); c.MaxVersion = tls.VersionTLS12 }, want: "handshake failure"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var served atomic.Int32
			config := serverTLS(tt.server)
			if tt.change != nil {
				tt.change(config)
			}
			// In clear text there is a server too, which would answer, on UDP and TCP at the same port.
			addr := script(t, func(query []byte, send func([]byte), _ netip.AddrPort) {
				t.Errorf("a query went out over UDP: %x", query)
				send(answer(query, "192.0.2.66"))
			}, func(conn net.Conn) {
				seen := &recorder{Conn: conn}
				c := tls.Server(seen, config)
				if c.Handshake() == nil {
					frames(c, func(query []byte) {
						served.Add(1)
						c.Write(frame(answer(query, "192.0.2.1")))
					})
				}
				c.Close()
				if seen.has("www\x04test") {
					t.Errorf("the QNAME went out in clear text: %x", seen.octets)
				}
			})
			c := tt.c
			switch c.CA {
			case "":
				c.CA = a.File
			case "none":
				c.CA = ""
			}
			as := testName
			if tt.as != "" {
				as = tt.as
			}
			c.Servers = []string{"tls://" + addr.String() + "#" + as}
			c.MaxFails = -1 // no probes
			metrics := NewMetrics(nil)
			g := group(t, c, Env{Metrics: metrics})
			q := query(t, "www.test.", dns.TypeA)
			q.Trace = new(message.Trace)
			got := ask(t, g, q)
			if tt.want == "" {
				if want := "NOERROR 192.0.2.1"; got != want {
					t.Errorf("got %q, want %q; %v", got, want, q.Trace.Steps)
				}
				return
			}
			if want := ErrUnreachable.Error(); got != want || served.Load() != 0 {
				t.Errorf("got %q with %d queries, want %q with none", got, served.Load(), want)
			}
			if !slices.ContainsFunc(q.Trace.Steps, func(s message.Step) bool { return s.Event == "failure" && strings.Contains(s.Text, tt.want) }) {
				t.Errorf("the trace does not say %q: %v", tt.want, q.Trace.Steps)
			}
			cause := "handshake"
			if strings.HasSuffix(tt.name, "missing") { // which TLS 1.3 says after the handshake
				cause = "broken"
			}
			if testutil.ToFloat64(metrics.failures.WithLabelValues("test", addr.String(), cause)) == 0 {
				t.Errorf("no failure is counted as %s", cause)
			}
		})
	}
}

// recorder keeps what is read.
type recorder struct {
	net.Conn
	octets []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.octets = append(r.octets, b[:n]...)
	return n, err
}

func (r *recorder) has(text string) bool { return bytes.Contains(r.octets, []byte(text)) }

// logged is a log that may be written and read at the same time.
type logged struct {
	mu   sync.Mutex // guards following
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestDownSaysWhy: the line in the log that says that a server is down says what is wrong with it, and there is one.
func TestDownSaysWhy(t *testing.T) {
	var log logged
	g := group(t, Config{Servers: []string{"tls://192.0.2.1"}, HealthCheck: time.Hour}, Env{Dial: newFakeNet(ip1).dial, Log: slog.New(slog.NewTextHandler(&log, nil))})
	s := (*g.servers.Load())[0]
	s.retired = true // so that it is not probed
	for range 3 {
		s.fail(&try{exchange: new(exchange)}, causeHandshake, &handshakeError{errPin}, 0, time.Now())
	}
	text := log.String()
	if strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "server is down") || !strings.Contains(text, errPin.Error()) || !strings.Contains(text, "cause=handshake") {
		t.Errorf("the log does not say once what is wrong:\n%s", text)
	}
}

// TestTLSResumes has the server close after each answer. The second connection takes up the session of the first, and the pin is looked at again.
func TestTLSResumes(t *testing.T) {
	a, certificate := authority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := serverTLS(certificate)
			config.MaxVersion = version
			var resumed, connections atomic.Int32
			addr := scriptTLS(t, config, func(conn *tls.Conn) {
				connections.Add(1)
				if conn.ConnectionState().DidResume {
					resumed.Add(1)
				}
				if query, err := readMessage(conn, nil); err == nil {
					conn.Write(frame(answer(query, "192.0.2.1")))
				}
			})
			g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File, Pins: []string{a.Pin()}}, Env{})
			for range 4 {
				if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if c, r := connections.Load(), resumed.Load(); c != 4 || r != 3 {
				t.Errorf("%d connections, %d resumed, want 4 and 3", c, r)
			}
		})
	}
}

// TestTLSReset has a connection reset in the middle of an answer. The queries on it are asked again on another.
func TestTLSReset(t *testing.T) {
	a, certificate := authority(t)
	var connections atomic.Int32
	addr := script(t, nil, func(conn net.Conn) {
		first := connections.Add(1) == 1
		c := tls.Server(conn, serverTLS(certificate))
		defer c.Close()
		if first {
			collect(t, c, 3)
			conn.Write([]byte("\x17\x03\x03\x01\x00half of a record"))
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return
		}
		frames(c, func(query []byte) { c.Write(frame(own(query))) })
	})
	g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File}, Env{})
	askOwn(t, g, 3)
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestTLSTruncated: TC over TLS is the server's last word, as over TCP. Nobody asks elsewhere.
func TestTLSTruncated(t *testing.T) {
	a, certificate := authority(t)
	addr := scriptTLS(t, serverTLS(certificate), func(conn *tls.Conn) {
		frames(conn, func(query []byte) {
			msg := answer(query, "192.0.2.1")
			msg[2] |= 2
			conn.Write(frame(msg))
		})
	})
	g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File}, Env{})
	if got, want := askName(t, g, "www.test."), "tc NOERROR"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTLSProbe: a server that is down is probed over TLS, and comes back when its certificate is a good one.
func TestTLSProbe(t *testing.T) {
	a, good := authority(t)
	_, bad := authority(t)
	var mended atomic.Bool
	config := serverTLS(good)
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if mended.Load() {
			return &good, nil
		}
		return &bad, nil
	}
	config.Certificates = nil
	addr := scriptTLS(t, config, answering("192.0.2.1"))
	up := make(chan struct{})
	handler := slog.NewTextHandler(writerFunc(func(line string) {
		if strings.Contains(line, "server is down") {
			mended.Store(true)
		}
		if strings.Contains(line, "server is up") {
			close(up)
		}
	}), nil)
	g := group(t, Config{Servers: []string{tlsServer(addr)}, CA: a.File, MaxFails: 1, HealthCheck: 10 * time.Millisecond}, Env{Log: slog.New(handler)})
	askName(t, g, "www.test.")
	<-up
	if got, want := askName(t, g, "www.test."), "NOERROR 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type writerFunc func(line string)

func (f writerFunc) Write(b []byte) (int, error) { f(string(b)); return len(b), nil }

// TestTLSFiles are the files that New reads, and what is wrong with them.
func TestTLSFiles(t *testing.T) {
	a, certificate := authority(t)
	file, key, err := a.Write("own", certificate)
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir() + "/empty.pem"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		c         Config
		key, want string
	}{
		{"no CA file", Config{CA: a.File + "x"}, "ca", "no such file"},
		{"empty CA file", Config{CA: empty}, "ca", "has no certificate"},
		{"a key as CA", Config{CA: key}, "ca", "has no certificate"},
		{"directory", Config{CA: t.TempDir()}, "ca", "is no file"},
		{"no certificate in it", Config{Certificate: empty, Key: key}, "certificate", "failed to find any PEM data"},
		{"no key in it", Config{Certificate: file, Key: file}, "certificate", "key"},
		{"no key file", Config{Certificate: file, Key: key + "x"}, "key", "no such file"},
		{"another key", Config{Certificate: a.File, Key: key}, "certificate", "does not match"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Servers = []string{"tls://192.0.2.1"}
			_, err := New("test", tt.c, Env{})
			wrong, ok := errors.AsType[*KeyError](err)
			if !ok || wrong.Key != tt.key || !strings.Contains(wrong.Error(), tt.want) {
				t.Errorf("got %v, want %s: … %s …", err, tt.key, tt.want)
			}
		})
	}
	t.Run("changed", func(t *testing.T) {
		g, err := New("test", Config{Servers: []string{"tls://192.0.2.1"}, CA: a.File, Certificate: file, Key: key}, Env{})
		if err != nil {
			t.Fatal(err)
		}
		if g.Changed() {
			t.Errorf("changed at once")
		}
		if _, _, err := a.Write("own", issue(t, a, "weir.test")); err != nil {
			t.Fatal(err)
		}
		if !g.Changed() {
			t.Errorf("another certificate is no change")
		}
	})
}

// TestCloseDoesNotWait closes a connection whose server does not read.
func TestCloseDoesNotWait(t *testing.T) {
	a, certificate := authority(t)
	g, err := New("test", Config{Servers: []string{"tls://" + ip1 + "#" + testName}, CA: a.File}, Env{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		client, end := net.Pipe()
		defer end.Close()
		shaken := make(chan error, 1)
		go func() { shaken <- tls.Server(end, serverTLS(certificate)).Handshake() }()
		conn, err := secure(t.Context(), client, (*g.servers.Load())[0].tls)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }() // the tickets, which the server sends in its handshake
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		conn.Close()
		if took := time.Since(start); took > closeTimeout { // crypto/tls would wait for 5 s
			t.Errorf("took %v, want %v", took, closeTimeout)
		}
	})
}
