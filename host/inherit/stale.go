package inherit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// ClearStale removes the file of a socket whose process has ended. That of a living one, and what is no socket, stay, and are
// errors. network is "unix" or "unixpacket".
func ClearStale(network, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there, and is no socket: remove it, or choose another path", path)
	}
	c, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // a full backlog is a life sign, too
		return fmt.Errorf("%s belongs to a process that listens: end it, or choose another path", path)
	}
	return os.Remove(path)
}
