package listener

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/datagram"
	"github.com/weirdns/weir/host/message"
)

const (
	// maxQuery is the largest query read over UDP. Nobody sends as much; what is larger gets FORMERR.
	maxQuery = 4096
	// receiveBuffer holds what arrives while the reader is busy, some milliseconds at full rate. The system may give less.
	receiveBuffer = 1 << 20
)

// peer is the other end of a datagram.
type peer struct {
	addr netip.AddrPort
	// control says, on a wildcard address, to which of our addresses the query came, so that the response comes from there.
	control     [controlSize]byte
	controlSize int
}

// datagrams reads and writes the datagrams of a socket, as many with one system call as the system can. One goroutine uses it.
type datagrams interface {
	// receive waits for datagrams, and returns how many there are. They are there until the next call.
	receive() (n int, err error)
	// datagram returns the octets of one. whole is false when it was larger than a query can be.
	datagram(i int) (octets []byte, whole bool)
	// client returns where one came from, and peer all that a response sent later needs.
	client(i int) netip.AddrPort
	peer(i int, p *peer)
	// reply copies the response to one, of which there is no more than one. It is sent by flush, if it can be: otherwise the client is
	// gone, or was never there.
	reply(i int, response []byte)
	flush()
}

// single is datagrams one by one.
type single struct {
	socket   *socket
	from     peer
	query    [maxQuery]byte
	size     int
	whole    bool
	response []byte
}

func newSingle(s *socket) datagrams { return &single{socket: s} }

func (d *single) receive() (n int, err error) {
	d.size, d.whole, err = d.socket.receive(d.query[:], &d.from)
	if err != nil {
		return 0, err
	}
	return 1, nil
}

func (d *single) datagram(int) (octets []byte, whole bool) { return d.query[:d.size], d.whole }

func (d *single) client(int) netip.AddrPort { return d.from.addr }

func (d *single) peer(_ int, p *peer) { *p = d.from }

func (d *single) reply(_ int, response []byte) { d.response = append(d.response[:0], response...) }

func (d *single) flush() {
	if len(d.response) > 0 {
		d.socket.send(d.response, &d.from)
		d.response = d.response[:0]
	}
}

// socket is a UDP socket.
type socket struct {
	conn     *net.UDPConn
	out      *datagram.Socket // conn
	shard    uint8            // where those count who read it
	wildcard bool
}

func bindUDP(ctx context.Context, network, address string, share bool) (*socket, error) {
	config := net.ListenConfig{Control: controlUDP(share)}
	pc, err := config.ListenPacket(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newSocket(pc.(*net.UDPConn))
}

// newSocket makes a socket of conn, which it closes when that is not possible.
func newSocket(conn *net.UDPConn) (*socket, error) {
	s := &socket{conn: conn}
	if s.out = datagram.Of(s.conn); s.out == nil {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.wildcard = s.conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified()
	s.conn.SetReadBuffer(receiveBuffer) //nolint:errcheck // it works with less
	if err := prepareUDP(s.conn, s.wildcard); err != nil {
		s.close() //nolint:errcheck // the other one says what is wrong
		return nil, err
	}
	s.out.OpenOutlet() //nolint:errcheck // it works without one
	return s, nil
}

func (s *socket) close() error { return s.out.Close() }

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

// serveUDP serves a socket until its deadline, which Serve sets.
func (l *Listener) serveUDP(ctx, work context.Context, s *socket) {
	for !l.readUDP(ctx, work, s) { // after a panic the socket is read on
		pause(ctx)
	}
}

// readUDP reads queries and answers those that need no waiting. The others are handed to a goroutine with their job. It reports whether it has come to the
// deadline of the socket, and has not met a panic.
func (l *Listener) readUDP(ctx, work context.Context, s *socket) (ended bool) {
	e := l.udpIn
	defer e.survive()
	d, err := l.datagrams(s)
	if err != nil {
		d = newSingle(s)
	}
	spare := stash{jobs: &l.jobs}
	j := spare.get()
	var batch message.Batch
	var clock clock
	defer func() {
		batch.Flush()
		d.flush()
		spare.close()
	}()
	for {
		n, err := d.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return true
		}
		if errors.Is(err, syscall.ENOSYS) {
			d = newSingle(s)
			continue
		}
		if err != nil {
			e.warn("a UDP socket can't be read", err)
			pause(ctx)
			continue
		}
		arrived := e.now()
		for i := range n {
			query, whole := d.datagram(i)
			client := d.client(i)
			if l.proxies != nil {
				var ok bool
				if query, client, ok = l.unwrap(j, query, client); !ok {
					continue
				}
			}
			clock.sparing(arrived, n-1-i)
			j.clock, j.exchange.Batch, j.exchange.Shard = &clock, &batch, s.shard
			out, done := e.begin(j, query, whole, client, arrived)
			j.clock = nil
			if !done {
				if taken, ok := e.waiting.take(j); ok {
					j.share = taken
					d.peer(i, &j.peer)
					l.wait(work, s, j, &batch)
					j = spare.get()
					continue
				}
				out = e.shed(j)
			}
			if out != nil {
				d.reply(i, out)
			}
			if j.end.Sub(arrived) > maxHold { // something took long: that is nobody else's fault
				batch.Flush()
				d.flush()
			}
			if j.broken {
				j = spare.get()
			}
		}
		batch.Flush()
		d.flush()
	}
}

// clock is looked at for one response in lookEvery of those that are answered at once, and for the last of a batch: a look costs as much as reading the query and
// counting the response. The others are taken to be answered when it was looked at last, which was some microseconds before.
type clock struct {
	last time.Time
	left int // responses until the next look
}

const lookEvery = 4

// sparing is for a query with so many others behind it in its batch, which arrived at a time.
func (c *clock) sparing(arrived time.Time, behind int) {
	if c.last.Before(arrived) {
		c.last, c.left = arrived, lookEvery-1
	}
	c.left = min(c.left, behind)
}

func (c *clock) now() time.Time {
	if c.left > 0 {
		c.left--
		return c.last
	}
	c.last, c.left = time.Now(), lookEvery-1
	return c.last
}

// maxHold is how long a response may wait for others to be sent with it.
const maxHold = 200 * time.Microsecond
