package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/weirdns/weir/host/config"
)

// Follow reloads whenever told, and, with watch in the configuration, when its file or the module of a filter changed; until ctx is done. load reads
// the file. tick says when to look at files: a change counts when it is still the same at the next tick, since editors write in several
// steps. reloaded, if not nil, is called after each try.
func (s *Server) Follow(ctx context.Context, load func() (*config.File, error), told <-chan os.Signal, tick <-chan time.Time, reloaded func(*config.File, error)) {
	seen := look(s.file())
	before := seen
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-tick:
			f := s.file()
			if !f.Watch {
				continue
			}
			now := look(f)
			settled := now.same(before)
			before = now
			if !settled || now.same(seen) {
				continue
			}
			s.log.Info("the configuration changed")
		}
		seen = look(s.file())
		f, err := load()
		if err == nil {
			err = s.Reload(ctx, f)
		}
		if err == nil {
			seen = look(f) // it may have other modules
			for _, w := range f.Warnings {
				s.log.Warn(w.Error())
			}
		} else if !errors.Is(err, context.Canceled) {
			s.refused(err)
		}
		before = seen
		if reloaded != nil {
			reloaded(f, err)
		}
	}
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
