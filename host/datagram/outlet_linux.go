package datagram

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An outlet is a second socket at the address of one to which datagrams come. Whatever leaves does so by the outlet.
//
// When a datagram has left, the system tells everybody who waits for something to happen to its socket. The runtime's poller does, for datagrams to come, of all sockets it
// knows; to be told, and to find that this is not what it waits for, is 2 to 3 % of answering a cached query. Nobody waits for an outlet.
//
// An outlet is connected to itself, so that the system gives it nothing that anybody else sends. What it is given before it is connected is there to be read: [Socket.Strays].
// It is bound and not connected only for some microseconds, but at a time at which others may have served the address for long.

// minRelease is the system's release since which a socket that is connected leaves those that share an address by SO_REUSEPORT. Before that it keeps its place among them, and another one gets
// twice as much.
var minRelease = release{6, 13}

// alike are the options of a socket that say how what leaves it is sent. An outlet has them as its socket has.
var alike = [...]struct{ level, option int }{
	{unix.SOL_SOCKET, unix.SO_PRIORITY},
	{unix.SOL_SOCKET, unix.SO_MARK},
	{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX},
	{unix.SOL_SOCKET, unix.SO_BROADCAST},
	{unix.IPPROTO_IP, unix.IP_FREEBIND},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT},
	{unix.IPPROTO_IP, unix.IP_TOS},
	{unix.IPPROTO_IP, unix.IP_TTL},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
	{unix.IPPROTO_IP, unix.IP_PKTINFO},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
}

// OpenOutlet gives s, which has SO_REUSEPORT, an outlet. Its options are set, and nobody uses it yet. An error is why there is no outlet; s is as good without one.
//
// Who binds another socket to the address from then on needs SO_REUSEADDR for the moment of that, as outlets have it instead of SO_REUSEPORT: with that one the system would take an outlet for the first one of those
// that share the address.
func (s *Socket) OpenOutlet() error {
	if kernel().before(minRelease) {
		return fmt.Errorf("the system is older than %v", minRelease)
	}
	file, at, err := s.bindOutlet()
	if err != nil {
		return err
	}
	return s.connectOutlet(file, at)
}

// bindOutlet makes a socket at the address of s, and returns that, too.
func (s *Socket) bindOutlet() (file *os.File, at unix.Sockaddr, err error) {
	if e := s.raw.Control(func(like uintptr) { file, at, err = bindLike(int(like)) }); e != nil {
		return nil, nil, e
	}
	return file, at, err
}

func bindLike(like int) (file *os.File, at unix.Sockaddr, err error) {
	if at, err = unix.Getsockname(like); err != nil {
		return nil, nil, os.NewSyscallError("getsockname", err)
	}
	family := unix.AF_INET
	if _, ok := at.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	// One that blocks, so that the file has nothing to do with the poller. No call blocks all the same.
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socket", err)
	}
	file = os.NewFile(uintptr(fd), "outlet")
	defer func() {
		if err != nil {
			file.Close() //nolint:errcheck // it is of no use to anybody
		}
	}()
	for _, option := range []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR} { // for the sake of sockets, and of other outlets
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return nil, nil, os.NewSyscallError("setsockopt", err)
		}
	}
	for _, a := range alike {
		want, err := unix.GetsockoptInt(like, a.level, a.option)
		if err != nil {
			continue // an option of the other family, or one that the system does not know
		}
		if got, err := unix.GetsockoptInt(fd, a.level, a.option); err == nil && got == want {
			continue
		}
		if err := unix.SetsockoptInt(fd, a.level, a.option, want); err != nil {
			return nil, nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, at); err != nil { // the socket is another user's, who has started weir with it
		return nil, nil, os.NewSyscallError("bind", err)
	}
	return file, at, nil
}

// connectOutlet makes file, which is bound to an address, the outlet.
func (s *Socket) connectOutlet(file *os.File, at unix.Sockaddr) (err error) {
	defer func() {
		if err != nil {
			file.Close() //nolint:errcheck // it is of no use to anybody
		}
	}()
	fd := int(file.Fd())
	if err := unix.Connect(fd, itself(at)); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	o := &outlet{file: file, raw: raw}
	if at, ok := itself(at).(*unix.SockaddrInet4); ok {
		o.self = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: at.Addr}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&o.self.Port))[:], uint16(at.Port))
		o.connect = func(fd uintptr) {
			syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&o.self)), unix.SizeofSockaddrInet4) //nolint:errcheck // it stays connected
		}
	}
	s.outlet = o
	return nil
}

// itself is where a socket that is bound to an address reaches itself.
func itself(at unix.Sockaddr) unix.Sockaddr {
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		if at.Addr == [4]byte{} {
			return &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte{127, 0, 0, 1}}
		}
	case *unix.SockaddrInet6:
		if at.Addr == [16]byte{} {
			return &unix.SockaddrInet6{Port: at.Port, Addr: [16]byte{15: 1}}
		}
	}
	return at
}

// outlet is what a Socket has to write to if it has an outlet.
type outlet struct {
	file    *os.File
	raw     syscall.RawConn
	connect func(fd uintptr)      // to itself again; nil over IPv6
	self    unix.RawSockaddrInet4 // where that is
	renewed atomic.Int64          // when that was, as the time since began
}

func (o *outlet) close() error {
	if o == nil {
		return nil
	}
	return o.file.Close()
}

// renewal is the time after which the IDs of datagrams begin anew. It is shorter than the way to whoever could use his own to guess another one's.
const renewal = time.Millisecond

var began = time.Now()

// renew has the IDs of what leaves begin anew, at a random number. The IPv4 datagrams of a connected socket have IDs in a row, for it has one other end. An outlet has many, and each of them could
// tell from its own IDs how many datagrams the others get, and which ID comes next, as it takes to replace a fragment of what is for them (RFC 9414 section 4.1). A socket that is connected again begins
// with another ID.
func (o *outlet) renew() {
	if o.connect == nil {
		return
	}
	now, last := int64(time.Since(began)), o.renewed.Load()
	if now-last >= int64(renewal) && o.renewed.CompareAndSwap(last, now) {
		o.raw.Control(o.connect) //nolint:errcheck // it is closed: so the socket is written to
	}
}

// Strays has f, which is as that of [syscall.RawConn.Read], read what was for s and came to its outlet. It reports whether f found anything; when it has not, there will be no more.
func (s *Socket) Strays(f func(fd uintptr) bool) bool {
	return s.outlet != nil && s.outlet.raw.Read(f) == nil // which is an error when f would wait
}

// Out has f, which is as that of [syscall.RawConn.Write], write datagrams that leave s. named says that each of them has an address from which it leaves, or that s is bound to one.
func (s *Socket) Out(named bool, f func(fd uintptr) bool) error {
	if o := s.outlet; named && o != nil {
		o.renew()
		if o.raw.Write(f) == nil {
			return nil
		}
	}
	return s.raw.Write(f) // waits where there is no room
}

// release is the version of a system, as far as it counts.
type release struct{ major, minor int }

func (r release) String() string { return fmt.Sprintf("Linux %d.%d", r.major, r.minor) }

func (r release) before(other release) bool {
	return r.major < other.major || r.major == other.major && r.minor < other.minor
}

// kernel is the system's release, zero if it can't be told.
var kernel = sync.OnceValue(func() (r release) {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		r = parseRelease(unix.ByteSliceToString(name.Release[:]))
	}
	return r
})

func parseRelease(text string) (r release) {
	if n, _ := fmt.Sscanf(text, "%d.%d", &r.major, &r.minor); n != 2 {
		return release{}
	}
	return r
}
