package datagram

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// places are the ways in which a socket is bound, and addresses at which it is reached.
var places = []struct{ name, network, at, to string }{
	{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
	{"IPv6", "udp6", "[::1]:0", "::1"},
	{"IPv4, any address", "udp4", "0.0.0.0:0", "127.0.0.2"},
	{"IPv6, any address", "udp6", "[::]:0", "::1"},
	{"both, any address, IPv4", "udp", ":0", "127.0.0.3"},
	{"both, any address, IPv6", "udp", ":0", "::1"},
}

// shared is a socket as a listener has one. Others may be bound to its address after it.
func shared(t testing.TB, network, address string) *Socket {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return errors.Join(set(c, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), set(c, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	}}
	conn, err := config.ListenPacket(t.Context(), network, address)
	if err != nil {
		t.Skip(err)
	}
	s := Of(conn.(*net.UDPConn))
	t.Cleanup(func() { s.Close() })
	if err := set(s.raw, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func set(c syscall.RawConn, level, option, value int) (err error) {
	e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(e, err)
}

func get(c syscall.RawConn, level, option int) (value int, err error) {
	e := c.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, option) })
	return value, errors.Join(e, err)
}

func open(t testing.TB, s *Socket) {
	t.Helper()
	if kernel().before(minRelease) {
		t.Skipf("no outlet before %v", minRelease)
	}
	if err := s.OpenOutlet(); err != nil {
		t.Fatal(err)
	}
}

// reader returns a function for RawConn.Read that adds to n what there is.
func reader(n *int) func(fd uintptr) bool {
	buf := make([]byte, 100)
	return func(fd uintptr) bool {
		if _, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); err != nil {
			return false
		}
		*n++
		return true
	}
}

// came returns how many datagrams are in the socket, which has got all there will be.
func came(t *testing.T, s *Socket) (n int) {
	t.Helper()
	read := reader(&n)
	for more := true; more; {
		if err := s.raw.Control(func(fd uintptr) { more = read(fd) }); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func strays(s *Socket) (n int) {
	for read := reader(&n); s.Strays(read); {
	}
	return n
}

// ask has clients send a datagram each.
func ask(t *testing.T, clients int, to string, port uint16) {
	t.Helper()
	for range clients {
		c, err := net.Dial("udp", net.JoinHostPort(to, fmt.Sprint(port)))
		if err != nil {
			t.Skip(err)
		}
		if _, err := c.Write([]byte("query")); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// An outlet gets nothing, and what leaves by it comes from the address of its socket.
func TestOutlet(t *testing.T) {
	for _, tt := range places {
		t.Run(tt.name, func(t *testing.T) {
			s := shared(t, tt.network, tt.at)
			open(t, s)
			ask(t, 100, tt.to, port(s.conn))
			if here, astray := came(t, s), strays(s); here != 100 || astray != 0 {
				t.Errorf("of 100 datagrams %d came to the socket and %d to the outlet", here, astray)
			}
			addr := netip.MustParseAddr(tt.to)
			client := listen(t, "udp", net.JoinHostPort(tt.to, "0"))
			for _, from := range []string{tt.to, ""} { // "" leaves it to the system
				var control []byte
				if from != "" {
					control = source(addr, s.v6)
				}
				lot := GetLot()
				for i := range 3 {
					lot.AddTo(s, fmt.Appendf(nil, "response %d", i), netip.AddrPortFrom(addr, port(client)), control)
				}
				s.Write(lot)
				for i := range 3 {
					if err := lot.Err(i); err != nil {
						t.Errorf("from %q: %v", from, err)
					}
				}
				lot.Put()
				got, at := receive(t, client, 3)
				if want := "[response 0 response 1 response 2]"; fmt.Sprint(got) != want {
					t.Errorf("from %q came %q, want %q", from, got, want)
				}
				if at.Port() != port(s.conn) || from != "" && at.Addr() != addr {
					t.Errorf("it came from %v, want %s, port %d", at, from, port(s.conn))
				}
			}
		})
	}
}

// source is a control message that says which address a datagram leaves from.
func source(addr netip.Addr, v6 bool) []byte {
	if addr.Is4() && !v6 {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
}

// What comes to an outlet before it is connected is not lost.
func TestStrays(t *testing.T) {
	for _, tt := range places {
		t.Run(tt.name, func(t *testing.T) {
			s := shared(t, tt.network, tt.at)
			if strays(s) != 0 {
				t.Errorf("strays without an outlet")
			}
			const clients = 60 // three times as many fit into a socket
			ask(t, clients, tt.to, port(s.conn))
			file, at, err := s.bindOutlet()
			if err != nil {
				t.Fatal(err)
			}
			ask(t, clients, tt.to, port(s.conn))
			if err := s.connectOutlet(file, at); err != nil {
				t.Fatal(err)
			}
			ask(t, clients, tt.to, port(s.conn))
			here, astray := came(t, s), strays(s)
			if here+astray != 3*clients || astray == 0 || astray > clients {
				t.Errorf("of %d datagrams %d came to the socket and %d to the outlet, want all, and at the outlet some of %d", 3*clients, here, astray, clients)
			}
		})
	}
}

// Sockets that share an address get as much each as they do without outlets, also when others have taken their place.
func TestOutletsAreNoWeights(t *testing.T) {
	const sockets, clients = 4, 800
	bind := func(address string) (all []*Socket) {
		for range sockets {
			s := shared(t, "udp4", address)
			open(t, s)
			all = append(all, s)
			address = s.conn.LocalAddr().String()
		}
		return all
	}
	check := func(all []*Socket) {
		t.Helper()
		ask(t, clients, "127.0.0.1", port(all[0].conn))
		sum := 0
		for i, s := range all {
			n := came(t, s)
			if sum += n; n < clients/sockets/2 || n > clients/sockets*2 {
				t.Errorf("socket %d has got %d of %d datagrams, want about %d", i, n, clients, clients/sockets)
			}
			if n := strays(s); n != 0 {
				t.Errorf("%d datagrams came to outlet %d", n, i)
			}
		}
		if sum != clients {
			t.Errorf("%d of %d datagrams came", sum, clients)
		}
	}
	old := bind("127.0.0.1:0")
	check(old)
	for range 3 { // as when a listener takes over from another one
		next := bind(old[0].conn.LocalAddr().String())
		for _, s := range old {
			s.Close()
		}
		check(next)
		old = next
	}
	for range 3 { // as when a process takes over sockets, and opens outlets of its own
		gone := make([]*outlet, sockets)
		for i, s := range old {
			gone[i] = s.outlet
			open(t, s)
		}
		for _, o := range gone {
			if err := o.close(); err != nil {
				t.Error(err)
			}
		}
		check(old)
	}
}

// Without room, or when the outlet is gone, the socket itself is written to.
func TestWithoutOutlet(t *testing.T) {
	s := shared(t, "udp4", "127.0.0.1:0")
	open(t, s)
	client := listen(t, "udp4", "127.0.0.1:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port(client))
	var by []uintptr
	if err := s.Out(true, func(fd uintptr) bool {
		by = append(by, fd)
		return len(by) == 2 // as if there were no room in the first one
	}); err != nil || len(by) != 2 || by[0] == by[1] {
		t.Errorf("written to %v, %v; want the outlet and then the socket", by, err)
	}
	if err := s.outlet.close(); err != nil {
		t.Error(err)
	}
	lot := GetLot()
	defer lot.Put()
	lot.AddTo(s, []byte("a"), to, nil)
	s.Write(lot)
	if got, _ := receive(t, client, 1); got[0] != "a" || lot.Err(0) != nil {
		t.Errorf("received %q, error %v", got, lot.Err(0))
	}
	s.Close()
	s.Write(lot)
	if lot.Err(0) == nil {
		t.Errorf("written to a closed socket")
	}
}

// What leaves by an outlet is sent as its socket would send it.
func TestOutletIsAlike(t *testing.T) {
	s := shared(t, "udp4", "127.0.0.1:0")
	for option, value := range map[int]int{unix.IP_TOS: 0x28, unix.IP_TTL: 7, unix.IP_MTU_DISCOVER: unix.IP_PMTUDISC_OMIT} {
		if err := set(s.raw, unix.IPPROTO_IP, option, value); err != nil {
			t.Fatal(err)
		}
	}
	open(t, s)
	for _, a := range alike {
		got, gotErr := get(s.outlet.raw, a.level, a.option)
		want, wantErr := get(s.raw, a.level, a.option)
		if got != want || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Errorf("level %d, option %d: %d, %v; the socket has %d, %v", a.level, a.option, got, gotErr, want, wantErr)
		}
	}
}

// TestOutletIDs: the IDs of what leaves by an outlet tell nothing of those that come a moment later.
func TestOutletIDs(t *testing.T) {
	s := shared(t, "udp4", "127.0.0.1:0")
	open(t, s)
	addr := netip.MustParseAddr("127.9.8.7") // to which nobody else sends
	client := listen(t, "udp4", net.JoinHostPort(addr.String(), "0"))
	to := netip.AddrPortFrom(addr, port(client))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP) // which sees all datagrams for an address, with their headers
	if err != nil {
		t.Skip("needs the capability NET_RAW: ", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	id := func() uint16 {
		t.Helper()
		lot := GetLot()
		defer lot.Put()
		lot.AddTo(s, []byte("response"), to, nil)
		s.Write(lot)
		for buf := make([]byte, 100); ; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EINTR) { // by the runtime, where there is much to do
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if header := int(buf[0]&0xF) * 4; n >= header+8 && binary.BigEndian.Uint16(buf[header+2:]) == port(client) {
				return binary.BigEndian.Uint16(buf[4:])
			}
		}
	}
	next, others := 0, 0
	for range 20 {
		s.outlet.renewed.Store(math.MaxInt64)
		before := id()
		if id() == before+1 {
			next++
		}
		before = id()
		s.outlet.renewed.Store(math.MinInt64 / 2) // long ago
		if id() != before+1 {
			others++
		}
	}
	if next != 20 {
		t.Logf("the system does not number datagrams one after the other: %d of 20", next)
	}
	if others < 19 {
		t.Errorf("of 20 IDs after the time in which others may be seen %d are not the next ones, want all, or nearly", others)
	}
}

func TestRelease(t *testing.T) {
	for text, want := range map[string]release{"6.18.4-fc": {6, 18}, "5.10": {5, 10}, "6.1.0-rc3+": {6, 1}, "": {}, "next": {}, "6.": {}} {
		if got := parseRelease(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	for _, r := range []release{{}, {5, 19}, {6, 1}, {6, 12}} {
		if !r.before(minRelease) {
			t.Errorf("%v is not before %v", r, minRelease)
		}
	}
	for _, r := range []release{{6, 13}, {6, 18}, {7, 0}} {
		if r.before(minRelease) {
			t.Errorf("%v is before %v", r, minRelease)
		}
	}
}

// BenchmarkWrite sends to a client that reads in between, when nothing waits for the socket, and when the poller does.
func BenchmarkWrite(b *testing.B) {
	for _, outlet := range []bool{true, false} {
		b.Run(fmt.Sprintf("outlet=%t", outlet), func(b *testing.B) {
			s := shared(b, "udp4", "127.0.0.1:0")
			s.NoTrains()
			if outlet {
				open(b, s)
			}
			client, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			to, msg, buf := client.LocalAddr().(*net.UDPAddr).AddrPort(), make([]byte, 100), make([]byte, 200)
			for b.Loop() {
				lot := GetLot()
				for !lot.Full() {
					lot.AddTo(s, msg, to, nil)
				}
				s.Write(lot)
				lot.Put()
				b.StopTimer()
				client.SetReadDeadline(time.Now().Add(time.Second))
				for range Size {
					if _, _, err := client.ReadFrom(buf); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/Size, "ns/datagram")
		})
	}
}

// BenchmarkRenew is what it takes to have the IDs of an outlet begin anew.
func BenchmarkRenew(b *testing.B) {
	s := shared(b, "udp4", "127.0.0.1:0")
	open(b, s)
	for b.Loop() {
		s.outlet.renewed.Store(math.MinInt64 / 2)
		s.outlet.renew()
	}
}
