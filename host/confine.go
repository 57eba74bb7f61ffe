package host

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/sandbox"
)

// Confine has the process, for good, give up what weir doesn't need of the system, unless the configuration says sandbox = false. It is called between
// Listen and Run, and logs what holds in one line. What it can't have is left out: weir runs anywhere.
func (s *Server) Confine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.current.file
	if !f.Process.Sandbox {
		s.log.Info("not confined: the configuration says sandbox = false")
		return
	}
	r := sandbox.Apply(s.paths(f))
	s.sandbox = r
	lines := []any{"no_new_privs", r.Privileges, "capabilities", r.Capabilities, "files", r.Files, "system_calls", r.SystemCalls}
	if r.Err != nil {
		s.log.Warn("confined in part", append(lines, "error", r.Err)...)
		return
	}
	s.log.Info("confined", lines...)
}

// paths are the files that weir opens while it serves f.
func (s *Server) paths(f *config.File) (p sandbox.Paths) {
	for _, path := range f.Paths() {
		p.Add(path)
	}
	if dir, temporary := s.runtime.CacheDir(); dir != "" {
		p.Write = append(p.Write, dir)
		if temporary {
			p.Remove = append(p.Remove, filepath.Dir(dir))
		}
	}
	for _, c := range f.Caches {
		if c.Config.Snapshot != "" {
			p.Write = append(p.Write, c.Config.Snapshot)
		}
	}
	for _, l := range f.Listeners {
		if path := l.SocketPath(); path != "" {
			p.Sockets = append(p.Sockets, filepath.Dir(path))
		}
	}
	if f.Process.Handover != "" {
		p.Sockets = append(p.Sockets, filepath.Dir(f.Process.Handover))
	}
	if f.Log.QueryFile != "" {
		p.Append = append(p.Append, sandbox.Place(f.Log.QueryFile))
	}
	return p
}

// outside reports files of a new configuration that weir can't open any more.
func (s *Server) outside(f *config.File) error {
	var errs config.Errors
	for _, path := range f.Paths() {
		if !s.sandbox.Allows(path) {
			errs = append(errs, f.Error("process.sandbox", fmt.Sprintf(
				"%s is outside of the directories that weir may read since it started, which are those of what the configuration named then: restart weir, move the file to %s, or start weir with sandbox = false",
				path, strings.TrimSuffix(filepath.Clean(f.Dir), "/")+"/")))
		}
	}
	return errs.Err()
}
