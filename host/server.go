package host

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/weirdns/weir/host/admin"
	"github.com/weirdns/weir/host/cache"
	"github.com/weirdns/weir/host/chain"
	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/listener"
	"github.com/weirdns/weir/host/querylog"
	"github.com/weirdns/weir/host/upstream"
	"github.com/weirdns/weir/host/wasm"
)

// Server is a whole weir.
//
//  1. New builds and checks everything that the configuration says, short of opening sockets for clients.
//  2. Listen binds the sockets, so that a port in use shows before anything is served.
//  3. Run serves until its context is done, answers what is in flight, and returns when everything has ended.
//  4. Close frees what is left. A server that was never run is closed too.
type Server struct {
	log       *slog.Logger
	now       func() time.Time
	file      *config.File
	runtime   *wasm.Runtime
	registry  *prometheus.Registry
	metrics   metrics
	current   *generation
	listeners []*listener.Listener
	queries   *querylog.Log // nil when queries are not logged
	admin     *admin.Server // nil without [admin]
	serving   atomic.Bool
}

type metrics struct {
	off      bool // chains and listeners count nothing
	chain    *chain.Metrics
	listener *listener.Metrics
	cache    *cache.Metrics
	upstream *upstream.Metrics
}

// unmeasured has chains and listeners count nothing: for the benchmark of what counting costs.
var unmeasured = false

var buildInfo = prometheus.Opts{Namespace: "weir", Name: "build_info", Help: "1; the version is the label."}

// New makes a server of f, and logs to log. Mistakes in the configuration are returned as [config.Errors]. version is for the metrics.
func New(ctx context.Context, f *config.File, version string, log *slog.Logger) (*Server, error) {
	s := &Server{log: log, now: time.Now, file: f, registry: prometheus.NewRegistry()}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts(buildInfo), []string{"version"})
	info.WithLabelValues(version).Set(1)
	s.registry.MustRegister(info)
	s.metrics = metrics{unmeasured, chain.NewMetrics(s.registry), listener.NewMetrics(s.registry), cache.NewMetrics(s.registry), upstream.NewMetrics(s.registry)}
	if f.Log.Queries {
		s.queries = querylog.New(f.Log.QueryFile, f.Log.QueryFormat, s.registry, log)
	}
	if unmeasured {
		s.metrics.listener = listener.Unmeasured()
	}
	var err error
	s.runtime, err = wasm.NewRuntime(wasm.RuntimeConfig{CacheDir: f.Wasm.CacheDir, Log: log, Metrics: wasm.NewMetrics(s.registry)})
	if err != nil {
		return nil, err
	}
	if s.current, err = s.build(ctx, f); err != nil {
		s.runtime.Close() //nolint:errcheck // the error above tells why
		return nil, err
	}
	s.registry.MustRegister(tableMetrics{s})
	return s, nil
}

// Listen binds all sockets, those of the admin address too. When it fails, none stays bound.
func (s *Server) Listen(ctx context.Context) error {
	if s.queries != nil {
		if err := s.queries.Open(); err != nil {
			return err
		}
	}
	for i, c := range s.file.Listeners {
		l, err := listener.New(c, uint16(i), s.current.doors[i], listener.Env{
			Log: s.log, Metrics: s.metrics.listener, Now: s.now, Budget: s.file.Budget, Grace: s.file.Drain, Queries: s.queries,
		})
		if err == nil {
			err = l.Listen(ctx)
		}
		if err != nil {
			return errors.Join(err, s.unlisten())
		}
		s.listeners = append(s.listeners, l)
	}
	if s.file.Admin.Address == "" {
		return nil
	}
	var err error
	if s.admin, err = admin.Listen(ctx, s.file.Admin, s.sources(), s.log); err != nil {
		return errors.Join(err, s.unlisten())
	}
	return nil
}

func (s *Server) unlisten() error {
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, l.Close())
	}
	s.listeners = nil
	return errors.Join(errs...)
}

// Addrs are the addresses that Listen bound, in the order of the configuration.
func (s *Server) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr())
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

// Run serves until ctx is done. Then the listeners stop reading and answer what is in flight, for which the upstreams are still there; last come
// the upstreams and the admin server.
func (s *Server) Run(ctx context.Context) error {
	// What queries need ends after the last query.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var below errgroup.Group
	below.Go(func() error { return s.current.run(background) })
	below.Go(func() error { return s.runtime.Run(background) })
	if s.queries != nil {
		below.Go(func() error { s.queries.Run(background); return nil })
	}
	if s.admin != nil {
		below.Go(func() error { return s.admin.Serve(background) })
	}
	serve, ctx := errgroup.WithContext(ctx)
	for _, l := range s.listeners {
		s.log.Info("serving", "address", l.Addr().String())
		serve.Go(func() error { return l.Serve(ctx) })
	}
	s.serving.Store(true)
	go func() {
		<-ctx.Done()
		s.serving.Store(false)
	}()
	err := serve.Wait()
	stopBackground()
	return errors.Join(err, below.Wait())
}

// Close frees everything. Run has returned, or was never called.
func (s *Server) Close() error {
	err := s.unlisten()
	s.current.close()
	return errors.Join(err, s.runtime.Close())
}

// ReopenLogs has the file of the log of queries closed, and the one opened that is at its path now, since the old one was renamed.
func (s *Server) ReopenLogs() { s.queries.Reopen() }
