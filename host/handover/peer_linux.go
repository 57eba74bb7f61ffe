package handover

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// credentials are those of the process at the other end: of whoever connected when it did, or of whoever listens when it began to. The kernel vouches for them.
func credentials(conn *net.UnixConn) (c *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { c, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return nil, e
	}
	return c, os.NewSyscallError("getsockopt(SO_PEERCRED)", err)
}

// trusted returns an error unless the other end is of this user, or root; with anybody, everybody is trusted.
func trusted(conn *net.UnixConn, anybody bool) error {
	if anybody {
		return nil
	}
	c, err := credentials(conn)
	if err != nil {
		return err
	}
	if c.Uid != 0 && int(c.Uid) != os.Geteuid() {
		return fmt.Errorf("the other process is of user %d: only root and the user of this one, %d, are trusted", c.Uid, os.Geteuid())
	}
	return nil
}

// peer is the process that connected, 0 if that is not known.
func peer(conn *net.UnixConn) int {
	c, err := credentials(conn)
	if err != nil {
		return 0
	}
	return int(c.Pid)
}
