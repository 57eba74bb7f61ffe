package host

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/weirdns/weir/host/config"
)

// ErrNotServing is what Reload returns before Run and after it.
var ErrNotServing = errors.New("not serving: there is nothing to reload")

// Reload puts the configuration f in the place of the present one: it builds a generation beside the present one, checks it, binds new
// sockets, and leads queries into it from then on; each is answered by one generation alone. Then it waits for the last query in the old
// generation, and ends what is not needed any more. What both have the same stays as it is: listeners with their connections, upstreams
// with theirs, caches with what they hold, tables, filters.
//
// When anything is wrong with f, nothing changes, and the error says what; mistakes in the file are [config.Errors]. There is one reload at a
// time, and ctx ends it as long as it has not taken effect. Tables follow their files whatever becomes of the reload.
func (s *Server) Reload(ctx context.Context, f *config.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return ErrNotServing
	}
	old := s.current
	err := s.reload(ctx, f)
	if err != nil {
		s.metrics.reloads.WithLabelValues("refused").Inc()
		return err
	}
	s.metrics.reloads.WithLabelValues("ok").Inc()
	s.metrics.reloaded(s.current.number, time.Now())
	s.log.Info("reloaded", "generation", s.current.number, "parts", len(s.current.parts), "kept", kept(old, s.current))
	return nil
}

func (s *Server) reload(ctx context.Context, f *config.File) error {
	old := s.current
	if err := restartOnly(old.file, f); err != nil {
		return err
	}
	if err := s.outside(f); err != nil {
		return err
	}
	g, err := s.build(ctx, f, old)
	if err != nil {
		return err
	}
	listeners, err := s.bind(ctx, g, s.listeners)
	if err != nil {
		g.discard()
		g.forget(old)
		return err
	}
	// From here on nothing can fail.
	gone := slices.DeleteFunc(slices.Clone(s.listeners), func(l *listening) bool { return slices.Contains(listeners, l) })
	g.hold()
	s.current, s.listeners = g, listeners
	s.lameduck.Store(int64(f.Lameduck))
	s.present.Store(g)
	for i, l := range listeners {
		l.entry.way.Store(&way{g.doors[i], &g.users})
	}
	s.startAll()
	var stopping sync.WaitGroup
	for _, l := range gone {
		stopping.Go(l.stop)
	}
	stopping.Wait()
	retire(&old.users)
	old.release()
	old.forget(g)
	return nil
}

// restartOnly reports settings that only count at the start.
func restartOnly(old, f *config.File) error {
	var errs config.Errors
	for _, setting := range []struct {
		path    string
		changed bool
	}{
		{"admin", !reflect.DeepEqual(old.Admin, f.Admin)},
		{"process.sandbox", old.Process.Sandbox != f.Process.Sandbox},
		{"process.handover", old.Process.Handover != f.Process.Handover},
		{"wasm.cache_dir", old.Wasm != f.Wasm},
		{"log.queries", old.Log.Queries != f.Log.Queries || old.Log.QueryFormat != f.Log.QueryFormat || old.Log.QueryFile != f.Log.QueryFile},
		{"log.format", old.Log.Format != f.Log.Format},
	} {
		if setting.changed {
			errs = append(errs, f.Error(setting.path, "is another one now, which needs a restart: restart weir, or put back what was there"))
		}
	}
	return errs.Err()
}

// drainInterval is how often it is looked whether the last query has left a generation.
const drainInterval = 5 * time.Millisecond

// retire waits until nobody uses a generation into which nothing leads any more. Queries have deadlines, so that is bounded.
func retire(u *users) {
	if u.none() {
		return
	}
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	for !u.none() {
		<-tick.C
	}
}

// kept counts the parts that two generations share.
func kept(old, g *generation) (n int) {
	for _, p := range g.parts {
		if slices.Contains(old.parts, p) {
			n++
		}
	}
	return n
}
