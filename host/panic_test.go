package host

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/config"
)

// backgroundPanics are those counted for a part.
func (s *Server) backgroundPanics(part string) float64 {
	return testutil.ToFloat64(s.metrics.panics.WithLabelValues(part))
}

// A panic while the configuration is read, or taken, is a refusal; the next reload is taken.
func TestFaultX24Reload(t *testing.T) {
	r := startReloading(t)
	told, tries := make(chan os.Signal), make(chan error)
	mine := true
	load := func() (*config.File, error) {
		if mine {
			panic("mine")
		}
		return config.Load(r.path, nil)
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		r.Follow(ctx, load, told, nil, func(_ *config.File, err error) { tries <- err })
	}()
	number := r.metrics.number
	steps := []struct {
		name  string
		begin func()
		want  error
	}{
		{"in load", func() {}, errPanic},
		{"in Reload", func() { mine, r.metrics.number = false, nil }, errPanic},
		{"none", func() { r.metrics.number = number }, nil},
	}
	for n, step := range steps {
		r.write("weir.toml", r.generationText(n+1))
		step.begin()
		told <- os.Interrupt
		if err := <-tries; err != step.want { //nolint:errorlint // it is the very one
			t.Errorf("a panic %s: got %v, want %v", step.name, err, step.want)
		}
	}
	if got := r.backgroundPanics("reload"); got != 2 {
		t.Errorf("%v panics are counted, want 2", got)
	}
	if log := r.log.take(); !strings.Contains(log, "panic=mine") || !strings.Contains(log, "not reloaded: a panic") {
		t.Errorf("the log says %s", log)
	}
	cancel()
	<-ended
}

// A hand-over that panics before there is an offer leaves the server's lock open.
func TestFaultX24Offer(t *testing.T) {
	r := startReloading(t)
	r.guard("handover").Survive(func() {
		_, err := predecessor{r.Server}.Offer(t.Context()) // there is no socket for it
		t.Errorf("Offer returned %v, and should have panicked", err)
	})
	if err := r.reload(1); err != nil {
		t.Error(err)
	}
	if got := r.backgroundPanics("handover"); got != 1 {
		t.Errorf("%v panics are counted, want 1", got)
	}
}

// The background work of a part, such as a table, begins anew.
func TestFaultX24Part(t *testing.T) {
	r := startReloading(t) // for its metrics
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		p := &part{name: "table corp", run: func(ctx context.Context) error {
			if calls++; calls <= 3 {
				panic("mine")
			}
			<-ctx.Done()
			return nil
		}}
		p.start(t.Context(), r.guard(p.name))
		<-time.After(time.Minute)
		p.end()
		if calls != 4 {
			t.Errorf("it was called %d times, want 4", calls)
		}
	})
	if got := r.backgroundPanics("table"); got != 3 {
		t.Errorf("%v panics are counted, want 3", got)
	}
}
