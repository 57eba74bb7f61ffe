package host

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/weirdns/weir/host/change"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/rescue"
)

// Follow reloads whenever told, and, with watch in the configuration, when its file or the module of a filter changed; it begins when s serves, and ends with
// ctx. load reads the file. tick says when to look at files. reloaded, if not nil, is called after each try.
func (s *Server) Follow(ctx context.Context, load func() (*config.File, error), told <-chan os.Signal, tick <-chan time.Time, reloaded func(*config.File, error)) {
	select {
	case <-ctx.Done():
		return
	case <-s.serving: // what was told before waits in its channel
	}
	guard := s.guard("reload")
	var files change.Files
	files.Take(watched(s.file())...)
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-tick:
			f := s.file()
			if !f.Watch || !files.Settled(watched(f)...) {
				continue
			}
			s.log.Info("the configuration changed")
		}
		files.Take(watched(s.file())...)
		f, err := s.follow(ctx, load, guard)
		if err == nil {
			files.Take(watched(f)...) // it may have other modules
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

// follow reads the file and reloads. A panic on the way is a refusal: what was made before it has not begun to run.
func (s *Server) follow(ctx context.Context, load func() (*config.File, error), guard *rescue.Guard) (f *config.File, err error) {
	reloading := false // which counts how it ends
	returned := guard.Survive(func() {
		if f, err = load(); err == nil {
			reloading = true
			err = s.Reload(ctx, f)
		}
	})
	if !returned {
		err = errPanic
	}
	if err != nil && !(reloading && returned) {
		s.metrics.reloads.WithLabelValues("refused").Inc()
	}
	return f, err
}

var errPanic = errors.New("a panic, which the log tells of")

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

// watched are the files whose change is one of the configuration: its own, and the modules.
func watched(f *config.File) []string {
	paths := []string{f.Path}
	for _, c := range f.Filters {
		if strings.HasSuffix(c.Config.Module, ".wasm") {
			paths = append(paths, c.Config.Module)
		}
	}
	return paths
}
