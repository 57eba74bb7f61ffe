package upstreamtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what is wrong with a [Faulty] server.
type Fault uint32

// The faults. Over TLS there is no UDP, so that Truncating is none, and LiesFirst is the same as Healthy.
const (
	Healthy        Fault = iota
	Dead                 // nobody listens: there are ICMP errors, and connections are closed and refused
	BlackHole            // queries are taken, and nothing comes back
	Slow                 // right answers, SlowDelay late
	Lossy                // over UDP, three of ten queries and three of ten responses are lost
	Truncating           // TC over UDP, the answer over TCP
	TruncatingOnly       // TC over UDP, and connections are closed
	OtherID              // another ID, and nothing else
	OtherQuestion        // another name, with an address, and nothing else
	Query                // QR is 0: it comes back as it was
	Garbage              // random octets
	LiesFirst            // over UDP, one each of the four above, forged, and then the right answer
	Reset                // TC over UDP; over a connection, half of the answer and an RST
	Faults               // how many there are
)

var faultNames = [Faults]string{"healthy", "dead", "black hole", "slow", "lossy", "truncating", "truncating only", "other ID", "other question", "query",
	"garbage", "lies first", "reset"}

// String returns a short name.
func (f Fault) String() string { return faultNames[f] }

// SlowDelay is how late the answers of a slow server are.
const SlowDelay = 700 * time.Millisecond

// MaxTTL is the largest TTL in the answers of a [Faulty] server, in seconds; the smallest is 1.
const MaxTTL = 30

const faultyHeader = 12

// Faulty is a server whose answers can be foretold: each name has one address (see [Address]), and nothing but A records. What is wrong with it can
// change at any time. It works on octets, since much of what it does is no message.
type Faulty struct {
	Addr netip.AddrPort // UDP and TCP, or TLS

	tls     *tls.Config
	fault   atomic.Uint32
	queries atomic.Int64
	serving sync.WaitGroup
	timers  atomic.Int64 // answers that are late

	mu     sync.Mutex // guards following
	udp    *net.UDPConn
	tcp    net.Listener
	open   map[net.Conn]bool
	closed bool
}

// ListenFaulty starts a healthy server; with a TLS configuration it is one for DNS over TLS. The port of addr may be 0. The caller has to
// close it.
func ListenFaulty(addr netip.AddrPort, secret *tls.Config) (*Faulty, error) {
	for chance := 0; ; chance++ { // a port that is free on TCP may be taken on UDP
		f := &Faulty{Addr: addr, tls: secret, open: make(map[net.Conn]bool)}
		err := f.listen()
		if err == nil || chance == 10 || addr.Port() != 0 {
			return f, err
		}
	}
}

// listen opens what is closed.
func (f *Faulty) listen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.tcp != nil {
		return nil
	}
	l, err := net.Listen("tcp", f.Addr.String())
	if err != nil {
		return fmt.Errorf("upstreamtest: %w", err)
	}
	f.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	if f.tls == nil {
		if f.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(f.Addr)); err != nil {
			return errors.Join(fmt.Errorf("upstreamtest: %w", err), l.Close())
		}
		conn := f.udp
		f.serving.Go(func() { f.serveUDP(conn) })
	}
	f.tcp = l
	f.serving.Go(func() { f.accept(l) })
	return nil
}

// shut closes what is open. mu is held.
func (f *Faulty) shut() {
	if f.tcp == nil {
		return
	}
	_ = f.tcp.Close() // nobody waits for what it would say
	f.tcp = nil
	if f.udp != nil {
		_ = f.udp.Close()
		f.udp = nil
	}
	for c := range f.open {
		abort(c)
	}
}

// abort closes a connection with an RST.
func abort(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // then it is a FIN
	}
	c.Close()
}

// Set changes what is wrong with the server, and returns when it is.
func (f *Faulty) Set(fault Fault) error {
	f.fault.Store(uint32(fault))
	if fault != Dead {
		return f.listen()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut()
	return nil
}

// Fault returns what is wrong with the server.
func (f *Faulty) Fault() Fault { return Fault(f.fault.Load()) }

// Queries returns how many queries it has got.
func (f *Faulty) Queries() int64 { return f.queries.Load() }

// Close stops the server and returns after its last goroutine has ended.
func (f *Faulty) Close() {
	f.mu.Lock()
	f.closed = true
	f.shut()
	f.mu.Unlock()
	f.serving.Wait()
}

// Address returns the address of a name, in wire format and any case.
func Address(name []byte) [4]byte {
	h := fnv.New32a()
	_, _ = h.Write(bytes.ToLower(name)) // which has no error; length octets are no letters
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], h.Sum32())
	a[0] = 10
	return a
}

// TTL returns the TTL of a name's address, in seconds.
func TTL(name []byte) uint32 { a := Address(name); return 1 + uint32(a[3])%MaxTTL }

// appendAnswer appends the right answer to a query, without EDNS, or nothing if that is no query with one question.
func appendAnswer(dst, query []byte) []byte {
	end := faultyHeader
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	name := end + 1
	end += 5 // the root label, the type and the class
	if end > len(query) || query[2]&0x80 != 0 || query[4] != 0 || query[5] != 1 {
		return dst
	}
	a := query[end-4] == 0 && query[end-3] == 1
	at := len(dst)
	dst = append(dst, query[:end]...)
	m := dst[at:]
	m[2], m[3] = m[2]|0x80, 0x80 // QR; RA, NOERROR
	clear(m[6:faultyHeader])
	if !a {
		return dst
	}
	m[7] = 1
	owner := query[faultyHeader:name]
	address := Address(owner)
	dst = append(dst, 0xc0, faultyHeader, 0, 1, 0, 1)
	dst = binary.BigEndian.AppendUint32(dst, TTL(owner))
	return append(append(dst, 0, 4), address[:]...)
}

// forge makes of a right answer what a fault has in its place.
func forge(answer []byte, fault Fault) []byte {
	m := bytes.Clone(answer)
	switch fault {
	case OtherID:
		m[1] ^= 1
	case OtherQuestion: // another first letter, and for that another address: the one of that name
		m[faultyHeader+1] ^= 3
		if len(m) > 16 && m[7] == 1 {
			end := faultyHeader + bytes.IndexByte(m[faultyHeader:], 0) + 1
			address := Address(m[faultyHeader:end])
			copy(m[len(m)-4:], address[:])
		}
	case Query:
		m[2] &^= 0x80
	case Garbage:
		for i := range m {
			m[i] = byte(rand.Uint32())
		}
	case Truncating:
		m[2] |= 2
		m[7] = 0
		m = m[:min(len(m), faultyHeader+bytes.IndexByte(m[faultyHeader:], 0)+5)]
	}
	return m
}

// lost is the fate of a message to or from a server that loses three of ten.
func lost() bool { return rand.IntN(10) < 3 }

func (f *Faulty) serveUDP(c *net.UDPConn) {
	var query [4096]byte
	for {
		n, from, err := c.ReadFromUDPAddrPort(query[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of a client that has gone
		}
		f.queries.Add(1)
		answer := appendAnswer(nil, query[:n])
		if len(answer) == 0 {
			continue
		}
		send := func(m []byte) { _, _ = c.WriteToUDPAddrPort(m, from) } // the client may be gone
		switch fault := f.Fault(); fault {
		case Healthy:
			send(answer)
		case Slow:
			f.later(func() { send(answer) })
		case Lossy:
			if !lost() && !lost() {
				send(answer)
			}
		case Truncating, TruncatingOnly, Reset:
			send(forge(answer, Truncating))
		case OtherID, OtherQuestion, Query, Garbage:
			send(forge(answer, fault))
		case LiesFirst:
			for _, lie := range []Fault{OtherID, OtherQuestion, Query, Garbage} {
				send(forge(answer, lie))
			}
			send(answer)
		}
	}
}

// later calls send when a slow server would, unless there are very many who wait.
func (f *Faulty) later(send func()) {
	const most = 100_000
	if f.timers.Add(1) > most {
		f.timers.Add(-1)
		return
	}
	time.AfterFunc(SlowDelay, func() {
		f.timers.Add(-1)
		send()
	})
}

func (f *Faulty) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that was gone before it was taken
		}
		f.mu.Lock()
		if f.tcp != l {
			f.mu.Unlock()
			abort(c)
			continue
		}
		if f.tls != nil {
			c = tls.Server(c, f.tls)
		}
		f.open[c] = true
		f.mu.Unlock()
		f.serving.Go(func() {
			f.serveStream(c)
			f.mu.Lock()
			delete(f.open, c)
			f.mu.Unlock()
			c.Close()
		})
	}
}

func (f *Faulty) serveStream(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		if f.Fault() == BlackHole {
			_, _ = io.Copy(io.Discard, t.NetConn()) // until the client goes
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if t.HandshakeContext(ctx) != nil {
			return
		}
	}
	var mu sync.Mutex // of the answers, some of which are late
	send := func(m []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)) // the client may be gone
	}
	var query [2 + 65535]byte
	for {
		if _, err := io.ReadFull(c, query[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(query[:]))
		if _, err := io.ReadFull(c, query[:n]); err != nil {
			return
		}
		f.queries.Add(1)
		answer := appendAnswer(nil, query[:n])
		if len(answer) == 0 {
			return
		}
		switch fault := f.Fault(); fault {
		case BlackHole:
		case TruncatingOnly:
			return
		case Slow:
			f.later(func() { send(answer) })
		case OtherID, OtherQuestion, Query, Garbage:
			send(forge(answer, fault))
		case Reset:
			mu.Lock()
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer[:len(answer)/2]...)) // likewise
			mu.Unlock()
			abort(c)
			return
		default:
			send(answer)
		}
	}
}
