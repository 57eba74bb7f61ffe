package listener

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/datagram"
)

// batch is datagrams with recvmmsg and sendmmsg.
type batch struct {
	socket *socket
	conn   syscall.RawConn
	in     [datagram.Size]datagram.Header
	out    *datagram.Lot
	slots  [datagram.Size]slot
	strays bool // there may be some in the socket's outlet

	// What receive tells the poller's callback, and hears from it. That is made once: a closure for each call would be garbage.
	read  func(fd uintptr) bool
	n     int
	errno syscall.Errno
}

// slot has the memory for a query and its response. Its size is no power of two, which would put all queries into the same few lines of the
// processor's cache.
type slot struct {
	name     unix.RawSockaddrInet6 // of either family
	control  [controlSize]byte
	from     unix.Iovec
	response []byte
	query    [maxQuery]byte
}

func newBatch(s *socket) (datagrams, error) {
	conn, err := s.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batch{socket: s, conn: conn, out: datagram.GetLot(), strays: true}
	for i := range b.slots {
		slot, h := &b.slots[i], &b.in[i]
		slot.from.Base = &slot.query[0]
		slot.from.SetLen(len(slot.query))
		h.Name, h.Iov = (*byte)(unsafe.Pointer(&slot.name)), &slot.from
		h.SetIovlen(1)
		b.prepare(i)
	}
	b.n = 0
	b.read = func(fd uintptr) bool {
		b.n, b.errno = datagram.Receive(fd, b.in[:])
		return b.errno != syscall.EAGAIN
	}
	return b, nil
}

// prepare sets what the system overwrites.
func (b *batch) prepare(i int) {
	h := &b.in[i]
	h.Namelen = unix.SizeofSockaddrInet6
	if b.socket.wildcard {
		h.Control = &b.slots[i].control[0]
		h.SetControllen(controlSize)
	}
}

func (b *batch) receive() (n int, err error) {
	for {
		for i := range b.n {
			b.prepare(i)
		}
		b.n = 0
		if b.strays {
			b.strays = b.socket.out.Strays(b.read) && b.errno == 0
			if b.strays {
				return b.n, nil
			}
			continue
		}
		if err := b.conn.Read(b.read); err != nil {
			return 0, err
		}
		switch b.errno {
		case 0:
			return b.n, nil
		case syscall.EINTR:
			b.n = 0
		default:
			b.n = 0
			return 0, b.errno
		}
	}
}

func (b *batch) datagram(i int) (octets []byte, whole bool) {
	d := &b.in[i]
	return b.slots[i].query[:d.Size], d.Flags&unix.MSG_TRUNC == 0
}

func (b *batch) client(i int) netip.AddrPort { return datagram.Address(&b.slots[i].name) }

// control returns the control message that the response to a datagram needs.
func (b *batch) control(i int) []byte {
	if !b.socket.wildcard {
		return nil
	}
	c := b.slots[i].control[:b.in[i].Controllen]
	return c[:replyControl(c)]
}

func (b *batch) peer(i int, p *peer) {
	p.addr = b.client(i)
	p.controlSize = copy(p.control[:], b.control(i))
}

func (b *batch) reply(i int, response []byte) {
	slot := &b.slots[i]
	slot.response = append(slot.response[:0], response...)
	b.out.AddReply(b.socket.out, slot.response, &slot.name, b.in[i].Namelen, b.control(i))
}

func (b *batch) flush() {
	b.socket.out.Write(b.out)
	b.out.Reset()
}
