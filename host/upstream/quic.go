package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirdns/weir/host/message"
)

// Error codes of RFC 9250 section 8.4.
const (
	doqNoError          = 0x0
	doqProtocolError    = 0x2
	doqRequestCancelled = 0x3
)

// quicSpare is how much longer than weir the library keeps an idle connection: so it is weir that closes it, when no query is on its way there.
const quicSpare = 5 * time.Second

// quicCarrier is a QUIC connection, in which each query has a stream (RFC 9250).
type quicCarrier struct {
	conn      *quic.Conn
	transport *quic.Transport
	socket    *net.UDPConn
}

// openQUIC opens a QUIC connection to s. Nothing is sent in 0-RTT: it could be replayed by anybody (RFC 9250 section 4.5), and saves a round trip only on the
// first query of a connection.
func openQUIC(ctx context.Context, s *server) (carrier, error) {
	socket, err := s.group.dialer.listen(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	c := &quicCarrier{transport: &quic.Transport{Conn: socket}, socket: socket}
	c.conn, err = c.transport.Dial(ctx, net.UDPAddrFromAddrPort(s.addr), s.tls, &quic.Config{
		HandshakeIdleTimeout:           s.group.dialTimeout,
		MaxIdleTimeout:                 s.group.expire + quicSpare,
		InitialStreamReceiveWindow:     streamBuffer,
		MaxStreamReceiveWindow:         streamBuffer,
		InitialConnectionReceiveWindow: connectionBuffer,
		MaxConnectionReceiveWindow:     connectionBuffer,
		MaxIncomingStreams:             -1, // a server has nothing to ask (RFC 9250 section 4.2)
		MaxIncomingUniStreams:          -1,
	})
	if err != nil {
		c.shut()
		if wrong, ok := errors.AsType[*quic.TransportError](err); ok && wrong.ErrorCode.IsCryptoError() {
			err = &handshakeError{err}
		}
		return nil, err
	}
	return c, nil
}

// errFraming is a stream in which there is something else than one message with its length before it (RFC 9250 section 4.2).
var errFraming = framingError("the stream does not have one message in it")

type framingError string

func (e framingError) Error() string        { return string(e) }
func (e framingError) outcome() outcomeKind { return outcomeMalformed }

// ask implements carrier.
func (c *quicCarrier) ask(ctx context.Context, query []byte) ([]byte, uint32, error) {
	stream, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, 0, err
	}
	cancel := func() {
		stream.CancelRead(doqRequestCancelled)
		stream.CancelWrite(doqRequestCancelled)
	}
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	if _, err := stream.Write(framed); err != nil {
		return nil, 0, err
	}
	if err := stream.Close(); err != nil { // there is no further query
		return nil, 0, err
	}
	response, err := io.ReadAll(io.LimitReader(stream, 2+message.MaxSize+1))
	if err != nil {
		return nil, 0, err
	}
	if len(response) < 2 || len(response) != 2+int(binary.BigEndian.Uint16(response)) {
		_ = c.conn.CloseWithError(doqProtocolError, "") // as RFC 9250 section 4.3.3 wants
		return nil, 0, errFraming
	}
	return response[2:], 0, nil
}

// room implements carrier. How many streams the server allows, the library does not say; a query waits for one if need be.
func (c *quicCarrier) room() bool { return c.conn.Context().Err() == nil }

// gone implements carrier.
func (c *quicCarrier) gone() <-chan struct{} { return c.conn.Context().Done() }

// close implements carrier.
func (c *quicCarrier) close() {
	_ = c.conn.CloseWithError(doqNoError, "") // it may be closed already
	c.shut()
}

// shut closes what is below the connection.
func (c *quicCarrier) shut() {
	_ = c.transport.Close() // waits for its goroutines
	c.socket.Close()
}

// listen opens an unconnected UDP socket for a QUIC connection to server, from one of the sources. QUIC itself sees to it that only server is heard.
func (d *dialer) listen(ctx context.Context, server netip.AddrPort) (socket *net.UDPConn, err error) {
	err = d.from(ctx, server, func(source netip.Addr) error {
		switch {
		case source.IsValid():
		case server.Addr().Is4():
			source = netip.IPv4Unspecified()
		default:
			source = netip.IPv6Unspecified()
		}
		socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
		return err
	})
	return socket, err
}
