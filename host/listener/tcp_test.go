package listener

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/fuzzing"
	"github.com/weirdns/weir/host/message"
	mt "github.com/weirdns/weir/host/message/messagetest"
)

func framed(msgs ...[]byte) []byte {
	var b []byte
	for _, m := range msgs {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// wantEnd checks that the listener has ended the connection, with a FIN and not with an RST.
func wantEnd(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(limit))
	if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d octets and %v, want the end of the connection", n, err)
	}
}

// TestRFC7766Pipelining: many queries are answered on one connection, each as soon as it can be, out of order (sections 6.2.1.1 and 7).
func TestRFC7766Pipelining(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "tcp")
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
	if got[3]+got[7] != 0 {
		t.Errorf("the slow ones are answered already: %v", got)
	}
	for _, id := range []uint16{7, 3} { // out of order
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
}

// TestRFC7766HalfClose: a client that has ended its side still gets what it asked for, and then a FIN, not an RST (section 6.2.4).
func TestRFC7766HalfClose(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "tcp")
	if _, err := c.Write(framed(query(1, "slow.1", false), query(2, "www.example", false))); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	if got := receive(t, c); idOf(got) != 2 {
		t.Errorf("got %x", got)
	}
	r.open("slow.1.")
	if got := receive(t, c); idOf(got) != 1 {
		t.Errorf("got %x", got)
	}
	wantEnd(t, c)
}

func TestLengthZero(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "tcp")
	// What was in order is still answered, although octets behind the error are never read: an RST would take the responses away.
	if _, err := c.Write(append(framed(query(1, "slow.1", false), query(2, "www.example", false), nil), make([]byte, 10000)...)); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); idOf(got) != 2 {
		t.Errorf("got %x", got)
	}
	r.wantWaiting(t, "slow.1.")
	r.open("slow.1.")
	if got := receive(t, c); idOf(got) != 1 {
		t.Errorf("got %x", got)
	}
	wantEnd(t, c)
}

func TestLargestMessage(t *testing.T) {
	r := start(t, nil, Config{})
	c := r.dial(t, "tcp")
	msg := mt.Join(mt.Header(8, 0, 1, 0, 0, 1), mt.Question("www.example", message.TypeA))
	msg = append(msg, mt.Record([]byte{0}, 65280, make([]byte, message.MaxSize-len(msg)-11)...)...)
	if got := unpack(t, exchange(t, c, msg)); got.Id != 8 || got.Rcode != 0 {
		t.Errorf("got %v", got)
	}
	if got := unpack(t, exchange(t, c, msg[:len(msg)-1])); got.Rcode != message.FORMERR {
		t.Errorf("got %v", got)
	}
}

// TestRFC7766Idle: a connection on which nothing is asked any more is closed after a while, and one with a query in flight is not (section 6.2.3).
func TestRFC7766Idle(t *testing.T) {
	r := start(t, nil, Config{TCPIdleTimeout: 100 * time.Millisecond})
	t.Run("never a query", func(t *testing.T) { wantEnd(t, r.dial(t, "tcp")) })
	t.Run("after a query", func(t *testing.T) {
		c := r.dial(t, "tcp")
		exchange(t, c, mt.Canary())
		wantEnd(t, c)
	})
	t.Run("a query in flight", func(t *testing.T) {
		c := r.dial(t, "tcp")
		send(t, c, query(1, "slow.1", false))
		r.wantWaiting(t, "slow.1.")
		c.SetReadDeadline(time.Now().Add(400 * time.Millisecond)) // four times idle
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %d octets and %v, want that the connection stays", n, err)
		}
		c.SetDeadline(time.Now().Add(limit))
		if got := exchange(t, c, mt.Canary()); idOf(got) != idOf(mt.Canary()) { // it is still read, too
			t.Errorf("got %x", got)
		}
		r.open("slow.1.")
		if got := receive(t, c); idOf(got) != 1 {
			t.Errorf("got %x", got)
		}
		wantEnd(t, c)
	})
}

// TestSlowloris: octets that come now and then do not prolong the time for a message.
func TestSlowloris(t *testing.T) {
	for _, first := range []string{"an octet of the length", "the length", "a query and a half"} {
		t.Run(first, func(t *testing.T) {
			r := start(t, func(l *Listener) { l.messageTimeout = 100 * time.Millisecond }, Config{})
			c := r.dial(t, "tcp")
			switch whole := framed(mt.Canary(), mt.Canary()); first {
			case "an octet of the length":
				c.Write(whole[:1])
			case "the length":
				c.Write([]byte{0xFF, 0xFF})
			default:
				c.Write(whole[:len(whole)/2+10])
				receive(t, c)
			}
			end := time.Now().Add(limit)
			for time.Now().Before(end) {
				c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				_, err := c.Read(make([]byte, 1))
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					return // the listener has ended it
				}
				c.Write([]byte{0})
			}
			t.Error("the connection is still open")
		})
	}
}

// TestClientDoesNotRead: it loses its connection; others do not notice.
func TestClientDoesNotRead(t *testing.T) {
	r := start(t, func(l *Listener) { l.writeTimeout = 100 * time.Millisecond }, Config{})
	c, other := r.dial(t, "tcp"), r.dial(t, "tcp")
	c.(*net.TCPConn).SetReadBuffer(4096)
	end, many := time.Now().Add(limit), bytes.Repeat(framed(query(1, "big.example", false)), 100)
	for {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := c.Write(many)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if got := unpack(t, exchange(t, other, mt.Canary())); got.Rcode != 0 {
			t.Errorf("the other connection got %v", got)
		}
		if time.Now().After(end) {
			t.Fatal("the connection is still open")
		}
	}
}

func TestInFlightOfAConnection(t *testing.T) {
	r := start(t, nil, Config{TCPMaxInFlight: 2})
	c, other := r.dial(t, "tcp"), r.dial(t, "tcp")
	var all [][]byte
	for i := range uint16(10) {
		all = append(all, query(i, "slow.1", false))
	}
	c.Write(framed(all...))
	for range 3 { // two, and the one that the connection itself waits for
		<-r.waiting
	}
	exchange(t, other, mt.Canary())
	select {
	case <-r.waiting:
		t.Error("more than two queries are being waited for at once")
	default:
	}
	r.open("slow.1.")
	seen := map[uint16]bool{}
	for range all {
		seen[idOf(receive(t, c))] = true
	}
	if len(seen) != len(all) {
		t.Errorf("got %d responses, want %d", len(seen), len(all))
	}
}

func TestConnectionLimits(t *testing.T) {
	tests := []struct {
		name   string
		config Config
	}{
		{"of all", Config{TCPMaxClients: 3, TCPMaxPerClient: 3}},
		{"of one client", Config{TCPMaxClients: 100, TCPMaxPerClient: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, nil, tt.config)
			conns := make([]net.Conn, 3)
			for i := range conns {
				conns[i] = r.dial(t, "tcp")
				exchange(t, conns[i], mt.Canary())
			}
			// The first becomes busy and the second is used again, so the third has been idle longest.
			send(t, conns[0], query(1, "slow.1", false))
			r.wantWaiting(t, "slow.1.")
			exchange(t, conns[1], mt.Canary())
			fourth := r.dial(t, "tcp")
			exchange(t, fourth, mt.Canary())
			wantEnd(t, conns[2])
			r.wantMetric(t, 1, "connections_refused_total", "idle")
			// All are busy: the next one is refused.
			for i, c := range []net.Conn{conns[1], fourth} {
				name := "slow." + string('2'+rune(i))
				send(t, c, query(uint16(2+i), name, false))
				r.wantWaiting(t, name+".")
			}
			wantEnd(t, r.dial(t, "tcp"))
			r.wantMetric(t, 1, "connections_refused_total", "limit")
			for i, c := range []net.Conn{conns[0], conns[1], fourth} {
				r.open("slow." + string('1'+rune(i)) + ".")
				if got := receive(t, c); idOf(got) != uint16(1+i) {
					t.Errorf("connection %d: got %x", i, got)
				}
			}
		})
	}
}

// TestNewClientAmongSlowOnes: connections with an octet in them are idle, for they have no query; they do not keep a new client out.
func TestNewClientAmongSlowOnes(t *testing.T) {
	r := start(t, nil, Config{TCPMaxClients: 50, TCPMaxPerClient: 50})
	for range 60 {
		r.dial(t, "tcp").Write([]byte{0})
	}
	if got := unpack(t, exchange(t, r.dial(t, "tcp"), mt.Canary())); got.Rcode != 0 {
		t.Errorf("got %v", got)
	}
}

// TestManyAtTheLimit: connections come, are used and are closed from many sides at once; in the end none is left in the books.
func TestManyAtTheLimit(t *testing.T) {
	r := start(t, nil, Config{TCPMaxClients: 4, TCPMaxPerClient: 4, MaxInFlight: 2})
	r.open("slow.1.")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 40 {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(limit))
				c.Write(framed(query(1, "slow.1", false), mt.Canary()))
				if i%3 > 0 { // the listener may have closed it for another one
					io.ReadFull(c, make([]byte, 10)) //nolint:errcheck // see above
				}
				c.Close()
			}
		})
	}
	all.Wait()
	r.stop()
	if len(r.clients.open)+len(r.clients.byClient) != 0 {
		t.Errorf("left: %d connections, %v", len(r.clients.open), r.clients.byClient)
	}
	r.wantMetric(t, 0, "connections")
	r.wantMetric(t, 0, "in_flight")
	if n := r.udpIn.waiting.n.Load() + r.tcpIn.waiting.n.Load(); n != 0 {
		t.Errorf("%d queries are still counted as being waited for", n)
	}
}

func TestClientOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%lo": "fe80::/64",
	} {
		if got := clientOf(netip.MustParseAddr(addr)); got != netip.MustParsePrefix(want) {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

// scriptedConn gives its chunks to one Read each and notes each Write.
type scriptedConn struct {
	net.Conn
	chunks [][]byte
	writes [][]byte
}

func (c *scriptedConn) Read(b []byte) (int, error) {
	if len(c.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.chunks[0])
	if c.chunks[0] = c.chunks[0][n:]; len(c.chunks[0]) == 0 {
		c.chunks = c.chunks[1:]
	}
	return n, nil
}

func (c *scriptedConn) Write(b []byte) (int, error) {
	c.writes = append(c.writes, bytes.Clone(b))
	return len(b), nil
}

func (c *scriptedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptedConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptedConn) Close() error                     { return nil }

func scripted(tb testing.TB, chunks ...[]byte) (*connection, *scriptedConn) {
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main"}, 0, newEcho(), Env{})
	if err != nil {
		tb.Fatal(err)
	}
	return scriptedAt(l, chunks...)
}

func scriptedAt(l *Listener, chunks ...[]byte) (*connection, *scriptedConn) {
	sc := &scriptedConn{chunks: chunks}
	return newConnection(l, l.tcpIn, sc, netip.MustParseAddrPort("127.0.0.1:53")), sc
}

// TestRFC7766OneWrite: a length and its message leave in one write, and the responses to queries that came together leave together (section 8).
func TestRFC7766OneWrite(t *testing.T) {
	q := query(1, "www.example", false)
	two := framed(q, q)
	c, sc := scripted(t, framed(q), two, two[:len(two)-5], two[len(two)-5:], bytes.Repeat(framed(q), 1000))
	c.serve(t.Context())
	var counts []int
	for _, w := range sc.writes {
		n := 0
		for len(w) > 0 {
			msg, err := frame(w)
			if err != nil || msg == nil {
				t.Fatalf("a write ends within a message: %x", w)
			}
			n++
			w = w[2+len(msg):]
		}
		counts = append(counts, n)
	}
	total := 0
	for _, n := range counts[4:] {
		total += n
	}
	if !slices.Equal(counts[:4], []int{1, 2, 1, 1}) || total != 1000 || len(counts) > 60 {
		t.Errorf("responses in each write: got %v, want 1, 2, 1, 1, and 1000 in few writes", counts)
	}
}

// TestBuffersShrink: a large message does not leave its buffers to an idle connection.
func TestBuffersShrink(t *testing.T) {
	large := make([]byte, message.MaxSize)
	q := query(1, "www.example", false)
	c, sc := scripted(t, framed(large), framed(q), framed(q))
	c.collect(large)
	for range 2 {
		if _, err := c.next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(sc.writes) != 1 || len(sc.writes[0]) != 2+len(large) {
		t.Fatalf("got %d writes", len(sc.writes))
	}
	if len(c.buf) != readSize || cap(c.out) > 2*writeSize {
		t.Errorf("got a read buffer of %d octets and a write buffer of %d", len(c.buf), cap(c.out))
	}
}

// TestBufferGrowsWithOctets: a length alone reserves nothing.
func TestBufferGrowsWithOctets(t *testing.T) {
	c, _ := scripted(t, []byte{0xFF, 0xFF}, make([]byte, 100))
	if _, err := c.next(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
	if len(c.buf) != readSize {
		t.Errorf("got a buffer of %d octets for 102", len(c.buf))
	}
}

func TestConnectionAllocations(t *testing.T) {
	c, sc := scripted(t)
	chunk := bytes.Repeat(framed(query(1, "www.example", true)), 10)
	chunks := make([][]byte, 1)
	sink := make([][]byte, 0, 200)
	got := testing.AllocsPerRun(100, func() {
		chunks[0] = chunk
		sc.chunks, sc.writes = chunks, sink[:0]
		for {
			msg, err := c.next()
			if err != nil {
				return
			}
			c.handle(t.Context(), msg)
		}
	})
	if got > 1 { // the note of the write
		t.Errorf("got %v allocations for ten queries, want none but the test's own", got)
	}
}

// FuzzFraming: however a stream is cut into pieces, the same messages come out of it, and no others.
func FuzzFraming(f *testing.F) {
	q := query(1, "www.example", false)
	f.Add(framed(q, q), []byte{1})
	f.Add(framed(q, nil, q), []byte{3, 7})
	f.Add([]byte{0xFF, 0xFF, 1}, []byte{1})
	f.Add([]byte{0}, []byte{0})
	f.Add(append(framed(make([]byte, 5000)), framed(q)...), []byte{255, 1})
	f.Add(framed(make([]byte, message.MaxSize), q), []byte{255})
	l, err := New(Config{Address: "127.0.0.1:0", Chain: "main"}, 0, newEcho(), Env{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		var want [][]byte
		zero := false
		for rest := stream; len(rest) >= 2; {
			n := int(rest[0])<<8 | int(rest[1])
			if zero = n == 0; zero || len(rest) < 2+n {
				break
			}
			want = append(want, rest[2:2+n])
			rest = rest[2+n:]
		}
		var chunks [][]byte
		for rest, i := stream, 0; len(rest) > 0; i++ {
			n := len(rest)
			if len(sizes) > 0 && i < 1000 {
				n = min(1+int(sizes[i%len(sizes)]), n)
			}
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		fuzzing.Bounded(t, len(stream), 4*readSize, func() {
			c, _ := scriptedAt(l, slices.Clone(chunks)...)
			for i := 0; ; i++ {
				msg, err := c.next()
				if err != nil {
					if i != len(want) || errors.Is(err, errLengthZero) != zero {
						t.Fatalf("got %d messages and %v, want %d, a length of zero: %v", i, err, len(want), zero)
					}
					return
				}
				if i >= len(want) || !bytes.Equal(msg, want[i]) {
					t.Fatalf("message %d: got %x", i, msg)
				}
			}
		})
	})
}

// TestMakeRoom: when the system has no room for a connection, the one that has been idle longest makes room.
func TestMakeRoom(t *testing.T) {
	r := start(t, nil, Config{})
	if r.clients.makeRoom() {
		t.Error("room was made where there are no connections")
	}
	first := r.dial(t, "tcp")
	exchange(t, first, mt.Canary())
	second := r.dial(t, "tcp")
	exchange(t, second, mt.Canary())
	if !r.clients.makeRoom() {
		t.Error("no room was made")
	}
	wantEnd(t, first)
	if got := unpack(t, exchange(t, second, mt.Canary())); got.Rcode != 0 || !strings.Contains(got.String(), "canary") {
		t.Errorf("the other connection got %v", got)
	}
}
