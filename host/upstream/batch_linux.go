package upstream

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weirdns/weir/host/datagram"
)

// batch reads a socket with recvmmsg. Where there are many queries in flight, a socket has several responses when it is looked at, and they come with
// one system call; and since that says whether there are more, none is needed to hear that there are not.
type batch struct {
	socket *socket
	conn   syscall.RawConn
}

// inbox is the memory for what one system call reads. A socket has none while it waits, for there are many.
type inbox struct {
	in   [datagram.Size]datagram.Header
	bufs [datagram.Size]struct {
		iov    unix.Iovec
		octets [readSize]byte
	}
}

var inboxes = sync.Pool{New: func() any {
	b := new(inbox)
	for i := range b.in {
		buf := &b.bufs[i]
		buf.iov.Base = &buf.octets[0]
		buf.iov.SetLen(readSize)
		b.in[i].Iov = &buf.iov
		b.in[i].SetIovlen(1)
	}
	return b
}}

// newBatch returns nil when k is no socket of the system.
func newBatch(k *socket) *batch {
	c, ok := k.conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &batch{socket: k, conn: raw}
}

// read reads until the socket ends. All of that is one call of the poller's Read, whose callback says each time that it has to wait: a new call of Read
// would forget what has become ready since the last datagram was read, and so would have to ask the system in vain each time.
func (b *batch) read() {
	_ = b.conn.Read(func(fd uintptr) bool {
		box := inboxes.Get().(*inbox)
		defer inboxes.Put(box)
		for {
			n, errno := datagram.Receive(fd, box.in[:])
			switch {
			case errno == 0:
				for i := range n {
					if !b.socket.deliver(box.bufs[i].octets[:box.in[i].Size]) {
						return true
					}
				}
				b.socket.batch.Flush()
				if n < len(box.in) {
					return false
				}
			case errno == syscall.EAGAIN:
				return false
			case errno == syscall.EINTR:
			case isUnreachable(errno):
				b.socket.unreachable()
				b.socket.batch.Flush()
			default:
				return true
			}
		}
	})
}
