package listener

import (
	"errors"
	"net"
	"syscall"
	"testing"

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
