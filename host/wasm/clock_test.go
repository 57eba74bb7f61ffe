package wasm

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weirdns/weir/host/internal/wallclock"
)

// Quarantine lasts by the monotonic clock: an hour back does not make an hour of a second.
func TestFaultX21Quarantine(t *testing.T) {
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			start, passed, set := time.Now(), time.Duration(0), time.Duration(0)
			q := quarantine{logger: slog.New(slog.DiscardHandler), now: func() time.Time { return wallclock.Set(start.Add(passed), set) }}
			for range faultsInRow {
				q.fault(errors.New("a fault"))
			}
			set = by
			if q.admit() {
				t.Error("at once: the filter is called")
			}
			passed = probeFirst - 1
			if q.admit() {
				t.Error("just before the first try: the filter is called")
			}
			passed = probeFirst
			if !q.admit() {
				t.Error("at the first try: the filter is not called")
			}
			if q.ok(); q.active() {
				t.Error("a try without fault: the filter is in quarantine still")
			}
		})
	}
}
