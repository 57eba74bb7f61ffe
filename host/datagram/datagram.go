// Package datagram reads and writes several datagrams of a UDP socket with one system call, where the system can; and has those for one destination pass through
// the system as one.
//
// The calls never block, so the runtime need not know of them, which costs as much as the least of them; waiting is left to its poller.
package datagram

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Size is how many datagrams one system call reads or writes at most. With more there is nothing to gain, and the first one of them waits for
// the last. Linux takes 64 that pass through it as one.
const Size = 32

// Socket is a UDP socket to write to. It is safe for concurrent use.
type Socket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	v6       bool    // its addresses are IPv6 ones
	wildcard bool    // it is bound to no address, so that what leaves it has to say from which
	outlet   *outlet // nil if there is none
	trains   trains
}

// Of returns conn as a Socket, or nil if it is no UDP socket of the system. Who closes conn closes the Socket, but for an outlet.
func Of(conn net.Conn) *Socket {
	c, ok := conn.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	at := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return &Socket{conn: c, raw: raw, v6: !at.Unmap().Is4(), wildcard: at.IsUnspecified()}
}

// Close closes conn, and its outlet before, so that nobody finds the address in use when conn is closed.
func (s *Socket) Close() error { return errors.Join(s.outlet.close(), s.conn.Close()) }

// Lot is up to Size datagrams to be written to one socket at once. One goroutine uses it.
//
//  1. GetLot.
//  2. Add or AddTo, until Full.
//  3. Socket.Write, Lot.Err. Datagrams leave in any order.
//  4. Put.
type Lot struct {
	n     int
	named bool // each has the address that it leaves from, if the socket has none
	errs  [Size]error
	lot   // what the system needs
}

var lots = sync.Pool{New: func() any { return newLot() }}

// GetLot returns an empty lot.
func GetLot() *Lot { return lots.Get().(*Lot) }

// Put gives l back.
func (l *Lot) Put() {
	l.Reset()
	lots.Put(l)
}

// Reset takes everything out.
func (l *Lot) Reset() {
	l.clear()
	clear(l.errs[:l.n])
	l.n, l.named = 0, true
}

// Len is how many datagrams there are, and Full whether there is no room for more.
func (l *Lot) Len() int   { return l.n }
func (l *Lot) Full() bool { return l.n == Size }

// Add adds a datagram for the other end of a connected socket. msg stays the caller's, and as it is until Write.
func (l *Lot) Add(msg []byte) {
	l.add(msg)
	l.n++
}

// AddTo adds a datagram for an address, with a control message or none. s is the socket that it is for.
func (l *Lot) AddTo(s *Socket, msg []byte, to netip.AddrPort, control []byte) {
	l.add(msg)
	l.address(s, to, control)
	l.added(s, control)
}

// added counts a datagram for s.
func (l *Lot) added(s *Socket, control []byte) {
	l.named = l.named && (len(control) > 0 || !s.wildcard)
	l.n++
}

// Err is what came of datagram i in Write.
func (l *Lot) Err(i int) error { return l.errs[i] }
