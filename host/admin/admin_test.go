package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestServer(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_test_total", Help: "A counter."})
	reg.MustRegister(c)
	c.Inc()
	var sick error
	s, err := Listen(t.Context(), Config{Address: "127.0.0.1:0"}, reg, func() error { return sick }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()

	for _, tt := range []struct {
		name, path string
		sick       error
		status     int
		want       string
	}{
		{name: "healthy", path: "/healthz", status: 200, want: "ok\n"},
		{name: "not healthy", path: "/healthz", sick: errors.New("no listener"), status: 503, want: "no listener\n"},
		{name: "metrics", path: "/metrics", status: 200, want: "weir_test_total 1\n"},
		{name: "nothing else", path: "/debug/pprof/", status: 404, want: "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sick = tt.sick
			resp, err := http.Get("http://" + s.Addr().String() + tt.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.want) {
				t.Errorf("got %d %q, want %d and %q", resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := (Config{Address: "here"}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "address: ") {
		t.Errorf("got %v, want an error that names the key", err)
	}
}
