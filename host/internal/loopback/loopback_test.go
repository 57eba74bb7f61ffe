package loopback

import (
	"net"
	"testing"
)

func TestAddress(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		addr := Address(t)
		if seen[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		seen[addr] = true
		udp, err := net.ListenPacket("udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		tcp, err := net.Listen("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
	}
}

// A port that is taken on either protocol is passed over.
func TestTaken(t *testing.T) {
	addr := Address(t)
	for _, network := range []string{"udp4", "tcp4"} {
		given.Add(^uint32(0)) // the same port again
		var closer interface{ Close() error }
		var err error
		if network == "udp4" {
			closer, err = net.ListenPacket(network, addr)
		} else {
			closer, err = net.Listen(network, addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := Address(t); got == addr {
			t.Errorf("%s is taken on %s and was given", got, network)
		}
		given.Add(^uint32(0))
		closer.Close()
	}
}
