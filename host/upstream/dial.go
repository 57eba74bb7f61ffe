package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/due"
)

// DialFunc opens a connected UDP socket or a TCP connection to server, from source unless that is the zero Addr. The port of a UDP
// socket must be random: see [Dial].
type DialFunc func(ctx context.Context, network string, source netip.Addr, server netip.AddrPort) (net.Conn, error)

// Dial is the DialFunc of the operating system. The local port is the system's choice, which is a random one from some 28,000 on
// Linux and similar elsewhere; that keeps clear of ports that the administrator has reserved, as a choice of weir's own would not.
// With the ID that makes 30.8 bits to guess. Connected sockets have the kernel drop what comes from anywhere but the server.
func Dial(ctx context.Context, network string, source netip.Addr, server netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{}
	if network == "udp" {
		dialer.Control = noPathMTU
		if source.IsValid() {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
		return dialer.DialContext(ctx, network, server.String())
	}
	if source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return dialer.DialContext(ctx, network, server.String())
}

// sourceRest is how long a source address that could not be used is passed over.
const sourceRest = 5 * time.Second

// dialer dials from the sources of a group.
type dialer struct {
	dial    DialFunc
	sources []*source // none: the system chooses
	log     *slog.Logger
}

type source struct {
	addr netip.Addr
	rest atomic.Int64 // due.Moment until which it is passed over; 0: in use
}

var errNoSource = errors.New("no source address of the server's IP version")

// open dials server from a random source that is in use, and from the others in turn when that fails.
func (d *dialer) open(ctx context.Context, network string, server netip.AddrPort) (conn net.Conn, err error) {
	err = d.from(ctx, server, func(source netip.Addr) error {
		conn, err = d.dial(ctx, network, source, server)
		return err
	})
	return conn, err
}

// from calls open with a random source that is in use, and with the others in turn when that fails; with the zero Addr when there are none.
func (d *dialer) from(ctx context.Context, server netip.AddrPort, open func(source netip.Addr) error) error {
	if len(d.sources) == 0 {
		return open(netip.Addr{})
	}
	err := errNoSource
	start := rand.IntN(len(d.sources)) // which source is no secret
	// First those in use; then, rather than none, those that rest.
	for _, resting := range [2]bool{false, true} {
		for i := range d.sources {
			s := d.sources[(start+i)%len(d.sources)]
			until := s.rest.Load()
			if s.addr.Is4() != server.Addr().Is4() || until > int64(due.At(time.Now())) != resting {
				continue
			}
			if err = open(s.addr); err == nil {
				if until != 0 && s.rest.CompareAndSwap(until, 0) {
					d.log.Info("source address is back", "source", s.addr)
				}
				return nil
			}
			if errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
				return err // the server's doing, or nobody waits: another source changes nothing
			}
			if s.rest.Swap(int64(due.At(time.Now().Add(sourceRest)))) == 0 {
				d.log.Warn("source address does not work, using others", "source", s.addr, "error", err)
			}
		}
	}
	return err
}
