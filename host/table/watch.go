package table

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long nothing must happen before a changed source is read: tools write a file in several steps.
	settle = 20 * time.Millisecond
	// settleMost is how long that may go on: an edit should be in force before somebody looks.
	settleMost = 100 * time.Millisecond
	// pollInterval is how often the files are looked at anyway: network file systems and deleted directories give no events.
	pollInterval = 5 * time.Second
)

// Run watches the files of the source until ctx ends, and returns nil then. It watches their directories, since editors and Kubernetes put
// new files and links in the place of old ones.
func (t *Table) Run(ctx context.Context) error {
	if t.path == "" { // the source is in the configuration
		<-ctx.Done()
		return nil
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	w := &watch{table: t, poll: poll.C}
	if watcher, err := fsnotify.NewWatcher(); err != nil {
		t.log.Warn("table is looked at every few seconds only", "interval", pollInterval, "error", err)
	} else {
		defer watcher.Close()
		w.dirs, w.events, w.errors = watcher, watcher.Events, watcher.Errors
	}
	w.run(ctx)
	return nil
}

// watch is one run of [Table.Run]; tests give it other channels.
type watch struct {
	table  *Table
	dirs   directories // nil without events
	events <-chan fsnotify.Event
	errors <-chan error
	poll   <-chan time.Time
	names  []string // of files that an event may be about, as they are and with links followed

	checked func() // for tests: called after each check; may be nil
}

// directories is the part of [fsnotify.Watcher] that sets what is watched.
type directories interface {
	Add(path string) error
	Remove(path string) error
	WatchList() []string
}

func (w *watch) run(ctx context.Context) {
	w.follow()
	w.check(ctx, false) // what happened before
	var (
		timer  <-chan time.Time // runs while there is something to check
		latest time.Time        // when it is checked whatever happens
		force  bool
	)
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.events:
			if !ok {
				w.events = nil
				continue
			}
			force = force || w.concerns(e)
			if timer == nil {
				latest = time.Now().Add(settleMost)
			}
			timer = time.After(min(settle, time.Until(latest)))
			continue
		case _, ok := <-w.errors: // events were lost, so look
			if !ok {
				w.errors = nil
				continue
			}
		case <-timer:
		case <-w.poll:
		}
		w.check(ctx, force)
		timer, force = nil, false
	}
}

// concerns reports whether an event is surely about a file of the source. Then it is read even if it looks the same, as it does when it is
// written twice within the resolution of its time. An event about attributes may mean that it can be read now.
func (w *watch) concerns(e fsnotify.Event) bool {
	return slices.Contains(w.names, filepath.Clean(e.Name)) && (e.Op != fsnotify.Chmod || w.table.hasFailed())
}

// check reads the source if it changed, or in any case.
func (w *watch) check(ctx context.Context, force bool) {
	w.table.check(ctx, force)
	w.follow() // links may lead elsewhere, and other files be included
	if w.checked != nil {
		w.checked()
	}
}

// check reads the source if it changed, or in any case.
func (t *Table) check(ctx context.Context, force bool) {
	t.mu.Lock()
	defer t.mu.Unlock() // after a panic as well, for then Run is called again
	if force || slices.ContainsFunc(t.files, file.changed) {
		_ = t.reload(ctx) // it is in the log
	}
}

// follow watches the directories of all files, and those that links lead to.
func (w *watch) follow() {
	if w.dirs == nil {
		return
	}
	w.names = w.names[:0]
	var want []string
	add := func(path string) {
		w.names = append(w.names, path)
		if dir := filepath.Dir(path); !slices.Contains(want, dir) {
			want = append(want, dir)
		}
	}
	for _, f := range w.table.read() {
		add(filepath.Clean(f.path))
		if target, err := filepath.EvalSymlinks(f.path); err == nil {
			add(target)
		}
	}
	have := w.dirs.WatchList()
	for _, dir := range want {
		if !slices.Contains(have, dir) {
			_ = w.dirs.Add(dir) // if there is none, the poll will tell when there is
		}
	}
	for _, dir := range have {
		if !slices.Contains(want, dir) {
			_ = w.dirs.Remove(dir) // it may be gone
		}
	}
}

// read is which files were read the last time. The slice is not changed any more.
func (t *Table) read() []file {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.files
}

// hasFailed reports whether the source was refused the last time.
func (t *Table) hasFailed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}
