// Package admin serves what operators and their monitoring ask over HTTP: whether weir is healthy, and its metrics.
//
// It has no authentication and belongs on a loopback or management address. It only reads.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is the table [admin].
type Config struct {
	// Address to listen on, such as "127.0.0.1:9153". Empty: no admin server.
	Address string `koanf:"address"`
}

// Validate reports a malformed address. The error names the key.
func (c Config) Validate() error {
	if c.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("address: %q is not HOST:PORT, such as 127.0.0.1:9153", c.Address)
	}
	return nil
}

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
	listener net.Listener
}

// Listen binds the address. metrics is what /metrics shows; healthy tells /healthz whether weir answers queries, and if not, why.
func Listen(ctx context.Context, c Config, metrics prometheus.Gatherer, healthy func() error, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := healthy(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: errorLog{log}}))
	return &Server{
		log:      log,
		listener: l,
		http: &http.Server{
			Handler: mux, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// Addr is the address bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

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

type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Error("admin: metrics", "error", fmt.Sprint(v...)) }
