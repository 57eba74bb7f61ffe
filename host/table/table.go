package table

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirdns/weir/abi"
)

// Table is a named data set. Its methods are safe for concurrent use.
//
//  1. [Open] reads the source as a whole. Nothing runs yet.
//  2. [Table.Run] watches the source until its context ends. When it changes, it is read anew; if all is well with it, it takes the place
//     of what there was, and else that stays.
//
// There is nothing to close: a table that is no more used is garbage.
type Table struct {
	name, kind, path, origin string
	hosts                    []string // the source, if path is empty
	limit                    int64
	log                      *slog.Logger

	snapshot          atomic.Pointer[Snapshot] // non-nil
	reloads, failures atomic.Uint64
	loaded            atomic.Int64 // Unix time in nanoseconds
	stale             atomic.Bool  // the source was refused the last time

	mu     sync.Mutex // guards following; held while the source is read
	files  []file     // that were read last, well or not
	failed bool       // the last time
}

// Stats are the figures of a table.
type Stats struct {
	Keys     int       // in the present snapshot
	Octets   int       // of memory that the snapshot takes
	Reloads  uint64    // how often the source was read anew and taken, since Open
	Failures uint64    // how often it was read anew and refused
	Loaded   time.Time // when the snapshot was read
}

// Open reads a table. Relative paths of c are relative to dir, or to the working directory if that is empty. log may be nil. An error says what is
// wrong in the source as "FILE:LINE: what is wrong: what would be right", or why the source can't be read.
func Open(name string, c Config, dir string, log *slog.Logger) (*Table, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	kind, path := c.kind()
	if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	t := &Table{name: name, kind: kind, path: path, origin: c.Origin, hosts: c.Hosts, limit: c.limit(), log: log.With("table", name)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(context.Background()); err != nil {
		return nil, err
	}
	return t, nil
}

// Name returns the name of the table in the configuration.
func (t *Table) Name() string { return t.name }

// Kind returns one of [abi.TableZone], [abi.TableNames], [abi.TablePrefixes] and [abi.TableHosts].
func (t *Table) Kind() string { return t.kind }

// Snapshot returns what is in the table now. It neither waits nor allocates.
func (t *Table) Snapshot() Snapshot { return *t.snapshot.Load() }

// Stats returns the figures of the table.
func (t *Table) Stats() Stats {
	s := t.Snapshot()
	return Stats{
		Keys:     s.Len(),
		Octets:   s.(interface{ octets() int }).octets(),
		Reloads:  t.reloads.Load(),
		Failures: t.failures.Load(),
		Loaded:   time.Unix(0, t.loaded.Load()),
	}
}

// Stale reports whether the source was refused the last time it was read, so that an older snapshot is in force.
func (t *Table) Stale() bool { return t.stale.Load() }

// Reload reads the source anew, whether or not it changed. An error is like one of [Open]; the snapshot stays then.
func (t *Table) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reload(context.Background())
}

// Refresh reads the source anew if it changed since it was read last, or was refused then. An error is like one of [Open]; the snapshot stays then.
func (t *Table) Refresh() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.failed && !slices.ContainsFunc(t.files, file.changed) {
		return nil
	}
	return t.reload(context.Background())
}

// reload reads the source anew, with t.mu held.
func (t *Table) reload(ctx context.Context) error {
	begin := time.Now()
	err := t.load(ctx)
	switch {
	case err == nil:
		t.reloads.Add(1)
		t.log.Info("table reloaded", "keys", t.Snapshot().Len(), "took", time.Since(begin).Round(time.Millisecond))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // the end of Run says nothing about the source
	default:
		t.failures.Add(1)
		t.log.Error("table not reloaded: what was read before stays in force", "error", err)
	}
	return err
}

// load reads the source and takes it, with t.mu held.
func (t *Table) load(ctx context.Context) error {
	t.failed = true // and stale, if a panic ends it
	defer func() { t.stale.Store(t.failed && ctx.Err() == nil) }()
	var s Snapshot
	var list file
	var files []file
	if t.path != "" {
		list = look(t.path)
		files = append(files, list)
	}
	var err error
	switch t.kind { // a nil pointer in s would not matter: it is not taken
	case abi.TableNames:
		s, err = loadNames(ctx, list, t.limit)
	case abi.TablePrefixes:
		s, err = loadPrefixes(ctx, list, t.limit)
	case abi.TableHosts:
		s, err = loadHosts(ctx, list, t.hosts, t.limit)
	default:
		s, files, err = loadZone(ctx, t.path, t.origin, t.limit, t.apex())
	}
	t.files, t.failed = files, err != nil
	if err != nil {
		return err
	}
	t.snapshot.Store(&s)
	t.loaded.Store(time.Now().UnixNano())
	if s.(interface{ octets() int }).octets() >= largeTable {
		debug.FreeOSMemory()
	}
	return nil
}

// largeTable is the size in octets from which on it is worth a run of the collector to give back at once what reading the source took, which is some
// times as much as the table: it would be this process's until the heap has grown as far again.
const largeTable = 16 << 20

// apex returns the apex of the zone, which filters and configurations lean on, so that it stays the same; nil before there is one.
func (t *Table) apex() []byte {
	if t.snapshot.Load() == nil {
		return nil
	}
	apex, _, _ := t.Snapshot().Next(nil)
	return apex
}
