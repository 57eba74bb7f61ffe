package listener

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
)

const (
	// maxQuery is the largest query read over UDP. Nobody sends as much; what is larger gets FORMERR.
	maxQuery = 4096
	// readersPerSocket: while one goroutine handles a query, another waits in the socket.
	readersPerSocket = 2
	// receiveBuffer holds what arrives while all readers are busy, some milliseconds at full rate. The system may give less.
	receiveBuffer = 1 << 20
)

// peer is the other end of a datagram.
type peer struct {
	addr netip.AddrPort
	// control says, on a wildcard address, to which of our addresses the query came, so that the response comes from there.
	control     [controlSize]byte
	controlSize int
}

// socket is a UDP socket. All of the package goes through receive and send; reading many datagrams with one system call would go in here.
type socket struct {
	conn     *net.UDPConn
	wildcard bool
}

func bindUDP(ctx context.Context, network, address string, share bool) (*socket, error) {
	config := net.ListenConfig{Control: controlUDP(share)}
	pc, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: pc.(*net.UDPConn)}
	s.wildcard = s.conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	s.conn.SetReadBuffer(receiveBuffer) //nolint:errcheck // it works with less
	if err := prepareUDP(s.conn, s.wildcard); err != nil {
		s.conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) port() uint16 { return uint16(s.conn.LocalAddr().(*net.UDPAddr).Port) }

// receive reads a datagram into buf. whole is false when it was larger than buf.
func (s *socket) receive(buf []byte, p *peer) (n int, whole bool, err error) {
	control := p.control[:]
	if !s.wildcard {
		control = nil
	}
	n, controlSize, flags, addr, err := s.conn.ReadMsgUDPAddrPort(buf, control)
	if err != nil {
		return 0, false, err
	}
	p.addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	p.controlSize = replyControl(p.control[:controlSize])
	return n, flags&messageTruncated == 0, nil
}

// send writes a response. An error is not the listener's: the client is gone, or it was never there.
func (s *socket) send(msg []byte, p *peer) {
	s.conn.WriteMsgUDPAddrPort(msg, p.control[:p.controlSize], p.addr) //nolint:errcheck // see above
}

// serveUDP reads queries and answers those that need no waiting. The others are handed to a goroutine with their job.
func (l *Listener) serveUDP(ctx, work context.Context, all *sync.WaitGroup, s *socket) {
	e := l.udpIn
	buf := make([]byte, maxQuery)
	j := l.jobs.get()
	for {
		n, whole, err := s.receive(buf, &j.peer)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.warn("a UDP socket can't be read", err)
			pause(ctx)
			continue
		}
		out, done := e.begin(j, buf[:n], whole, j.peer.addr)
		if !done {
			if e.waiting.take() {
				l.wait(work, all, s, j)
				j = l.jobs.get()
				continue
			}
			out = e.shed(j)
		}
		if out != nil {
			s.send(out, &j.peer)
		}
		if j.broken {
			j = l.jobs.get()
		}
	}
}
