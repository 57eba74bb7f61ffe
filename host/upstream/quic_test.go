package upstream

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/message"
)

// scriptQUIC plays a server over QUIC, which gets each stream.
func scriptQUIC(t testing.TB, certificate tls.Certificate, serve func(conn *quic.Conn, stream *quic.Stream)) netip.AddrPort {
	t.Helper()
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: socket}
	listener, err := transport.Listen(&tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"doq"}}, &quic.Config{Allow0RTT: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		transport.Close()
		socket.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept(ctx)
			if err != nil {
				return
			}
			serving.Go(func() {
				for {
					stream, err := conn.AcceptStream(ctx)
					if err != nil {
						return
					}
					serving.Go(func() { serve(conn, stream) })
				}
			})
		}
	})
	return socket.LocalAddr().(*net.UDPAddr).AddrPort()
}

// streamed has each query answered.
func streamed(respond func(query []byte) []byte) func(conn *quic.Conn, stream *quic.Stream) {
	return func(_ *quic.Conn, stream *quic.Stream) {
		query, err := io.ReadAll(stream)
		if err != nil || len(query) < 2 {
			return
		}
		stream.Write(frame(respond(query[2:])))
		stream.Close()
	}
}

func quicServer(addr netip.AddrPort) string { return "quic://" + addr.String() + "#" + testName }

// TestQUIC looks at what a server gets.
func TestQUIC(t *testing.T) {
	a, certificate := authority(t)
	addr := scriptQUIC(t, certificate, func(conn *quic.Conn, stream *quic.Stream) {
		state := conn.ConnectionState()
		if state.TLS.NegotiatedProtocol != "doq" || state.TLS.ServerName != testName || state.Used0RTT {
			t.Errorf("got protocol %q for %q, 0-RTT %t", state.TLS.NegotiatedProtocol, state.TLS.ServerName, state.Used0RTT)
		}
		query, err := io.ReadAll(stream) // that is, until FIN
		if err != nil || len(query) < 4 || int(binary.BigEndian.Uint16(query)) != len(query)-2 || query[2] != 0 || query[3] != 0 || (len(query)-2)%128 != 0 {
			t.Errorf("got %x, error %v", query, err)
			return
		}
		stream.Write(frame(answer(query[2:], "192.0.2.1")))
		stream.Close()
	})
	metrics := NewMetrics(nil)
	g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File}, Env{Metrics: metrics})
	q := query(t, "www.test.", dns.TypeA)
	q.Trace = new(message.Trace)
	for range 3 {
		if got, want := ask(t, g, q), "NOERROR 192.0.2.1"; got != want {
			t.Errorf("got %q, want %q; %v", got, want, q.Trace.Steps)
		}
	}
	for _, step := range q.Trace.Steps {
		if step.Over != "quic" {
			t.Errorf("trace says %+v", step)
		}
	}
	if n := firstTries(metrics, addr, QUIC); n != 3 {
		t.Errorf("counted %v queries over quic, want 3", n)
	}
	if n := g.Stats()[0].Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestQUICFails is what a stream may have instead of a response.
func TestQUICFails(t *testing.T) {
	a, certificate := authority(t)
	write := func(octets func(query []byte) []byte) func(*quic.Conn, *quic.Stream) {
		return func(_ *quic.Conn, stream *quic.Stream) {
			query, _ := io.ReadAll(stream)
			stream.Write(octets(query[2:]))
			stream.Close()
		}
	}
	right := func(query []byte) []byte { return frame(answer(query, "192.0.2.66")) }
	for _, tt := range []struct {
		name  string
		serve func(conn *quic.Conn, stream *quic.Stream)
		want  string
	}{
		{"nothing", write(func([]byte) []byte { return nil }), errFraming.Error()},
		{"half a length", write(func([]byte) []byte { return []byte{0} }), errFraming.Error()},
		{"length too large", write(func(query []byte) []byte { m := right(query); m[1]++; return m }), errFraming.Error()},
		{"length too small", write(func(query []byte) []byte { m := right(query); m[1]--; return m }), errFraming.Error()},
		{"two messages", write(func(query []byte) []byte { return append(right(query), right(query)...) }), errFraming.Error()},
		{"without end", func(_ *quic.Conn, stream *quic.Stream) {
			for {
				if _, err := stream.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, errFraming.Error()},
		{"reset", func(_ *quic.Conn, stream *quic.Stream) { stream.CancelWrite(5) }, "canceled by remote with error code 5"},
		{"closed", func(conn *quic.Conn, _ *quic.Stream) { _ = conn.CloseWithError(4, "busy") }, "Application error 0x4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := scriptQUIC(t, certificate, tt.serve)
			g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File, MaxFails: -1}, Env{})
			q := query(t, "www.test.", dns.TypeA)
			q.Trace = new(message.Trace)
			if got := ask(t, g, q); strings.HasPrefix(got, "NOERROR") {
				t.Errorf("got %q", got)
			}
			if text := fmt.Sprint(q.Trace.Steps); !strings.Contains(text, tt.want) {
				t.Errorf("the trace does not say %q: %s", tt.want, text)
			}
		})
	}
}

// TestQUICAuthentication: no query for a server that is not the one meant.
func TestQUICAuthentication(t *testing.T) {
	a, _ := authority(t)
	_, stranger := authority(t)
	expired, err := a.IssueUntil(time.Now().Add(-time.Hour), testName)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		server tls.Certificate
		want   string
	}{
		{"expired", expired, "expired"},
		{"wrong name", issue(t, a, "evil.test"), "not dns.test"},
		{"another authority", stranger, "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := scriptQUIC(t, tt.server, func(*quic.Conn, *quic.Stream) { t.Errorf("a stream was opened") })
			metrics := NewMetrics(nil)
			g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File, MaxFails: -1}, Env{Metrics: metrics})
			q := query(t, "www.test.", dns.TypeA)
			q.Trace = new(message.Trace)
			if got, want := ask(t, g, q), ErrUnreachable.Error(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if text := fmt.Sprint(q.Trace.Steps); !strings.Contains(text, tt.want) {
				t.Errorf("the trace does not say %q: %s", tt.want, text)
			}
			if testutil.ToFloat64(metrics.failures.WithLabelValues("test", addr.String(), "handshake")) == 0 {
				t.Errorf("no failure is counted as handshake")
			}
		})
	}
}

// TestQUICTogether has many queries wait at once.
func TestQUICTogether(t *testing.T) {
	const names = 50
	a, certificate := authority(t)
	var waiting atomic.Int32
	all := make(chan struct{})
	addr := scriptQUIC(t, certificate, streamed(func(query []byte) []byte {
		if waiting.Add(1) == names {
			close(all)
		}
		<-all
		return own(query)
	}))
	g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File}, Env{})
	askOwn(t, g, names)
	if n := g.Stats()[0].Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestQUICReopens has the server close the connection, between queries and while they wait. None is lost, and the new connection takes up the session.
func TestQUICReopens(t *testing.T) {
	a, certificate := authority(t)
	var queries, resumed atomic.Int32
	addr := scriptQUIC(t, certificate, func(conn *quic.Conn, stream *quic.Stream) {
		n := queries.Add(1)
		if conn.ConnectionState().TLS.DidResume {
			resumed.Add(1)
		}
		if n == 3 {
			_ = conn.CloseWithError(doqNoError, "")
			return
		}
		streamed(own)(conn, stream)
		if n == 5 {
			<-stream.Context().Done()
			_ = conn.CloseWithError(doqNoError, "")
		}
	})
	g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File}, Env{})
	for i := range 6 {
		if got, want := askName(t, g, fmt.Sprintf("n%d.test.", i)), fmt.Sprintf("NOERROR 10.0.0.%d", i); got != want {
			t.Errorf("query %d: got %q, want %q", i, got, want)
		}
	}
	if resumed.Load() == 0 {
		t.Errorf("no session was resumed")
	}
}

// TestQUICSources asks from one of several source addresses.
func TestQUICSources(t *testing.T) {
	a, certificate := authority(t)
	addr := scriptQUIC(t, certificate, func(conn *quic.Conn, stream *quic.Stream) {
		from := conn.RemoteAddr().(*net.UDPAddr).IP.String()
		streamed(func(query []byte) []byte { return answer(query, from) })(conn, stream)
	})
	g := group(t, Config{Servers: []string{quicServer(addr)}, CA: a.File, Sources: []string{"127.0.0.2", "127.0.0.3"}}, Env{})
	if got := askName(t, g, "www.test."); got != "NOERROR 127.0.0.2" && got != "NOERROR 127.0.0.3" {
		t.Errorf("asked from %q, want one of the sources", got)
	}
}
