package upstream

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call reads at most.
const batchSize = 8

// batch reads a socket with recvmmsg. Where there are many queries in flight, a socket has several responses when it is looked at, and they come with
// one system call; and since that says whether there are more, none is needed to hear that there are not.
type batch struct {
	socket *socket
	conn   syscall.RawConn
	in     [batchSize]datagram
	bufs   [batchSize]struct {
		iov    unix.Iovec
		octets [readSize]byte
	}
}

// datagram is struct mmsghdr.
type datagram struct {
	header unix.Msghdr
	size   uint32
}

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
	b := &batch{socket: k, conn: raw}
	for i := range b.in {
		buf := &b.bufs[i]
		buf.iov.Base = &buf.octets[0]
		buf.iov.SetLen(readSize)
		b.in[i].header.Iov = &buf.iov
		b.in[i].header.SetIovlen(1)
	}
	return b
}

// read reads until the socket ends. All of that is one call of the poller's Read, whose callback says each time that it has to wait: a new call of Read
// would forget what has become ready since the last datagram was read, and so would have to ask the system in vain each time.
func (b *batch) read() {
	_ = b.conn.Read(func(fd uintptr) bool {
		for {
			// It never blocks, so the runtime need not know of it.
			n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == 0:
				for i := range int(n) {
					if !b.socket.deliver(b.bufs[i].octets[:b.in[i].size]) {
						return true
					}
				}
				b.socket.batch.Flush()
				if n < batchSize {
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
