package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/weirdns/weir/host/inherit"
	"github.com/weirdns/weir/host/rescue"
)

// Server is the socket at which a process that serves can be asked to hand over.
type Server struct {
	path     string
	log      *slog.Logger
	listener *net.UnixListener
	info     os.FileInfo // of the file when it was made, or taken over
	borrowed bool        // the file is another process's
}

// Offer is what is handed over.
type Offer struct {
	// Sockets are duplicates, which the Server closes.
	Sockets []*os.File
	// Files are those of Unix-domain sockets among them that go with the sockets.
	Files []string
}

// Process is what hands its sockets over.
type Process interface {
	// Offer is called when a new process asks. From then on nothing changes about the sockets, until one of the others is called. An error is told to the new process.
	Offer(ctx context.Context) (Offer, error)
	// Commit is called when the process pid is ready. kept are the files that it sees to from now on.
	Commit(pid int, kept []string)
	// Abandon is called when it will not be.
	Abandon()
}

// Listen binds the socket at path, with permissions for this user alone, or takes it from inherited, which may be nil. A file that a dead process left is replaced.
func Listen(path string, inherited *inherit.Sockets, log *slog.Logger) (*Server, error) {
	s := &Server{path: path, log: log}
	if ln := inherited.Stream("unixpacket", path); ln != nil {
		s.listener, s.borrowed = ln.(*net.UnixListener), true
	} else {
		if err := inherit.ClearStale("unixpacket", path); err != nil {
			return nil, err
		}
		ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			return nil, err
		}
		s.listener = ln
	}
	s.listener.SetUnlinkOnClose(false)
	err := os.Chmod(path, 0o600) // whoever was faster is asked who it is
	if err == nil {
		s.info, err = os.Lstat(path)
	}
	if err != nil {
		s.listener.Close() //nolint:errcheck // the error above tells why
		return nil, err
	}
	return s, nil
}

// OwnFile says that the file goes in the end, though the socket was inherited. It is called before Serve.
func (s *Server) OwnFile() { s.borrowed = false }

// Socket is what is bound.
func (s *Server) Socket() syscall.Conn { return s.listener }

// Path is where.
func (s *Server) Path() string { return s.path }

// Serve waits for new processes, and hands over to them, one at a time, until one of them is ready or ctx is done. Then it closes the socket, and removes the file unless it is
// the new process's. A panic costs one of them its hand-over; guard tells of it.
func (s *Server) Serve(ctx context.Context, p Process, guard *rescue.Guard) {
	stop := context.AfterFunc(ctx, func() { s.listener.Close() }) //nolint:errcheck // which ends Accept
	defer stop()
	defer s.Close()
	for ctx.Err() == nil {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("hand-over: a connection can't be accepted", "error", err)
			select {
			case <-time.After(time.Second): // too many open files, as a rule
			case <-ctx.Done():
			}
			continue
		}
		taken := false
		guard.Survive(func() { taken = s.handOver(ctx, conn, p) })
		if taken {
			return
		}
	}
}

// handOver serves one connection, and reports whether a new process has taken over.
func (s *Server) handOver(ctx context.Context, conn *net.UnixConn, p Process) bool {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := channel{conn}
	pid := peer(conn)
	if err := trusted(conn, false); err != nil {
		s.log.Warn("hand-over: refused", "process", pid, "error", err)
		return false
	}
	if m, files, err := c.receive(helloTimeout); err != nil || !m.Hello {
		closeAll(files)
		if !errors.Is(err, io.EOF) { // somebody looked whether anybody is there
			s.log.Warn("hand-over: not a weir that asks for sockets", "process", pid, "error", err)
		}
		return false
	}
	s.log.Info("hand-over: a new process asks for the sockets", "process", pid)
	offer, err := p.Offer(ctx)
	open := err == nil // the offer: each is followed by Commit or Abandon, after a panic as well
	defer func() {
		if open {
			p.Abandon()
		}
	}()
	if err == nil {
		err = s.send(c, offer)
	} else {
		c.send(message{Error: err.Error()}, helloTimeout) //nolint:errcheck // it is logged here as well
		s.log.Warn("hand-over: nothing is handed over", "process", pid, "error", err)
		return false
	}
	var m message
	if err == nil {
		m, err = s.ready(c)
	}
	if err != nil {
		open = false
		p.Abandon()
		c.send(message{Error: err.Error()}, helloTimeout) //nolint:errcheck // if it can't be told, it never said that it is ready
		s.log.Warn("hand-over: the new process did not get ready: this one serves on", "process", pid, "error", err)
		return false
	}
	s.borrowed = s.borrowed || slices.Contains(m.Kept, s.path)
	open = false
	p.Commit(pid, m.Kept)
	c.send(message{Yours: true}, helloTimeout) //nolint:errcheck // it serves whether it hears this or not
	return true
}

// send sends the sockets, and closes them.
func (s *Server) send(c channel, o Offer) error {
	defer closeAll(o.Sockets)
	m := message{Sockets: len(o.Sockets), Files: o.Files}
	for at := 0; at < len(o.Sockets); at += perMessage {
		if err := c.send(m, helloTimeout, o.Sockets[at:min(at+perMessage, len(o.Sockets))]...); err != nil {
			return fmt.Errorf("send sockets: %w", err)
		}
		m.Files = nil
	}
	return nil
}

// ready waits until the new process says that it is.
func (s *Server) ready(c channel) (message, error) {
	m, files, err := c.receive(readyTimeout)
	closeAll(files)
	switch {
	case errors.Is(err, io.EOF):
		return m, errors.New("it ended, or gave up: its own log says why")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return m, fmt.Errorf("it took longer than %v", readyTimeout)
	case err == nil && !m.Ready:
		return m, errors.New("it said something else")
	}
	return m, err
}

// Close closes the socket, and removes its file unless it is a new process's. It is for a Server that is not served; Serve does the same in the end.
func (s *Server) Close() {
	s.listener.Close() //nolint:errcheck // it may have been closed
	if s.borrowed {
		return
	}
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		os.Remove(s.path)
	}
}
