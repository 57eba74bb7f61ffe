package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/weirdns/weir/host/config"
)

// Follow reloads whenever told, and, with watch in the configuration, when its file or the module of a filter changed; it begins when s serves, and ends with
// ctx. load reads the file. tick says when to look at files. reloaded, if not nil, is called after each try.
func (s *Server) Follow(ctx context.Context, load func() (*config.File, error), told <-chan os.Signal, tick <-chan time.Time, reloaded func(*config.File, error)) {
	select {
	case <-ctx.Done():
		return
	case <-s.serving: // what was told before waits in its channel
	}
	c := newChange(s.file())
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-tick:
			f := s.file()
			if !f.Watch || !c.settled(f) {
				continue
			}
			s.log.Info("the configuration changed")
		}
		c.took(s.file()) // before it is read: what is written from now on is another change
		f, err := load()
		if err == nil {
			err = s.Reload(ctx, f)
		} else {
			s.metrics.reloads.WithLabelValues("refused").Inc()
		}
		if err == nil {
			c.took(f) // it may have other modules
			for _, w := range f.Warnings {
				s.log.Warn(w.Error())
			}
		} else if !errors.Is(err, context.Canceled) {
			s.refused(err)
		}
		if reloaded != nil {
			reloaded(f, err)
		}
	}
}

// change notices when the files of a configuration changed. It is told after a second look that finds them as the first did, since editors write
// in several steps.
type change struct{ taken, before files }

func newChange(f *config.File) *change {
	now := look(f)
	return &change{now, now}
}

// took notes that the files are read as they are now.
func (c *change) took(f *config.File) { c.taken, c.before = look(f), look(f) }

// settled reports whether they are others than those that were read, and as they were at the last call.
func (c *change) settled(f *config.File) bool {
	now := look(f)
	settled := now.same(c.before)
	c.before = now
	return settled && !now.same(c.taken)
}

// refused logs why a configuration was not taken, a line for each mistake.
func (s *Server) refused(err error) {
	number := s.number()
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		for _, m := range mistakes {
			s.log.Error("not reloaded: "+m.Error(), "serving", number)
		}
		return
	}
	s.log.Error("not reloaded: "+err.Error(), "serving", number)
}

func (s *Server) file() *config.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.file
}

func (s *Server) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.number
}

// files is how the files of a configuration looked at a time. Links are followed, for in Kubernetes a link to a directory is what changes.
type files []os.FileInfo

func look(f *config.File) files {
	paths := []string{f.Path}
	for _, c := range f.Filters {
		if strings.HasSuffix(c.Config.Module, ".wasm") {
			paths = append(paths, c.Config.Module)
		}
	}
	all := make(files, len(paths))
	for i, path := range paths {
		all[i], _ = os.Stat(path) // nil if there is none
	}
	return all
}

func (f files) same(g files) bool {
	if len(f) != len(g) {
		return false
	}
	for i, a := range f {
		b := g[i]
		switch {
		case a == nil || b == nil:
			if a != b {
				return false
			}
		case !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}
