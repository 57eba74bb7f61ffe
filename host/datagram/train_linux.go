package datagram

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// train is datagrams for one destination that go through the system together, up to where they leave it: UDP_SEGMENT, generic segmentation offload. All of them are as long as the first one,
// but for the last one, which may be shorter. What a datagram costs is mostly this way, and not its octets.
type train struct{ first, end uint8 } // of the order of a lot

const (
	// maxSegment is the longest datagram in a train. Those that the way to the destination may be too narrow for (RFC 9715 section 3.1) leave alone, as the system refuses a train of them.
	maxSegment = 1232
	// maxControl is what a train has room for of the control messages of its datagrams, which say where they leave from, beside its own.
	maxControl = 64
	// pause is how many lots are written without trains after the system has refused one.
	pause = 1024
)

// control is for the control messages of a train, and aligned as they are.
type control struct {
	_      [0]unix.Cmsghdr
	octets [maxControl + 24]byte
}

// segments reports whether the system knows UDP_SEGMENT, as Linux does since 4.18. One that doesn't would send a train as one long datagram.
var segments = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	return err == nil
})

// trains is what a Socket knows about trains.
type trains struct {
	none  bool         // there are to be none
	pause atomic.Int32 // lots without any
}

// takesTrains reports whether a lot may leave s in trains.
func (s *Socket) takesTrains() bool {
	if s.trains.none || !segments() {
		return false
	}
	n := s.trains.pause.Load()
	if n > 0 {
		s.trains.pause.CompareAndSwap(n, n-1)
	}
	return n == 0
}

// NoTrains has each datagram go through the system alone. Nobody uses s yet.
func (s *Socket) NoTrains() { s.trains.none = true }

// form makes trains of the datagrams of l: long ones if join, otherwise one for each.
func (l *Lot) form(join bool) {
	if join {
		l.sort()
	} else {
		for i := range l.n {
			l.order[i] = uint8(i)
		}
	}
	l.count, l.left = 0, 0
	for i := 0; i < l.n; {
		end := i + 1
		if join {
			end = l.together(i)
		}
		l.depart(train{uint8(i), uint8(end)})
		i = end
	}
}

// formApart makes a train for each of those that have to be written one by one.
func (l *Lot) formApart() {
	l.order, l.count = l.apart, 0
	for i := range l.left {
		l.depart(train{uint8(i), uint8(i + 1)})
	}
	l.left = 0
}

// sort puts those for one destination side by side, the longest first. By what is compared for that, two destinations may be taken for one, which costs nothing but trains.
func (l *Lot) sort() {
	var keys [Size]uint64
	for i := range l.n {
		d := &l.datagrams[i]
		keys[i] = uint64(d.destination())<<32 | uint64(0xFFFF-min(len(d.msg), 0xFFFF))<<16 | uint64(i)
	}
	slices.Sort(keys[:l.n])
	for i := range l.n {
		l.order[i] = uint8(keys[i])
	}
}

// destination is a number that differs, as a rule, if the destination does.
func (d *datagram) destination() uint32 {
	const odd = 0x9E3779B97F4A7C15
	var sum uint64
	for b := d.address(); len(b) >= 8; b = b[8:] {
		sum = (sum ^ binary.NativeEndian.Uint64(b)) * odd
	}
	return uint32(sum >> 32)
}

// together returns the end of the train that begins at i of the order.
func (l *Lot) together(i int) (end int) {
	first := &l.datagrams[l.order[i]]
	size := len(first.msg)
	if size > maxSegment || len(first.control) > maxControl || len(first.control)%unix.SizeofPtr != 0 {
		return i + 1
	}
	for end = i + 1; end < l.n; end++ {
		d := &l.datagrams[l.order[end]]
		if len(d.msg) > size || len(d.msg) == 0 || !d.goesWith(first) {
			return end
		}
		if len(d.msg) < size {
			return end + 1
		}
	}
	return end
}

// goesWith reports whether d and other have one destination, and leave from one address.
func (d *datagram) goesWith(other *datagram) bool {
	return d.size == other.size && bytes.Equal(d.address(), other.address()) && bytes.Equal(d.control, other.control)
}

func (d *datagram) address() []byte { return unsafe.Slice((*byte)(unsafe.Pointer(d.name)), d.size) }

// depart makes t the next train to be written.
func (l *Lot) depart(t train) {
	for i := t.first; i < t.end; i++ {
		msg := l.datagrams[l.order[i]].msg
		l.octets[i].Base = unsafe.SliceData(msg)
		l.octets[i].SetLen(len(msg))
	}
	first := &l.datagrams[l.order[t.first]]
	h := &l.headers[l.count]
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(first.name)), first.size
	h.Iov = &l.octets[t.first]
	h.SetIovlen(int(t.end - t.first))
	control := first.control
	if t.end-t.first > 1 {
		control = appendSegment(append(l.controls[l.count].octets[:0], control...), len(first.msg))
	}
	h.Control = unsafe.SliceData(control)
	h.SetControllen(len(control))
	l.trains[l.count] = t
	l.count++
}

// appendSegment appends the control message that says how long the datagrams of a train are. There is room for it.
func appendSegment(control []byte, size int) []byte {
	at := len(control)
	control = control[:at+unix.CmsgSpace(2)]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[at]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&control[at+unix.CmsgLen(0)])) = uint16(size)
	return control
}

// fail notes that nothing of t was sent.
func (l *Lot) fail(t train, err error) {
	for _, i := range l.order[t.first:t.end] {
		l.errs[i] = err
	}
}

// failed is for a train that was not sent. What ICMP has told about an earlier datagram is told once, and counts for one of these; the others are written by themselves. With any other error all of them are:
// it may be the train that the system does not take, since the device can't compute checksums, the way is too narrow, or somebody encrypts on it.
func (s *Socket) failed(l *Lot, t train, errno syscall.Errno) {
	if t.end-t.first == 1 {
		l.fail(t, errno)
		return
	}
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.EPROTO, unix.EACCES:
		l.errs[l.order[t.first]] = errno
		t.first++
	default:
		s.trains.pause.Store(pause)
	}
	l.left += copy(l.apart[l.left:], l.order[t.first:t.end])
}
