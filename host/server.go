package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/weirdns/weir/host/admin"
	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/cookie"
	"github.com/weirdns/weir/host/handover"
	"github.com/weirdns/weir/host/inherit"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/querylog"
	"github.com/weirdns/weir/host/rescue"
	"github.com/weirdns/weir/host/sandbox"
	"github.com/weirdns/weir/host/upstream"
	"github.com/weirdns/weir/host/wasm"
)

// Server is a whole weir.
//
//  1. New builds and checks everything that the configuration says, short of opening sockets for clients.
//  2. Listen binds the sockets, so that a port in use shows before anything is served.
//  3. Run serves until its context is done, answers what is in flight, and returns when everything has ended.
//  4. Meanwhile, Reload puts another configuration in the place of the present one.
//  5. Close frees what is left. A server that was never run is closed too.
type Server struct {
	log        *slog.Logger
	runtime    *wasm.Runtime
	registry   *prometheus.Registry
	metrics    metrics
	admin      *admin.Server    // nil without [admin]
	handover   *handover.Server // nil without a path for it
	handedOver chan struct{}    // closed when another process has the sockets
	onHandOver func(pid int)    // told then, before the other process is; may be nil
	queries    *querylog.Log    // nil when queries are not logged
	state      atomic.Int32
	cookies    *cookie.Jar                          // of listeners without a secret of their own
	serving    chan struct{}                        // closed when Run serves
	lameduck   atomic.Int64                         // of the present configuration, in nanoseconds
	after      func(time.Duration) <-chan time.Time // time.After, but in tests
	present    atomic.Pointer[generation]           // current, for those who only look

	mu        sync.Mutex // one change at a time; guards following
	current   *generation
	listeners []*listening // in the order of the configuration
	running   context.Context
	sandbox   *sandbox.Report  // nil before Confine
	failed    chan error       // a listener that ended by itself
	inherited *inherit.Sockets // for Listen; nil afterwards
}

// listening is a listener, and what it was made from.
type listening struct {
	config   listener.Config // without chain and scopes but for their paths: those are the entry's
	budget   time.Duration
	drain    time.Duration
	entry    *entry
	listener *listener.Listener

	cancel context.CancelFunc // of Serve, nil until it is called
	ended  chan struct{}
}

// Serving is closed when Run serves.
func (s *Server) Serving() <-chan struct{} { return s.serving }

// State is what a server is doing.
type State int32

// The states, in the order in which they come.
const (
	Starting State = iota // nothing is answered yet
	Serving
	LameDuck // about to stop: queries are answered still, and whoever balances load should send them elsewhere
	Draining // what is in flight is answered, and nothing else
)

var stateNames = [...]string{"starting", "serving", "lame duck", "draining"}

// String says it in words.
func (s State) String() string { return stateNames[s] }

// State returns what the server is doing.
func (s *Server) State() State { return State(s.state.Load()) }

type metrics struct {
	off      bool // chains and listeners count nothing
	chain    *chain.Metrics
	listener *listener.Metrics
	cache    *cache.Metrics
	upstream *upstream.Metrics
	panics   *prometheus.CounterVec
	reloads  *prometheus.CounterVec
	loaded   prometheus.Gauge
	number   prometheus.Gauge
}

// unmeasured has chains and listeners count nothing: for the benchmark of what counting costs.
var unmeasured = false

var buildInfo = prometheus.Opts{Namespace: "weir", Name: "build_info", Help: "1; the version is the label."}

// New makes a server of f, and logs to log. Mistakes in the configuration are returned as [config.Errors]. version is for the metrics.
func New(ctx context.Context, f *config.File, version string, log *slog.Logger) (*Server, error) {
	s := &Server{log: log, registry: prometheus.NewRegistry(), failed: make(chan error, 1), serving: make(chan struct{}), handedOver: make(chan struct{}), after: time.After, cookies: cookie.Generate()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts(buildInfo), []string{"version"})
	info.WithLabelValues(version).Set(1)
	s.registry.MustRegister(info)
	s.metrics = newMetrics(s.registry)
	if f.Log.Queries {
		s.queries = querylog.New(f.Log.QueryFile, f.Log.QueryFormat, s.registry, log)
	}
	var err error
	s.runtime, err = wasm.NewRuntime(wasm.RuntimeConfig{CacheDir: f.Wasm.CacheDir, Log: log, Metrics: wasm.NewMetrics(s.registry), Guard: s.guard("filters")})
	if err != nil {
		return nil, err
	}
	if s.current, err = s.build(ctx, f, nil); err != nil {
		s.runtime.Close() //nolint:errcheck // the error above tells why
		return nil, err
	}
	s.current.hold()
	s.lameduck.Store(int64(f.Lameduck))
	s.present.Store(s.current)
	s.registry.MustRegister(tableMetrics{s})
	s.metrics.reloaded(s.current.number, time.Now())
	return s, nil
}

func newMetrics(r *prometheus.Registry) metrics {
	auto := promauto.With(r)
	clients := listener.Unmeasured()
	if !unmeasured {
		clients = listener.NewMetrics(r)
	}
	return metrics{
		off: unmeasured, chain: chain.NewMetrics(r), listener: clients, cache: cache.NewMetrics(r), upstream: upstream.NewMetrics(r),
		panics: auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Subsystem: "background", Name: "panics_total",
			Help: "Panics of what runs in the background, by part; each began anew."}, []string{"part"}),
		reloads: auto.NewCounterVec(prometheus.CounterOpts{Namespace: "weir", Name: "reloads_total",
			Help: "Reloads by result: ok, or refused, which left everything as it was."}, []string{"result"}),
		loaded: auto.NewGauge(prometheus.GaugeOpts{Namespace: "weir", Name: "config_loaded_timestamp_seconds",
			Help: "When the present configuration was taken."}),
		number: auto.NewGauge(prometheus.GaugeOpts{Namespace: "weir", Name: "generation",
			Help: "Number of the present generation: 1 at the start, one more with each reload."}),
	}
}

// guard is for a part of the server that runs in the background; the first word of its name says in the metrics which.
func (s *Server) guard(part string) *rescue.Guard {
	kind, _, _ := strings.Cut(part, " ")
	return &rescue.Guard{Log: s.log.With("part", part), Count: s.metrics.panics.WithLabelValues(kind)}
}

func (m *metrics) reloaded(number uint64, now time.Time) {
	m.number.Set(float64(number))
	m.loaded.Set(float64(now.UnixNano()) / 1e9)
}

// Listen fills the caches that have a snapshot, and binds all sockets, those of the admin address too. When it fails, none stays bound.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queries != nil {
		if err := s.queries.Open(); err != nil {
			return err
		}
	}
	s.current.warm(ctx, s.guard("snapshots"))
	defer func() { s.inherited = nil }()
	var err error
	if s.listeners, err = s.bind(ctx, s.current, nil); err != nil {
		return err
	}
	f := s.current.file
	if f.Admin.Address == "" {
		return s.listenHandover()
	}
	if s.admin, err = admin.Listen(ctx, f.Admin, s.sources(), s.inherited, s.guard("admin"), s.log); err != nil {
		return errors.Join(err, s.unlisten())
	}
	return s.listenHandover()
}

// bind makes the listeners of g: those of old whose configuration is the same, and new ones, which are bound. When it fails, those are closed
// again.
func (s *Server) bind(ctx context.Context, g *generation, old []*listening) (all []*listening, err error) {
	var made []*listening
	for i, c := range g.file.Listeners {
		l := &listening{config: c, budget: g.file.Budget, drain: g.file.Drain}
		l.config.Chain, l.config.Scope = "", nil
		for _, path := range c.Paths()[1:] {
			l.config.Scope = append(l.config.Scope, listener.ScopeConfig{Path: path})
		}
		if n := slices.IndexFunc(old, func(o *listening) bool { return l.same(o) && !slices.Contains(all, o) }); n >= 0 {
			all = append(all, old[n])
			continue
		}
		l.entry = new(entry)
		l.entry.way.Store(&way{g.doors[i], &g.users})
		// Where a listener with another configuration has the address, both have it for a moment, so that nobody finds nobody there.
		share := slices.ContainsFunc(old, func(o *listening) bool { return port(o.config.Address) == port(c.Address) })
		l.listener, err = listener.New(c, uint16(i), l.entry, listener.Env{
			Log: s.log, Guard: s.guard("listener"), Metrics: s.metrics.listener, Budget: g.file.Budget, Grace: g.file.Drain, Share: share, Queries: s.queries, Before: before(old, c),
			Cookies: s.cookies, Inherited: s.inherited,
		})
		if err == nil {
			err = l.listener.Listen(ctx)
		}
		if err != nil {
			for _, m := range made {
				m.listener.Close() //nolint:errcheck // the error above tells why
			}
			text := err.Error()
			if s.sandbox != nil && errors.Is(err, fs.ErrPermission) {
				text += ": its directory is outside of those that weir may use since it started: restart weir, or start it with sandbox = false"
			}
			return nil, config.Errors{g.file.Error(fmt.Sprintf("listener[%d].address", i), text)}
		}
		made, all = append(made, l), append(all, l)
	}
	return all, nil
}

// before returns the listener of old at the Unix-domain socket of c, nil if there is none.
func before(old []*listening, c listener.Config) *listener.Listener {
	if c.SocketPath() == "" {
		return nil
	}
	for _, o := range old {
		if o.config.Address == c.Address {
			return o.listener
		}
	}
	return nil
}

// port is the port of an address, which may be written in several ways.
func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// same reports whether a listener made of l would be the one that there is.
func (l *listening) same(o *listening) bool {
	return l.budget == o.budget && l.drain == o.drain && reflect.DeepEqual(l.config, o.config)
}

// serve begins to serve; it does nothing when that has begun.
func (l *listening) serve(ctx context.Context, failed chan<- error) {
	if l.cancel != nil {
		return
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.ended = make(chan struct{})
	go func() {
		defer close(l.ended)
		if err := l.listener.Serve(ctx); err != nil {
			select {
			case failed <- err:
			default: // one is enough
			}
		}
	}()
}

// stop has the listener answer what is in flight, and waits for it.
func (l *listening) stop() {
	l.cancel()
	<-l.ended
}

func (s *Server) unlisten() error {
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.listener.Close())
	}
	s.listeners = nil
	return errors.Join(errs...)
}

// Addrs are the addresses that are listened on, in the order of the configuration.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for _, l := range s.listeners {
		addrs = append(addrs, l.listener.Addr())
	}
	return addrs
}

// AdminAddr is the address of the admin server, empty without one.
func (s *Server) AdminAddr() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.Addr().String()
}

// Run serves until ctx is done. Then it goes on for the time that the configuration calls lameduck, until the listeners stop reading and answer
// what is in flight, for which the upstreams are still there; last come the upstreams and the admin server.
func (s *Server) Run(ctx context.Context) error {
	// What queries need ends after the last query.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var below, beside errgroup.Group
	keep := func(part string, f func(ctx context.Context)) {
		below.Go(func() error { s.guard(part).Keep(background, f); return nil })
	}
	keep("filters", s.runtime.Run)
	keep("cookies", func(ctx context.Context) { s.cookies.Run(ctx, nil, s.log) })
	if s.queries != nil {
		keep("querylog", s.queries.Run)
	}
	handing, stopHanding := context.WithCancel(ctx)
	defer stopHanding()
	administering, stopAdmin := context.WithCancel(background)
	defer stopAdmin()
	if s.admin != nil {
		s.log.Info("admin pages", "address", s.admin.Addr().String())
		beside.Go(func() error { return s.admin.Serve(administering) })
	}
	s.mu.Lock()
	s.running = background
	s.startAll()
	s.mu.Unlock()
	s.state.Store(int32(Serving))
	close(s.serving)
	if s.handover != nil {
		beside.Go(func() error { s.handover.Serve(handing, predecessor{s}, s.guard("handover")); return nil })
	}
	err := s.wait(ctx)
	stopHanding()
	s.state.Store(int32(Draining))
	s.mu.Lock() // after a reload that is under way; there is none after it
	s.running = nil
	s.mu.Unlock()
	if s.isHandedOver() { // who asks the admin address means the new process
		stopAdmin()
	}
	var stopping sync.WaitGroup
	for _, l := range s.listeners {
		stopping.Go(l.stop)
	}
	stopping.Wait()
	stopAdmin() // which explains queries, in the present generation
	err = errors.Join(err, beside.Wait())
	if !s.isHandedOver() { // else the snapshots are the new process's
		s.current.save(background, s.guard("snapshots"))
	}
	s.current.release()
	stopBackground()
	return errors.Join(err, below.Wait())
}

// startAll starts what is new.
func (s *Server) startAll() {
	for _, p := range s.current.parts {
		p.start(s.running, s.guard(p.name))
	}
	for _, l := range s.listeners {
		if l.cancel == nil {
			s.log.Info("serving", "address", l.listener.At())
		}
		l.serve(s.running, s.failed)
	}
}

// wait waits until it is time to stop: after the end of ctx and lameduck, or when a listener failed, which is the error.
func (s *Server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.handedOver:
		return nil
	case err := <-s.failed:
		return err
	}
	lameduck := time.Duration(s.lameduck.Load())
	if lameduck == 0 {
		return nil
	}
	s.state.Store(int32(LameDuck))
	s.log.Info("stopping soon: queries are still answered", "lameduck", lameduck.String())
	select {
	case <-s.after(lameduck):
		return nil
	case <-s.handedOver:
		return nil
	case err := <-s.failed:
		return err
	}
}

// Close frees everything. Run has returned, or was never called.
func (s *Server) Close() error {
	var err error
	if s.State() == Starting { // Run was never called
		err = s.unlisten()
		s.current.release()
	}
	return errors.Join(err, s.runtime.Close())
}

// ReopenLogs has the file of the log of queries closed, and the one opened that is at its path now, since the old one was renamed.
func (s *Server) ReopenLogs() { s.queries.Reopen() }
