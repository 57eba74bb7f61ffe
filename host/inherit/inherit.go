// Package inherit has bound sockets that somebody else opened: the service manager, or the weir that was there before.
//
//	systemd ─ LISTEN_FDS ─► FromEnvironment ─┐
//	                                         ├─► Sockets ─► Stream, Packets: listeners take what their addresses name
//	another weir ─ SCM_RIGHTS ─► Of ─────────┘        └──► Left: what nobody took
//
// What a socket is and where it is bound is asked of the socket itself, so nobody has to describe it, and no description can be wrong.
package inherit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stream is a listening socket for connections: a [net.TCPListener], or a [net.UnixListener] that leaves its file alone when it is closed.
type Stream interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

var (
	_ Stream = (*net.TCPListener)(nil)
	_ Stream = (*net.UnixListener)(nil)
)

// Sockets are bound sockets that can be taken, each once. A nil *Sockets has none. One goroutine uses it.
type Sockets struct {
	free  []inherited
	files []string
}

// inherited is a socket. One of stream and packets is set, and belongs to whoever takes it.
type inherited struct {
	at      place
	stream  Stream
	packets *net.UDPConn
	name    string // what it is called by whoever passed it; may be empty
}

// place is what a socket is bound to.
type place struct {
	kind string         // "udp", "tcp", "unix" or "unixpacket"
	addr netip.AddrPort // of the first two
	only bool           // on [::], for IPv6 only
	path string         // of the others
}

// String is for messages: "udp 127.0.0.1:53".
func (p place) String() string {
	switch {
	case p.path != "":
		return p.kind + " " + p.path
	case p.only:
		return p.kind + " " + p.addr.String() + " (IPv6 only)"
	}
	return p.kind + " " + p.addr.String()
}

// Of has a look at descriptors, and makes Sockets of them. names[i], if there is one, is what files[i] is called in messages. It closes files. When one is
// no bound socket that could be listened at, that is an error, and nothing is kept.
func Of(files []*os.File, names []string) (*Sockets, error) {
	s := &Sockets{}
	var errs []error
	for i, f := range files {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		one, err := identify(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("socket %d of %d %q: %w", i+1, len(files), name, err))
		} else {
			one.name = name
			s.free = append(s.free, one)
		}
		f.Close()
	}
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// identify duplicates the descriptor of f, in non-blocking mode. If it was in that mode before, it is all the while, which matters since another process may have
// the same socket: package os leaves the mode of such files alone.
func identify(f *os.File) (inherited, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return inherited{}, err
	}
	kind, err := option(c, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case err != nil:
		return inherited{}, fmt.Errorf("is no socket: %w", err)
	case kind == unix.SOCK_DGRAM:
		return identifyPackets(f)
	case kind != unix.SOCK_STREAM && kind != unix.SOCK_SEQPACKET:
		return inherited{}, errors.New("is neither a stream nor datagrams")
	}
	if listens, err := option(c, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return inherited{}, errors.New("does not listen: it may be a connection, which Accept=yes in a socket unit passes")
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return inherited{}, err
	}
	switch addr := ln.Addr().(type) {
	case *net.TCPAddr:
		at := place{kind: "tcp", addr: addr.AddrPort()}
		at.only = onlyIPv6(c, at.addr)
		return inherited{at: at, stream: ln.(*net.TCPListener)}, nil
	case *net.UnixAddr:
		u := ln.(*net.UnixListener)
		u.SetUnlinkOnClose(false)
		return inherited{at: place{kind: addr.Net, path: addr.Name}, stream: u}, nil
	}
	ln.Close()
	return inherited{}, fmt.Errorf("is of another kind than weir has listeners for: %s", ln.Addr().Network())
}

func identifyPackets(f *os.File) (inherited, error) {
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return inherited{}, err
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		pc.Close()
		return inherited{}, fmt.Errorf("is of another kind than weir has listeners for: %s", pc.LocalAddr().Network())
	}
	c, err := conn.SyscallConn()
	if err != nil {
		return inherited{}, err
	}
	at := place{kind: "udp", addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	at.only = onlyIPv6(c, at.addr)
	return inherited{at: at, packets: conn}, nil
}

// onlyIPv6 reports whether a socket bound to addr leaves IPv4 alone. It is of interest where it makes a difference.
func onlyIPv6(c syscall.RawConn, addr netip.AddrPort) bool {
	if addr.Addr() != netip.IPv6Unspecified() {
		return false
	}
	only, err := option(c, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	return err == nil && only != 0
}

func option(c syscall.RawConn, level, name int) (value int, err error) {
	if e := c.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) }); e != nil {
		return 0, e
	}
	return value, err
}

// named returns what [net.Listen] would bind to for this network ("tcp", "tcp4", "udp6", "unix", ...) and address.
func named(network, address string) (place, error) {
	if network == "unix" || network == "unixpacket" {
		return place{kind: network, path: address}, nil
	}
	var addr netip.AddrPort
	if network[:3] == "tcp" {
		a, err := net.ResolveTCPAddr(network, address)
		if err != nil {
			return place{}, err
		}
		addr = a.AddrPort()
	} else {
		a, err := net.ResolveUDPAddr(network, address)
		if err != nil {
			return place{}, err
		}
		addr = a.AddrPort()
	}
	p := place{kind: network[:3], addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
	if p.addr.Addr().IsValid() && !p.addr.Addr().IsUnspecified() {
		return p, nil
	}
	wildcard := netip.IPv6Unspecified()
	if network[3:] == "4" || network[3:] == "" && !bothFamilies() {
		wildcard = netip.IPv4Unspecified()
	}
	p.addr, p.only = netip.AddrPortFrom(wildcard, addr.Port()), network[3:] == "6"
	return p, nil
}

// bothFamilies reports whether a socket of this system can serve IPv4 and IPv6.
func bothFamilies() bool {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd) //nolint:errcheck // nothing was done with it
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0) == nil
}

// take removes the sockets at a place and returns them.
func (s *Sockets) take(network, address string) (all []inherited) {
	if s == nil || len(s.free) == 0 {
		return nil
	}
	p, err := named(network, address)
	if err != nil {
		return nil // whoever binds it will say the same
	}
	s.free = slices.DeleteFunc(s.free, func(i inherited) bool {
		if i.at == p {
			all = append(all, i)
		}
		return i.at == p
	})
	return all
}

// Stream takes the socket that [net.Listen] would make for network and address, nil if there is none.
func (s *Sockets) Stream(network, address string) Stream {
	all := s.take(network, address)
	if len(all) == 0 {
		return nil
	}
	if len(all) > 1 { // connections are spread over them: all or none would have to be served
		s.free = append(s.free, all[1:]...)
	}
	return all[0].stream
}

// Packets takes all UDP sockets at an address, which share what arrives there.
func (s *Sockets) Packets(network, address string) (conns []*net.UDPConn) {
	for _, i := range s.take(network, address) {
		conns = append(conns, i.packets)
	}
	return conns
}

// Own says that the files at these paths go with the Unix-domain sockets that are bound to them.
func (s *Sockets) Own(paths []string) { s.files = paths }

// Owns reports whether whoever takes the socket at path has to see to its file: that it has the right permissions, and is removed in the end.
// Otherwise somebody else does, such as systemd.
func (s *Sockets) Owns(path string) bool { return s != nil && slices.Contains(s.files, path) }

// Left returns what nobody took, in words.
func (s *Sockets) Left() (all []string) {
	if s == nil {
		return nil
	}
	for _, i := range s.free {
		text := i.at.String()
		if i.name != "" {
			text += " (" + i.name + ")"
		}
		all = append(all, text)
	}
	return all
}

// Close closes what nobody took. Other processes that have the same sockets keep them.
func (s *Sockets) Close() {
	if s == nil {
		return
	}
	for _, i := range s.free {
		var c io.Closer = i.stream
		if i.packets != nil {
			c = i.packets
		}
		c.Close() //nolint:errcheck // nothing was done with it
	}
	s.free = nil
}

// Duplicate returns another descriptor of a socket, which is not passed to programs that are executed. It is in the mode, blocking or not, in which the socket is.
func Duplicate(s syscall.Conn) (*os.File, error) {
	c, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := c.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl(F_DUPFD_CLOEXEC)", err)
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}
