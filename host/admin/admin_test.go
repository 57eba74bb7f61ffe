package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/explain"
	"github.com/weirdns/weir/host/rescue"
)

func TestServer(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_test_total", Help: "A counter."})
	reg.MustRegister(c)
	c.Inc()
	panics := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
	var sick error
	state := Readiness{Ready: true, Reasons: []string{}, Warnings: []string{"upstream a: all 2 servers are down"}}
	explained := func(_ context.Context, q explain.Question) (*explain.Trail, error) {
		switch q.Name {
		case "bad":
			return nil, &explain.QuestionError{Text: "it is bad"}
		case "broken":
			return nil, errors.New("it is broken")
		case "mine":
			panic("mine")
		}
		return &explain.Trail{Name: q.Name + "<&>", Type: q.Type, Client: q.Client.String(), Listener: q.Listener, Over: q.Over.String()}, nil
	}
	s, err := Listen(t.Context(), Config{Address: "127.0.0.1:0"}, Sources{
		Metrics: reg, Healthy: func() error { return sick },
		Ready:   func() Readiness { return state },
		Explain: explained,
	}, nil, &rescue.Guard{Log: slog.New(slog.DiscardHandler), Count: panics}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()

	for _, tt := range []struct {
		name, path string
		sick       error
		reason     string
		accept     string
		status     int
		want       string
	}{
		{name: "healthy", path: "/healthz", status: 200, want: "ok\n"},
		{name: "not healthy", path: "/healthz", sick: errors.New("no listener"), status: 503, want: "no listener\n"},
		{name: "metrics", path: "/metrics", status: 200, want: "weir_test_total 1\n"},
		{name: "ready, with a warning", path: "/readyz", status: 200, want: "ready\nwarning: upstream a: all 2 servers are down\n"},
		{name: "not ready", path: "/readyz", reason: "draining", status: 503, want: "not ready\ndraining\nwarning: "},
		{name: "ready in JSON", path: "/readyz", accept: "application/json", status: 200, want: `"warnings": [`},
		{name: "explain", path: "/explain?name=a.test&type=MX&client=192.0.2.1&listener=x&over=tcp", status: 200, want: "{\n  \"name\": \"a.test<&>\",\n  \"type\": \"MX\",\n  \"client\": \"192.0.2.1\",\n  \"over\": \"tcp\""},
		{name: "explain nothing", path: "/explain", status: 400, want: "name is missing"},
		{name: "explain for nobody", path: "/explain?name=a&client=me", status: 400, want: `client: \"me\" is not an IP address`},
		{name: "explain over pigeons", path: "/explain?name=a&over=pigeon", status: 400, want: "none of udp, tcp, tls, https, quic"},
		{name: "explain, misspelt", path: "/explain?name=a&tipe=A", status: 400, want: `\"tipe\" is no parameter`},
		{name: "explain a bad question", path: "/explain?name=bad", status: 400, want: "it is bad"},
		{name: "explain and fail", path: "/explain?name=broken", status: 500, want: "it is broken"},
		{name: "explain and panic", path: "/explain?name=mine", status: 500, want: "a panic"},
		{name: "nothing else", path: "/debug/pprof/", status: 404, want: "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sick = tt.sick
			if state.Ready, state.Reasons = tt.reason == "", []string{}; !state.Ready {
				state.Reasons = []string{tt.reason}
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", tt.accept)
			resp, err := http.DefaultClient.Do(req)
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
	if got := testutil.ToFloat64(panics); got != 1 {
		t.Errorf("%v panics are counted, want 1", got)
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

func TestValidateNotReady(t *testing.T) {
	if err := (Config{NotReady: Problems}).Validate(); err != nil {
		t.Errorf("%v is refused: %v", Problems, err)
	}
	if err := (Config{NotReady: []string{"tables", "weather"}}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "not_ready[1]: ") {
		t.Errorf("got %v, want an error that names the key", err)
	}
}

// No more queries are explained at a time than there are places.
func TestExplainIsBounded(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	e := &explainer{slots: make(chan struct{}, 1), explain: func(context.Context, explain.Question) (*explain.Trail, error) {
		entered <- struct{}{}
		<-release
		return &explain.Trail{}, nil
	}}
	first, second := httptest.NewRecorder(), httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		e.ServeHTTP(first, httptest.NewRequest("GET", "/explain?name=a", nil))
		close(done)
	}()
	<-entered
	e.ServeHTTP(second, httptest.NewRequest("GET", "/explain?name=b", nil))
	close(release)
	<-done
	if first.Code != 200 || second.Code != 503 {
		t.Errorf("got %d and %d, want 200 and 503", first.Code, second.Code)
	}
}
