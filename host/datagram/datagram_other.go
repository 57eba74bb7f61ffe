//go:build !linux

package datagram

import (
	"errors"
	"net/netip"
)

type lot struct {
	out [Size]struct {
		msg, control []byte
		to           netip.AddrPort
	}
}

// outlet is nothing: only Linux spreads datagrams over sockets in the way that one needs.
type outlet struct{}

func (*outlet) close() error { return nil }

// OpenOutlet returns an error: there are none here.
func (s *Socket) OpenOutlet() error { return errors.ErrUnsupported }

// trains are nothing either.
type trains struct{}

// NoTrains is nothing: each datagram goes through the system alone.
func (s *Socket) NoTrains() {}

func newLot() *Lot { return &Lot{} }

func (l *Lot) clear() { clear(l.out[:l.n]) }

func (l *Lot) add(msg []byte) { l.out[l.n].msg = msg }

func (l *Lot) address(_ *Socket, to netip.AddrPort, control []byte) {
	l.out[l.n].to, l.out[l.n].control = to, control
}

// Write writes the datagrams of l, one by one. When the system has no room it waits until it has.
func (s *Socket) Write(l *Lot) {
	for i := range l.n {
		if o := &l.out[i]; o.to.IsValid() {
			_, _, l.errs[i] = s.conn.WriteMsgUDPAddrPort(o.msg, o.control, o.to)
		} else {
			_, l.errs[i] = s.conn.Write(o.msg)
		}
	}
}
