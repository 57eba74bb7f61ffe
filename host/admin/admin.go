// Package admin serves what operators and their monitoring ask over HTTP.
//
//	/healthz  whether weir is alive
//	/readyz   whether it should get queries, and what is wrong if anything is
//	/metrics  for Prometheus
//	/explain  what happens to a query: name, and type, client, listener, over if they matter
//
// It has no authentication and belongs on a loopback or management address. It changes nothing; the query that is explained is one like any
// client's.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/inherit"
	"github.com/weirdns/weir/host/rescue"
)

// Limits of the HTTP server: requests here are small, and nobody has a reason to be slow.
const (
	readTimeout   = 5 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 8 << 10
	shutdownGrace = time.Second
)

// Server serves the admin address.
type Server struct {
	log      *slog.Logger
	http     *http.Server
	listener inherit.Stream
}

// Sources are what the pages are made of. All are set, and are called from many goroutines.
type Sources struct {
	Metrics prometheus.Gatherer
	// Healthy returns nil while weir answers queries, and else why not.
	Healthy func() error
	Ready   func() Readiness
	Explain func(context.Context, explain.Question) (*explain.Trail, error)
}

// Listen binds the address, unless inherited has a socket there. Serve has to follow. inherited may be nil. guard tells of panics, each of
// which costs one request.
func Listen(ctx context.Context, c Config, from Sources, inherited *inherit.Sockets, guard *rescue.Guard, log *slog.Logger) (*Server, error) {
	l := inherited.Stream("tcp", c.Address)
	if l == nil {
		var lc net.ListenConfig
		bound, err := lc.Listen(ctx, "tcp", c.Address)
		if err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		l = bound.(*net.TCPListener)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := from.Healthy(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		text(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, from.Ready()) })
	mux.Handle("GET /explain", &explainer{explain: from.Explain, slots: make(chan struct{}, maxExplains)})
	mux.Handle("GET /metrics", promhttp.HandlerFor(from.Metrics, promhttp.HandlerOpts{ErrorLog: errorLog{log}}))
	return &Server{
		log:      log,
		listener: l,
		http: &http.Server{
			Handler: survivor{mux, guard}, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Addr is the address bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Socket is what is bound to it.
func (s *Server) Socket() syscall.Conn { return s.listener }

// Serve serves until ctx is done, and returns after the last request has ended.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := s.http.Shutdown(grace); err != nil {
			s.log.Warn("admin: requests were cut off", "error", err)
			_ = s.http.Close() // the listener is closed already; what is left are connections
		}
	}()
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// survivor has a request that makes a page panic get an error, and the log the reason: net/http would only cut the connection.
type survivor struct {
	next  http.Handler
	guard *rescue.Guard
}

// ServeHTTP implements http.Handler.
func (s survivor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.guard.Survive(func() { s.next.ServeHTTP(w, r) }) {
		text(w, http.StatusInternalServerError, "a panic, which the log tells of")
	}
}

type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Error("admin: metrics", "error", fmt.Sprint(v...)) }
