//go:build !linux

package listener

import (
	"net"
	"syscall"
)

// Other systems have one UDP socket for an address. On a wildcard address the system chooses from which of its addresses a response comes: to
// be reached at several, list them as listeners of their own.
const canShare = false

// What other systems have for many datagrams differs from one to the next.
func newBatch(s *socket) (datagrams, error) { return newSingle(s), nil }

const (
	messageTruncated = 0
	controlSize      = 0
)

func controlUDP(bool) func(network, address string, c syscall.RawConn) error { return nil }

func controlTCP(bool) func(network, address string, c syscall.RawConn) error { return nil }

func prepareUDP(*net.UDPConn, bool) error { return nil }

func letShare(syscall.Conn) error { return nil }

func letShareUDP(syscall.Conn) error { return nil }

func replyControl([]byte) int { return 0 }
