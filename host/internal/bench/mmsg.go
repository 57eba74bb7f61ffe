//go:build linux

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 64
	datagramSize = 1536 // of the memory for one: nothing larger is sent here
)

// batch is datagrams that one system call receives or sends (recvmmsg, sendmmsg): with a call for each, the generator would be slower than what
// it measures.
type batch struct {
	headers [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	peers   [batchSize]unix.RawSockaddrInet4
	octets  [batchSize][datagramSize]byte
}

// mmsghdr is struct mmsghdr of the system.
type mmsghdr struct {
	header unix.Msghdr
	size   uint32
}

// newBatch returns an empty batch. With peers, it has who sent what was received, and answers go there; without, the socket is connected.
func newBatch(peers bool) *batch {
	b := new(batch)
	for i := range b.headers {
		b.vectors[i].Base = &b.octets[i][0]
		h := &b.headers[i].header
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		if peers {
			h.Name = (*byte)(unsafe.Pointer(&b.peers[i]))
		}
	}
	return b
}

// receive returns how many datagrams came. It blocks until there is one, or with unix.MSG_DONTWAIT not at all.
func (b *batch) receive(fd, flags int) (int, error) {
	for i := range b.headers {
		b.vectors[i].SetLen(datagramSize)
		if h := &b.headers[i].header; h.Name != nil {
			h.Namelen = unix.SizeofSockaddrInet4
		}
	}
	return mmsg(unix.SYS_RECVMMSG, fd, &b.headers[0], batchSize, flags)
}

// send sends the first n datagrams, and returns how many the system took.
func (b *batch) send(fd, n int) (int, error) {
	for sent := 0; sent < n; {
		m, err := mmsg(unix.SYS_SENDMMSG, fd, &b.headers[sent], n-sent, 0)
		if err != nil {
			return sent, err
		}
		sent += m
	}
	return n, nil
}

func mmsg(trap uintptr, fd int, first *mmsghdr, n, flags int) (int, error) {
	for {
		m, _, errno := syscall.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(first)), uintptr(n), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(m), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

func (b *batch) received(i int) []byte { return b.octets[i][:b.headers[i].size] }

func (b *batch) setSize(i, size int) { b.vectors[i].SetLen(size) }

// udpSocket returns a socket of the system with large buffers, on a port of 127.0.0.1; 0 is any.
func udpSocket(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	const size = 4 << 20
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size) // the ones with force need a privilege; without it there is less
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback})
}

var loopback = [4]byte{127, 0, 0, 1}
