//go:build linux

package attack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// attackStreams is goal P5: 10,000 streams of DNS over QUIC on 100 connections, each of which brings one octet of a query. A stream that the server ends is followed by the next.
func attackStreams(ctx context.Context, a *attacker) { a.holdStreams(ctx, 100, 100) }

// attackConnections has about as many streams, on more connections than a listener has places.
func attackConnections(ctx context.Context, a *attacker) { a.holdStreams(ctx, 1500, 7) }

// holdStreams starts attackers with a connection and some streams each.
func (a *attacker) holdStreams(ctx context.Context, connections, streams int) {
	c, conns := a.counter("QUIC, streams"), a.counter("QUIC, connections")
	connections = a.some(connections)
	a.present.Add(connections)
	for i := range connections {
		a.all.Go(func() {
			var once sync.Once
			for ctx.Err() == nil {
				begun := time.Now()
				err := a.withQUIC(ctx, conns, i, func(conn *quic.Conn) {
					once.Do(a.present.Done)
					conns.begun.Add(1)
					conns.open.Add(1)
					var all sync.WaitGroup
					for range streams {
						all.Go(func() { holdStream(ctx, conn, c) })
					}
					all.Wait()
					conns.open.Add(-1)
					conns.ended.Add(1)
				})
				once.Do(a.present.Done)
				if err != nil {
					conns.failed.Add(1)
				}
				pause(ctx, begun.Add(turnTime))
			}
		})
	}
}

// withQUIC calls a function with a connection of the n-th attacker.
func (a *attacker) withQUIC(ctx context.Context, c *counter, n int, use func(*quic.Conn)) error {
	conn, closing, err := a.dialQUIC(ctx, c, n)
	if err != nil {
		return err
	}
	defer closing()
	use(conn)
	return nil
}

// dialQUIC is connect over QUIC.
func (a *attacker) dialQUIC(ctx context.Context, c *counter, n int) (*quic.Conn, func(), error) {
	done := c.turn(ctx)
	if done == nil {
		return nil, nil, ctx.Err()
	}
	defer done()
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addressOf(n), 0)))
	if err != nil {
		return nil, nil, err
	}
	transport := &quic.Transport{Conn: socket}
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := transport.Dial(within, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(a.QUIC))), clientTLS("doq"),
		&quic.Config{KeepAlivePeriod: 10 * time.Second})
	if err != nil {
		transport.Close() //nolint:errcheck // nothing is on it
		socket.Close()
		return nil, nil, err
	}
	return conn, func() {
		conn.CloseWithError(0, "") //nolint:errcheck // it has none
		transport.Close()          //nolint:errcheck // as above
		socket.Close()
	}, nil
}

// holdStream holds one stream after the other, until the connection or ctx ends.
func holdStream(ctx context.Context, conn *quic.Conn, c *counter) {
	for {
		begun := time.Now()
		s, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return
		}
		if _, err := s.Write([]byte{0}); err != nil {
			return
		}
		c.begun.Add(1)
		c.open.Add(1)
		stop := context.AfterFunc(ctx, func() { s.CancelRead(0) })
		io.Copy(io.Discard, s) //nolint:errcheck // it ends as the server wants, or ctx
		stop()
		s.CancelRead(0)
		s.CancelWrite(0)
		c.open.Add(-1)
		c.ended.Add(1)
		pause(ctx, begun.Add(turnTime/3))
	}
}
