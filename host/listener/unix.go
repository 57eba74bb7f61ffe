package listener

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/weirdns/weir/host/inherit"
)

const (
	// DefaultSocketMode lets the user and the group of a Unix-domain socket connect to it.
	DefaultSocketMode = "0660"
	// maxSocketPath is what struct sockaddr_un has room for on Linux, without the zero behind it; others have a little less.
	maxSocketPath = 107
	// backlog is how many connections wait to be accepted, as net has it on most systems.
	backlog = 4096
)

// SocketPath is the file of a Unix-domain socket that c.Address names, empty if it is an IP address and a port.
func (c Config) SocketPath() string {
	path, ok := strings.CutPrefix(c.Address, "unix:")
	if !ok {
		return ""
	}
	return path
}

func (c Config) isUnix() bool { return strings.HasPrefix(c.Address, "unix:") }

// validateSocket looks at what is for Unix-domain sockets only, and at what is not for them.
func (c Config) validateSocket(bad func(key, format string, args ...any)) {
	if !c.isUnix() {
		for key, value := range map[string]string{"socket_mode": c.SocketMode, "socket_owner": c.SocketOwner} {
			if value != "" {
				bad(key, "is of no use: {address} is no Unix-domain socket, such as \"unix:/run/weir/dns.sock\"")
			}
		}
		return
	}
	path := c.SocketPath()
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		bad("address", "%q does not name a file: write an absolute path, such as \"unix:/run/weir/dns.sock\"", c.Address)
	case len(path) > maxSocketPath:
		bad("address", "the path has %d octets: sockets have room for %d", len(path), maxSocketPath)
	}
	for _, name := range c.Protocols {
		if name != "tcp" && protocolOf(name) != nil {
			bad("protocols", "%q is not for a Unix-domain socket: leave out {protocols}, which makes it the stream of \"tcp\"", name)
		}
	}
	if len(c.ProxyProtocol) > 0 {
		bad("proxy_protocol", "is not for a Unix-domain socket, whose clients have no address")
	}
	if _, err := parseMode(c.SocketMode); err != nil {
		bad("socket_mode", "%w", err)
	}
}

// parseMode reads the permissions of a file, in octal.
func parseMode(text string) (os.FileMode, error) {
	if text == "" {
		text = DefaultSocketMode
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q are no permissions of a file: write them in octal, such as %q", text, DefaultSocketMode)
	}
	return os.FileMode(mode), nil
}

// parseOwner reads USER, USER:GROUP or :GROUP, names or numbers; -1 stands for what is not named.
func parseOwner(text string) (uid, gid int, err error) {
	uid, gid = -1, -1
	name, group, _ := strings.Cut(text, ":")
	if name != "" {
		if uid, err = strconv.Atoi(name); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return -1, -1, fmt.Errorf("socket_owner %q: %w", text, err)
			}
			uid, _ = strconv.Atoi(u.Uid) // they are numbers wherever there are such sockets
		}
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return -1, -1, fmt.Errorf("socket_owner %q: %w", text, err)
			}
			gid, _ = strconv.Atoi(g.Gid) // as above
		}
	}
	return uid, gid, nil
}

// socketFile is the file of a socket. While a listener takes over from another both hold it, and who lets go of it last removes it.
type socketFile struct {
	path string
	info os.FileInfo // what it was when it was made: another file with its name is somebody else's

	mu       sync.Mutex // guards following
	holders  int
	borrowed bool // another process has the socket as well, and the file is its own
}

func (f *socketFile) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holders++
}

func (f *socketFile) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holders--; f.holders > 0 || f.borrowed {
		return
	}
	if info, err := os.Lstat(f.path); err == nil && os.SameFile(info, f.info) {
		os.Remove(f.path)
	}
}

// permit gives the file at path its owner and permissions.
func (c Config) permit(path string) error {
	mode, err := parseMode(c.SocketMode)
	if err != nil {
		return err
	}
	uid, gid, err := parseOwner(c.SocketOwner)
	if err != nil {
		return err
	}
	if uid != -1 || gid != -1 {
		if err := os.Chown(path, uid, gid); err != nil {
			return fmt.Errorf("socket_owner %q: %w", c.SocketOwner, err)
		}
	}
	return os.Chmod(path, mode)
}

// bindUnix makes the socket, or takes that of the listener before this one, which is served on without a gap.
func (l *Listener) bindUnix() error {
	path := l.config.SocketPath()
	if before := l.env.Before; before != nil && before.file != nil && before.file.path == path {
		if err := l.config.permit(path); err != nil {
			return err
		}
		file, err := inherit.Duplicate(before.tcp)
		if err != nil {
			return err
		}
		if l.tcp, err = unixListener(file); err != nil {
			return err
		}
		l.file = before.file
		l.file.hold()
		return nil
	}
	if ln := l.env.Inherited.Stream("unix", path); ln != nil {
		l.tcp = ln
		return l.adoptFile(path)
	}
	if err := inherit.ClearStale("unix", path); err != nil {
		return err
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd) //nolint:errcheck // the error above tells why
		return &os.PathError{Op: "bind", Path: path, Err: err}
	}
	info, err := os.Lstat(path)
	if err == nil {
		err = l.config.permit(path)
	}
	if err == nil { // nobody can connect before, so nobody can with the permissions that it was made with
		err = os.NewSyscallError("listen", syscall.Listen(fd, backlog))
	}
	if err != nil {
		syscall.Close(fd) //nolint:errcheck // the error above tells why
		os.Remove(path)
		return err
	}
	if l.tcp, err = unixListener(os.NewFile(uintptr(fd), path)); err != nil {
		os.Remove(path)
		return err
	}
	l.file = &socketFile{path: path, info: info, holders: 1}
	return nil
}

// adoptFile takes the file of an inherited socket, if it goes with the socket. Otherwise whoever made it sees to it, unless the configuration says who may use it.
func (l *Listener) adoptFile(path string) error {
	owned := l.env.Inherited.Owns(path)
	if owned || l.config.SocketMode != "" || l.config.SocketOwner != "" {
		if err := l.config.permit(path); err != nil {
			return err
		}
	}
	if !owned {
		return nil
	}
	info, err := os.Lstat(path)
	if err == nil {
		l.file = &socketFile{path: path, info: info, holders: 1, borrowed: true}
	}
	return err
}

// OwnFile says whether the file of the Unix-domain socket goes when the listener does. It does, unless the socket came from another process with its file, or goes to
// one. A listener without a file ignores it.
func (l *Listener) OwnFile(own bool) {
	if l.file == nil {
		return
	}
	l.file.mu.Lock()
	defer l.file.mu.Unlock()
	l.file.borrowed = !own
}

// unixListener makes a listener of the socket f, which it closes.
func unixListener(f *os.File) (inherit.Stream, error) {
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u := ln.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // socketFile sees to that
	return u, nil
}
