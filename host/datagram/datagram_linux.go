package datagram

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Header is struct mmsghdr: one of the datagrams that a system call reads or writes.
type Header struct {
	unix.Msghdr
	Size uint32 // of the datagram, set by the system
}

// Receive reads at least one datagram from fd, or returns EAGAIN.
func Receive(fd uintptr, headers []Header) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
	return int(r), errno
}

// Send writes some of the datagrams to fd, at least one, or returns an error, which is that of the first one.
func Send(fd uintptr, headers []Header) (n int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(r), errno
}

type lot struct {
	datagrams [Size]datagram
	names     [Size]unix.RawSockaddrInet6 // of either family

	// What is written: trains of datagrams.
	headers  [Size]Header
	octets   [Size]unix.Iovec
	controls [Size]control
	trains   [Size]train
	count    int         // of trains
	order    [Size]uint8 // of the datagrams in them
	apart    [Size]uint8 // those of a train that the system did not take, to be written one by one
	left     int         // of apart

	// What Write tells the poller's callback, and hears from it. That is made once: a closure for each call would be garbage.
	write func(fd uintptr) bool
	done  int // trains that are sent or have failed
	sent  int // with the last call
	errno syscall.Errno
}

// datagram is one as it was added.
type datagram struct {
	msg     []byte
	name    *unix.RawSockaddrInet6 // nil: for the other end of a connected socket
	size    uint32                 // of name
	control []byte
}

func newLot() *Lot {
	l := &Lot{named: true}
	l.write = func(fd uintptr) bool {
		l.sent, l.errno = Send(fd, l.headers[l.done:l.count])
		return l.errno != syscall.EAGAIN
	}
	return l
}

func (l *Lot) clear() {
	clear(l.datagrams[:l.n])
	for i := range l.n {
		l.octets[i].Base = nil
		h := &l.headers[i]
		h.Name, h.Control = nil, nil
	}
}

func (l *Lot) add(msg []byte) {
	l.datagrams[l.n].msg = msg
}

func (l *Lot) address(s *Socket, to netip.AddrPort, control []byte) {
	d, name := &l.datagrams[l.n], &l.names[l.n]
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], to.Port())
	addr := to.Addr()
	if !s.v6 {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		v4.Family, v4.Addr, v4.Zero = unix.AF_INET, addr.As4(), [8]uint8{}
		d.size = unix.SizeofSockaddrInet4
	} else {
		name.Family, name.Flowinfo, name.Addr, name.Scope_id = unix.AF_INET6, 0, addr.As16(), scope(addr)
		d.size = unix.SizeofSockaddrInet6
	}
	d.name, d.control = name, control
}

// AddReply adds a datagram for where another one came from: name is what the system put there, of so many octets. name and control stay the caller's, as msg does.
func (l *Lot) AddReply(s *Socket, msg []byte, name *unix.RawSockaddrInet6, size uint32, control []byte) {
	l.add(msg)
	d := &l.datagrams[l.n]
	d.name, d.size, d.control = name, size, control
	l.added(s, control)
}

// scope is the number of the interface that the zone of addr names; [Address] has the number itself as the name.
func scope(addr netip.Addr) uint32 {
	zone := addr.Zone()
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	return 0
}

// Address is the address that the system has put into name.
func Address(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	addr := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(name.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, port)
}

// Write writes the datagrams of l. When the system has no room it waits until it has.
func (s *Socket) Write(l *Lot) {
	if l.n == 0 {
		return
	}
	l.form(l.n > 1 && s.takesTrains())
	s.drain(l)
	if l.left > 0 {
		l.formApart()
		s.drain(l)
	}
}

// drain writes the trains of l.
func (s *Socket) drain(l *Lot) {
	for l.done = 0; l.done < l.count; {
		if err := s.Out(l.named, l.write); err != nil { // closed
			for _, t := range l.trains[l.done:l.count] {
				l.fail(t, err)
			}
			return
		}
		switch l.errno {
		case 0:
			l.done += max(l.sent, 1)
		case syscall.EINTR:
		default:
			s.failed(l, l.trains[l.done], l.errno)
			l.done++
		}
	}
}
