package host

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirdns/weir/host/admin"
)

// sources are the pages of the admin server.
func (s *Server) sources() admin.Sources {
	return admin.Sources{Metrics: s.registry, Healthy: s.healthy, Ready: s.ready, Explain: s.Explain}
}

func (s *Server) healthy() error {
	if state := s.State(); state != Serving && state != LameDuck {
		return fmt.Errorf("not serving: %v", state)
	}
	return nil
}

// ready says whether the server should get queries. Problems that another instance would have as well, such as servers that are down, are warnings
// unless the operator says otherwise: see RATIONALE.md.
func (s *Server) ready() admin.Readiness {
	r := admin.Readiness{Reasons: []string{}, Warnings: []string{}}
	if state := s.State(); state != Serving { // a lame duck answers, and wants no more to come
		r.Reasons = append(r.Reasons, "not serving: "+state.String())
	}
	g := s.present.Load()
	found := func(kind, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if slices.Contains(g.file.Admin.NotReady, kind) {
			r.Reasons = append(r.Reasons, text)
		} else {
			r.Warnings = append(r.Warnings, text)
		}
	}
	for _, c := range g.file.Tables { // in the order of the file
		t := g.tables[c.Name].table
		if t.Stale() {
			found("tables", "table %s could not be read anew: what was read at %s is in force", t.Name(), t.Stats().Loaded.UTC().Format(time.RFC3339))
		}
	}
	for _, c := range g.file.Upstreams {
		u := g.groups[c.Name].group
		servers, down := u.Stats(), 0
		for _, s := range servers {
			if !s.Up {
				down++
			}
		}
		switch {
		case len(servers) == 0:
			found("upstreams", "upstream %s has no servers", u.Name())
		case down == len(servers):
			found("upstreams", "upstream %s: all %d servers are down", u.Name(), down)
		}
	}
	for _, f := range g.filters {
		if f.Quarantined() {
			found("filters", "filter %s is in quarantine: it kept failing", f.Name())
		}
	}
	r.Ready = len(r.Reasons) == 0
	return r
}
