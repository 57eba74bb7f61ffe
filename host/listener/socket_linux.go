package listener

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// canShare: SO_REUSEPORT spreads queries over the sockets of one address.
const canShare = true

const (
	messageTruncated = unix.MSG_TRUNC
	controlSize      = 64 // an IP_PKTINFO has 28 octets with its header, an IPV6_PKTINFO 36
)

// controlUDP sets SO_REUSEPORT before a socket is bound. The first socket of an address is bound without it, which fails when anybody else
// has the address, and gets it afterwards, see letShareUDP. For the outlets of the others it takes SO_REUSEADDR, until then.
func controlUDP(share bool) func(network, address string, c syscall.RawConn) error {
	return control(share, unix.SO_REUSEADDR, unix.SO_REUSEPORT)
}

// controlTCP is controlUDP for the one TCP socket of an address.
func controlTCP(share bool) func(network, address string, c syscall.RawConn) error {
	return control(share, unix.SO_REUSEPORT)
}

func control(share bool, options ...int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		if !share {
			return nil
		}
		for _, o := range options {
			if err := setOption(c, unix.SOL_SOCKET, o, 1); err != nil {
				return err
			}
		}
		return nil
	}
}

// prepareUDP sets the options of a bound socket: to be shared from now on, to tell to which address a query came, and never to let what
// looks like an ICMP "fragmentation needed" make responses into fragments (RFC 9715 section 3.1).
func prepareUDP(conn *net.UDPConn, wildcard bool) error {
	if err := letShareUDP(conn); err != nil {
		return err
	}
	c, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	setOption(c, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)       //nolint:errcheck // old systems can't
	setOption(c, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT) //nolint:errcheck // nor can IPv4 sockets
	if !wildcard {
		return nil
	}
	v6 := setOption(c, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	if v6 == nil {
		return nil // which serves both families
	}
	return setOption(c, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// letShare lets later listeners share the address of a bound socket.
func letShare(s syscall.Conn) error {
	c, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return setOption(c, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// letShareUDP is letShare for a UDP socket. Anybody's socket that has SO_REUSEADDR might take its place if it kept that.
func letShareUDP(s syscall.Conn) error {
	c, err := s.SyscallConn()
	if err != nil {
		return err
	}
	if err := setOption(c, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return err
	}
	return letShare(s)
}

func setOption(c syscall.RawConn, level, option, value int) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) }); e != nil {
		return e
	}
	return err
}

// replyControl turns the control message of a query, in place, into the one for its response, and returns its size. The address stays: it is
// where the query came to and where the response comes from. The interface goes, since routing knows better, except for link-local
// addresses, which have no meaning without it.
func replyControl(control []byte) int {
	if len(control) < unix.SizeofCmsghdr {
		return 0
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(control)
	switch {
	case err != nil:
		return 0
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12: // index, local address, destination
		if data[8]&0xF0 == 0xE0 || data[8] == 0xFF { // multicast, broadcast
			return 0
		}
		clear(data[:4])
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 20: // destination, index
		if data[0] == 0xFF { // multicast
			return 0
		}
		if data[0] != 0xFE || data[1]&0xC0 != 0x80 {
			clear(data[16:20])
		}
	default:
		return 0
	}
	return min(unix.CmsgSpace(len(data)), len(control))
}
