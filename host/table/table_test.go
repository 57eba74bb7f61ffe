package table

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/weirdns/weir/abi"
)

// replace puts a file in the place of another, as editors do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// zoneOf returns a zone with n names, so that each n has another size.
func zoneOf(n int) string {
	var text strings.Builder
	text.WriteString(soa)
	for i := range n {
		fmt.Fprintf(&text, "a%d 1 A 192.0.2.1\n", i)
	}
	return text.String()
}

// fakeDirs stands for a watcher of directories.
type fakeDirs struct{ dirs map[string]bool }

func (d *fakeDirs) Add(path string) error    { d.dirs[path] = true; return nil }
func (d *fakeDirs) Remove(path string) error { delete(d.dirs, path); return nil }
func (d *fakeDirs) WatchList() (list []string) {
	for dir := range d.dirs {
		list = append(list, dir)
	}
	return list
}

// watched is a table in a bubble of synctest with a watch that gets events from the test.
type watched struct {
	*Table
	path   string
	log    bytes.Buffer
	events chan fsnotify.Event
	errors chan error
	poll   chan time.Time
	dirs   *fakeDirs
	checks int
}

func watchIn(t *testing.T, dir string) *watched {
	t.Helper()
	w := &watched{path: filepath.Join(dir, "z"), events: make(chan fsnotify.Event), errors: make(chan error), poll: make(chan time.Time),
		dirs: &fakeDirs{map[string]bool{}}}
	var err error
	if w.Table, err = Open("corp", Config{Zonefile: "z", Origin: "example"}, dir, slog.New(slog.NewTextHandler(&w.log, nil))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&watch{table: w.Table, dirs: w.dirs, events: w.events, errors: w.errors, poll: w.poll, checked: func() { w.checks++ }}).run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return w
}

func (w *watched) event(name string, op fsnotify.Op) {
	w.events <- fsnotify.Event{Name: filepath.Join(filepath.Dir(w.path), name), Op: op}
	synctest.Wait()
}

func TestWatch(t *testing.T) {
	dir := write(t, map[string]string{"z": zoneOf(1)})
	synctest.Test(t, func(t *testing.T) {
		w := watchIn(t, dir)
		want := func(step string, keys int, reloads, failures uint64) {
			t.Helper()
			if s := w.Stats(); s.Keys != keys || s.Reloads != reloads || s.Failures != failures {
				t.Errorf("%s: %d keys, %d reloads, %d failures, want %d, %d, %d", step, s.Keys, s.Reloads, s.Failures, keys, reloads, failures)
			}
		}
		advance := func(d time.Duration) {
			timer := time.NewTimer(d)
			<-timer.C
			synctest.Wait()
		}
		if !w.dirs.dirs[dir] {
			t.Errorf("watched directories %v, want %s", w.dirs.dirs, dir)
		}
		want("at first", 2, 0, 0)

		replace(t, w.path, zoneOf(2))
		w.event("z", fsnotify.Create)
		advance(settle - 1)
		want("not settled", 2, 0, 0)
		advance(1)
		want("settled", 3, 1, 0)
		if age := time.Since(w.Stats().Loaded); age != 0 {
			t.Errorf("age %v, want 0", age)
		}

		w.event("other", fsnotify.Write)
		advance(settle)
		want("another file of the directory", 3, 1, 0)
		w.event("z", fsnotify.Chmod)
		advance(settle)
		want("attributes", 3, 1, 0)
		w.event("z", fsnotify.Write)
		advance(settle)
		want("written with the same size and time", 3, 2, 0)

		replace(t, w.path, zoneOf(3))
		begin := time.Now()
		for w.Stats().Reloads == 2 && time.Since(begin) < time.Second { // somebody writes on and on
			w.event("z", fsnotify.Write)
			advance(settle / 2)
		}
		if took := time.Since(begin); took > settleMost {
			t.Errorf("in force after %v, want at most %v", took, settleMost)
		}
		want("without rest", 4, 3, 0)
		advance(time.Second)
		reloads := w.Stats().Reloads

		w.log.Reset()
		replace(t, w.path, zoneOf(4)+"bad")
		w.event("z", fsnotify.Create)
		advance(settle)
		want("broken", 4, reloads, 1)
		if got := w.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "table=corp") ||
			!strings.Contains(got, w.path+":6: ") {
			t.Errorf("log %q, want one error with the line", got)
		}
		w.poll <- time.Now()
		synctest.Wait()
		want("still broken", 4, reloads, 1)

		replace(t, w.path, "$ORIGIN other.\n"+zoneOf(5))
		w.event("z", fsnotify.Create)
		advance(settle)
		want("another apex", 4, reloads, 2)
		if text := w.path + ":2: the zone is other. now, and was example.: undo that, or reload the configuration"; !strings.Contains(w.log.String(), text) {
			t.Errorf("log %q, want %q", w.log.String(), text)
		}

		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		w.event("z", fsnotify.Remove)
		advance(settle)
		want("gone", 4, reloads, 3)
		w.poll <- time.Now()
		synctest.Wait()
		want("still gone", 4, reloads, 3)

		replace(t, w.path, zoneOf(6))
		w.poll <- time.Now() // no event
		synctest.Wait()
		want("back", 7, reloads+1, 3)

		replace(t, w.path, zoneOf(7))
		w.errors <- fsnotify.ErrEventOverflow
		synctest.Wait()
		want("events lost", 8, reloads+2, 3)

		close(w.events)
		close(w.errors)
		synctest.Wait()
		replace(t, w.path, zoneOf(8))
		w.poll <- time.Now()
		synctest.Wait()
		want("without a watcher", 9, reloads+3, 3)
	})
}

// TestWatchIncludes has a zone whose included file changes, and is in another directory.
func TestWatchIncludes(t *testing.T) {
	dir := write(t, map[string]string{"z": soa + "$INCLUDE sub/more\n", "sub/more": "a 1 A 192.0.2.1\n"})
	synctest.Test(t, func(t *testing.T) {
		w := watchIn(t, dir)
		sub := filepath.Join(dir, "sub")
		if !w.dirs.dirs[sub] {
			t.Errorf("watched directories %v, want %s", w.dirs.dirs, sub)
		}
		replace(t, filepath.Join(sub, "more"), "a 1 A 192.0.2.1\nb 1 A 192.0.2.1\n")
		w.poll <- time.Now()
		synctest.Wait()
		if got := w.Snapshot().Len(); got != 3 {
			t.Errorf("%d keys, want 3", got)
		}
		replace(t, w.path, soa)
		w.poll <- time.Now()
		synctest.Wait()
		if got := w.Snapshot().Len(); got != 1 || w.dirs.dirs[sub] {
			t.Errorf("%d keys, watched directories %v, want 1 and not %s", got, w.dirs.dirs, sub)
		}
	})
}

// TestWatchLinks changes a file as Kubernetes changes a ConfigMap, with the events of the kernel: the file is a link into ..data, which is
// a link to a directory, and is replaced by another one.
func TestWatchLinks(t *testing.T) {
	dir := write(t, map[string]string{"..1/z": zoneOf(1), "..2/z": zoneOf(2)})
	for link, target := range map[string]string{"..data": "..1", "z": "..data/z", "..new": "..2"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	table := open(t, Config{Zonefile: "z", Origin: "example"}, dir)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Skip("no events here:", err)
	}
	defer watcher.Close()
	ctx, cancel := context.WithCancel(t.Context())
	checked, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		(&watch{table: table, dirs: watcher, events: watcher.Events, errors: watcher.Errors, checked: func() {
			select {
			case checked <- struct{}{}:
			case <-ctx.Done():
			}
		}}).run(ctx)
	}()
	<-checked
	if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for table.Stats().Reloads == 0 {
		<-checked
	}
	if got := table.Snapshot().Len(); got != 3 {
		t.Errorf("%d keys after the links changed, want 3", got)
	}
	reloads := table.Stats().Reloads
	if err := os.WriteFile(filepath.Join(dir, "..2", "z"), []byte(zoneOf(5)), 0o644); err != nil { // in place, behind the links
		t.Fatal(err)
	}
	for table.Stats().Reloads == reloads || table.Snapshot().Len() != 6 {
		<-checked
	}
	cancel()
	<-done
}

func TestRun(t *testing.T) {
	table := open(t, Config{Names: "n"}, write(t, map[string]string{"n": "a\n"}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil when its context ends", err)
	}
	if s := table.Stats(); s.Octets == 0 || s.Reloads != 0 || s.Failures != 0 || s.Loaded.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestReload(t *testing.T) {
	dir := write(t, map[string]string{"n": "a x\n"})
	table := open(t, Config{Names: "n"}, dir)
	before := table.Snapshot()
	replace(t, filepath.Join(dir, "n"), "a y\nb\n")
	if err := table.Reload(); err != nil {
		t.Fatal(err)
	}
	value, _ := table.Snapshot().Get(wire(t, "a"))
	if old, _ := before.Get(wire(t, "a")); string(value) != "y" || string(old) != "x" {
		t.Errorf("values %q now and %q before, want y and x", value, old)
	}
	replace(t, filepath.Join(dir, "n"), "a..b\n")
	if err := table.Reload(); err == nil || table.Snapshot().Len() != 2 || table.Stats().Failures != 1 {
		t.Errorf("Reload = %v, %+v, want an error and what was there", err, table.Stats())
	}
}

// TestOpenRefuses opens what isn't a regular file, or isn't there.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []Config{{}, {Zonefile: "no"}, {Names: "no"}, {Prefixes: "no"}, {Zonefile: "."}, {Names: "."}} {
		if _, err := Open("x", c, dir, nil); err == nil {
			t.Errorf("Open(%+v): taken", c)
		}
	}
}

// TestHammer reads while the table is reloaded: each snapshot is one or the other zone, as a whole.
func TestHammer(t *testing.T) {
	dir := write(t, map[string]string{"z": soa})
	path := filepath.Join(dir, "z")
	text := func(octet int) string {
		return soa + fmt.Sprintf("a 1 A 192.0.2.%d\nb.b 1 A 192.0.2.%[1]d\n*.c 1 A 192.0.2.%[1]d\n", octet)
	}
	replace(t, path, text(1))
	table := open(t, Config{Zonefile: "z", Origin: "example"}, dir)
	names := [][]byte{wire(t, "a.example"), wire(t, "b.b.example"), wire(t, "*.c.example")}
	address := func(s Snapshot, name []byte) byte {
		_, value, ok := s.Longest(name)
		if !ok {
			return 0
		}
		_, sets, err := abi.ParseNode(value)
		if err != nil || len(sets) != 1 {
			return 0
		}
		return sets[0].Data[0][3]
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := table.Snapshot()
				first := address(s, names[0])
				for _, name := range names {
					if got := address(s, name); got == 0 || got != first {
						t.Errorf("one snapshot has 192.0.2.%d and 192.0.2.%d", first, got)
						return
					}
				}
				table.Stats()
			}
		})
	}
	for i := range 100 {
		replace(t, path, text(1+i%250))
		if err := table.Reload(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
	if got := address(table.Snapshot(), names[0]); got != 100 {
		t.Errorf("192.0.2.%d at last, want 100", got)
	}
}
