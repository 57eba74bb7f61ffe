package table

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirdns/weir/host/rescue"
)

// TestFaultX24Table: a file that makes weir panic leaves the table as it was, known as stale; the next one is taken.
func TestFaultX24Table(t *testing.T) {
	dir := write(t, map[string]string{"z": zoneOf(1)})
	synctest.Test(t, func(t *testing.T) {
		w := watchIn(t, dir)
		guard := &rescue.Guard{Log: slog.New(slog.DiscardHandler), Count: prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"})}
		poll := make(chan time.Time)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			guard.Keep(ctx, (&watch{table: w.Table, poll: poll}).run)
		}()
		synctest.Wait()

		before := w.snapshot.Swap(new(Snapshot)) // which is nil, so that whoever looks into it panics
		replace(t, w.path, zoneOf(2))
		poll <- time.Time{}
		synctest.Wait()
		w.snapshot.Store(before)
		if got := testutil.ToFloat64(guard.Count.(prometheus.Counter)); got != 1 || !w.Stale() || w.Stats().Keys != 2 {
			t.Errorf("%v panics are counted, the table is stale: %v, and has %d keys; want 1, true and 2", got, w.Stale(), w.Stats().Keys)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if w.Stale() || w.Stats().Keys != 3 {
			t.Errorf("later on, the table is stale: %v, and has %d keys; want false and 3", w.Stale(), w.Stats().Keys)
		}
		if err := w.Reload(); err != nil { // nobody holds its lock
			t.Error(err)
		}
		cancel()
		<-ended
	})
}
