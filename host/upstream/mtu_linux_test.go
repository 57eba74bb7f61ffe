package upstream

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRFC9715PathMTU: the sockets for queries don't learn path MTUs, which somebody could forge to have messages fragmented (section 3.1 R2 and appendix C).
func TestRFC9715PathMTU(t *testing.T) {
	for _, tt := range []struct {
		name, addr          string
		level, option, want int
	}{
		{"IPv4", "127.0.0.1:9", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		{"IPv6", "[::1]:9", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Dial(t.Context(), "udp", netip.Addr{}, netip.MustParseAddrPort(tt.addr))
			if err != nil {
				t.Skipf("no %s here: %v", tt.name, err)
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			got := -1
			if err := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), tt.level, tt.option) }); err != nil || got != tt.want {
				t.Errorf("got %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}
