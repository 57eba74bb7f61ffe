package rescue

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// guard returns a Guard, its log, and what it counts.
func guard() (*Guard, *bytes.Buffer, prometheus.Counter) {
	var log bytes.Buffer
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
	return &Guard{Log: slog.New(slog.NewTextHandler(&log, nil)), Count: count}, &log, count
}

// What panics is called again a moment later, and not before; each panic is counted, and the first of a minute is logged, with where it was.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, log, count := guard()
		begin, calls := time.Now(), 0
		g.Keep(t.Context(), func(context.Context) {
			if calls++; calls <= 3 {
				panic("mine")
			}
		})
		if calls != 4 || time.Since(begin) != 3*moment {
			t.Errorf("got %d calls in %v, want 4 in %v", calls, time.Since(begin), 3*moment)
		}
		if got := testutil.ToFloat64(count); got != 3 {
			t.Errorf("%v panics are counted, want 3", got)
		}
		if got := strings.Count(log.String(), "panic=mine"); got != 1 || !strings.Contains(log.String(), "TestKeep") {
			t.Errorf("%d panics are in the log, want the first, with its stack:\n%s", got, log)
		}
		<-time.After(logged)
		g.Survive(func() { panic("later") })
		if !strings.Contains(log.String(), "panic=later") {
			t.Errorf("one a minute later is not in the log:\n%s", log)
		}
	})
}

// After the end of ctx nothing begins anew, and the pause is cut short.
func TestKeepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := guard()
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int32
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.Keep(ctx, func(context.Context) { calls.Add(1); panic("mine") })
		}()
		synctest.Wait() // it pauses
		cancel()
		begin := time.Now()
		<-ended
		if took := time.Since(begin); took != 0 || calls.Load() != 1 {
			t.Errorf("it ended after %v and %d calls, want at once and 1", took, calls.Load())
		}
	})
}

// A log that panics does not undo the rescue.
func TestPanicInLog(t *testing.T) {
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})
	g := &Guard{Log: slog.New(broken{}), Count: count}
	if g.Survive(func() { panic("mine") }) {
		t.Error("a panic passed for a return")
	}
	if !g.Survive(func() {}) {
		t.Error("a return passed for a panic")
	}
	if got := testutil.ToFloat64(count); got != 1 {
		t.Errorf("%v panics are counted, want 1", got)
	}
}

type broken struct{ slog.Handler }

func (broken) Enabled(context.Context, slog.Level) bool { return true }

func (broken) Handle(context.Context, slog.Record) error { panic("the log's") }
