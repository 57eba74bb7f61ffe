package listener

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

func overQUIC() Config { return Config{Protocols: []string{"quic"}} }

// dialQUIC opens a connection over QUIC.
func (s *secured) dialQUIC(t *testing.T, config *tls.Config) *quic.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := quic.DialAddr(ctx, s.addr, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0, "") })
	return c
}

// open opens a stream and writes octets to it, and its end if so said.
func open(t *testing.T, c *quic.Conn, octets []byte, end bool) *quic.Stream {
	t.Helper()
	s, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(limit))
	s.Write(octets)
	if end {
		s.Close()
	}
	return s
}

// exchangeQUIC sends a query and returns the response, which has to be all that is on the stream.
func exchangeQUIC(t *testing.T, c *quic.Conn, query []byte) []byte {
	t.Helper()
	all, err := io.ReadAll(open(t, c, framed(query), true))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := frame(all)
	if err != nil || len(all) != 2+len(msg) {
		t.Fatalf("got %x", all)
	}
	return msg
}

// TestRFC9250Streams: each query has a stream of its own, on which are the response, with the ID 0, and the end, whatever the other streams wait for (section 4.2).
func TestRFC9250Streams(t *testing.T) {
	r := startSecured(t, nil, overQUIC())
	c := r.dialQUIC(t, r.client("doq"))
	slow := open(t, c, framed(query(0, "slow.1", false)), true)
	r.wantWaiting(t, "slow.1.")
	for range 250 { // more than there may be at a time
		if got := exchangeQUIC(t, c, query(0, "www.example", true)); idOf(got) != 0 || unpack(t, got).Rcode != 0 {
			t.Fatalf("got %x", got)
		}
	}
	r.open("slow.1.")
	if all, err := io.ReadAll(slow); err != nil || len(all) < 14 {
		t.Errorf("got %x, %v", all, err)
	}
	if got := unpack(t, exchangeQUIC(t, c, query(0, "big.example", true))); len(got.Answer) != 60 {
		t.Errorf("got %d records", len(got.Answer))
	}
	if q := r.last(); q.Transport != message.QUIC || q.Client.Addr().String() != "127.0.0.1" || q.Limit(512) != message.MaxSize {
		t.Errorf("the handler saw %v from %v with a limit of %d", q.Transport, q.Client, q.Limit(512))
	}
	r.wantMetric(t, 252, "queries_total", "quic")
	r.wantMetric(t, 1, "connections", "quic")
	r.wantMetric(t, 1, "handshakes_total", "quic", "whole")
}

// TestRFC9250Errors: an ID other than 0, a keepalive option, or a stream that is not one query ends the connection with DOQ_PROTOCOL_ERROR (section 4.3.3).
func TestRFC9250Errors(t *testing.T) {
	r := startSecured(t, func(l *Listener) { l.messageTimeout = 200 * time.Millisecond }, overQUIC())
	good := query(0, "www.example", true)
	keepalive := mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 1), mt.Question("www.example", message.TypeA), mt.OPT(1232, 0, 0, 11, 0, 0))
	response := bytes.Clone(good)
	response[2] |= 0x80
	for _, tt := range []struct {
		name   string
		octets []byte
	}{
		{"an ID", framed(query(7, "www.example", true))},
		{"an ID in a malformed message", framed(query(7, "www.example", true)[:20])},
		{"nothing", nil},
		{"half a length", []byte{0}},
		{"a length of zero", framed(nil)},
		{"half a message", framed(good)[:20]},
		{"two messages", framed(good, good)},
		{"octets behind the message", append(framed(good), 0)},
		{"edns-tcp-keepalive", framed(keepalive)},
		{"a response", framed(response)},
		{"half a header", framed(good[:11])},
		{"more than any message", bytes.Repeat([]byte{0}, message.MaxSize+10)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dialQUIC(t, r.client("doq"))
			_, err := io.ReadAll(open(t, c, tt.octets, true))
			var closed *quic.ApplicationError
			if !errors.As(err, &closed) || closed.ErrorCode != 2 || !closed.Remote {
				t.Errorf("got %v, want DOQ_PROTOCOL_ERROR", err)
			}
		})
	}
	t.Run("a query that does not end", func(t *testing.T) {
		c := r.dialQUIC(t, r.client("doq"))
		var reset *quic.StreamError
		if _, err := io.ReadAll(open(t, c, framed(good), false)); !errors.As(err, &reset) {
			t.Errorf("got %v, want the end of the stream", err)
		}
		exchangeQUIC(t, c, good) // the connection goes on
	})
	t.Run("a query that is called off", func(t *testing.T) {
		c := r.dialQUIC(t, r.client("doq"))
		s := open(t, c, framed(good)[:10], false)
		s.CancelWrite(3)
		s.CancelRead(3)
		exchangeQUIC(t, c, good)
	})
	t.Run("a query that a filter drops", func(t *testing.T) {
		c := r.dialQUIC(t, r.client("doq"))
		var reset *quic.StreamError
		if all, err := io.ReadAll(open(t, c, framed(query(0, "drop.example", true)), true)); !errors.As(err, &reset) {
			t.Errorf("got %x, %v, want the end of the stream", all, err)
		}
		exchangeQUIC(t, c, good)
	})
	t.Run("a malformed query", func(t *testing.T) {
		c := r.dialQUIC(t, r.client("doq"))
		if got := unpack(t, exchangeQUIC(t, c, good[:20])); got.Rcode != message.FORMERR {
			t.Errorf("got %v", got)
		}
	})
	t.Run("unidirectional streams", func(t *testing.T) {
		c := r.dialQUIC(t, r.client("doq"))
		if _, err := c.OpenUniStream(); err == nil {
			t.Error("one can be opened")
		}
	})
	t.Run("another protocol", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		for _, alpn := range []string{"h3", "dot"} {
			if c, err := quic.DialAddr(ctx, r.addr, r.client(alpn), nil); err == nil {
				c.CloseWithError(0, "")
				t.Errorf("%s is taken", alpn)
			}
		}
	})
	t.Run("padding", func(t *testing.T) {
		padded := mt.Join(mt.Header(0, message.FlagRD, 1, 0, 0, 1), mt.Question("www.example", message.TypeA), mt.OPT(1232, 0, 0, 12, 0, 0))
		if got := exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), padded); len(got) != 468 {
			t.Errorf("got %d octets", len(got))
		}
	})
	t.Run("early data", func(t *testing.T) {
		config := r.client("doq")
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for i := range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			c, err := quic.DialAddrEarly(ctx, r.addr, config, nil)
			if err != nil {
				t.Fatal(err)
			}
			exchangeQUIC(t, c, good)
			if s := c.ConnectionState(); s.Used0RTT || s.TLS.DidResume != (i == 1) {
				t.Errorf("connection %d: early data %v, resumed %v", i, s.Used0RTT, s.TLS.DidResume)
			}
			c.CloseWithError(0, "")
			cancel()
		}
	})
}

// TestQUICStreams: a client has so many queries at a time, and its next one waits.
func TestQUICStreams(t *testing.T) {
	r := startSecured(t, nil, overQUIC())
	c := r.dialQUIC(t, r.client("doq"))
	var slow []*quic.Stream
	for range maxStreams {
		slow = append(slow, open(t, c, framed(query(0, "slow.1", false)), true))
	}
	for range maxStreams {
		r.wantWaiting(t, "slow.1.")
	}
	if s, err := c.OpenStream(); err == nil {
		s.CancelWrite(3)
		t.Error("one more stream can be opened")
	}
	exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0())
	r.open("slow.1.")
	for _, s := range slow {
		if _, err := io.ReadAll(s); err != nil {
			t.Fatal(err)
		}
	}
	exchangeQUIC(t, c, mt0())
}

// mt0 is the canary as it is asked over QUIC.
func mt0() []byte { return query(0, "canary.example", false) }

// TestQUICLimits: the connection that has been idle longest makes room; one with a query does not.
func TestQUICLimits(t *testing.T) {
	config := overQUIC()
	config.TCPMaxClients, config.TCPMaxPerClient = 10, 2
	r := startSecured(t, nil, config)
	busy := r.dialQUIC(t, r.client("doq"))
	slow := open(t, busy, framed(query(0, "slow.1", false)), true)
	r.wantWaiting(t, "slow.1.")
	first := r.dialQUIC(t, r.client("doq"))
	exchangeQUIC(t, first, mt0())
	exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0())
	select {
	case <-first.Context().Done():
	case <-time.After(limit):
		t.Error("the connection that was idle longest is still open")
	}
	var closed *quic.ApplicationError
	if err := context.Cause(first.Context()); !errors.As(err, &closed) || closed.ErrorCode != 4 {
		t.Errorf("it ended with %v, want DOQ_EXCESSIVE_LOAD", err)
	}
	r.open("slow.1.")
	if _, err := io.ReadAll(slow); err != nil {
		t.Error(err)
	}
	r.wantMetric(t, 1, "connections_refused_total", "quic", "idle")
}

// TestQUICRefused: when every connection of a client has a query, it gets no other.
func TestQUICRefused(t *testing.T) {
	config := overQUIC()
	config.TCPMaxClients, config.TCPMaxPerClient = 10, 1
	r := startSecured(t, nil, config)
	open(t, r.dialQUIC(t, r.client("doq")), framed(query(0, "slow.1", false)), true)
	r.wantWaiting(t, "slow.1.")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if c, err := quic.DialAddr(ctx, r.addr, r.client("doq"), nil); err == nil {
		c.CloseWithError(0, "")
		t.Error("another connection is taken")
	}
	if r.metric(t, "connections_refused_total", "quic", "limit") == 0 {
		t.Error("it is not counted")
	}
	r.open("slow.1.")
}

// TestQUICNoise: datagrams that are none of QUIC harm nobody.
func TestQUICNoise(t *testing.T) {
	r := startSecured(t, func(l *Listener) { l.handshakeTimeout = 100 * time.Millisecond }, overQUIC())
	c := r.dialQUIC(t, r.client("doq"))
	noise := r.dial(t, "udp")
	for size := range 1300 {
		noise.Write(bytes.Repeat([]byte{byte(size*7) | 0x40}, size))
		noise.Write(bytes.Repeat([]byte{0xC3}, size)) // begins like an Initial
	}
	noise.Write(mt.Canary())
	exchangeQUIC(t, c, mt0())
	exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0())
}

func TestQUICDrain(t *testing.T) {
	r := startSecured(t, nil, overQUIC())
	c := r.dialQUIC(t, r.client("doq"))
	slow := open(t, c, framed(query(0, "slow.1", false)), true)
	r.wantWaiting(t, "slow.1.")
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("it did not wait for the query")
	case <-time.After(200 * time.Millisecond):
	}
	r.open("slow.1.")
	if all, err := io.ReadAll(slow); err != nil || len(all) < 14 {
		t.Errorf("got %x, %v", all, err)
	}
	<-stopped
	<-c.Context().Done()
	var closed *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &closed) || closed.ErrorCode != 0 {
		t.Errorf("the connection ended with %v, want DOQ_NO_ERROR", err)
	}
	r.wantMetric(t, 0, "connections", "quic")
}

// TestQUICBesideTLS: both on one port, as on 853.
func TestQUICBesideTLS(t *testing.T) {
	r := startSecured(t, nil, Config{Protocols: []string{"tls", "quic"}})
	exchangeQUIC(t, r.dialQUIC(t, r.client("doq")), mt0())
	exchange(t, r.dialTLS(t, r.client("dot")), mt.Canary())
}

// TestRFC8906Opcodes: of the 16 opcodes only QUERY gets through, and the others get NOTIMP, over each transport (section 3.1.2).
func TestRFC8906Opcodes(t *testing.T) {
	tlsAndQUIC := startSecured(t, nil, Config{Protocols: []string{"tls", "quic"}})
	https := startSecured(t, nil, overHTTPS())
	plain := start(t, nil, Config{})
	q, d := tlsAndQUIC.dialQUIC(t, tlsAndQUIC.client("doq")), tlsAndQUIC.dialTLS(t, tlsAndQUIC.client("dot"))
	transports := map[string]struct {
		r        *running
		exchange func(msg []byte) []byte
	}{
		"udp":  {plain, func(msg []byte) []byte { return exchange(t, plain.dial(t, "udp"), msg) }},
		"tcp":  {plain, func(msg []byte) []byte { return exchange(t, plain.dial(t, "tcp"), msg) }},
		"tls":  {tlsAndQUIC.running, func(msg []byte) []byte { return exchange(t, d, msg) }},
		"quic": {tlsAndQUIC.running, func(msg []byte) []byte { return exchangeQUIC(t, q, msg) }},
	}
	for _, version := range versions {
		c := https.http(t, version)
		transports[version] = struct {
			r        *running
			exchange func(msg []byte) []byte
		}{https.running, func(msg []byte) []byte {
			return do(t, c, request(t, "GET", https.url(encoded(msg)), nil)).body
		}}
	}
	for name, transport := range transports {
		for opcode := range uint16(16) {
			before := transport.r.count()
			msg := mt.Join(mt.Header(0, opcode<<11, 1, 0, 0, 0), mt.Question("www.example", message.TypeA))
			got := unpack(t, transport.exchange(msg))
			want := message.NOTIMP
			if opcode == 0 {
				want = message.NOERROR
			}
			if got.Rcode != want || got.Opcode != int(opcode) {
				t.Errorf("%s, opcode %d: got %v", name, opcode, got)
			}
			if through := transport.r.count() - before; (through == 1) != (opcode == 0) {
				t.Errorf("%s, opcode %d: %d queries got through", name, opcode, through)
			}
		}
	}
}

// TestHammerQUIC: many connections and streams at a time, that come and go.
func TestHammerQUIC(t *testing.T) {
	r := startSecured(t, nil, overQUIC())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				c, err := quic.DialAddr(t.Context(), r.addr, r.client("doq"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				var streams sync.WaitGroup
				for range 20 {
					streams.Go(func() {
						s, err := c.OpenStreamSync(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						s.SetDeadline(time.Now().Add(limit))
						s.Write(framed(mt0()))
						s.Close()
						if all, err := io.ReadAll(s); err != nil || !strings.Contains(string(all), "canary") {
							t.Errorf("got %x, %v", all, err)
						}
					})
				}
				streams.Wait()
				c.CloseWithError(0, "")
			}
		})
	}
	wg.Wait()
	r.stop()
	r.wantMetric(t, 800, "queries_total", "quic")
	r.wantMetric(t, 0, "connections", "quic")
}

// FuzzStream: a stream is one message behind its length, however it comes in pieces.
func FuzzStream(f *testing.F) {
	f.Add(framed(mt.Canary()), []byte{1})
	f.Add(framed(mt.Canary(), mt.Canary()), []byte{3, 7})
	f.Add([]byte{0, 0}, []byte{0})
	f.Add([]byte{0xFF, 0xFF, 1}, []byte{1})
	f.Add(framed(make([]byte, message.MaxSize)), []byte{255})
	f.Add(make([]byte, message.MaxSize+3), []byte{255})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		var got []byte
		var err error
		fuzzing.Bounded(t, len(stream), 2*jobQuery, func() { got, err = readStream(&pieces{rest: stream, sizes: sizes}) })
		whole := len(stream) > 2 && int(stream[0])<<8|int(stream[1]) == len(stream)-2
		switch {
		case whole && (err != nil || !bytes.Equal(got, stream[2:])):
			t.Fatalf("got %x, %v, want the message", got, err)
		case !whole && !errors.Is(err, errStreamLength):
			t.Fatalf("got %x, %v, want that the length is wrong", got, err)
		}
	})
}

// pieces gives octets in pieces of these sizes.
type pieces struct {
	rest, sizes []byte
	n           int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := min(len(b), len(p.rest))
	if len(p.sizes) > 0 && p.n < 1000 {
		n = min(1+int(p.sizes[p.n%len(p.sizes)]), n)
		p.n++
	}
	copy(b, p.rest[:n])
	if p.rest = p.rest[n:]; len(p.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}
