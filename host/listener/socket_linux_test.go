package listener

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNobodyElseBinds: an address that several sockets of a listener share is nobody else's, who could take queries from them.
func TestNobodyElseBinds(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		first := bound(t, "udp4", address)
		at := first.conn.LocalAddr().String()
		second, err := bindUDP(t.Context(), "udp4", at, true)
		if err != nil {
			t.Fatal(err)
		}
		defer second.close() //nolint:errcheck // nothing is lost
		for name, option := range map[string]int{"no option": 0, "SO_REUSEADDR": unix.SO_REUSEADDR} {
			config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
				if option == 0 {
					return nil
				}
				return setOption(c, unix.SOL_SOCKET, option, 1)
			}}
			if c, err := config.ListenPacket(t.Context(), "udp4", at); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("with %s %s can be bound: %v", name, at, err)
				if err == nil {
					c.Close()
				}
			}
		}
	}
}

// TestUDPGSO: responses to one client pass through the system as one, unless that is switched off. A client that takes what comes as it comes (UDP_GRO) sees the difference.
func TestUDPGSO(t *testing.T) {
	const queries, size = 5, 40
	for mode, want := range map[string]int{UDPGSOOn: 1, UDPGSOOff: queries} {
		s := bound(t, "udp4", "127.0.0.1:0")
		l := &Listener{config: Config{UDPGSO: mode}}
		l.add(s)
		d, err := newBatch(s)
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("udp4", s.conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		raw, err := client.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := setOption(raw, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
			t.Skipf("the system does not know UDP_GRO: %v", err)
		}
		n := 0
		for tries := 0; n != queries; tries++ { // where there is much to do, they may not all be there when the first one is read
			if tries == 1000 {
				t.Fatalf("the queries are never read together")
			}
			for range queries {
				if _, err := client.Write(make([]byte, 20)); err != nil {
					t.Fatal(err)
				}
			}
			for came := 0; came < queries; came += n {
				if n, err = d.receive(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range n {
			d.reply(i, make([]byte, size))
		}
		d.flush()
		client.SetReadDeadline(time.Now().Add(limit))
		reads, buf := 0, make([]byte, 1000)
		for octets := 0; octets < queries*size; reads++ {
			n, err := client.Read(buf)
			if err != nil {
				t.Fatalf("%s: after %d octets: %v", mode, octets, err)
			}
			octets += n
		}
		if reads != want {
			t.Errorf("%s: %d responses came with %d reads, want %d", mode, queries, reads, want)
		}
	}
}
