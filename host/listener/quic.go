package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/due"
	"github.com/weirdns/weir/host/message"
)

const (
	// quicIdleTimeout is how long a connection over QUIC may be silent. It is longer than over TCP, since clients keep such connections through
	// changes of network, and they cost no descriptor.
	quicIdleTimeout = 30 * time.Second
	// maxStreams is how many queries a client may have on one connection at a time: as over HTTP/2 (RFC 9113 section 6.5.2), and enough for
	// any page.
	maxStreams = 100
	// streamWindow is what a client may send on a stream before it is read: a whole message with its length.
	streamWindow = 2 + message.MaxSize
	// connectionWindow is the same of all streams of a connection. A client that sends more has to wait until messages are read.
	connectionWindow = 2 * streamWindow
	// verifyAbove is how many handshakes may be under way until clients have to show that their address is theirs, which costs them a
	// round trip (RFC 9000 section 8.1.2).
	verifyAbove = 64
	// partingTime is how long a connection is left open behind its last response: QUIC forgets what it has not sent when it closes.
	partingTime = 100 * time.Millisecond
)

var (
	errConnections = errors.New("too many connections")
	errEnter       = errors.New("internal error") // a panic
)

// guest is a client's connection over QUIC.
type guest struct {
	member
	conn    atomic.Pointer[quic.Conn] // nil until the handshake is done
	greeted atomic.Bool               // the handshake is over, one way or the other
	ending  context.Context           // done when the connection is to take no more queries
	endSoon context.CancelFunc
}

// guestKey is what QUIC has a guest under, in the context of a connection.
type guestKey struct{}

func newGuest(addr netip.AddrPort, code quic.ApplicationErrorCode) *guest {
	g := new(guest)
	g.addr, g.client = addr, clientOf(addr.Addr())
	g.idleSince.Store(int64(due.At(time.Now())))
	g.ending, g.endSoon = context.WithCancel(context.Background())
	g.cut = func() {
		if conn := g.conn.Load(); conn != nil {
			go conn.CloseWithError(code, "") //nolint:errcheck // it waits until the connection is closed, and has no other error
		}
	}
	// However much time others have: while two processes read a socket, either gets packets that belong to the other.
	g.stop = func(end time.Time) { time.AfterFunc(min(time.Until(end), lastRead), g.endSoon) }
	return g
}

// quicServer is QUIC on the socket of a listener: connections, whatever is over them.
type quicServer struct {
	listener   *Listener
	in         *entrance
	code       quic.ApplicationErrorCode // of a connection that is closed to make room
	handshakes atomic.Int64              // under way
	present    sync.WaitGroup            // connections
}

// serve serves each connection with use, until ctx is done and the last connection has ended.
func (s *quicServer) serve(ctx context.Context, config *tls.Config, unidirectional int64, use func(*quic.Conn, *guest)) {
	l := s.listener
	transport := &quic.Transport{
		Conn:                l.packets,
		VerifySourceAddress: func(net.Addr) bool { return s.handshakes.Load() > verifyAbove },
		ConnContext:         s.enter,
	}
	ln, err := transport.Listen(config, &quic.Config{
		HandshakeIdleTimeout: l.handshakeTimeout, MaxIdleTimeout: quicIdleTimeout,
		InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: streamWindow,
		InitialConnectionReceiveWindow: connectionWindow, MaxConnectionReceiveWindow: connectionWindow,
		MaxIncomingStreams: maxStreams, MaxIncomingUniStreams: unidirectional,
		Allow0RTT: false, // what comes early can be sent again by anybody (RFC 9250 section 4.5)
	})
	if err != nil {
		s.in.warn("QUIC can't be served", err)
		return
	}
	var all sync.WaitGroup
	l.env.Guard.Keep(ctx, func(ctx context.Context) {
		for {
			l.willAccept("quic")
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			all.Go(func() { s.welcome(conn, use) })
		}
	})
	ln.Close() //nolint:errcheck // it was not closed before
	all.Wait()
	transport.Close() //nolint:errcheck // as above
	s.present.Wait()
}

// welcome serves a connection whose handshake is done.
func (s *quicServer) welcome(conn *quic.Conn, use func(*quic.Conn, *guest)) {
	defer s.in.survive()
	defer conn.CloseWithError(s.code, "") //nolint:errcheck // it has none; after a panic the connection is open still
	g := conn.Context().Value(guestKey{}).(*guest)
	g.conn.Store(conn)
	result, state := s.in.counters.whole, conn.ConnectionState().TLS
	g.names = clientNames(&state)
	if state.DidResume {
		result = s.in.counters.resumed
	}
	s.greet(g, result)
	g.end()
	use(conn, g)
}

// enter takes a connection in whose handshake has begun. The context ends with the connection. It is called by the one goroutine that reads the socket, so a
// panic must not go further than the connection.
func (s *quicServer) enter(ctx context.Context, info *quic.ClientInfo) (_ context.Context, err error) {
	err = errEnter
	defer s.in.survive()
	addr := info.RemoteAddr.(*net.UDPAddr).AddrPort()
	if s.listener.isProxy(addr.Addr().Unmap()) { // QUIC has no place to say in whose name it is
		return nil, errProxy
	}
	g := newGuest(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), s.code)
	g.begin() // the handshake, so that it is not taken for idle
	if !s.listener.enter(s.in, &g.member) {
		return nil, errConnections
	}
	s.handshakes.Add(1)
	s.present.Add(1)
	context.AfterFunc(ctx, func() {
		defer s.in.survive()
		defer s.present.Done()
		s.greet(g, s.in.counters.failed)
		g.endSoon()
		s.listener.leave(s.in, &g.member)
	})
	return context.WithValue(ctx, guestKey{}, g), nil
}

// greet counts the result of a handshake, once.
func (s *quicServer) greet(g *guest, result counter) {
	if g.greeted.CompareAndSwap(false, true) {
		s.handshakes.Add(-1)
		result.Inc()
	}
}

// part closes a connection whose last response may still be on its way.
func part(conn *quic.Conn, code quic.ApplicationErrorCode) {
	select {
	case <-conn.Context().Done():
	case <-time.After(partingTime):
	}
	conn.CloseWithError(code, "") //nolint:errcheck // it has none
}
