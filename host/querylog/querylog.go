// Package querylog writes a line for each query, to a file or to standard output, and keeps nobody waiting for it.
//
//	listener ─► Add ─► ring of fixed size ─► Run: a line each ─► file
//
// Add copies what is known of the query into the next free place of a ring. It takes no lock and allocates nothing; when the ring is full, since the
// file takes its time, the query is not logged but counted. One goroutine makes the lines and writes many at a time.
//
// Rotation is left to others: they rename the file, and [Log.Reopen] begins a new one.
package querylog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirdns/weir/host/message"
	"github.com/weirdns/weir/host/rescue"
)

// Formats of a line.
const (
	// JSON is an object a line, with the fields that format.go lists.
	JSON = "json"
	// CoreDNS is the line of the plugin log of CoreDNS, for the tools that read it.
	CoreDNS = "coredns"
)

// Entry is what is known of a query when its response has been made.
type Entry struct {
	Time      time.Time // when the response was made
	Client    netip.AddrPort
	Transport message.Transport
	ID        uint16
	Type      uint16
	Class     uint16
	DO        bool
	UDPSize   uint16 // the client takes; 0 without EDNS
	Size      int    // octets of the query
	Took      time.Duration
	Chain     string // "" when it got into none
	Upstream  string // whose answer it is; "" none
	Cached    bool
	Dropped   bool   // there is no response, and what follows is zero
	RCODE     uint16 //
	Flags     uint16 // the second word of the response's header
	Response  int    // octets of the response
	EDE       uint16 // INFO-CODE of the first Extended DNS Error, or message.None

	name     [message.MaxName]byte
	nameSize int
}

// SetName copies the QNAME, in wire format; an empty one says that the query had none that could be read.
func (e *Entry) SetName(name []byte) { e.nameSize = copy(e.name[:], name) }

// Name is the QNAME in wire format.
func (e *Entry) Name() []byte { return e.name[:e.nameSize] }

const (
	// ringSize is 80 ms at 100,000 queries a second, and 3.5 MB.
	ringSize = 1 << 13
	// gather is how long lines may wait to be written with others: a system call for each would cost more than the query.
	gather = 20 * time.Millisecond
	// writeAt is how many octets are written at a time.
	writeAt = 64 << 10
	// lastWrite is how long Run waits, at its end, for a file that does not take the last lines.
	lastWrite = time.Second
)

// slot is a place in the ring. Its turn says whose it is, as in the bounded queue of Dmitry Vyukov: at turn n the writer of entry n may fill it, at n+1 the
// reader of entry n may read it, and it becomes n+ringSize for the next round.
type slot struct {
	turn  atomic.Uint64
	entry Entry
}

// Log is a log of queries. A nil Log is one that is off.
//
//  1. New makes it. Entries wait in the ring from now on.
//  2. Open opens the file.
//  3. Run writes, until its context ends and all that was added before is written, and closes the file.
type Log struct {
	path   string
	append func(dst []byte, e *Entry) []byte
	log    *slog.Logger
	ring   []slot
	reopen chan struct{}

	head    atomic.Uint64 // the next entry to be added
	_       [56]byte      // another cache line, since all add and one reads
	tail    uint64        // of Run
	out     io.WriteCloser
	idle    atomic.Bool // Run waits for wake
	wake    chan struct{}
	dropped atomic.Uint64

	written prometheus.Counter
	guard   rescue.Guard
}

// New makes a log with lines in the given format, JSON or CoreDNS. path is that of the file, empty for standard output. reg may be nil.
func New(path, format string, reg prometheus.Registerer, log *slog.Logger) *Log {
	l := &Log{path: path, append: appendJSON, log: log, ring: make([]slot, ringSize), wake: make(chan struct{}, 1), reopen: make(chan struct{}, 1)}
	if format == CoreDNS {
		l.append = appendCoreDNS
	}
	for i := range l.ring {
		l.ring[i].turn.Store(uint64(i))
	}
	l.written = prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_querylog_lines_total", Help: "Queries written to the log of queries."})
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_querylog_panics_total", Help: "Panics; each cost the line of a query at most."})
	l.guard.Log, l.guard.Count = log, panics
	if reg != nil {
		reg.MustRegister(l.written, panics, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "weir_querylog_dropped_total", Help: "Queries that are missing in the log of queries, since it did not take them in time.",
		}, func() float64 { return float64(l.dropped.Load()) }))
	}
	return l
}

// slot gives a place for entry n, or nil when there is none. Whoever gets it fills it and sets its turn to n+1 at once.
func (l *Log) slot() (*slot, uint64) {
	for {
		n := l.head.Load()
		s := &l.ring[n%ringSize]
		switch turn := s.turn.Load(); {
		case turn == n:
			if l.head.CompareAndSwap(n, n+1) {
				return s, n
			}
		case turn < n:
			return nil, 0 // the reader has not been there yet
		}
	}
}

// Add takes a query into the log, or counts it as missing. fill is called with a zero Entry, on the caller's goroutine. It never waits.
func (l *Log) Add(fill func(*Entry)) {
	s, n := l.slot()
	if s == nil {
		l.dropped.Add(1)
		return
	}
	fill(&s.entry)
	s.turn.Store(n + 1)
	if l.idle.Load() && l.idle.CompareAndSwap(true, false) {
		l.wake <- struct{}{} // has room: only who sets idle back sends
	}
}

// Reopen has Run close the file and open the one that is at the path now. It does not wait. Standard output stays what it is.
func (l *Log) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.reopen <- struct{}{}:
	default: // it is due anyway
	}
}

// Open opens the file, so that one that can't be written shows before anything is served. Run has to follow.
func (l *Log) Open() (err error) {
	l.out, err = l.open()
	return err
}

func (l *Log) open() (io.WriteCloser, error) {
	if l.path == "" {
		return keepOpen{os.Stdout}, nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log of queries: %w", err)
	}
	return f, nil
}

// keepOpen is standard output, which others may use.
type keepOpen struct{ io.Writer }

// Close does nothing.
func (keepOpen) Close() error { return nil }

// Run writes lines until ctx is done and everything is written that was added before. What goes wrong on the way is logged, and does not end it. When
// the file takes no lines any more, Run returns a second after ctx is done and leaves the goroutine that writes behind.
func (l *Log) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := &writer{out: l.out, log: l}
		l.guard.Keep(ctx, w.run)
	}()
	<-ctx.Done()
	select {
	case <-done:
	case <-time.After(lastWrite):
		l.log.Error("log of queries: the last lines were not taken in time", "path", l.path)
	}
}

// run writes until ctx is done, and closes the file then.
func (w *writer) run(ctx context.Context) {
	l := w.log
	tick := time.NewTimer(gather)
	defer tick.Stop()
	for {
		w.drain()
		select {
		case <-ctx.Done():
			w.drain()
			w.close()
			return
		case <-l.reopen:
			w.reopen()
		default:
		}
		l.idle.Store(true)
		if l.pending() { // added between drain and idle; whoever did it may not have seen idle
			if !l.idle.CompareAndSwap(true, false) {
				<-l.wake
			}
		} else {
			select {
			case <-l.wake:
			case <-l.reopen:
				if !l.idle.CompareAndSwap(true, false) {
					<-l.wake
				}
				w.reopen()
				continue
			case <-ctx.Done():
				if !l.idle.CompareAndSwap(true, false) {
					<-l.wake
				}
				continue
			}
		}
		tick.Reset(gather)
		select { // more may come
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// pending reports whether there is an entry to be read.
func (l *Log) pending() bool { return l.ring[l.tail%ringSize].turn.Load() == l.tail+1 }

// writer makes lines of entries and writes them.
type writer struct {
	log     *Log
	out     io.WriteCloser
	lines   []byte
	count   int
	dropped uint64 // that were told of
	failing bool   // the last write failed
}

// drain writes all entries that are there.
func (w *writer) drain() {
	l := w.log
	for l.pending() {
		l.guard.Survive(w.take)
		if len(w.lines) >= writeAt {
			w.flush()
		}
	}
	w.flush()
	if dropped := l.dropped.Load(); dropped != w.dropped {
		l.log.Warn("log of queries: it did not take all queries in time", "missing", dropped-w.dropped)
		w.dropped = dropped
	}
}

// take makes a line of the next entry, which is there. An entry that makes it panic is gone, and counted as missing.
func (w *writer) take() {
	l := w.log
	s := &l.ring[l.tail%ringSize]
	before := w.count
	defer func() {
		s.entry = Entry{}
		s.turn.Store(l.tail + ringSize)
		l.tail++
		if w.count == before {
			l.dropped.Add(1)
		}
	}()
	w.lines = l.append(w.lines, &s.entry)
	w.count++
}

func (w *writer) flush() {
	if w.count == 0 {
		return
	}
	_, err := w.out.Write(w.lines)
	switch {
	case err == nil:
		w.log.written.Add(float64(w.count))
		w.failing = false
	default:
		w.log.dropped.Add(uint64(w.count))
		w.dropped += uint64(w.count) // the error says it
		if !w.failing {
			w.log.log.Error("log of queries: lines are lost", "error", err)
		}
		w.failing = true
	}
	w.lines, w.count = w.lines[:0], 0
}

// reopen goes on in the file that is at the path now. If there can't be one, the old one is kept.
func (w *writer) reopen() {
	out, err := w.log.open()
	if err != nil {
		w.log.log.Error("log of queries: it goes on in the old file", "error", err)
		return
	}
	w.close()
	w.out = out
}

func (w *writer) close() {
	if err := w.out.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		w.log.log.Error("log of queries: lines may be lost", "error", err)
	}
}
