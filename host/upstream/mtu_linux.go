package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// noPathMTU turns path MTU discovery off for a UDP socket and has the kernel ignore path MTUs that it learned, for ICMP "packet too
// big" can be forged to make queries fragment (RFC 9715 section 3.1 R2 and appendix C). A kernel or sandbox that does not know the
// option goes without: it is one defence of several, and no reason not to ask.
func noPathMTU(network, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		if network == "udp6" {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
			return
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
	})
}
