// Package loopback finds addresses for tests that must know a server's address before it listens.
//
// Asking the system for a free port, closing it and using it again is a race: until the server listens, any other test's socket may be
// given the same port. Here the ports lie below those that systems give out by themselves, and on Linux, where all of 127.0.0.0/8 is the
// loopback, each test process has an IP address to itself.
package loopback

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
)

// The ports given out: above those of other test configurations, below 32768, where Linux begins to choose for itself.
const first, last = 20000, 32000

var given atomic.Uint32

// Address returns an address, such as "127.3.7.1:20012", that nothing listens at and that nobody else in this process is given: UDP and TCP
// are both free.
func Address(t testing.TB) string {
	t.Helper()
	return find(t, Host())
}

// Common is Address at 127.0.0.1, for whoever has a certificate for that, or writes it down elsewhere. Another process may be given the same.
func Common(t testing.TB) string {
	t.Helper()
	return find(t, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

func find(t testing.TB, ip netip.Addr) string {
	t.Helper()
	for range last - first {
		addr := netip.AddrPortFrom(ip, uint16(first+given.Add(1)%(last-first)))
		ok, err := free(addr)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return addr.String()
		}
	}
	t.Fatalf("all ports from %d to %d are taken", first, last)
	return ""
}

// Host is the loopback address of this process. Elsewhere than on Linux only 127.0.0.1 is sure to be there.
func Host() netip.Addr {
	if runtime.GOOS != "linux" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	pid := os.Getpid() // at most 22 bits
	return netip.AddrFrom4([4]byte{127, byte(1 + pid>>16), byte(pid >> 8), byte(pid)})
}

func free(addr netip.AddrPort) (bool, error) {
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return false, butTaken(err)
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return false, butTaken(err)
	}
	return true, udp.Close()
}

func butTaken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	return err
}
