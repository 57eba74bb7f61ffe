package host

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/handover"
	"github.com/weirdns/weir/host/inherit"
)

// Inherit has Listen take sockets that are bound already, where their addresses are those of the configuration. What is not taken stays in from, and is the
// caller's to close. from may be nil.
func (s *Server) Inherit(from *inherit.Sockets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = from
}

// Files are those of the Unix-domain sockets that go with them: the other process need not see to them any more when this one has them.
func (s *Server) Files() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files()
}

func (s *Server) files() (all []string) {
	for _, l := range s.listeners {
		if path := l.listener.File(); path != "" {
			all = append(all, path)
		}
	}
	if s.handover != nil {
		all = append(all, s.handover.Path())
	}
	return all
}

// OwnFiles has the files of inherited Unix-domain sockets removed in the end. It is called when the process that they were inherited from has let go of them; until
// then they stay, whatever becomes of this one.
func (s *Server) OwnFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.listener.OwnFile(true)
	}
	if s.handover != nil {
		s.handover.OwnFile()
	}
}

// OnHandOver has f called when another process has taken over, before that process is told. It is called before Run.
func (s *Server) OnHandOver(f func(pid int)) { s.onHandOver = f }

// listenHandover binds the socket at which other processes ask for those of this one, if the configuration has one.
func (s *Server) listenHandover() (err error) {
	f := s.current.file
	if f.Process.Handover == "" {
		return nil
	}
	if s.handover, err = handover.Listen(f.Process.Handover, s.inherited, s.log); err != nil {
		return errors.Join(config.Errors{f.Error("process.handover", err.Error())}, s.unlisten())
	}
	return nil
}

// isHandedOver reports whether another process has the sockets.
func (s *Server) isHandedOver() bool {
	select {
	case <-s.handedOver:
		return true
	default:
		return false
	}
}

// predecessor hands a server over. Between Offer and what follows it holds the server's lock, so that no reload changes the sockets meanwhile.
type predecessor struct{ *Server }

var _ handover.Process = predecessor{}

// Offer implements handover.Process.
func (s predecessor) Offer(ctx context.Context) (o handover.Offer, err error) {
	s.mu.Lock()
	offered := false
	defer func() {
		if !offered {
			s.mu.Unlock()
		}
	}()
	if s.running == nil {
		return o, errors.New("it is stopping")
	}
	s.current.save(ctx, s.guard("snapshots")) // for the new process to begin with
	o.Files = s.files()
	o.Sockets, err = s.duplicates()
	offered = err == nil
	return o, err
}

// Commit implements handover.Process.
func (s predecessor) Commit(pid int, kept []string) {
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.listener.HandOver(kept)
	}
	s.running = nil // there is no reload any more
	s.log.Info("handed over: another process serves, and this one answers what is in flight", "process", pid)
	if s.onHandOver != nil {
		s.onHandOver(pid)
	}
	close(s.handedOver)
}

// Abandon implements handover.Process.
func (s predecessor) Abandon() { s.mu.Unlock() }

// duplicates are those of all sockets that clients reach, and of the one for handing over.
func (s *Server) duplicates() (files []*os.File, err error) {
	conns := []syscall.Conn{s.handover.Socket()}
	if s.admin != nil {
		conns = append(conns, s.admin.Socket())
	}
	for _, l := range s.listeners {
		conns = append(conns, l.listener.Sockets()...)
	}
	for _, c := range conns {
		f, err := inherit.Duplicate(c)
		if err != nil {
			for _, f := range files {
				_ = f.Close() // a duplicate: the socket stays open
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
