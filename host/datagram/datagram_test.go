package datagram

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func listen(t *testing.T, network, address string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenPacket(network, address)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// receive reads n datagrams and says what was in them and where they came from.
func receive(t *testing.T, conn *net.UDPConn, n int) (octets []string, from netip.AddrPort) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for range n {
		size, addr, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatalf("after %d datagrams: %v", len(octets), err)
		}
		octets, from = append(octets, string(buf[:size])), netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	}
	return octets, from
}

func port(conn *net.UDPConn) uint16 { return uint16(conn.LocalAddr().(*net.UDPAddr).Port) }

func TestWrite(t *testing.T) {
	for _, test := range []struct{ name, network, from, to string }{
		{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "udp6", "[::1]:0", "::1"},
		{"IPv4 from a socket of both", "udp", "[::]:0", "127.0.0.1"},
		{"IPv6 from a socket of both", "udp", "[::]:0", "::1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := Of(listen(t, test.network, test.from))
			to := netip.MustParseAddr(test.to)
			clients := []*net.UDPConn{
				listen(t, "udp", net.JoinHostPort(test.to, "0")),
				listen(t, "udp", net.JoinHostPort(test.to, "0")),
			}
			for round := range 3 { // with the same lot
				lot := GetLot()
				for i := 0; !lot.Full(); i++ {
					lot.AddTo(socket, fmt.Appendf(nil, "%d.%d", round, i), netip.AddrPortFrom(to, port(clients[i%2])), nil)
				}
				socket.Write(lot)
				for i := range lot.Len() {
					if err := lot.Err(i); err != nil {
						t.Errorf("datagram %d: %v", i, err)
					}
				}
				lot.Put()
				for c, client := range clients {
					got, from := receive(t, client, Size/2)
					var want []string
					for i := range Size / 2 {
						want = append(want, fmt.Sprintf("%d.%d", round, 2*i+c))
					}
					if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
						t.Errorf("client %d got %q, want %q in any order", c, got, want)
					}
					if from.Port() != port(socket.conn) {
						t.Errorf("from %v, want port %d", from, port(socket.conn))
					}
				}
			}
		})
	}
}

// The error of one datagram is no other's.
func TestErrors(t *testing.T) {
	server := listen(t, "udp4", "127.0.0.1:0")
	socket := Of(listen(t, "udp4", "127.0.0.1:0"))
	lot := GetLot()
	defer lot.Put()
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port(server))
	lot.AddTo(socket, []byte("one"), to, nil)
	lot.AddTo(socket, make([]byte, 70000), to, nil) // too large for any datagram
	lot.AddTo(socket, []byte("three"), to, nil)
	socket.Write(lot)
	for i, fails := range []bool{false, true, false} {
		if err := lot.Err(i); err != nil != fails {
			t.Errorf("datagram %d: error %v, want one: %t", i, err, fails)
		}
	}
	got, _ := receive(t, server, 2)
	if slices.Sort(got); got[0] != "one" || got[1] != "three" {
		t.Errorf("received %q", got)
	}
}

func TestConnected(t *testing.T) {
	server := listen(t, "udp4", "127.0.0.1:0")
	conn, err := net.Dial("udp4", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	socket, lot := Of(conn), GetLot()
	defer lot.Put()
	lot.Add([]byte("a"))
	lot.Add([]byte("b"))
	socket.Write(lot)
	if got, _ := receive(t, server, 2); got[0] != "a" || got[1] != "b" {
		t.Errorf("received %q", got)
	}
	conn.Close()
	socket.Write(lot)
	for i := range 2 {
		if err := lot.Err(i); !errors.Is(err, net.ErrClosed) {
			t.Errorf("datagram %d of a closed socket: %v, want that it is closed", i, err)
		}
	}
}

func TestOfAnotherKind(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if s := Of(a); s != nil {
		t.Errorf("Of a pipe is %v, want nil", s)
	}
}

func TestWriteDoesNotAllocate(t *testing.T) {
	server := listen(t, "udp4", "127.0.0.1:0")
	socket := Of(listen(t, "udp4", "127.0.0.1:0"))
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port(server))
	msg := []byte("octets")
	if n := testing.AllocsPerRun(100, func() {
		lot := GetLot()
		lot.AddTo(socket, msg, to, nil)
		lot.AddTo(socket, msg, to, nil)
		socket.Write(lot)
		lot.Put()
	}); n >= 1 { // the pool is emptied now and then
		t.Errorf("%v allocations, want none", n)
	}
}
